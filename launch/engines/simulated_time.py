"""Simulated time: how long workers take, and in which order their reports arrive."""

import heapq
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch

from launch.engines.clock import Clock, PerWorker
from mlmc_ray.errors import RoundError
from mlmc_ray.seeding import generator_for


class Arrival(NamedTuple):
    """A report on its way; the earliest is the least, and of two at once that of the lower id."""

    at_s: float
    worker_id: int
    report: bytes
    loss: float | None


class SimulatedTime:
    """The simulated time of a run.

    Args:
        clock: how long everything takes.
        seed: the run's seed, of the jitter.

    Attributes:
        now_s: simulated seconds since the start.
    """

    def __init__(self, clock: Clock, seed: int) -> None:
        self._clock = clock
        self._seed = seed
        self._arrivals: list[Arrival] = []  # a heap
        self.now_s = 0.0

    def duration_s(
        self,
        worker_id: int,
        place: tuple[int, int],
        *,
        news_bytes: int,
        report_bytes: int,
        num_gradients: int,
    ) -> float:
        """Return the seconds from the start of a worker's news to the arrival of its report.

        Args:
            worker_id: whose.
            place: the round and the exchange of the news.
            news_bytes: length of the frame.
            report_bytes: length of the frame.
            num_gradients: how many the worker computed in between.
        """
        clock = self._clock
        down = _link_s(clock.downlink_s, clock.downlink_bytes_per_s, news_bytes, worker_id)
        up = _link_s(clock.uplink_s, clock.uplink_bytes_per_s, report_bytes, worker_id)
        gradients = float(num_gradients)
        if clock.jitter:
            draws = generator_for(self._seed, worker_id, *place, "clock")
            variance = math.log1p(clock.jitter**2)  # of the logarithm, whose mean makes this 1
            normal = torch.randn(num_gradients, generator=draws, dtype=torch.float64)
            gradients = float((math.sqrt(variance) * normal - variance / 2).exp().sum())
        return down + gradients * _of(clock.compute_s, worker_id) + up

    def state_dict(self) -> dict[str, Any]:
        """Return the time, and the reports that are on their way."""
        return {"now_s": self.now_s, "arrivals": [tuple(a) for a in sorted(self._arrivals)]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what ``state_dict`` returned."""
        self.now_s = state["now_s"]
        self._arrivals = [Arrival(*fields) for fields in state["arrivals"]]

    def send(self, worker_id: int, report: bytes, loss: float | None, duration_s: float) -> None:
        """Let a report arrive so many seconds from now."""
        heapq.heappush(self._arrivals, Arrival(self.now_s + duration_s, worker_id, report, loss))

    def next_arrival(self) -> Arrival:
        """Go on to the next arrival.

        Raises:
            RoundError: no worker is at work.
        """
        if not self._arrivals:
            raise RoundError("no worker is at work: the method has given no news to any")
        arrival = heapq.heappop(self._arrivals)
        self.now_s = arrival.at_s
        return arrival


def _of(value: PerWorker, worker_id: int) -> float:
    return value[worker_id] if isinstance(value, tuple) else value


def _link_s(
    latency_s: PerWorker, bytes_per_s: PerWorker | None, num_bytes: int, worker_id: int
) -> float:
    sending_s = 0.0 if bytes_per_s is None else num_bytes / _of(bytes_per_s, worker_id)
    return _of(latency_s, worker_id) + sending_s
