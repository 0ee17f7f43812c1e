"""What every contender is measured with: one loop, one clock, one sort of record."""

import json
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from benchmarks.end_to_end.plan import RATES, WARM_UP, Budget, Cell, Rate
from launch.lab.inside import Counters, shape_links

ReadCounters = Callable[[], tuple[Counters, ...]]
"""Returns what the interface of every node has counted; nothing where there is no lab."""

_LONGEST_ROUND_S = 30.0  # that is still timed at a rate
_TIMING_S = 8.0
_MOST_TIMED = 40  # rounds


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


@dataclass(frozen=True, kw_only=True, slots=True)
class Timing:
    """Rounds at another rate of the links than the training's.

    Args:
        rate: of the links.
        round_seconds: of every round; none where the bytes of one alone would take too long.
    """

    rate: Rate
    round_seconds: list[float]


@dataclass(kw_only=True, slots=True)
class Record:
    """What was seen of a run so far.

    Args:
        compute_seconds: of a gradient on every worker, the median, all computing at a time.
        round_seconds: of every round.
        evaluations: in the order of rounds.
        timings: of rounds after the training.
    """

    compute_seconds: list[float]
    round_seconds: list[float] = field(default_factory=list)
    evaluations: list[Evaluation] = field(default_factory=list)
    timings: list[Timing] = field(default_factory=list)

    def write(self, path: Path) -> None:
        """Write it: in full, or not at all."""
        draft = path.with_suffix(".draft")
        draft.write_text(json.dumps(asdict(self)) + "\n", encoding="utf-8")
        os.replace(draft, path)

    @classmethod
    def of(cls, found: Mapping[str, Any]) -> "Record":
        """Return the record that was written."""
        evaluations = [Evaluation(**evaluation) for evaluation in found["evaluations"]]
        timings = [Timing(**timing) for timing in found["timings"]]
        return cls(**{**found, "evaluations": evaluations, "timings": timings})

    def busiest_bytes(self) -> float | None:
        """Return the bytes of a round on the interface and in the direction that has most.

        Rounds of the warm-up are left out where there are others. None without counters.
        """
        crossed = self._bytes_of_directions()
        return max(ordinary for _, ordinary in crossed) if crossed else None

    def warm_up_bytes(self) -> float:
        """Return how many bytes more the rounds of the warm-up have than as many others.

        On the interface and in the direction where that is most; 0 without counters.
        """
        crossed = self._bytes_of_directions()
        return max((max(0.0, first - WARM_UP * ordinary) for first, ordinary in crossed), default=0)

    def _bytes_of_directions(self) -> list[tuple[float, float]]:
        """Return, by interface and direction, the bytes of the warm-up and of a round after it."""
        seen = self.evaluations
        if not seen or not seen[-1].tx_bytes:
            return []
        last = seen[-1]
        crossed = [*last.tx_bytes, *last.rx_bytes]
        first = next((e for e in seen if e.rounds >= WARM_UP and e is not last), None)
        if first is None:
            return [(0.0, number / last.rounds) for number in crossed]
        before = [*first.tx_bytes, *first.rx_bytes]
        return [
            (then, (now - then) / (last.rounds - first.rounds))
            for now, then in zip(crossed, before, strict=True)
        ]


def measure(
    training: Training,
    record: Record,
    cell: Cell,
    *,
    counters: ReadCounters,
    path: Path,
) -> None:
    """Train until the budget is spent; stop the clock and evaluate more and more rarely.

    Then time rounds at the other rates.

    Args:
        training: who is measured.
        record: is filled, and written at every evaluation, so that something is left of a run that
            is ended from outside.
        cell: says how long, and at which other rates.
        counters: of the nodes.
        path: of the record.
    """
    tx, rx = ([0] * len(counters()) for _ in range(2))
    budget = cell.budget
    while rounds := rounds_to_evaluation(record.round_seconds, budget, cell.model.growth):
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
    for rate in cell.timed:
        record.timings.append(_timing(training, record, rate))
        record.write(path)


def _timing(training: Training, record: Record, rate: Rate) -> Timing:
    """Time rounds at a rate: one, and if that is short some others in its place."""
    limit, crossing = RATES[rate], record.busiest_bytes() or 0.0
    if limit is not None and crossing / limit > _LONGEST_ROUND_S:
        return Timing(rate=rate, round_seconds=[])
    shape_links(limit)
    times = training.run(1)
    if rounds := min(_MOST_TIMED, int(_TIMING_S / times[0])):
        times = training.run(rounds)
    return Timing(rate=rate, round_seconds=times)


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
