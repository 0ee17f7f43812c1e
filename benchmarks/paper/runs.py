"""The numbers of a comparison's runs, as they are kept: one JSON file a comparison."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np

from launch.observations import levels_in, mean_level
from launch.reports.read import find_runs, read_run
from launch.reports.record import RunRecord
from mlmc_ray.errors import ConfigError, one_line

LAST = 3
"""Evaluations of which the final accuracy is the mean."""
_KEPT = ("round", "seconds", "train_loss", "uplink_bytes", "downlink_bytes")


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """One run, with what is drawn and compared of it.

    Attributes:
        name: of the entry; runs of several seeds share it.
        seed: of the run.
        panels: in which it is drawn; none for all of them.
        workers: how many.
        problem: as in its configuration.
        step_size: of the optimizer.
        evaluations: metrics of the rounds with one, from before the first round on.
        levels: how often every level was drawn, from 1, in the observed rounds; empty without.
        diverged: whether its training diverged, so that it ended before its last round.
    """

    name: str
    seed: int
    panels: tuple[str, ...]
    workers: int
    problem: Mapping[str, Any]
    step_size: float | None
    evaluations: tuple[Mapping[str, Any], ...]
    levels: Mapping[int, int]
    diverged: bool

    @property
    def final(self) -> float:
        """The mean of the last accuracies after a round; 0 of a run that diverged."""
        if self.diverged:
            return 0.0
        trained = [line["test_accuracy"] for line in self.evaluations if line["round"]]
        return float(mean(trained[-LAST:]))

    @property
    def bytes_up(self) -> float:
        """Bytes of all frames from workers to server."""
        return float(self.evaluations[-1]["uplink_bytes"])

    @property
    def bytes_both_ways(self) -> float:
        """Bytes of all frames."""
        last = self.evaluations[-1]
        return float(last["uplink_bytes"] + last["downlink_bytes"])

    @property
    def mean_level(self) -> float | None:
        """The average drawn level; None without levels."""
        return mean_level(self.levels)

    def at_bytes(self, budget: float) -> float:
        """Return the accuracy when workers had sent so many bytes, between evaluations in line.

        Each evaluation is averaged with its neighbours.
        """
        sent = [line["uplink_bytes"] for line in self.evaluations]
        return float(np.interp(budget, sent, self.smooth()))

    def bytes_to(self, target: float) -> float | None:
        """Return what workers had sent at the first smooth evaluation that reached an accuracy.

        Smooth is as in ``at_bytes``; None if no evaluation reached it.
        """
        pairs = zip(self.evaluations, self.smooth(), strict=True)
        return next((line["uplink_bytes"] for line, value in pairs if value >= target), None)

    def smooth(self) -> list[float]:
        """Return every accuracy averaged with the one before and the one after it."""
        values = [line["test_accuracy"] for line in self.evaluations]
        around = (values[max(0, at - 1) : at + 2] for at in range(len(values)))
        return [mean(some) for some in around]


def gather(paths: Sequence[Path]) -> list[Run]:
    """Read the runs of comparisons, in the order of their tables.

    Raises:
        ConfigError: there are none, or one has no accuracy or was cut off before its end.
    """
    found = [_kept(read_run(path)) for path in find_runs(paths)]
    names = [row["name"] for path in paths for row in _rows(path / "summary.json")]
    order = {name: place for place, name in enumerate(dict.fromkeys(names))}
    return sorted(found, key=lambda run: (order.get(run.name, len(order)), run.seed))


def _rows(path: Path) -> list[Mapping[str, Any]]:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []


def keep(runs: Sequence[Run], path: Path, more: Mapping[str, Any]) -> None:
    """Write runs, and what else there is to say of them, such as the machine."""
    content = {**more, "runs": [asdict(run) for run in runs]}
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = json.dumps(content, indent=None, separators=(",", ":")).replace('{"name"', '\n{"name"')
    path.write_text(lines + "\n", encoding="utf-8")


def kept(path: Path) -> tuple[list[Run], dict[str, Any]]:
    """Read what ``keep`` has written: the runs, and the rest.

    Raises:
        ConfigError: there is no such file, or it was not written by ``keep``.
    """
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return runs_in(content), {key: value for key, value in content.items() if key != "runs"}
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise ConfigError(
            f"{path}: holds no runs ({type(error).__name__}: {one_line(error)}): give a file that "
            "`python -m benchmarks.paper keep` has written"
        ) from error


def runs_in(content: Mapping[str, Any]) -> list[Run]:
    """Return the runs of a file's content.

    Raises:
        LookupError, TypeError, AttributeError: it holds something else.
    """
    return [_run(values) for values in content["runs"]]


def _run(values: Mapping[str, Any]) -> Run:
    levels = {int(level): number for level, number in values["levels"].items()}
    tuples = {key: tuple(values[key]) for key in ("panels", "evaluations")}
    return Run(**{**values, **tuples, "levels": levels})


def by_name(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """Return the runs of every entry, one a seed."""
    found: dict[str, list[Run]] = {}
    for run in runs:
        found.setdefault(run.name, []).append(run)
    return found


def _kept(record: RunRecord) -> Run:
    evaluations = [
        {key: value for key, value in line.items() if key in _KEPT or key.startswith("test_")}
        for line in record.metrics
        if line.get("test_accuracy") is not None
    ]
    if not evaluations:
        raise ConfigError(
            f"{record.path}: has no test_accuracy: its problem measures something else"
        )
    diverged = bool(record.summary and record.summary.get("diverged"))
    if not (record.finished or diverged):
        raise ConfigError(
            f"{record.path}: was cut off after {record.metrics[-1]['round']} rounds: go on with "
            "the command that began it"
        )
    panels = record.config.get("panels") or ()
    optimizer = record.config.get("optimizer") or {}
    return Run(
        name=record.name,
        seed=record.config["seed"],
        panels=tuple([panels] if isinstance(panels, str) else panels),
        workers=record.config["workers"],
        problem=record.config["problem"],
        step_size=optimizer.get("step_size"),
        evaluations=tuple(evaluations),
        levels=dict(sorted(levels_in(record.observed).items())),
        diverged=diverged,
    )
