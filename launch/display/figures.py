"""Figures: a measure against uplink bytes, and against rounds."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import (
    FuncFormatter,
    MaxNLocator,
    NullFormatter,
    NullLocator,
    PercentFormatter,
)

from launch.configuration.build import describe
from launch.configuration.run_config import RunConfig
from launch.display.colours import OKABE_ITO
from launch.display.units import format_bytes
from launch.metrics import Metrics, main_measure, measure_in_words, measure_names

# For more runs than Okabe and Ito have colours, Kelly's colours of greatest contrast, 1965, without
# those that are hard to tell from another of them as a line, or from the paper.
_MANY_COLOURS = (
    *("#FFB300", "#803E75", "#FF6800", "#A6BDD7", "#C10020", "#CEA262", "#817066", "#007D34"),
    *("#F6768E", "#00538A", "#53377A", "#B32851", "#7F180D", "#93AA00", "#593315", "#232C16"),
)
_LOGARITHMIC = ("gap", "squared_distance", "gradient_norm")  # which go to zero
_LEGEND_COLUMNS = 3
_HEIGHT, _LEGEND_ROW = 4.6, 0.22  # inches
_FEW_DECADES = 200  # with less than this between its ends, an axis shows few powers of ten
_TOO_LARGE = 1e300
_STYLES = ("-", "--", "-.", ":")
_A_LINE = 3  # points; fewer are marked, for one alone has no line
_NARROW = 0.5  # the range of accuracies that an axis from 0 to 1 would flatten


def draw(runs: Mapping[str, Sequence[Metrics]], title: str) -> Figure:
    """Draw every run's main measure against uplink bytes and against rounds.

    Args:
        runs: by name, the metrics of the rounds; those without an evaluation are left out.
        title: says which data and how many workers.

    Returns:
        A figure of two panels, against bytes, and against rounds or, where all runs have a clock,
        its seconds; it displays itself in a notebook.
    """
    tested = {
        name: [metrics for metrics in rounds if measure_names(metrics)]
        for name, rounds in runs.items()
    }
    measure = main_measure({name: measure_names(rounds[0]) for name, rounds in tested.items()})
    # Two rows of the legend fit the height; the panels must not pay for more of them.
    more = max(0, math.ceil(len(tested) / _LEGEND_COLUMNS) - 2)
    figure = Figure(figsize=(11, _HEIGHT + more * _LEGEND_ROW), dpi=150, layout="constrained")
    by_bytes, by_rounds = figure.subplots(1, 2, sharey=True)
    timed = all("clock_s" in metrics for rounds in tested.values() for metrics in rounds)
    pace = "clock_s" if timed else "round"
    lines, shown, sent = [], [], []
    for rounds, style in zip(tested.values(), _styles(len(tested)), strict=True):
        values = [_drawable(metrics[f"test_{measure}"]) for metrics in rounds]
        shown += values
        lines += _plot(by_rounds, [metrics[pace] for metrics in rounds], values, style)
        # Nothing has been sent before round 1, and zero has no place on a logarithmic axis.
        sizes = [metrics["uplink_bytes"] for metrics in rounds[1:]]
        _plot(by_bytes, sizes, values[1:], style)
        sent += [size for size, value in zip(sizes, values[1:], strict=True) if value == value]
    _finish(by_bytes, measure, shown, "bytes sent by all workers (frames)")
    if sent:
        by_bytes.set_xscale("log")
    _label_bytes(by_bytes)
    _finish(by_rounds, measure, shown, "seconds of the clock" if timed else "rounds")
    # A name is no formula, though it may hold a dollar sign.
    by_bytes.set_ylabel(measure_in_words(measure), parse_math=False)
    figure.suptitle(title, parse_math=False)
    labels = [f" {name}" for name in tested]  # matplotlib hides what starts with an underscore
    legend = figure.legend(
        lines,
        labels,
        loc="outside lower center",
        ncols=_LEGEND_COLUMNS,
        frameon=False,
        handlelength=3,
    )
    for text in legend.get_texts():
        text.set_parse_math(False)
    return figure


def title_of(configs: Sequence[RunConfig]) -> str:
    """Return a title that names the data of some runs, and how many workers share it."""
    kinds = dict.fromkeys(str(describe(config.problem)["kind"]) for config in configs)
    numbers = dict.fromkeys(str(config.workers) for config in configs)
    return f"{' and '.join(kinds)}, {' and '.join(numbers)} workers"


def _styles(number: int) -> list[dict[str, Any]]:
    """Return a colour and a dash for every run.

    Up to eight runs have a colour each and a whole line. More have one of sixteen colours
    and another dash than their neighbours; no two are alike up to 64.
    """
    few = number <= len(OKABE_ITO)
    colours = OKABE_ITO if few else _MANY_COLOURS
    return [
        {
            "color": colours[index % len(colours)],
            "linestyle": "-" if few else _STYLES[(index + index // len(colours)) % len(_STYLES)],
            "linewidth": 1.8,
        }
        for index in range(number)
    ]


def _plot(
    axes: Axes, at: Sequence[float], values: Sequence[float], style: Mapping[str, Any]
) -> list[Line2D]:
    few = sum(map(math.isfinite, values)) < _A_LINE
    return axes.plot(at, values, marker="o" if few else "", **style)


def _label_bytes(axes: Axes) -> None:
    """Put sizes on the axis, several even where it spans less than a power of ten."""
    axis = axes.xaxis
    axis.set_major_formatter(FuncFormatter(lambda size, _: format_bytes(size)))
    axis.set_minor_formatter(NullFormatter())
    least, most = axes.get_xlim()
    if axes.get_xscale() != "log":
        return
    if most < 10 * least:
        axis.set_major_locator(MaxNLocator(nbins=4, steps=[1, 2, 2.5, 5, 10]))
        axis.set_minor_locator(NullLocator())
    elif most < _FEW_DECADES * least:
        axis.set_minor_formatter(FuncFormatter(_label_between_powers))
        axes.tick_params(axis="x", which="minor", pad=5)  # whose ticks are shorter


def _finish(axes: Axes, measure: str, values: Sequence[float], label: str) -> None:
    axes.set_xlabel(label)
    axes.grid(alpha=0.3, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    if measure == "accuracy":
        axes.set_ylim(_limits(values))
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    elif all(value > 0 for value in values) or (
        measure in _LOGARITHMIC and any(value > 0 for value in values)
    ):
        # A gap that is rounded to zero or below leaves through the bottom of the axis.
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        positive = [value for value in values if value > 0]
        within = max(positive) < 10 * min(positive)  # too few powers of ten to read it by
        minor = FuncFormatter(lambda value, _: f"{value:g}" if within else "")
        axes.yaxis.set_minor_formatter(minor)


def _limits(accuracies: Sequence[float]) -> tuple[float, float]:
    """Return the ends of an axis: 0 and 1, or nearer where accuracies span little."""
    finite = [value for value in accuracies if math.isfinite(value)] or [0.0, 1.0]
    least, most = min(finite), max(finite)
    if most - least > _NARROW or least < 0 or most > 1:
        return 0, 1
    margin = max(0.01, 0.08 * (most - least))
    return max(0.0, least - margin), min(1.0, most + margin)


def _drawable(value: float) -> float:
    """Return a value, or NaN in place of one that no axis could show."""
    return value if abs(value) < _TOO_LARGE else math.nan


def _label_between_powers(size: float, _: int) -> str:
    """Label twice and five times a power of ten, which are few enough not to touch."""
    return format_bytes(size) if f"{size:e}"[0] in "25" else ""
