"""The figures of a report on paper: the same panels, drawn with matplotlib."""

import html
import itertools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter, PercentFormatter

from launch.display.units import format_bytes
from launch.reports.panel import Panel
from launch.run_directory import slug, writing

_DASHES = {"solid": "-", "dash": "--", "dashdot": "-.", "dot": ":"}
_MARKS = {
    "circle": "o",
    "square": "s",
    "diamond": "D",
    "cross": "P",
    "x": "X",
    "triangle-up": "^",
    "triangle-down": "v",
    "star": "*",
}
_FEW = 40  # with less than this between its ends, a logarithmic axis shows few powers of ten


def write_pictures(panels: Sequence[Panel], directory: Path) -> list[Path]:
    """Draw every panel, once for each of the choices that are pictures of their own.

    Args:
        panels: as in the page.
        directory: made if need be; PNG files are named after panel and choices.

    Returns:
        The files.

    Raises:
        ConfigError: they cannot be written.
    """
    paths = []
    with writing(directory):
        directory.mkdir(parents=True, exist_ok=True)
        for panel in panels:
            for choice in _choices(panel):
                labels = [
                    panel.controls[place].options[option].label
                    for place, option in choice.items()
                    if panel.controls[place].pictures and len(panel.controls[place].options) > 1
                ]
                path = directory / f"{slug(' '.join([panel.key, *labels]))}.png"
                draw(panel, choice).savefig(path)
                paths.append(path)
    return paths


def _choices(panel: Panel) -> list[dict[int, int]]:
    """Return the choices to draw; of a panel with shortcuts the first one for each run."""
    if panel.jumps:
        return list({jump.choice[0]: dict(jump.choice) for jump in reversed(panel.jumps)}.values())
    places = [place for place, control in enumerate(panel.controls) if control.pictures]
    options = (range(len(panel.controls[place].options)) for place in places)
    return [dict(zip(places, chosen, strict=True)) for chosen in itertools.product(*options)]


def draw(panel: Panel, choice: Mapping[int, int]) -> Figure:
    """Return one view of a panel as a matplotlib figure."""
    traces, layout = panel.view(choice)
    shown = [trace for trace in traces if trace.get("visible", True)]
    figure = Figure(figsize=(6.4, max(3.6, panel.height / 110)), dpi=200, layout="constrained")
    axes = figure.subplots()
    bars = [trace for trace in shown if trace["type"] == "bar" and "base" not in trace]
    for trace in shown:
        if trace["type"] == "scatter":
            _draw_line(axes, trace)
        elif trace["type"] == "box":
            _draw_boxes(axes, trace)
        elif "base" in trace:
            _draw_turns(axes, trace)
        else:
            _draw_bars(axes, trace, bars.index(trace), len(bars))
    for letter in ("x", "y"):
        _finish(axes, letter, layout[f"{letter}axis"])
    axes.set_title(panel.title, fontsize="medium", parse_math=False)
    axes.grid(alpha=0.3, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    if len(shown) > 1:
        legend = figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize="small")
        for text in legend.get_texts():
            text.set_parse_math(False)
    return figure


def _label(trace: Mapping[str, Any]) -> str:
    return f" {html.unescape(trace['name'])}"  # matplotlib hides what starts with an underscore


def _numbers(values: Sequence[Any]) -> list[Any]:
    return [math.nan if value is None else value for value in values]


def _draw_line(axes: Axes, trace: Mapping[str, Any]) -> None:
    axes.plot(
        _numbers(trace["x"]),
        _numbers(trace["y"]),
        color=trace["line"]["color"],
        linestyle=_DASHES[trace["line"]["dash"]] if "lines" in trace["mode"] else "none",
        marker=_MARKS[trace["marker"]["symbol"]] if "markers" in trace["mode"] else "",
        markersize=4,
        linewidth=1.6,
        label=_label(trace),
    )


def _draw_bars(axes: Axes, trace: Mapping[str, Any], place: int, among: int) -> None:
    width = 0.8 / among
    lefts = [x + (place - (among - 1) / 2) * width for x in trace["x"]]
    axes.bar(lefts, trace["y"], width, color=trace["marker"]["color"], label=_label(trace))


def _draw_turns(axes: Axes, trace: Mapping[str, Any]) -> None:
    axes.barh(
        trace["y"],
        trace["x"],
        left=trace["base"],
        color=trace["marker"]["color"],
        edgecolor="white",
        label=_label(trace),
    )
    axes.set_title(_label(trace).strip(), fontsize="medium", parse_math=False)


def _draw_boxes(axes: Axes, trace: Mapping[str, Any]) -> None:
    keys = {"lowerfence": "whislo", "q1": "q1", "median": "med", "q3": "q3", "upperfence": "whishi"}
    boxes = [
        {ours: trace[theirs][place] for theirs, ours in keys.items()} | {"label": worker}
        for place, worker in enumerate(trace["x"])
    ]
    axes.bxp(boxes, showfliers=False, medianprops={"color": trace["line"]["color"]})


def _finish(axes: Axes, letter: str, settings: Mapping[str, Any]) -> None:
    """Give an axis its title, scale and numbers."""
    set_label = axes.set_xlabel if letter == "x" else axes.set_ylabel
    set_label(html.unescape(settings["title"]["text"]), parse_math=False)
    ticks = axes.xaxis if letter == "x" else axes.yaxis
    least, most = (axes.dataLim.intervalx if letter == "x" else axes.dataLim.intervaly).tolist()
    if settings.get("type") == "log" and most > 0:
        (axes.set_xscale if letter == "x" else axes.set_yscale)("log", nonpositive="mask")
        ticks.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        if not 0 < least < most < _FEW * least:
            ticks.set_minor_formatter(NullFormatter())
    if "tickvals" in settings:
        words = [html.unescape(text) for text in settings["ticktext"]]
        ticks.set_ticks(settings["tickvals"], labels=words, parse_math=False)
    if settings.get("ticksuffix") == "B":
        ticks.set_major_formatter(FuncFormatter(lambda size, _: format_bytes(size)))
    if settings.get("tickformat") == ".0%":
        ticks.set_major_formatter(PercentFormatter(1.0))
