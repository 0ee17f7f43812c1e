"""Figures: a measure against uplink bytes, and against rounds."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter, PercentFormatter

from launch.build import describe
from launch.config import RunConfig
from launch.metrics import Metrics, main_measure, measure_in_words, measure_names
from launch.units import format_bytes

# Okabe and Ito's palette, which colour-blind readers can tell apart; line styles repeat the cue.
_COLOURS = ("#000000", "#E69F00", "#56B4E9", "#009E73", "#D55E00", "#0072B2", "#CC79A7", "#999999")
_LOGARITHMIC = ("gap", "squared_distance", "gradient_norm")  # which go to zero
_LEGEND_COLUMNS = 3
_HEIGHT, _LEGEND_ROW = 4.6, 0.22  # inches
_FEW_DECADES = 200  # with less than this between its ends, an axis shows few powers of ten
_TOO_LARGE = 1e300
_STYLES = ("-", "--", "-.", ":")


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
    for index, rounds in enumerate(tested.values()):
        style: dict[str, Any] = {
            "color": _COLOURS[index % len(_COLOURS)],
            "linestyle": _STYLES[index // len(_COLOURS) % len(_STYLES)],
            "linewidth": 1.8,
        }
        values = [_drawable(metrics[f"test_{measure}"]) for metrics in rounds]
        shown += values
        lines += by_rounds.plot([metrics[pace] for metrics in rounds], values, **style)
        # Nothing has been sent before round 1, and zero has no place on a logarithmic axis.
        sizes = [metrics["uplink_bytes"] for metrics in rounds[1:]]
        by_bytes.plot(sizes, values[1:], **style)
        sent += [size for size, value in zip(sizes, values[1:], strict=True) if value == value]
    _finish(by_bytes, measure, shown, "bytes sent by all workers (frames)")
    if sent:
        by_bytes.set_xscale("log")
    by_bytes.xaxis.set_major_formatter(FuncFormatter(lambda size, _: format_bytes(size)))
    least, most = by_bytes.get_xlim()
    if most < _FEW_DECADES * least:
        by_bytes.xaxis.set_minor_formatter(FuncFormatter(_label_between_powers))
        by_bytes.tick_params(axis="x", which="minor", pad=5)  # whose ticks are shorter
    else:
        by_bytes.xaxis.set_minor_formatter(NullFormatter())
    _finish(by_rounds, measure, shown, "seconds of the clock" if timed else "rounds")
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
    for text in legend.get_texts():
        text.set_parse_math(False)
    return figure


def title_of(configs: Sequence[RunConfig]) -> str:
    """Return a title that names the data of some runs, and how many workers share it."""
    kinds = dict.fromkeys(str(describe(config.problem)["kind"]) for config in configs)
    numbers = dict.fromkeys(str(config.workers) for config in configs)
    return f"{' and '.join(kinds)}, {' and '.join(numbers)} workers"


def _finish(axes: Axes, measure: str, values: Sequence[float], label: str) -> None:
    axes.set_xlabel(label)
    axes.grid(alpha=0.3, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    if measure == "accuracy":
        axes.set_ylim(0, 1)
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


def _drawable(value: float) -> float:
    """Return a value, or NaN in place of one that no axis could show."""
    return value if abs(value) < _TOO_LARGE else math.nan


def _label_between_powers(size: float, _: int) -> str:
    """Label twice and five times a power of ten, which are few enough not to touch."""
    return format_bytes(size) if f"{size:e}"[0] in "25" else ""
