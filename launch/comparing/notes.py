"""What is said below the table of a comparison."""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from launch.configuration.run_config import RunConfig
from launch.metrics import Metrics
from launch.summary import Summary


def missing_runs(
    configs: Sequence[RunConfig], runs: Mapping[str, Sequence[Metrics]], out: Path
) -> str:
    """Say how far the runs came that the table lacks, and how to look at them."""
    parts = [
        f"{config.name}: {runs[config.name][-1]['round']} of {config.rounds} rounds"
        for config in configs
        if config.name in runs
    ]
    later = [config.name for config in configs if config.name not in runs]
    if later:
        parts.append(f"{', '.join(later)}: not begun")
    command = f"mlmc-ray report {shlex.quote(str(out))}"
    return f"not in the table: {'; '.join(parts)}\nto see all rounds so far: {command}"


def notes_on_target(configs: Sequence[RunConfig], summaries: Sequence[Summary]) -> list[str]:
    """Return what has to be known of the column of the target."""
    if not (target := summaries[0].target):
        return []
    side = "above" if target.more_is_better else "below"
    notes = [f"bytes up to {target}: sent until the first evaluation at or {side} it"]
    every = sorted({config.evaluate_every for config in configs})
    if len(every) > 1:
        rounds = ", ".join(map(str, every))
        notes.append(f"bytes up to {target} are not comparable: evaluated every {rounds} rounds")
    return notes
