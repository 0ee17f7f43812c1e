"""Rounds that close before all workers have reported."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from mlmc_ray.methods import Method


@dataclass(frozen=True, kw_only=True, slots=True)
class Quorum:
    """When a round closes.

    The estimate is the average over the workers that were in time. It is unbiased where who is in
    time does not depend on the data: of workers that differ in speed and in data, the slow ones'
    data count less.

    Args:
        reports: how many are waited for; None for all.
        deadline_s: seconds after which a round closes with the reports that have come, once there
            is one; None for no such limit.
    """

    reports: int | None = None
    deadline_s: float | None = None

    def __post_init__(self) -> None:
        if self.reports is None and self.deadline_s is None:
            raise ValueError("give reports, deadline_s, or both")
        if self.reports is not None and self.reports < 1:
            raise ValueError(f"reports is {self.reports}: give at least 1")
        if self.deadline_s is not None and not 0 < self.deadline_s < math.inf:
            raise ValueError(f"deadline_s is {self.deadline_s!r}: give seconds above 0")

    def check(self, method: Method, num_workers: int) -> None:
        """Refuse a method that needs every report, or more reports than there are workers.

        Raises:
            ValueError: says why.
        """
        name = type(method).__name__
        if method.asynchronous:
            raise ValueError(
                f"quorum is given, and {name} takes every report as it comes, so there is no round "
                "to close early: leave quorum out"
            )
        if not method.allows_absence or not method.facts.worker_memory.startswith("0"):
            why = (
                "has workers that remember something, which would differ from what the server "
                "knows of it"
                if method.allows_absence
                else "needs the reports of all workers"
            )
            raise ValueError(
                f"quorum is given, and {name} {why}: leave quorum out, or give sgd or "
                "compressed-sgd"
            )
        if self.reports is not None and self.reports > num_workers:
            raise ValueError(
                f"quorum.reports is {self.reports}, and there are {num_workers} workers: give at "
                "most as many"
            )

    def idle(self, hosts: Sequence[int]) -> bool:
        """Return whether rounds wait for all workers in spite of it, as hosts report together.

        Args:
            hosts: how many workers each has.
        """
        if self.deadline_s is not None or self.reports is None:
            return False
        return sum(hosts) - min(hosts) < self.reports
