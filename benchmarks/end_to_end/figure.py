"""The figure: accuracy against seconds, a panel for every model and rate."""

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from benchmarks.end_to_end.plan import Contender, Model, Rate
from benchmarks.end_to_end.report import Found
from launch.display.colours import OKABE_ITO

_STYLES = ("-", "--", ":")
_LEGEND_WIDTH = 2.9  # inches of the longest name of a contender


def draw(
    contenders: Sequence[Contender], models: Sequence[Model], rates: Sequence[Rate], found: Found
) -> Figure:
    """Return a figure with a row for every model, and a column for every rate, that has cells.

    Args:
        contenders: a line each, of the same colour in all panels.
        models: in the order of rows.
        rates: in the order of columns.
        found: what there is.

    Raises:
        ValueError: there is nothing.
    """
    drawn = [model for model in models if any(name == model.name for _, name, _ in found)]
    if not drawn:
        raise ValueError(f"no cells of {[m.name for m in models]} at {list(rates)}: run some first")
    rates = [rate for rate in rates if any(trained == rate for *_, trained in found)]
    size = (3.6 * len(rates), 2.8 * len(drawn) + 1.2)
    figure = Figure(figsize=size, dpi=150, layout="constrained")
    panels = figure.subplots(len(drawn), len(rates), squeeze=False)
    lines: dict[str, Any] = {}
    for model, row in zip(drawn, panels, strict=True):
        for rate, axes in zip(rates, row, strict=True):
            for index, contender in enumerate(contenders):
                outcome = found.get((contender.name, model.name, rate))
                if outcome and (trace := outcome.trace()):
                    (line,) = axes.plot(*zip(*trace, strict=True), linewidth=1.2, **_style(index))
                    lines.setdefault(contender.name, line)
            _finish(axes, model, rate)
    handles = list(lines.values())
    ncols = max(1, int(size[0] / _LEGEND_WIDTH))
    figure.legend(handles, list(lines), loc="outside lower center", ncols=ncols, frameon=False)
    return figure


def _finish(axes: Axes, model: Model, rate: Rate) -> None:
    axes.set_title(f"{model.name}, {rate}", fontsize="medium")
    axes.set(xlabel="seconds", ylabel="test accuracy")
    if axes.lines:
        axes.set_xscale("log")
    axes.axhline(model.target, color="black", linewidth=0.6, linestyle=(0, (1, 3)))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.grid(alpha=0.3, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)


def _style(index: int) -> dict[str, Any]:
    dash = _STYLES[index // len(OKABE_ITO) % len(_STYLES)]
    return {"color": OKABE_ITO[index % len(OKABE_ITO)], "linestyle": dash}
