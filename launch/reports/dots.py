"""What panels of bytes have in common: a dot for every run, those of several beside each other."""

from collections.abc import Mapping, Sequence
from typing import Any

from launch.reports.panel import Control, Option, escaped, run_style, scale, scale_control
from mlmc_ray.ledger import Direction

IN_WORDS: Mapping[Direction, str] = {
    "uplink": "up: workers to server",
    "downlink": "down: server to workers",
}
"""Directions, as a choice calls them."""

BYTES = {"tickformat": "~s", "ticksuffix": "B", "rangemode": "tozero"}
"""Settings of an axis of bytes."""

_WIDE = 30  # from the smallest to the largest, where a linear axis would hide the small


def dots(names: Sequence[str], hover: str) -> list[dict[str, Any]]:
    """Return traces of dots, one for each run, whose places the choice of a direction fills in.

    Args:
        names: of the runs.
        hover: what a dot tells below its run's name, in plotly's terms.
    """
    return [
        {
            "type": "scatter",
            "mode": "markers",
            "name": escaped(name),
            "x": [],
            "y": [],
            "customdata": [],
            "hovertemplate": f"%{{fullData.name}}<br>{hover}<extra></extra>",
            **run_style(run),
        }
        for run, name in enumerate(names)
    ]


def beside(places: Sequence[int], run: int, runs: int) -> list[float]:
    """Return places with the runs beside each other, so that equal ones do not hide each other."""
    return [round(place + (run - (runs - 1) / 2) / runs * 0.7, 4) for place in places]


def fitting_scale(letter: str, sizes: Sequence[float]) -> Control:
    """Return the choice of a scale: at first logarithmic where small sizes would be lost."""
    sent = [size for size in sizes if size > 0]
    wide = bool(sent) and max(sent) > _WIDE * min(sent)
    layout = scale(letter, "log" if wide else "linear")
    return scale_control(letter, Option(label="as fits", layout=layout))
