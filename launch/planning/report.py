"""A plan as a table, as plain values, and as a figure."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from rich import box
from rich.table import Table
from rich.text import Text

from launch.display.colours import GREEN, GREY, ORANGE, PURPLE, SKY_BLUE
from launch.display.units import format_bytes
from launch.planning.measured import Measured
from launch.planning.model import Prediction

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_PARTS = ("compute", "down", "up", "server", "calls")
# Okabe and Ito's palette, which colour-blind readers can tell apart.
_COLOURS = (GREEN, SKY_BLUE, ORANGE, PURPLE, GREY)


@dataclass(frozen=True, kw_only=True, slots=True)
class PlanRow:
    """One cluster of a plan.

    Attributes:
        prediction: a round with frames of their mean sizes.
        long_s: seconds of a round whose frames are all as long as one in 20 is.
        rounds: to the target; None if it is not known.
        price_per_gb: of a billion bytes that leave one node and enter another.
    """

    prediction: Prediction
    long_s: float
    rounds: int | None
    price_per_gb: float

    @property
    def target_s(self) -> float | None:
        """Seconds to the target."""
        return None if self.rounds is None else self.rounds * self.prediction.seconds

    @property
    def cost(self) -> float:
        """Of the traffic: to the target, or of 1,000 rounds where that is not known."""
        gigabytes = self.prediction.wire_bytes / 1e9
        return (1000 if self.rounds is None else self.rounds) * gigabytes * self.price_per_gb

    def to_mapping(self) -> dict[str, Any]:
        """Return it as plain values, for JSON."""
        seconds = {f"{part}_s": getattr(self.prediction, f"{part}_s") for part in _PARTS}
        return {
            **asdict(self.prediction.cluster),
            "round_s": self.prediction.seconds,
            "long_round_s": self.long_s,
            **seconds,
            "wire_bytes": self.prediction.wire_bytes,
            "rounds_to_target": self.rounds,
            "target_s": self.target_s,
            "cost": self.cost,
            "cost_of_rounds": 1000 if self.rounds is None else self.rounds,
            "bottleneck": self.prediction.bottleneck,
        }


def plan_tables(rows: Sequence[PlanRow], target: str | None) -> list[Table]:
    """Return what a round takes, and of which parts it is made; a row a cluster."""
    whole, parts = _table(), _table()
    priced = any(row.price_per_gb for row in rows)
    cost = ["cost of\n1000 rounds" if target is None else "cost"] if priced else []
    goal = [] if target is None else [f"to\n{target}"]
    _columns(whole, ["workers", "nodes", "round", "long\nround", "rounds/s", "on the\nwire"])
    _columns(whole, [*goal, *cost])
    _columns(parts, ["workers", "nodes", *_PARTS])
    parts.add_column("longest part")
    for row in rows:
        found = row.prediction
        place = [str(found.cluster.workers), str(found.cluster.nodes)]
        seconds = [getattr(found, f"{part}_s") for part in _PARTS]
        known = target is None or row.rounds is not None
        whole.add_row(
            *place,
            format_seconds(found.seconds),
            format_seconds(row.long_s),
            f"{1 / found.seconds:.3g}",
            format_bytes(found.wire_bytes),
            *[format_seconds(row.target_s) for _ in goal],
            *[f"{row.cost:.3g}" if known else "?" for _ in cost],
        )
        parts.add_row(*place, *map(format_seconds, seconds), found.bottleneck)
    return [whole, parts]


def _table() -> Table:
    return Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1), collapse_padding=True)


def _columns(table: Table, names: Sequence[str]) -> None:
    for name in names:
        table.add_column(Text(name), justify="right", no_wrap=True)


def format_seconds(seconds: float | None) -> str:
    """Return a duration with a unit: 5.4 ms, 1.65 s, 12 min, 3.1 h; ? where it is not known."""
    if seconds is None:
        return "?"
    for size, unit in ((3600.0, "h"), (60.0, "min"), (1.0, "s")):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{1000 * seconds:.3g} ms"


def measured_lines(measured: Measured) -> list[str]:
    """Return in words what was measured, and what was missing."""
    up, down = measured.frames["uplink"], measured.frames["downlink"]
    worker_s = sorted(measured.worker_s)
    return [
        f"from {measured.name!r}: {measured.workers} workers, {measured.engine}; a report is "
        f"{format_bytes(up.mean)} (one in 20 above {format_bytes(up.p95)}), news are "
        f"{format_bytes(down.mean)} (one in 20 above {format_bytes(down.p95)})",
        f"a worker takes {format_seconds(worker_s[0])} to {format_seconds(worker_s[-1])}, the "
        f"server {format_seconds(measured.server_s)} a round; exchanges a round: "
        f"{measured.exchanges:.3g}",
        *measured.notes,
    ]


def measured_mapping(measured: Measured) -> Mapping[str, Any]:
    """Return what was measured as plain values, for JSON."""
    values = asdict(measured)
    del values["metrics"]
    return values


def draw_plan(rows: Sequence[PlanRow], title: str) -> "Figure":
    """Draw the parts of a round, one bar a cluster."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.2), dpi=150, layout="constrained")
    axes = figure.subplots()
    labels = [
        f"{row.prediction.cluster.workers}\non {row.prediction.cluster.nodes}" for row in rows
    ]
    bottom = [0.0] * len(rows)
    for part, colour in zip(_PARTS, _COLOURS, strict=True):
        heights = [getattr(row.prediction, f"{part}_s") for row in rows]
        axes.bar(range(len(rows)), heights, bottom=bottom, color=colour, label=part)
        bottom = [low + height for low, height in zip(bottom, heights, strict=True)]
    axes.set_xticks(range(len(rows)), labels)
    axes.set_xlabel("workers on nodes")
    axes.set_ylabel("seconds a round")
    axes.grid(axis="y", alpha=0.3, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    figure.suptitle(title, parse_math=False)
    return figure
