"""A figure of the levels that MLMC estimators have drawn, and the figure's bins."""

import math
import textwrap
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from launch.display.colours import BLUE, VERMILION
from launch.observations import mean_level

_COLUMNS = 4
_WIDTH, _HEIGHT = 3.2, 2.3  # inches, of a histogram
_MOST_BARS = 40  # with more levels a bar holds several, the more the higher they are
_LARGE = 1000  # from where on a mean has no digits after the point
_NAME = 36  # characters of a line


def draw_levels(drawn: Mapping[str, Mapping[int, int]]) -> Figure:
    """Draw a histogram for every entry, with the mean level as a line and a number.

    Args:
        drawn: by the name of the entry, how often each level was drawn, from 1; an entry has at
            least one.
    """
    columns = min(_COLUMNS, len(drawn))
    rows = math.ceil(len(drawn) / columns)
    size = (max(2, columns) * _WIDTH, rows * _HEIGHT + 0.5)
    figure = Figure(figsize=size, dpi=150, layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False).flatten()
    for axes, (name, levels) in zip(grid, drawn.items(), strict=False):
        _draw(axes, levels)
        axes.set_title(
            "\n".join(textwrap.wrap(name, _NAME) or [name]), fontsize=9, parse_math=False
        )
    for axes in grid[len(drawn) :]:
        axes.set_visible(False)
    figure.supylabel("share of the draws", fontsize=10)
    figure.suptitle("levels drawn by the workers in observed rounds", fontsize=11)
    return figure


def edges_of(highest: int) -> npt.NDArray[np.float64]:
    """Return the edges of bins of levels from 1: one a level, or wider ones if they are many."""
    if highest <= _MOST_BARS:
        return np.arange(highest + 1, dtype=np.float64) + 0.5
    spaced = np.round(np.geomspace(1, highest + 1, _MOST_BARS + 1))
    return np.array(sorted(set(spaced.tolist())), dtype=np.float64) - 0.5


def _draw(axes: Axes, levels: Mapping[int, int]) -> None:
    edges = edges_of(max(levels))
    draws = sum(levels.values())
    shares, _ = np.histogram(list(levels), edges, weights=[n / draws for n in levels.values()])
    gap = 0.08 * np.diff(edges)
    axes.bar(edges[:-1] + gap / 2, shares, np.diff(edges) - gap, align="edge", color=BLUE)
    mean = mean_level(levels) or math.nan
    axes.axvline(mean, color=VERMILION, linewidth=1.4)
    wide = len(edges) - 1 < max(levels)
    middle = math.sqrt(edges[0] * edges[-1]) if wide else (edges[0] + edges[-1]) / 2
    right = mean > middle
    axes.annotate(
        f"mean {mean:,.0f}" if mean >= _LARGE else f"mean {mean:.3g}",
        (mean, 0.97),
        xycoords=("data", "axes fraction"),
        xytext=(-4 if right else 4, 0),
        textcoords="offset points",
        ha="right" if right else "left",
        va="top",
        color=VERMILION,
        fontsize=9,
    )
    _finish(axes, logarithmic=wide)


def _finish(axes: Axes, *, logarithmic: bool) -> None:
    axes.set_ylim(0, 1.15 * axes.get_ylim()[1])
    axes.yaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:g}%"))
    axes.yaxis.set_major_locator(MaxNLocator(4))
    if logarithmic:
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(FuncFormatter(lambda level, _: f"{level:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
    else:
        axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    axes.set_xlabel("level", fontsize=9)
    axes.tick_params(labelsize=8.5)
    axes.grid(axis="y", alpha=0.3, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
