"""What the settings of a sweep came to, and which is the best."""

import statistics
from collections.abc import Iterable
from dataclasses import dataclass

from launch.sweeps.plan import Candidate, Sweep


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What a setting came to.

    Attributes:
        candidate: the setting.
        measured: the measure of every seed, by the number of rounds; of a seed that diverged as
            far as it came.
        diverged: why, for each seed that did.
        rounds: how far the setting was run; with halving less than others, if it fell behind.
        seconds: of the rounds of all its seeds' longest runs.
    """

    candidate: Candidate
    measured: dict[int, tuple[float, ...]]
    diverged: tuple[str, ...]
    rounds: int
    seconds: float

    def mean(self, rounds: int) -> float | None:
        """Return the mean over the seeds; None if a seed has none, or it was not run so far."""
        values = self.measured.get(rounds, ())
        complete = values and not (self.diverged and rounds == self.rounds)
        return statistics.fmean(values) if complete else None

    def spread(self, rounds: int) -> float | None:
        """Return the standard deviation over the seeds; None where there are not two of them."""
        values = self.measured.get(rounds, ())
        return statistics.stdev(values) if len(values) > 1 else None


def ranked(sweep: Sweep, outcomes: Iterable[Outcome]) -> list[Outcome]:
    """Return outcomes with the best first: those that came furthest, and of them by the mean.

    Those that diverged in the end are last, also where halving let them go on before others.
    """
    sign = -1 if sweep.best == "highest" else 1

    def order(outcome: Outcome) -> tuple[bool, int, float]:
        mean = outcome.mean(outcome.rounds)
        return mean is None, -outcome.rounds, 0.0 if mean is None else sign * mean

    return sorted(outcomes, key=order)
