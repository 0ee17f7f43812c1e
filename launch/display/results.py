"""The line that says where the results of a command are."""

import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

RESULTS_MOVE = "MLMC_RAY_RESULTS_MOVE"
"""The variable that is set where results do not stay, and another process says where they come."""


@contextmanager
def telling_where(console: Console, directory: Path) -> Iterator[None]:
    """Say where the results are, however the run ends; a wrong configuration leaves none."""
    before = _contents(directory)
    try:
        yield
    finally:
        if _contents(directory) != before and RESULTS_MOVE not in os.environ:
            place = results_line(directory)
            console.print(place, soft_wrap=True, highlight=False, markup=False)


def results_line(directory: Path) -> str:
    """Return where the results are of a run, or of several below the directory."""
    if any(map(_has_rounds, directory.rglob("metrics.jsonl"))):
        return f"results: {directory}"
    return f"kept: {directory}, no round done"


def _has_rounds(metrics: Path) -> bool:
    """Return whether more than the measures of the first parameters was written."""
    with metrics.open("rb") as lines:
        return len(list(itertools.islice(lines, 2))) == 2


def _contents(directory: Path) -> list[tuple[Path, int]]:
    """Return what lies in a directory, and of when; nothing if it cannot be read."""
    try:
        return sorted((path, path.stat().st_mtime_ns) for path in directory.iterdir())
    except OSError:
        return []
