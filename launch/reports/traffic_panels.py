"""Panels of the bytes of every worker, and of the levels that were sent."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from launch.reports.dots import BYTES, IN_WORDS, beside, dots, fitting_scale
from launch.reports.panel import Control, Option, Panel, axis, escaped, run_style, scale_control
from launch.reports.record import RunRecord
from mlmc_ray.ledger import DIRECTIONS

_EVERY_TICK = 20  # whole numbers of an axis that has a tick at each


def by_worker(records: Sequence[RunRecord], names: Sequence[str]) -> Panel | None:
    """Return the bytes of every worker in all rounds, from the ledger; None where it is empty."""
    if not any(record.traffic.frames[way] for record in records for way in DIRECTIONS):
        return None
    options = []
    for way in DIRECTIONS:
        totals = [sorted(record.traffic.by_worker[way].items()) for record in records]
        columns = {
            "x": [
                beside([worker for worker, _ in own], run, len(totals))
                for run, own in enumerate(totals)
            ],
            "y": [[size for _, size in own] for own in totals],
            "customdata": [[worker for worker, _ in own] for own in totals],
        }
        options.append(Option(label=IN_WORDS[way], traces=columns))
    return Panel(
        key="workers",
        title="Bytes by worker",
        text="All frames from or to a worker, in all rounds.",
        traces=dots(names, "worker %{customdata}<br>%{y:.4~s}B"),
        layout={
            "xaxis": _whole(
                "worker", [len(record.traffic.by_worker["uplink"]) for record in records]
            ),
            "yaxis": axis("bytes, all rounds", **BYTES),
            "hovermode": "closest",
        },
        controls=[
            Control(name="direction", options=options, pictures=True),
            fitting_scale(
                "y", [size for option in options for own in option.traces["y"] for size in own]
            ),
        ],
    )


def levels(records: Sequence[RunRecord], names: Sequence[str]) -> Panel | None:
    """Return how often each level of MLMC was sent; None where none was observed."""
    traces = _shares([_drawn(record) for record in records], names, "level", "draws")
    if not traces:
        return None
    return Panel(
        key="levels",
        title="Levels of MLMC messages",
        text="How often each level was drawn, by all workers in the observed rounds. Low levels "
        "are cheap and coarse.",
        traces=traces,
        layout={
            "xaxis": _whole("level", [max(trace["x"]) for trace in traces]),
            "yaxis": axis("share of draws", tickformat=".0%", rangemode="tozero"),
            "barmode": "group",
        },
        controls=[scale_control("x"), scale_control("y")],
    )


def staleness(records: Sequence[RunRecord], names: Sequence[str]) -> Panel | None:
    """Return how old the news were that reports answered; None where all were of their round."""
    counts = [Counter(record.traffic.staleness) for record in records]
    if not any(age for own in counts for age in own):
        return None
    traces = _shares(counts, names, "age", "reports")
    return Panel(
        key="staleness",
        title="Staleness of reports",
        text="How many rounds before their own the news were sent that reports answered. Reports "
        "of an asynchronous method, and those that came too late for a quorum, answer older news.",
        traces=traces,
        layout={
            "xaxis": _whole("rounds", [max(trace["x"]) for trace in traces]),
            "yaxis": axis("share of reports", tickformat=".0%", rangemode="tozero"),
            "barmode": "group",
        },
        controls=[scale_control("y")],
    )


def _shares(
    counts: Sequence[Counter[int]], names: Sequence[str], what: str, of: str
) -> list[dict[str, Any]]:
    """Return bars of the shares of whole numbers, for each run that has some."""
    traces: list[dict[str, Any]] = []
    for run, (counted, name) in enumerate(zip(counts, names, strict=True)):
        total, numbers = sum(counted.values()), sorted(counted)
        if total:
            traces.append(
                {
                    "type": "bar",
                    "name": escaped(name),
                    "x": numbers,
                    "y": [counted[number] / total for number in numbers],
                    "customdata": [[counted[number], total] for number in numbers],
                    "hovertemplate": f"%{{fullData.name}}<br>{what} %{{x}}: %{{y:.1%}}<br>"
                    f"%{{customdata[0]}} of %{{customdata[1]}} {of}<extra></extra>",
                    "marker": {"color": run_style(run)["marker"]["color"], "line": {"width": 0}},
                    "meta": run,
                }
            )
    return traces


def _drawn(record: RunRecord) -> Counter[int]:
    return Counter(
        level
        for seen in record.observed
        for made in seen.get("workers", {}).values()
        for one in made
        for level in one.get("levels", [])
    )


def _whole(title: str, most: Sequence[int]) -> dict[str, Any]:
    """Return an axis of whole numbers."""
    return axis(title, tickformat="d", **({"dtick": 1} if max(most) <= _EVERY_TICK else {}))
