"""Figures: a measure against uplink bytes, and against rounds."""

import math
from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from launch.configuration.build import describe
from launch.configuration.run_config import RunConfig
from launch.display.axes import as_written, drawable, finish, label_bytes, plot, styles
from launch.metrics import Metrics, main_measure, measure_in_words, measure_names

_LEGEND_COLUMNS = 3
_HEIGHT, _LEGEND_ROW = 4.6, 0.22  # inches


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
    for rounds, style in zip(tested.values(), styles(len(tested)), strict=True):
        values = [drawable(metrics[f"test_{measure}"]) for metrics in rounds]
        shown += values
        lines += plot(by_rounds, [metrics[pace] for metrics in rounds], values, style)
        # Nothing has been sent before round 1, and zero has no place on a logarithmic axis.
        sizes = [metrics["uplink_bytes"] for metrics in rounds[1:]]
        plot(by_bytes, sizes, values[1:], style)
        sent += [size for size, value in zip(sizes, values[1:], strict=True) if value == value]
    finish(by_bytes, measure, shown, "bytes sent by all workers (frames)")
    if sent:
        by_bytes.set_xscale("log")
    label_bytes(by_bytes)
    finish(by_rounds, measure, shown, "seconds of the clock" if timed else "rounds")
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
    as_written(legend)
    return figure


def title_of(configs: Sequence[RunConfig]) -> str:
    """Return a title that names the data of some runs, and how many workers share it."""
    kinds = dict.fromkeys(str(describe(config.problem)["kind"]) for config in configs)
    numbers = dict.fromkeys(str(config.workers) for config in configs)
    return f"{' and '.join(kinds)}, {' and '.join(numbers)} workers"
