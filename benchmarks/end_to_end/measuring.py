"""What every contender is measured with: one loop, one clock, one sort of record."""

import json
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from benchmarks.end_to_end.plan import WARM_UP, Budget
from launch.lab.inside import Counters

ReadCounters = Callable[[], tuple[Counters, ...]]
"""Returns what the interface of every node has counted; nothing where there is no lab."""


class Training(Protocol):
    """A contender in training."""

    def run(self, rounds: int) -> list[float]:
        """Run rounds and return the seconds of each, in which nothing is evaluated."""

    def evaluate(self) -> dict[str, float]:
        """Return the accuracy, and what else the contender knows about itself."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluation:
    """The state of a run between two rounds.

    Args:
        rounds: so far.
        measures: among them the accuracy.
        tx_bytes: that the interface of every node has sent in the rounds so far; what
            evaluations sent is left out.
        rx_bytes: that it has received.
    """

    rounds: int
    measures: dict[str, float]
    tx_bytes: list[int]
    rx_bytes: list[int]


@dataclass(kw_only=True, slots=True)
class Record:
    """What was seen of a run so far.

    Args:
        compute_seconds: of a gradient on every worker, the median, all computing at a time.
        round_seconds: of every round.
        evaluations: in the order of rounds.
    """

    compute_seconds: list[float]
    round_seconds: list[float] = field(default_factory=list)
    evaluations: list[Evaluation] = field(default_factory=list)

    def write(self, path: Path) -> None:
        """Write it: in full, or not at all."""
        draft = path.with_suffix(".draft")
        draft.write_text(json.dumps(asdict(self)) + "\n", encoding="utf-8")
        os.replace(draft, path)

    @classmethod
    def of(cls, found: Mapping[str, Any]) -> "Record":
        """Return the record that was written."""
        evaluations = [Evaluation(**evaluation) for evaluation in found["evaluations"]]
        return cls(**{**found, "evaluations": evaluations})


def measure(
    training: Training,
    record: Record,
    budget: Budget,
    *,
    growth: float,
    counters: ReadCounters,
    path: Path,
) -> None:
    """Train until the budget is spent; stop the clock and evaluate more and more rarely.

    Args:
        training: who is measured.
        record: is filled, and written at every evaluation, so that something is left of a run that
            is ended from outside.
        budget: how long.
        growth: rounds at an evaluation over those at the one before.
        counters: of the nodes.
        path: of the record.
    """
    tx, rx = ([0] * len(counters()) for _ in range(2))
    while rounds := rounds_to_evaluation(record.round_seconds, budget, growth):
        before = counters()
        record.round_seconds += training.run(rounds)
        crossed = [now - then for now, then in zip(counters(), before, strict=True)]
        tx = [sent + node.tx_bytes for sent, node in zip(tx, crossed, strict=True)]
        rx = [received + node.rx_bytes for received, node in zip(rx, crossed, strict=True)]
        measures = training.evaluate()
        record.evaluations.append(
            Evaluation(
                rounds=len(record.round_seconds), measures=measures, tx_bytes=tx, rx_bytes=rx
            )
        )
        record.write(path)
        if budget.target is not None and _has(budget.target, record.evaluations[-2:]):
            twice = 2 * sum(record.round_seconds[WARM_UP:])
            budget = replace(budget, seconds=min(budget.seconds, twice), target=None)


def _has(target: float, last: list[Evaluation]) -> bool:
    return len(last) > 1 and all(seen.measures["accuracy"] >= target for seen in last)


def rounds_to_evaluation(round_seconds: list[float], budget: Budget, growth: float) -> int:
    """Return how many rounds to run before the next evaluation; 0 at the end of the budget."""
    done = len(round_seconds)
    left = budget.rounds - done
    if done <= WARM_UP:
        return min(left, max(1, WARM_UP - done))
    counted = round_seconds[WARM_UP:]
    seconds = budget.seconds - sum(counted)
    if left <= 0 or seconds <= 0:
        return 0
    in_time = math.ceil(seconds * len(counted) / sum(counted))
    return min(left, in_time, max(1, math.floor(done * growth) - done))
