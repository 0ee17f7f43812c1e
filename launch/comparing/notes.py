"""What is said below the table of a comparison."""

import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from launch.comparing.over_seeds import OverSeeds
from launch.comparing.plan import Run
from launch.comparing.target import Target
from launch.configuration.run_config import RunConfig
from launch.display.cells import Row

_MOST_NAMES = 4  # of runs that have not begun; more are counted


def missing_runs(runs: Sequence[Run], rounds: Mapping[str, Callable[[], int]], out: Path) -> str:
    """Say how far the runs came that the table lacks, how to look at them, and how to go on.

    Args:
        runs: those that have not ended.
        rounds: tell how far those came that have begun, by label.
        out: directory of the comparison.
    """
    parts = [
        f"{run.label}: {rounds[run.label]()} of {run.config.rounds} rounds"
        for run in runs
        if run.label in rounds
    ]
    later = [run.label for run in runs if run.label not in rounds]
    if later:
        named = ", ".join(later) if len(later) <= _MOST_NAMES else f"{len(later)} runs"
        parts.append(f"{named}: not begun")
    place = shlex.quote(str(out))
    return (
        f"not in the table: {'; '.join(parts)}\n"
        f"to see all rounds so far: mlmc-ray report {place}\n"
        f"to go on: the same command with --out {place}"
    )


def notes_on_seeds(rows: Sequence[Row]) -> list[str]:
    """Return what has to be known of rows of several seeds; nothing where there is one."""
    several = [row for row in rows if isinstance(row, OverSeeds)]
    if not several:
        return []
    most = max(len(row.runs) for row in several)
    fewer = [f"{row.name}: {len(row.runs)}" for row in several if len(row.runs) < most]
    but = f" ({', '.join(fewer)})" if fewer else ""
    notes = [f"means over {most} seeds{but}, the result ± sample standard deviation"]
    if several[0].mean().target:
        notes[0] += (
            "; bytes up to a target are the mean over the seeds that reached it, how many, and "
            "the range"
        )
    for row in several:
        failed = [
            f"seed {seed} {'diverged' if run.diverged else 'failed'}"
            for seed, run in zip(row.seeds, row.runs, strict=True)
            if run.ended is not None
        ]
        if failed:
            of = f"{len(row.whole)} of {len(row.runs)} seeds"
            rest = f": means over {of}" if row.whole else ""
            notes.append(f"{row.name}: {', '.join(failed)}{rest}")
    return notes


def notes_on_target(configs: Sequence[RunConfig], target: Target | None) -> list[str]:
    """Return what has to be known of the column of the target."""
    if not target:
        return []
    side = "above" if target.more_is_better else "below"
    notes = [f"bytes up to {target}: sent until the first evaluation at or {side} it"]
    every = sorted({config.evaluate_every for config in configs})
    if len(every) > 1:
        rounds = ", ".join(map(str, every))
        notes.append(f"bytes up to {target} are not comparable: evaluated every {rounds} rounds")
    return notes
