"""The figure: a bar for every entry, stacked of the parts of a round."""

from collections.abc import Sequence
from textwrap import fill
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from benchmarks.iteration_time.parts import (
    COMPRESS,
    DECODE,
    DOWNLINK,
    GRADIENT,
    OPTIMIZER,
    OTHER,
    PARTS,
    WIRE,
)
from benchmarks.iteration_time.report import Results, title_of
from launch.display.colours import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    SKY_BLUE,
    VERMILION,
)

_COLOURS = {
    GRADIENT: BLUE,
    COMPRESS: ORANGE,
    WIRE: PURPLE,
    DECODE: GREEN,
    OPTIMIZER: VERMILION,
    DOWNLINK: SKY_BLUE,
    OTHER: GREY,
}
_BAR_INCHES = 0.34


def draw(all_results: Sequence[Results]) -> Figure:
    """Return a figure with a panel for each of some results, one below the other.

    The parts of a bar add up to its number, the mean over the middle half of the rounds; its
    whisker spans the quartiles of the round.

    Args:
        all_results: of ``run``, as on a CPU and on a GPU.
    """
    heights = [_BAR_INCHES * len(results["entries"]) + 0.9 for results in all_results]
    figure = Figure(figsize=(8, sum(heights) + 0.5), dpi=150, layout="constrained")
    panels = figure.subplots(len(all_results), squeeze=False, height_ratios=heights)[:, 0]
    for results, axes in zip(all_results, panels, strict=True):
        _draw_panel(axes, results)
    panels[-1].set_xlabel("ms a round, mean over the middle half of rounds; whiskers: quartiles")
    wired = any(results["engine"] == "ray" for results in all_results)
    shown = [name for name in PARTS if wired or name != WIRE]
    figure.legend(
        handles=[Patch(color=_COLOURS[name], label=name) for name in shown],
        loc="outside lower center",
        ncols=4,
        frameon=False,
    )
    return figure


def _draw_panel(axes: Axes, results: Results) -> None:
    entries: list[dict[str, Any]] = results["entries"]
    places = range(len(entries))
    left = [0.0] * len(entries)
    for name in PARTS:
        widths = [entry["middle_ms"][name] for entry in entries]
        axes.barh(places, widths, left=left, height=0.7, color=_COLOURS[name])
        left = [start + width for start, width in zip(left, widths, strict=True)]
    longest = max(entry["ms"]["round"][2] for entry in entries)
    for place, entry in zip(places, entries, strict=True):
        first, _, last = entry["ms"]["round"]
        mean = entry["middle_ms"]["round"]
        spread = [[mean - first], [last - mean]]
        axes.errorbar(mean, place, xerr=spread, color=BLACK, linewidth=1, capsize=2.5)
        axes.text(last + 0.012 * longest, place, f"{mean:.3g}", va="center", fontsize=9)
    axes.set_yticks(places, [fill(entry["name"], 34) for entry in entries])
    axes.invert_yaxis()
    axes.set_xlim(0, 1.1 * longest)
    axes.set_title(title_of(results), loc="left", fontsize=10)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", alpha=0.3, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
