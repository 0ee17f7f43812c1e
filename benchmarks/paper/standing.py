"""How a method stands to the others of its panel: ahead, behind, or within what seeds differ."""

import math
import re
from collections.abc import Iterator, Sequence
from statistics import mean, variance

from benchmarks.paper.report import FIRST, Row, first_of, panels
from benchmarks.paper.runs import Run

NOTES = """\
Differences of the MLMC run's accuracy to each other's, in points: at equal bytes up, those of the
one of the two that sent less in its whole run; and at equal rounds, at the end. In bold where it is
further ahead or behind than the standard deviation of the difference of two runs, by the seeds.
"""


def standings(runs: Sequence[Run]) -> str:
    """Return, for every panel, what MLMC is ahead of the others, in Markdown.

    Args:
        runs: of a comparison.
    """
    return "\n".join(f"| {' | '.join(cells)} |" for cells in _lines(runs))


def _lines(runs: Sequence[Run]) -> Iterator[Sequence[str]]:
    found = panels(runs)
    others = dict.fromkeys(
        _kind(row) for rows in found.values() for row in rows if not row.name.startswith(FIRST)
    )
    yield ("panel", "at", *others)
    yield ("---", "---", *("---:" for _ in others))
    for panel, rows in found.items():
        own = first_of(rows)
        by_kind = {_kind(row): row for row in rows}
        for at, compared in (("equal bytes", at_equal_bytes), ("equal rounds", at_the_end)):
            rest = (by_kind.get(kind) for kind in others)
            yield panel, at, *("" if row is None else compared(own, row) for row in rest)


def _kind(row: Row) -> str:
    """Return the name without what the panel says too: the share of entries, the workers."""
    return re.sub(r"( [\d.]+%)?(, M=\d+)?$", "", row.name)


def at_equal_bytes(own: Row, other: Row) -> str:
    """Return what one is ahead of the other at the bytes of the one that sent less."""
    budget = min(own.bytes_up, other.bytes_up) or max(own.bytes_up, other.bytes_up)
    return ahead(own.at_bytes(budget), other.at_bytes(budget))


def at_the_end(own: Row, other: Row) -> str:
    """Return what one is ahead of the other when both have ended."""
    return ahead(own.finals, other.finals)


def ahead(mine: Sequence[float], theirs: Sequence[float]) -> str:
    """Return by how many points one is ahead of the other; in bold beyond what seeds differ.

    Args:
        mine: accuracies of the one, by seed.
        theirs: those of the other.
    """
    points = 100 * (mean(mine) - mean(theirs))
    shown = f"{points:+.1f}"
    several = min(len(mine), len(theirs)) > 1
    if several and abs(points) > 100 * math.sqrt(variance(mine) + variance(theirs)):
        return f"**{shown}**"
    return shown
