"""A figure of many runs: a row a panel, means over seeds with the range between them."""

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from launch.display.axes import as_written, drawable, finish, label_bytes, plot, styles
from launch.metrics import Metrics, measure_in_words, measure_names

_WIDTH, _HEIGHT, _TITLE, _LEGEND_LINE = 13.0, 2.7, 0.7, 0.17  # inches
_NAME = 34  # characters of a line of the legend
_BAND = 0.16
_SMALL = 8.5  # points, of the ticks
_COLUMNS = {
    "uplink_bytes": "bytes up, all workers (frames)",
    "both_bytes": "bytes up and down, all workers (frames)",
    "round": "rounds",
}
_SEED_BY_SEED = tuple[list[float], list[float], list[float], list[float]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Curve:
    """An entry of a comparison.

    Attributes:
        name: in the legend.
        panels: in which it is drawn; none for every one.
        runs: for every seed the metrics of its rounds; those without an evaluation are left out.
    """

    name: str
    panels: Sequence[str]
    runs: Sequence[Sequence[Metrics]]


def draw_grid(curves: Sequence[Curve], measure: str, title: str) -> Figure:
    """Draw entries against bytes up, against bytes both ways, and against rounds.

    Seeds are drawn together: a line of their means, at each round at which all of them were
    evaluated, in a band from the least to the most of them.

    Args:
        curves: the entries; at least one.
        measure: that all have.
        title: of the whole.

    Returns:
        A figure with a row for every panel that an entry names, in their order; or with one.
    """
    panels = list(dict.fromkeys(panel for curve in curves for panel in curve.panels)) or [""]
    rows = [
        [curve for curve in curves if not curve.panels or panel in curve.panels] for panel in panels
    ]
    heights = [max(_HEIGHT, _TITLE + _LEGEND_LINE * _lines(row)) for row in rows]
    size = (_WIDTH, sum(heights) + _TITLE)
    figure = Figure(figsize=size, dpi=150, layout="constrained")
    grid: Any = figure.subplots(
        len(rows), 3, sharex="col", sharey="row", squeeze=False, height_ratios=heights
    )
    for row, panel, axes in zip(rows, panels, grid, strict=True):
        _draw_row(row, measure, panel, axes)
    for index, axes in enumerate(grid):
        _label(axes, bottom=index == len(grid) - 1)
    figure.suptitle(title, parse_math=False)
    return figure


def _lines(curves: Sequence[Curve]) -> int:
    return sum(len(_wrapped(curve.name)) for curve in curves)


def _wrapped(name: str) -> list[str]:
    return textwrap.wrap(name, _NAME) or [name]


def _draw_row(curves: Sequence[Curve], measure: str, panel: str, row: Sequence[Axes]) -> None:
    lines: list[Line2D] = []
    shown: list[float] = []
    for curve, style in zip(curves, styles(len(curves)), strict=True):
        for axes, key in zip(row, _COLUMNS, strict=True):
            at, means, least, most = _over_seeds(curve.runs, measure, key)
            drawn = plot(axes, at, means, style)
            if len(curve.runs) > 1:
                axes.fill_between(at, least, most, color=style["color"], alpha=_BAND, linewidth=0)
        lines += drawn
        shown += means + [value for value in (*least, *most) if math.isfinite(value)]
    for axes, label in zip(row, _COLUMNS.values(), strict=True):
        finish(axes, measure, shown, label)
        axes.tick_params(labelsize=_SMALL)
    row[0].set_ylabel(measure_in_words(measure), parse_math=False)
    row[0].set_title(panel, loc="left", fontweight="bold", parse_math=False)
    # matplotlib hides what starts with an underscore
    names = [" " + "\n ".join(_wrapped(curve.name)) for curve in curves]
    legend = row[-1].legend(
        lines,
        names,
        loc="upper left",
        bbox_to_anchor=(1.02, 1.02),
        borderaxespad=0,
        frameon=False,
        fontsize=_SMALL + 0.5,
        handlelength=2.4,
    )
    as_written(legend)


def _over_seeds(runs: Sequence[Sequence[Metrics]], measure: str, key: str) -> _SEED_BY_SEED:
    """Return where the means over seeds are, these, and the least and the most of the seeds.

    Only rounds at which all of them were evaluated count, and on an axis of bytes those after
    which something was sent, as zero has no place on a logarithmic one.
    """
    tested = [{line["round"]: line for line in rounds if measure_names(line)} for rounds in runs]
    first, *others = tested
    common = [number for number in first if all(number in other for other in others)]
    found: _SEED_BY_SEED = ([], [], [], [])
    for number in common:
        places = [_place(by_round[number], key) for by_round in tested]
        if key != "round" and not min(places):
            continue
        values = [drawable(by_round[number][f"test_{measure}"]) for by_round in tested]
        known = all(map(math.isfinite, values))
        least, most = (min(values), max(values)) if known else (math.nan, math.nan)
        mean = sum(values) / len(values)
        for column, value in zip(
            found, (sum(places) / len(places), mean, least, most), strict=True
        ):
            column.append(value)
    return found


def _place(metrics: Metrics, key: str) -> float:
    if key == "both_bytes":
        return float(metrics["uplink_bytes"] + metrics["downlink_bytes"])
    return float(metrics[key])


def _label(row: Sequence[Axes], *, bottom: bool) -> None:
    """Put numbers on the axes of every row, and words below the last."""
    for axes, key in zip(row, _COLUMNS, strict=True):
        axes.tick_params(axis="x", which="both", labelbottom=True, labelsize=_SMALL)
        if key != "round":
            if any(np.size(line.get_xdata()) for line in axes.get_lines()):
                axes.set_xscale("log")
            label_bytes(axes)
        if not bottom:
            axes.set_xlabel("")
