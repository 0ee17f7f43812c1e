"""Pieces of figures of runs: colours and dashes, lines, axes of bytes and of measures."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.legend import Legend
from matplotlib.lines import Line2D
from matplotlib.ticker import (
    FuncFormatter,
    MaxNLocator,
    NullFormatter,
    NullLocator,
    PercentFormatter,
)

from launch.display.colours import OKABE_ITO
from launch.display.units import format_bytes

# For more runs than Okabe and Ito have colours, Kelly's colours of greatest contrast, 1965, without
# those that are hard to tell from another of them as a line, or from the paper.
_MANY_COLOURS = (
    *("#FFB300", "#803E75", "#FF6800", "#A6BDD7", "#C10020", "#CEA262", "#817066", "#007D34"),
    *("#F6768E", "#00538A", "#53377A", "#B32851", "#7F180D", "#93AA00", "#593315", "#232C16"),
)
_LOGARITHMIC = ("gap", "squared_distance", "gradient_norm")  # which go to zero
_FEW_DECADES = 200  # with less than this between its ends, an axis shows few powers of ten
_TOO_LARGE = 1e300
_STYLES = ("-", "--", "-.", ":")
_A_LINE = 3  # points; fewer are marked, for one alone has no line
_NARROW = 0.5  # the range of accuracies that an axis from 0 to 1 would flatten


def styles(number: int) -> list[dict[str, Any]]:
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


def plot(
    axes: Axes, at: Sequence[float], values: Sequence[float], style: Mapping[str, Any]
) -> list[Line2D]:
    """Draw a line, with markers where it has few points."""
    few = sum(map(math.isfinite, values)) < _A_LINE
    return axes.plot(at, values, marker="o" if few else "", **style)


def label_bytes(axes: Axes) -> None:
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


def as_written(legend: Legend) -> None:
    """Show the names of a legend as they are: none is a formula, though it may hold a dollar."""
    for text in legend.get_texts():
        text.set_parse_math(False)


def finish(axes: Axes, measure: str, values: Sequence[float], label: str) -> None:
    """Give a panel its grid, the scale that fits a measure, and the label of its other axis.

    Args:
        axes: the panel.
        measure: on its vertical axis.
        values: all that are drawn there; NaN for what cannot be.
        label: of the horizontal axis.
    """
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


def drawable(value: float) -> float:
    """Return a value, or NaN in place of one that no axis could show."""
    return value if abs(value) < _TOO_LARGE else math.nan


def _label_between_powers(size: float, _: int) -> str:
    """Label twice and five times a power of ten, which are few enough not to touch."""
    return format_bytes(size) if f"{size:e}"[0] in "25" else ""
