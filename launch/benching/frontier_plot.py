"""Error, and figure of merit, against bits a value, as a picture of two panels."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from launch.benching.frontier import Frontier, with_error
from launch.display.colours import BLACK, OKABE_ITO

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLOURS = tuple(colour for colour in OKABE_ITO if colour != BLACK)  # which the limit has
_STYLES = (("-", "o"), ("--", "s"), (":", "^"), ("-.", "D"))
_WIDEST = 6.0  # bits, where the limit ends


def plot_frontier(frontier: Frontier, path: Path, vector: str) -> None:
    """Draw a line for every compressor, and the limit for Gaussian vectors.

    Args:
        frontier: what was measured; points without an error are left out.
        path: of the picture, one of ``rate_plot.FORMATS``.
        vector: for the title.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 6.5), dpi=150, layout="constrained")
    errors, merits = figure.subplots(1, 2)
    shown: list[float] = []
    for index, (line, points) in enumerate(frontier.lines().items()):
        drawn = sorted(with_error(points), key=lambda point: point.bits_per_value)
        bits = [point.bits_per_value for point in drawn]
        style = _style(index)
        errors.plot(bits, [point.relative_error for point in drawn], label=line, **style)
        merits.plot(bits, [point.merit for point in drawn], **style)
        shown += bits
    if shown:
        _draw_limit(errors, merits, min(shown) / 1.5, min(1.5 * max(shown), _WIDEST))
    errors.set(ylabel="relative error of a message")
    merits.set(ylabel="figure of merit, R (1 + error)")
    for axes in (errors, merits):
        axes.set(xscale="log", yscale="log", xlabel="R, bits a value (frames)")
        axes.grid(alpha=0.3)
    figure.suptitle(vector, parse_math=False)
    figure.legend(loc="outside right center", fontsize="small", frameon=False)
    figure.savefig(path)


def _draw_limit(errors: "Axes", merits: "Axes", least: float, most: float) -> None:
    """Draw what no unbiased estimate of a Gaussian vector is below.

    From R bits a value it has a relative error of at least 1 / (4^R - 1).
    """
    rates = np.geomspace(least, most, 200)
    limit = 1 / np.expm1(rates * math.log(4))  # keeps the digits that 4^R - 1 loses at few bits
    errors.plot(rates, limit, color=BLACK, lw=1, label="limit, Gaussian vectors")
    merits.plot(rates, rates * (1 + limit), color=BLACK, lw=1)


def _style(index: int) -> dict[str, Any]:
    """Return colour, dash and marker of a line; no two of the first 28 are alike."""
    dash, marker = _STYLES[index // len(_COLOURS) % len(_STYLES)]
    colour = _COLOURS[index % len(_COLOURS)]
    return {"color": colour, "linestyle": dash, "marker": marker, "ms": 3.5, "lw": 1.2}
