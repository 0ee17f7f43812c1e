"""Tables of kept runs: what every method came to, and at the bytes of the MLMC run."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import mean, stdev

from benchmarks.paper.runs import LAST, Run, by_name
from launch.display.units import format_bytes
from mlmc_ray.errors import ConfigError

_WHOLE = "all"
_UNCOMPRESSED = "Uncompressed"
FIRST = "MLMC"
"""How the name of the method begins that others are compared to."""
_BELOW = 0.02  # of accuracy, from what the uncompressed run ends with to the target
NOTES = f"""\
Means over the seeds, ± their standard deviation. The final accuracy is the mean of the last {LAST}
evaluations; of a run that diverged it counts as 0. "At MLMC's bytes" is the accuracy when all
workers of a run had sent as many bytes as those of the MLMC run in the whole of it, or at its end
if it sent fewer; between evaluations in a line, each averaged with its neighbours. The target is
what the uncompressed run ends with, less {_BELOW:.0%}; "to target" are the bytes that all workers
had sent at the first evaluation, averaged with its neighbours, that reached it.
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """A method in a panel.

    Attributes:
        name: of the entry.
        runs: one a seed.
        target: an accuracy.
    """

    name: str
    runs: tuple[Run, ...]
    target: float

    @property
    def finals(self) -> list[float]:
        """Final accuracies, by seed."""
        return [run.final for run in self.runs]

    @property
    def bytes_up(self) -> float:
        """Mean of what the runs that came to their end have sent up; 0 if none did."""
        sent = [run.bytes_up for run in self.runs if not run.diverged]
        return mean(sent) if sent else 0.0

    def at_bytes(self, budget: float) -> list[float]:
        """Return accuracies at so many bytes up, by seed."""
        return [0.0 if run.diverged else run.at_bytes(budget) for run in self.runs]

    @property
    def to_target(self) -> list[float]:
        """Bytes to the target, of the seeds that reached it."""
        found = (run.bytes_to(self.target) for run in self.runs if not run.diverged)
        return [sent for sent in found if sent is not None]


def panels(runs: Sequence[Run]) -> dict[str, list[Row]]:
    """Return the rows of every panel, in the order in which they first appear.

    Raises:
        ConfigError: a panel has not one uncompressed entry, and one of MLMC.
    """
    names = dict.fromkeys(name for run in runs for name in run.panels) or {_WHOLE: None}
    return {
        name: _rows(name, [r for r in runs if name in r.panels or not r.panels]) for name in names
    }


def _rows(panel: str, runs: Sequence[Run]) -> list[Row]:
    entries = by_name(runs)
    plain = [own for name, own in entries.items() if name.startswith(_UNCOMPRESSED)]
    if len(plain) != 1:
        raise ConfigError(f"{panel}: has {list(entries)}: expected one {_UNCOMPRESSED}")
    target = mean(run.final for run in plain[0]) - _BELOW
    rows = [Row(name=name, runs=tuple(own), target=target) for name, own in entries.items()]
    if len([row for row in rows if row.name.startswith(FIRST)]) != 1:
        raise ConfigError(f"{panel}: has {list(entries)}: expected one {FIRST}")
    return rows


def first_of(rows: Sequence[Row]) -> Row:
    """Return the row of MLMC, of a panel."""
    return next(row for row in rows if row.name.startswith(FIRST))


def tables(runs: Sequence[Run]) -> str:
    """Return a table for every panel, in Markdown."""
    lines: list[str] = []
    for panel, rows in panels(runs).items():
        budget = format_bytes(first_of(rows).bytes_up)
        lines += [f"**{panel}**; MLMC's bytes {budget}, target {rows[0].target:.1%}", ""]
        lines += [*_table(rows), ""]
    return "\n".join(lines)


def _table(rows: Sequence[Row]) -> Iterator[str]:
    head = (
        *("method", "final accuracy", "at MLMC's bytes", "to target", "bytes up", "both ways"),
        *("mean level", "step size"),
    )
    yield f"| {' | '.join(head)} |"
    yield "| --- |" + " ---: |" * (len(head) - 1)
    budget = first_of(rows).bytes_up
    for row in rows:
        first = row.runs[0]
        cells = (
            row.name,
            spread(row.finals),
            spread(row.at_bytes(budget)),
            _to_target(row),
            format_bytes(mean(run.bytes_up for run in row.runs)),
            format_bytes(mean(run.bytes_both_ways for run in row.runs)),
            _level(row.runs),
            "" if first.step_size is None else f"{first.step_size:g}",
        )
        yield f"| {' | '.join(cells)} |"


def spread(values: Sequence[float]) -> str:
    """Return mean and standard deviation of accuracies."""
    deviation = f" ± {100 * stdev(values):.1f}" if len(values) > 1 else ""
    return f"{100 * mean(values):.1f}{deviation} %"


def _to_target(row: Row) -> str:
    reached = row.to_target
    if not reached:
        return "-"
    some = f" ({len(reached)} of {len(row.runs)})" if len(reached) < len(row.runs) else ""
    return format_bytes(mean(reached)) + some


def _level(runs: Sequence[Run]) -> str:
    found = [level for run in runs if (level := run.mean_level) is not None]
    return f"{mean(found):.3g}" if found else ""
