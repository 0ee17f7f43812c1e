"""What is left of a run when it has ended."""

import json
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launch.metrics import Metrics, measure_names
from launch.observations import levels_in
from launch.reports.checks import is_metrics, is_observation, is_summary
from launch.summary import Summary
from mlmc_ray.errors import ConfigError, one_line

_SIZES = ("uplink_bytes", "downlink_bytes")


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
        if not is_summary(row):
            raise ValueError("summary.json is not the row of a run")
        return Ended(
            summary=Summary.from_mapping(row),
            metrics=[_numbers(line) for line in _metrics(path / "metrics.jsonl", row)],
            levels=levels_in(_lines(path / "observed.jsonl", is_observation)),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ConfigError(
            f"{path}: cannot be read: {one_line(error)}: delete it to run it again"
        ) from error


def _metrics(path: Path, row: Mapping[str, Any]) -> list[Metrics]:
    """Return the metrics of every round, as they were written.

    Args:
        path: their file.
        row: of the summary that was made of them.

    Raises:
        ValueError: it was made of others.
    """
    lines = list(_lines(path, is_metrics))
    if [line["round"] for line in lines] != list(range(row["rounds"] + 1)):
        raise ValueError(f"{path.name} has other rounds than 0 to {row['rounds']} of summary.json")
    if lacking := [key for key in _SIZES if not all(key in line for line in lines)]:
        raise ValueError(f"{path.name} has rounds without {lacking}")
    last: Metrics = next((line for line in reversed(lines) if measure_names(line)), {})
    measures = {name: last[f"test_{name}"] for name in measure_names(last)}
    if measures != row["measures"] or set(measure_names(lines[0])) != {*measures}:
        raise ValueError(f"{path.name} has other measures than summary.json")
    return lines


def _lines(path: Path, right: Callable[[Any], bool]) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8") as file:
        for number, text in enumerate(file, start=1):
            line = json.loads(text)
            if not (isinstance(line, dict) and right(line)):
                raise ValueError(f"line {number} of {path.name} is {text.strip()!r:.60}")
            yield line


def _numbers(line: Metrics) -> Metrics:
    """Return the metrics of a round with NaN where a number was not finite."""
    return {name: math.nan if value is None else value for name, value in line.items()}
