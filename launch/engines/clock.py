"""How long everything takes in simulated time, as a configuration gives it."""

import dataclasses
import math
from dataclasses import dataclass

PerWorker = float | tuple[float, ...]
"""One number for all workers, or one for each."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Clock:
    """How long workers and their links take, in simulated seconds; every link is its own.

    Args:
        compute_s: for a gradient of one batch.
        uplink_s: from the end of a report's sending to its arrival.
        downlink_s: the same for news.
        uplink_bytes_per_s: how fast a report is sent; None for at once.
        downlink_bytes_per_s: the same for news.
        jitter: standard deviation of the time of a gradient, in units of ``compute_s``; it is
            log-normal, and drawn from the run's seed.
    """

    compute_s: PerWorker
    uplink_s: PerWorker = 0.0
    downlink_s: PerWorker = 0.0
    uplink_bytes_per_s: PerWorker | None = None
    downlink_bytes_per_s: PerWorker | None = None
    jitter: float = 0.0

    def __post_init__(self) -> None:
        for name in ("compute_s", "uplink_s", "downlink_s", "jitter"):
            if not all(0 <= value < math.inf for value in _each(getattr(self, name))):
                raise ValueError(
                    f"{name} is {getattr(self, name)!r}: give at least 0, and no infinity"
                )
        for name in ("uplink_bytes_per_s", "downlink_bytes_per_s"):
            if not all(0 < value < math.inf for value in _each(getattr(self, name))):
                raise ValueError(
                    f"{name} is {getattr(self, name)!r}: give bytes a second above 0, or null for "
                    "no limit"
                )

    def check_workers(self, num_workers: int) -> None:
        """Refuse lists that are not as long as there are workers.

        Raises:
            ValueError: names the first of them.
        """
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, tuple) and len(value) != num_workers:
                raise ValueError(
                    f"clock.{field.name} has {len(value)} numbers, and there are {num_workers} "
                    "workers: give one for each, or one number for all"
                )


def _each(value: PerWorker | None) -> tuple[float, ...]:
    return value if isinstance(value, tuple) else () if value is None else (value,)
