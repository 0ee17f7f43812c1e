"""The figure: accuracy against the bytes that a worker has sent."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, PercentFormatter

from benchmarks.bytes_to_accuracy.plan import Contender, Setting
from benchmarks.bytes_to_accuracy.report import Tuned, tuned
from launch.display.colours import OKABE_ITO
from launch.display.units import format_bytes

_COLUMNS = 3
_STYLES = ("-", "--", ":")
_SHOWN = 0.25  # of accuracy below the target, where methods differ


def draw(settings: Sequence[Setting], contenders: Sequence[Contender], out: Path) -> Figure:
    """Return a figure with a panel for every setting that has cells, in which bands span the seeds.

    Args:
        settings: of the panels.
        contenders: a line each, at its own step size, if it has been run.
        out: directory of the cells' files.

    Raises:
        ValueError: there are no cells.
    """
    found = [(s, [tuned(s, contender, out) for contender in contenders]) for s in settings]
    drawn = [(setting, rows) for setting, rows in found if any(rows)]
    if not drawn:
        raise ValueError(f"{out} has no cells of {[s.title for s in settings]}: run some first")
    columns = min(_COLUMNS, len(drawn))
    number = math.ceil(len(drawn) / columns)
    figure = Figure(figsize=(5 * columns, 3.8 * number + 1.2), dpi=150, layout="constrained")
    panels = figure.subplots(number, columns, squeeze=False).flat
    lines: dict[str, Any] = {}
    for (setting, rows), axes in zip(drawn, panels, strict=False):
        for index, row in enumerate(rows):
            if row:
                lines.setdefault(row.contender.name, _plot(axes, row, _style(index)))
        _finish(axes, setting)
    for axes in panels:  # what is left of them
        axes.set_visible(False)
    handles = list(lines.values())
    figure.legend(
        handles, list(lines), loc="outside lower center", ncols=columns + 1, frameon=False
    )
    return figure


def _plot(axes: Axes, row: Tuned, style: dict[str, Any]) -> Any:
    """Draw the mean over seeds and their range; nothing has been sent at the first evaluation."""
    ended = [outcome for outcome in row.seeds if not outcome.diverged]
    sent = np.array([outcome.sent for outcome in ended]).mean(axis=0)[1:]
    accuracies = np.array([outcome.smooth() for outcome in ended])[:, 1:]
    least, most = accuracies.min(axis=0), accuracies.max(axis=0)
    axes.fill_between(sent, least, most, color=style["color"], alpha=0.15, linewidth=0)
    (line,) = axes.plot(sent, accuracies.mean(axis=0), linewidth=1.5, **style)
    return line


def _finish(axes: Axes, setting: Setting) -> None:
    axes.set_title(setting.title)
    axes.set(xscale="log", xlabel="bytes sent by a worker (frames)", ylabel="test accuracy")
    axes.axhline(setting.target, color="black", linewidth=0.6, linestyle=(0, (1, 3)))
    axes.set_ylim(bottom=max(0.0, setting.target - _SHOWN))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda size, _: format_bytes(size)))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.grid(alpha=0.3, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)


def _style(index: int) -> dict[str, Any]:
    dash = _STYLES[index // len(OKABE_ITO) % len(_STYLES)]
    return {"color": OKABE_ITO[index % len(OKABE_ITO)], "linestyle": dash}
