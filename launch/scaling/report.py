"""What a scaling run found: a table, and a figure."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator
from rich import box
from rich.table import Table
from rich.text import Text

from launch.display.colours import BLACK, BLUE, GREEN, GREY, VERMILION
from launch.display.units import format_bytes
from launch.metrics import format_measure
from launch.scaling.plan import ScalePlan

Found = Mapping[str, Any]
"""Of one number of workers; see ``measure_point``."""


def scale_table(plan: ScalePlan, found: Sequence[Found]) -> Table:
    """Return a table with a row for every number of workers.

    Args:
        plan: which was run.
        found: as ``scale_into`` returns it.
    """
    goal = f"to {plan.target}" if plan.target else "after all rounds"
    shared = "total batch" if plan.batch == "total" else "batch per worker"
    table = Table(
        title=Text(f"{goal}, equal {shared}; variance of the average at the first parameters"),
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        padding=(0, 1),
        collapse_padding=True,
    )
    timed = any(row["clock_s"] is not None for row in found)
    columns = ["workers", "batch\neach", "rounds", plan.measure, "bytes\nup", "bytes\ndown"]
    columns += ["seconds", *(["clock\nseconds"] if timed else []), "set-up\ns", "peak\nmemory"]
    columns += ["variance\ndrawn", "by\ntheory", "bound"]
    for column in columns:
        table.add_column(Text(column), justify="right", no_wrap=True)
    for row in found:
        variance = row["variance"] or {}
        table.add_row(
            str(row["workers"]),
            str(row["batch_size"]),
            _rounds(row),
            format_measure(plan.measure, row["measures"][plan.measure]),
            format_bytes(row["uplink_bytes"]),
            format_bytes(row["downlink_bytes"]),
            f"{row['seconds']:.1f}",
            *([_number(row["clock_s"])] if timed else []),
            f"{row['set_up_s']:.1f}",
            "-" if row["peak_bytes"] is None else format_bytes(row["peak_bytes"]),
            _number(variance.get("drawn")),
            _number(variance.get("exact")),
            _number(variance.get("bound")),
        )
    return table


def draw_scale(plan: ScalePlan, found: Sequence[Found]) -> Figure:
    """Draw rounds, bytes and the variance against the number of workers, all axes logarithmic.

    Rounds and bytes are those to the target, where there is one; a run that did not reach it, or
    diverged, has no point. Bars of the variance are two standard errors each way.
    """
    figure = Figure(figsize=(14, 4.2), dpi=150, layout="constrained")
    by_rounds, by_bytes, by_variance = figure.subplots(1, 3)
    done = [row for row in found if not row["diverged"] and row["reached"] is not False]
    workers = [row["workers"] for row in done]
    goal = f"to {plan.target}" if plan.target else "of the whole run"
    by_rounds.plot(workers, [row["rounds"] for row in done], "o-", color=BLUE)
    by_rounds.set_ylabel(f"rounds {goal}", parse_math=False)
    for key, label, style in (("uplink", "up", "o-"), ("downlink", "down", "s--")):
        sizes = [row[f"{key}_bytes"] for row in done]
        colour = VERMILION if key == "uplink" else GREEN
        by_bytes.plot(workers, sizes, style, color=colour, label=label)
    by_bytes.set_ylabel(f"bytes {goal}, all workers", parse_math=False)
    by_bytes.legend(frameon=False)
    _draw_variance(by_variance, found)
    for panel in (by_rounds, by_bytes, by_variance):
        _finish(panel, sorted(row["workers"] for row in found))
    if done:  # a logarithmic axis without a point has no limits
        by_rounds.set_yscale("log")
        by_bytes.set_yscale("log")
    by_bytes.yaxis.set_major_formatter(FuncFormatter(lambda size, _: format_bytes(size)))
    batch = "total batch" if plan.batch == "total" else "batch per worker"
    figure.suptitle(f"{plan.base.name}, equal {batch}", parse_math=False)
    return figure


def _draw_variance(panel: Axes, found: Sequence[Found]) -> None:
    rows = sorted((row for row in found if row["variance"]), key=lambda row: row["workers"])
    lines = (
        ("exact", "theory, exact", "-", BLACK),
        ("bound", "bound by omega", ":", GREY),
    )
    for key, label, style, colour in lines:
        known = [(row["workers"], row["variance"][key]) for row in rows if row["variance"][key]]
        if known:
            panel.plot(*zip(*known, strict=True), style, color=colour, label=label)
    panel.errorbar(
        [row["workers"] for row in rows],
        [row["variance"]["drawn"] for row in rows],
        [2 * row["variance"]["standard_error"] for row in rows],
        fmt="o",
        color=VERMILION,
        capsize=2,
        label="drawn",
    )
    if any(row["variance"]["drawn"] > 0 for row in rows):
        panel.set_yscale("log")
    panel.set_ylabel("variance of the average message")
    panel.legend(frameon=False)


def _finish(panel: Axes, workers: Sequence[int]) -> None:
    panel.set_xlabel("workers")
    panel.set_xscale("log", base=2)
    panel.set_xticks(list(workers), [str(number) for number in workers])
    panel.xaxis.set_minor_locator(NullLocator())
    panel.grid(alpha=0.3, linewidth=0.6)
    panel.spines[["top", "right"]].set_visible(False)


def _rounds(row: Found) -> str:
    if row["diverged"]:
        return "diverged"
    return f"> {row['rounds']}" if row["reached"] is False else str(row["rounds"])


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"
