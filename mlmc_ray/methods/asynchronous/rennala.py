"""Rennala SGD: a step for the first reports that were computed at the current parameters.

References:
    Tyurin and Richtarik, 2023, arXiv:2305.12387.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from mlmc_ray.compressors.base import Compressor
from mlmc_ray.compressors.identity import Identity
from mlmc_ray.methods.asynchronous.arrivals import ArrivalServer, ArrivalWorker
from mlmc_ray.methods.base import Facts, OneCompressed, Progress, ServerHalf, WorkerHalf
from mlmc_ray.methods.checks import require_unbiased
from mlmc_ray.methods.theory import Setting, StepSize, for_full_gradients
from mlmc_ray.payloads import Payload


@dataclass(frozen=True, kw_only=True, slots=True)
class RennalaSGD(OneCompressed):
    """x <- x - step (mean of the first S reports computed at x); all others are thrown away.

    It is SGD with a batch of S gradients, taken from whoever is fastest: no report is ever stale,
    a slow worker costs no time, and a fast one may give several of the S.

    Args:
        batch: S, at least 1.
        compressor: unbiased.
    """

    batch: int
    compressor: Compressor = field(default_factory=Identity)

    asynchronous: ClassVar[bool] = True
    takes_any_device: ClassVar[bool] = True
    facts: ClassVar[Facts] = Facts(
        compressor="unbiased",
        uplink="C and a version",
        downlink="d and a version",
        news=("parameters", "version"),
        reports=("gradient", "version"),
        server_memory="d",
        guarantee="that of SGD with a batch of S, for workers that share one f; the best possible "
        "time up to constants where speeds are fixed",
        reference="Tyurin and Richtarik, 2023, arXiv:2305.12387",
    )

    def __post_init__(self) -> None:
        if self.batch < 1:
            raise ValueError(f"batch is {self.batch!r}: give at least 1 gradient a step")
        require_unbiased("rennala", self.compressor)

    def theory(self, setting: Setting) -> StepSize:
        """1 / (L (1 + omega / S)), from E|g - grad f|^2 <= omega / S |grad f|^2.

        So f falls by at least step |grad f|^2 / 2 in the mean of a step, also where f is not
        convex. Minibatches of variance sigma^2 add (1 + omega) sigma^2 / S to the noise.
        """
        spread = setting.omega(self.compressor) / self.batch
        progress = "E f(x) - f* shrinks by 1 - step mu a step"
        if not setting.constants.strong_convexity:
            progress = "the mean of |grad f|^2 over T steps is at most 2 (f(x0) - inf f) / (step T)"
        step = StepSize(
            1 / (setting.constants.smoothness * (1 + spread)),
            "1 / (L (1 + omega / S))",
            f"{progress}, for one f that all workers share",
        )
        return for_full_gradients(step, setting)

    def worker(self) -> WorkerHalf:
        """Make the half of one worker."""
        return ArrivalWorker(self.compressor)

    def server(self, parameters: Tensor) -> ServerHalf:
        """Make the server's half."""
        return _Server(self.batch, parameters)


class _Server(ArrivalServer):
    """Remembers the mean so far, and the "count" of the reports in it."""

    def __init__(self, batch: int, parameters: Tensor) -> None:
        super().__init__(parameters)
        self._batch = batch
        self.memory["mean"] = torch.zeros_like(parameters)
        self.memory["count"] = torch.zeros((), dtype=torch.int64)

    def _take(
        self, payloads: Mapping[int, Payload], ages: Mapping[int, int], num_workers: int
    ) -> Tensor | Progress:
        mean, count = self.memory["mean"], self.memory["count"]
        fresh = [payload for worker_id, payload in payloads.items() if not ages[worker_id]]
        for payload in fresh[: self._batch - int(count)]:
            payload.add_to(mean, 1 / self._batch)
            count += 1
        if count < self._batch:
            return Progress.MORE
        self._estimate.copy_(mean)
        mean.zero_()
        count.zero_()
        return self._estimate
