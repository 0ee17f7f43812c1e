"""Relative error against bits a value, as a picture."""

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from launch.display.colours import BLUE, VERMILION

if TYPE_CHECKING:
    from launch.benching.codec_result import CodecResult

_LABEL_POINTS = (11.0, 8.0)  # room that a number takes, width and height
_DIRECTIONS = ((1, 1), (-1, 1), (1, -1), (-1, -1), (1, 0), (-1, 0), (0, 1), (0, -1))
_DISTANCES = (8, 14, 21, 29, 38, 48, 60)  # of a label from its point
FORMATS = (".png", ".pdf", ".svg")


def plot(results: "Sequence[CodecResult]", path: Path, kind: str) -> None:
    """Draw relative error against bits per value, and for Gaussian vectors the limit.

    Any unbiased estimate of a Gaussian vector from R bits a value has a relative error of at least
    1 / (4^R - 1).

    Args:
        results: those without an error are left out, since the axis is logarithmic.
        path: of the picture, one of ``FORMATS``.
        kind: of the vector, for the title.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 8), dpi=150, layout="constrained")
    axes = figure.subplots()
    shown = [row for row in results if row.relative_error > 1e-12]
    places = [(row.bits_per_value, row.relative_error) for row in shown]
    for number, (row, place) in enumerate(zip(shown, places, strict=True), start=1):
        colour, marker = (BLUE, "o") if row.unbiased else (VERMILION, "x")
        label = f"{number} {row.name}"
        axes.plot(*place, marker=marker, ms=4, color=colour, linestyle="none", label=label)
    if kind == "gaussian" and places:
        rates = np.geomspace(min(rate for rate, _ in places) / 2, 12, 200)
        limit = 1 / (4**rates - 1)
        axes.plot(rates, limit, color="black", lw=1, label="limit of the unbiased, Gaussian")
    axes.set(xscale="log", yscale="log", ylabel="relative error", title=kind)
    axes.set_xlabel("bits per value (frames); crosses are biased")
    axes.grid(alpha=0.3)
    axes.legend(fontsize="xx-small", loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    figure.draw_without_rendering()  # settles the axes, for places in points
    _number(axes, places)
    figure.savefig(path)


def _number(axes: Any, places: Sequence[tuple[float, float]]) -> None:
    """Write 1, 2, ... beside the points, each where no point and no other number is."""
    points = axes.transData.transform(np.array(places).reshape(-1, 2)) * 72 / axes.figure.dpi
    for number, (place, offset) in enumerate(zip(places, offsets(points), strict=True), start=1):
        axes.annotate(
            str(number),
            place,
            xytext=tuple(offset),
            textcoords="offset points",
            ha="center",
            va="center",
            fontsize=7,
            arrowprops={"arrowstyle": "-", "lw": 0.3, "shrinkA": 3, "shrinkB": 0},
        )


def offsets(points: Any) -> list[Any]:
    """Return where the label of each point goes, relative to it: the nearest free place.

    Args:
        points: shape (n, 2), in points of 1/72 inch.
    """
    taken = list(points)
    result = []
    for point in points:
        for distance, direction in itertools.product(_DISTANCES, _DIRECTIONS):
            offset = distance * np.array(direction) / np.hypot(*direction)
            apart = np.abs(np.array(taken) - point - offset)
            if ((apart[:, 0] >= _LABEL_POINTS[0]) | (apart[:, 1] >= _LABEL_POINTS[1])).all():
                break
        taken.append(point + offset)
        result.append(offset)
    return result
