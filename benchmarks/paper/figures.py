"""Figures of kept runs, as ``mlmc-ray compare`` draws them."""

from collections import Counter
from collections.abc import Sequence

from matplotlib.figure import Figure

from benchmarks.paper.runs import Run, by_name
from launch.display.grid import Curve, draw_grid
from launch.display.levels import draw_levels
from mlmc_ray.errors import ConfigError


def accuracies(runs: Sequence[Run], title: str, lowest: float | None = None) -> Figure:
    """Draw test accuracies against bytes up, bytes both ways and rounds, a row a panel.

    Args:
        runs: of a comparison.
        title: of the figure.
        lowest: accuracy from which on they are shown, up to the highest; None for all of 0 to 1.
    """
    curves = [
        Curve(
            name=name,
            panels=own[0].panels,
            runs=[[dict(line) for line in run.evaluations] for run in own],
        )
        for name, own in by_name(runs).items()
    ]
    figure = draw_grid(curves, "accuracy", title)
    if lowest is not None:
        highest = max(line["test_accuracy"] for run in runs for line in run.evaluations)
        for axes in figure.axes:
            axes.set_ylim(lowest, highest + 0.02 * (1 - lowest))
    return figure


def levels(runs: Sequence[Run]) -> Figure:
    """Draw how often the MLMC runs drew each level.

    Raises:
        ConfigError: no run drew any.
    """
    drawn = {
        name: sum((Counter(run.levels) for run in own), Counter[int]())
        for name, own in by_name(runs).items()
        if any(run.levels for run in own)
    }
    if not drawn:
        raise ConfigError("no run drew levels: none is of MLMC, or observe_every is null")
    return draw_levels(drawn)
