"""Step size schedules: by which factor the step size is multiplied in every round.

A factor depends on nothing but the round's index and the configured number of rounds, so that
servers, replicas and a run that is resumed agree without a word.
"""

import math
from dataclasses import dataclass
from typing import Protocol, runtime_checkable


@runtime_checkable
class Schedule(Protocol):
    """How the step size changes over a run."""

    def factor_of(self, round_index: int, rounds: int) -> float:
        """Return what the step size is multiplied by.

        Args:
            round_index: counted from 0; less than ``rounds``.
            rounds: of the whole run, at least 1.

        Returns:
            A finite number, at least 0.
        """


@dataclass(frozen=True, kw_only=True, slots=True)
class CosineSchedule:
    """Down along half a cosine, after a warm-up.

    With n rounds, of which w are the warm-up, the factor of round t = 0, 1, ..., n - 1 is

        (t + 1) / w                                           while t < w
        final + (1 - final) (1 + cos(pi (t - w) / (n - w))) / 2    from then on

    Args:
        warm_up: share of the rounds in which the step size rises, in [0, 1); w is rounded, and
            below 2 it does not rise, since the first round has the whole step size.
        final: factor at the end, in [0, 1]: that of round n, if there were one.

    References:
        Loshchilov and Hutter, 2017, arXiv:1608.03983, eq. 5 without restarts; the warm-up of Goyal
        et al., 2017, arXiv:1706.02677.
    """

    warm_up: float = 0.0
    final: float = 0.0

    def __post_init__(self) -> None:
        _check_warm_up(self.warm_up)
        _check_final(self.final)

    def factor_of(self, round_index: int, rounds: int) -> float:
        """Return what the step size is multiplied by; see ``Schedule``."""
        rising, progress = _rising_and_progress(self.warm_up, round_index, rounds)
        return rising * (self.final + (1 - self.final) * (1 + math.cos(math.pi * progress)) / 2)


@dataclass(frozen=True, kw_only=True, slots=True)
class LinearSchedule:
    """Down along a line, after a warm-up; with ``final: 1`` nothing but the warm-up.

    With n rounds, of which w are the warm-up, the factor of round t = 0, 1, ..., n - 1 is

        (t + 1) / w                              while t < w
        1 - (1 - final) (t - w) / (n - w)        from then on

    Args:
        warm_up: share of the rounds in which the step size rises, in [0, 1); w is rounded, and
            below 2 it does not rise, since the first round has the whole step size.
        final: factor at the end, in [0, 1]: that of round n, if there were one.

    References:
        The warm-up of Goyal et al., 2017, arXiv:1706.02677.
    """

    warm_up: float = 0.0
    final: float = 0.0

    def __post_init__(self) -> None:
        _check_warm_up(self.warm_up)
        _check_final(self.final)

    def factor_of(self, round_index: int, rounds: int) -> float:
        """Return what the step size is multiplied by; see ``Schedule``."""
        rising, progress = _rising_and_progress(self.warm_up, round_index, rounds)
        return rising * (1 - (1 - self.final) * progress)


@dataclass(frozen=True, kw_only=True, slots=True)
class DropSchedule:
    """Down by a factor at given shares of the run, after a warm-up.

    With n rounds, of which w are the warm-up, the factor of round t = 0, 1, ..., n - 1 is

        (t + 1) / w                                              while t < w
        factor to the power of how many of ``at`` are at most t / n    from then on

    Args:
        at: shares of the rounds, increasing, in (0, 1), and none within the warm-up.
        factor: by which the step size is multiplied at each, in (0, 1).
        warm_up: share of the rounds in which the step size rises, in [0, 1); w is rounded, and
            below 2 it does not rise, since the first round has the whole step size.

    References:
        He et al., 2016, arXiv:1512.03385, where the step size is divided by 10; the warm-up of
        Goyal et al., 2017, arXiv:1706.02677.
    """

    at: tuple[float, ...]
    factor: float = 0.1
    warm_up: float = 0.0

    def __post_init__(self) -> None:
        _check_warm_up(self.warm_up)
        increasing = list(self.at) == sorted(set(self.at))
        if not (self.at and increasing and all(0 < share < 1 for share in self.at)):
            raise ValueError(
                f"at is {list(self.at)!r}: give increasing shares of the rounds, each above 0 and "
                "below 1, such as [0.5, 0.75]"
            )
        if self.at[0] < self.warm_up:
            raise ValueError(
                f"at begins with {self.at[0]!r}, and warm_up is {self.warm_up!r}: the step size "
                "cannot drop while it rises: drop later, or warm up for less"
            )
        if not 0 < self.factor < 1:
            raise ValueError(f"factor is {self.factor!r}: give a number above 0 and below 1")

    def factor_of(self, round_index: int, rounds: int) -> float:
        """Return what the step size is multiplied by; see ``Schedule``."""
        rising, _ = _rising_and_progress(self.warm_up, round_index, rounds)
        drops = sum(round_index / rounds >= share for share in self.at)
        return rising * math.prod([self.factor] * drops)


@dataclass(frozen=True, kw_only=True, slots=True)
class StepSizes:
    """The step sizes of a run with a schedule.

    Args:
        step_size: what is scaled.
        schedule: by which factors.
        rounds: of the run, at least 1; in those after them the factor of the last one stays.
    """

    step_size: float
    schedule: Schedule
    rounds: int

    def of(self, round_index: int) -> float:
        """Return the step size of a round, counted from 0.

        Raises:
            ValueError: the schedule gives no finite factor that is at least 0.
        """
        factor = self.schedule.factor_of(min(round_index, self.rounds - 1), self.rounds)
        if not 0 <= factor < math.inf:
            raise ValueError(
                f"schedule: {type(self.schedule).__qualname__} gives the factor {factor!r}: give a "
                "finite number, at least 0"
            )
        return self.step_size * factor


def _rising_and_progress(warm_up: float, round_index: int, rounds: int) -> tuple[float, float]:
    """Return the factor of the warm-up, 1 after it, and the share of the other rounds done."""
    warm = round(warm_up * rounds)
    if round_index < warm:
        return (round_index + 1) / warm, 0.0
    return 1.0, (round_index - warm) / (rounds - warm)


def _check_warm_up(warm_up: float) -> None:
    if not 0 <= warm_up < 1:
        raise ValueError(
            f"warm_up is {warm_up!r}: give a share of the rounds, at least 0 and below 1"
        )


def _check_final(final: float) -> None:
    if not 0 <= final <= 1:
        raise ValueError(f"final is {final!r}: give a part of the step size, from 0 to 1")
