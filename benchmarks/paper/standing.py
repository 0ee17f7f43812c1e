"""How a method stands to the others of its panel: ahead, behind, or within what seeds differ."""

import math
import re
from collections.abc import Callable, Iterator, Sequence
from statistics import mean, variance

from benchmarks.paper.report import Row, panels
from benchmarks.paper.runs import Run
from mlmc_ray.errors import ConfigError

_KINDS = {
    "equal bytes": lambda row: row.at_bytes,
    "equal rounds": lambda row: row.finals,
}
NOTES = """\
Differences of the MLMC run's accuracy to each other's, in points. In bold where it is further ahead
or behind than the standard deviation of the difference of two runs, by the seeds.
"""


def standings(runs: Sequence[Run], first: str = "MLMC") -> str:
    """Return, for every panel, what one method is ahead of the others, in Markdown.

    Args:
        runs: of a comparison.
        first: how the name of that method begins.

    Raises:
        ConfigError: a panel has not one of that name.
    """
    return "\n".join(f"| {' | '.join(cells)} |" for cells in _lines(runs, first))


def _lines(runs: Sequence[Run], first: str) -> Iterator[Sequence[str]]:
    found = panels(runs)
    others = dict.fromkeys(
        _kind(row) for rows in found.values() for row in rows if not row.name.startswith(first)
    )
    yield ("panel", "at", *others)
    yield ("---", "---", *("---:" for _ in others))
    for panel, rows in found.items():
        own = [row for row in rows if row.name.startswith(first)]
        if len(own) != 1:
            raise ConfigError(f"{panel}: has {[r.name for r in rows]}: expected one {first}")
        by_kind = {_kind(row): row for row in rows}
        for at, values in _KINDS.items():
            yield (
                panel,
                at,
                *(ahead(own[0], by_kind.get(kind), values) for kind in others),
            )


def _kind(row: Row) -> str:
    """Return the name without what the panel says too: the share of entries, the workers."""
    return re.sub(r"( [\d.]+%)?(, M=\d+)?$", "", row.name)


def ahead(own: Row, other: Row | None, values: Callable[[Row], Sequence[float]]) -> str:
    """Return by how many points one is ahead of the other; in bold beyond what seeds differ."""
    if other is None:
        return ""
    mine, theirs = values(own), values(other)
    points = 100 * (mean(mine) - mean(theirs))
    shown = f"{points:+.1f}"
    several = min(len(mine), len(theirs)) > 1
    if several and abs(points) > 100 * math.sqrt(variance(mine) + variance(theirs)):
        return f"**{shown}**"
    return shown
