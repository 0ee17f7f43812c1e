"""The file of a cell, and what is read from it."""

import json
import os
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from statistics import mean, median
from typing import Any, Literal

from benchmarks.end_to_end.measuring import Record
from benchmarks.end_to_end.plan import (
    CONTENDERS,
    RATES,
    WARM_UP,
    Budget,
    Cell,
    Contender,
    Model,
    Rate,
    named,
)
from launch.benching.measuring import machine
from launch.versions import versions

LIMIT_S = 420.0
"""For a cell, with the start of the lab: what has not ended by then is ended."""

_LAST = 3  # evaluations of which the final accuracy is the mean


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What became of a cell.

    Args:
        status: whether it ended by itself, was ended at the limit of time, or failed.
        reason: the last that it said, unless it ended.
        record: what was seen of it; None if it ended before its first evaluation.
    """

    status: Literal["ended", "time limit", "failed"]
    reason: str | None
    record: Record | None

    @property
    def final(self) -> float | None:
        """The mean of the last accuracies; None if the run did not end by itself."""
        if self.status != "ended" or self.record is None:
            return None
        return mean(seen.measures["accuracy"] for seen in self.record.evaluations[-_LAST:])

    @property
    def round_s(self) -> float | None:
        """The median time of a round after the warm-up, or of all where there are no others."""
        if self.record is None or not self.record.round_seconds:
            return None
        return median(self.record.round_seconds[WARM_UP:] or self.record.round_seconds)

    @property
    def compute_s(self) -> float | None:
        """The time of a gradient on the slowest worker."""
        return max(self.record.compute_seconds) if self.record else None

    def trace(self) -> list[tuple[float, float]]:
        """Return seconds and accuracy at every evaluation."""
        if self.record is None:
            return []
        seconds = self.record.round_seconds
        return [
            (sum(seconds[: seen.rounds]), seen.measures["accuracy"])
            for seen in self.record.evaluations
        ]

    def rounds_to(self, target: float) -> int | None:
        """Return after how many rounds an accuracy was there, also at the next evaluation."""
        for seen, following in pairwise(self.record.evaluations if self.record else []):
            if min(seen.measures["accuracy"], following.measures["accuracy"]) >= target:
                return seen.rounds
        return None

    def seconds_to(self, target: float) -> float | None:
        """Return when an accuracy was there, also at the next evaluation; with the warm-up."""
        rounds = self.rounds_to(target)
        if self.record is None or rounds is None:
            return None
        return sum(self.record.round_seconds[:rounds])

    def timed_round_s(self, rate: Rate) -> float | None:
        """The median time of a round at a rate; None if none was timed."""
        timings = self.record.timings if self.record else []
        return next(
            (median(t.round_seconds) for t in timings if t.rate == rate and t.round_seconds), None
        )

    def computed_seconds_to(self, target: float, rate: Rate) -> float | None:
        """Return when an accuracy would be reached at a rate at which rounds were timed.

        That is as many rounds as the training took, which does not depend on the rate, and what
        the rounds of the warm-up send more than others.
        """
        round_s, limit = self.timed_round_s(rate), RATES[rate]
        rounds = self.rounds_to(target)
        if self.record is None or round_s is None or rounds is None or limit is None:
            return None
        return rounds * round_s + self.record.warm_up_bytes() / limit


def write(cell: Cell, outcome: Outcome, out: Path) -> None:
    """Write the file of a cell: in full, or not at all."""
    path = cell.path(out)
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".part")
    content = {
        "cell": cell.described(),
        "machine": machine(),
        "versions": versions(),
        **asdict(outcome),
    }
    draft.write_text(json.dumps(content) + "\n", encoding="utf-8")
    os.replace(draft, path)


def read(cell: Cell, out: Path) -> Outcome | None:
    """Return what became of a cell; None if it has not been run."""
    path = cell.path(out)
    if not path.exists():
        return None
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    record = Record.of(found["record"]) if found["record"] else None
    return Outcome(status=found["status"], reason=found["reason"], record=record)


def tuning_cells(contender: Contender, model: Model) -> list[Cell]:
    """Return the cells that say which step size is best for a contender, one a step."""
    return [
        Cell(
            contender=named(CONTENDERS, contender.tuned_as),
            model=model,
            rate="unshaped",
            step_size=step_size,
            budget=Budget(seconds=LIMIT_S, rounds=model.tuning_rounds),
        )
        for step_size in model.steps
    ]


def best_step(contender: Contender, model: Model, out: Path) -> float | None:
    """Return the step size with the best final accuracy so far; None if none has one."""
    finals = {}
    for cell in tuning_cells(contender, model):
        outcome = read(cell, out)
        if outcome and outcome.final is not None:
            finals[cell.step_size] = outcome.final
    return max(finals, key=lambda step: finals[step], default=None)
