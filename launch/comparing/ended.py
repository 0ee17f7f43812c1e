"""What is left of a run when it has ended."""

import json
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launch.metrics import Metrics
from launch.observations import levels_in
from launch.summary import Summary
from mlmc_ray.errors import ConfigError, one_line


@dataclass(frozen=True, kw_only=True, slots=True)
class Ended:
    """A run that has ended.

    Attributes:
        summary: its row.
        metrics: of its rounds.
        levels: how often its workers drew each level in the rounds that were observed.
    """

    summary: Summary
    metrics: Sequence[Metrics]
    levels: Counter[int]

    @property
    def failed(self) -> bool:
        """Whether an error ended it that may not come again."""
        return self.summary.ended is not None and not self.summary.diverged


def read_ended(path: Path) -> Ended | None:
    """Read the directory of a run.

    Returns:
        What it says; None if the run did not come to its end.

    Raises:
        ConfigError: it cannot be read.
    """
    if not (path / "summary.json").is_file():
        return None
    try:
        (row,) = json.loads((path / "summary.json").read_text(encoding="utf-8"))
        return Ended(
            summary=Summary.from_mapping(row),
            metrics=[_numbers(line) for line in _lines(path / "metrics.jsonl")],
            levels=levels_in(_lines(path / "observed.jsonl")),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(
            f"{path}: cannot be read: {one_line(error)}: delete it to run it again"
        ) from error


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8") as file:
        yield from map(json.loads, file)


def _numbers(line: Metrics) -> Metrics:
    """Return the metrics of a round with NaN where a number was not finite."""
    return {name: math.nan if value is None else value for name, value in line.items()}
