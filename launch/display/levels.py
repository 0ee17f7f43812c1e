"""A figure of the levels that MLMC estimators have drawn."""

import math
import textwrap
from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from launch.display.colours import BLUE, VERMILION
from launch.observations import mean_level

_COLUMNS = 4
_WIDTH, _HEIGHT = 3.2, 2.5  # inches, of a panel
_MOST_BARS = 40  # with more levels there is a line of cumulative shares instead
_MOST_TICKS = 12  # a tick a level, up to here
_LARGE = 1000  # from where on a mean has no digits after the point
_NAME = 36  # characters of a line


def draw_levels(drawn: Mapping[str, Mapping[int, int]]) -> Figure:
    """Draw how often levels were drawn for every entry, with the mean as a line and a number.

    Up to 40 levels are bars, one each. More are a line, the share of the draws up to every level,
    over a logarithmic axis: on it bars of several levels would show what no level has.

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
        lines = textwrap.wrap(name, _NAME) or [name]
        axes.set_title("\n".join([*lines, _counted(levels)]), fontsize=9, parse_math=False)
    for axes in grid[len(drawn) :]:
        axes.set_visible(False)
    figure.suptitle("levels drawn by the workers in observed rounds", fontsize=11)
    return figure


def _counted(levels: Mapping[int, int]) -> str:
    draws = sum(levels.values())
    return f"{draws:,} draw{'s' * (draws > 1)}, highest level {max(levels):,}"


def _draw(axes: Axes, levels: Mapping[int, int]) -> None:
    highest = max(levels)
    many = highest > _MOST_BARS
    if many:
        _draw_line(axes, levels)
    else:
        _draw_bars(axes, levels)
    mean = mean_level(levels) or math.nan
    axes.axvline(mean, color=VERMILION, linewidth=1.4)
    right = mean > (math.sqrt(highest) if many else (highest + 1) / 2)
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
    axes.yaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:g}%"))
    axes.tick_params(labelsize=8.5)
    axes.grid(axis="y", alpha=0.3, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _draw_bars(axes: Axes, levels: Mapping[int, int]) -> None:
    highest, draws = max(levels), sum(levels.values())
    places = range(1, highest + 1)
    axes.bar(places, [levels.get(level, 0) / draws for level in places], width=0.92, color=BLUE)
    axes.set_xlim(0.5, highest + 0.5)
    top = 1.15 * axes.get_ylim()[1]
    axes.set_yticks([tick for tick in MaxNLocator(4).tick_values(0, top) if tick <= 1])
    axes.set_ylim(0, top)
    if highest <= _MOST_TICKS:
        axes.set_xticks(places)
    else:
        axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    axes.set_xlabel("level", fontsize=9)
    axes.set_ylabel("share of the draws", fontsize=9)


def _draw_line(axes: Axes, levels: Mapping[int, int]) -> None:
    ordered = sorted(levels)
    shares = np.cumsum([levels[level] for level in ordered]) / sum(levels.values())
    highest = ordered[-1]
    places, heights = [1, *ordered], [0.0, *shares.tolist()]
    axes.step(places, heights, where="post", color=BLUE, linewidth=1.6)
    axes.fill_between(places, heights, step="post", color=BLUE, alpha=0.15, linewidth=0)
    axes.set_xscale("log")
    axes.set_xlim(0.8, highest * 1.25)
    axes.set_ylim(0, 1.15)
    axes.set_yticks([0, 0.25, 0.5, 0.75, 1])
    axes.xaxis.set_major_formatter(FuncFormatter(lambda level, _: f"{level:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("level, logarithmic", fontsize=9)
    axes.set_ylabel("share of the draws\nup to the level", fontsize=9)
