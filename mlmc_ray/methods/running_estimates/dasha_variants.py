"""DASHA on minibatches: DASHA-PAGE and DASHA-MVR, which differ in how h_i moves.

References:
    Tyurin and Richtarik, 2022, arXiv:2202.01268.
"""

import math
from dataclasses import dataclass, replace
from typing import ClassVar

from torch import Tensor

from mlmc_ray.compressors.base import Compressor, Context
from mlmc_ray.compressors.random_sparse import check_probability
from mlmc_ray.methods.base import Facts, OneCompressed, Oracle, ServerHalf, WorkerHalf
from mlmc_ray.methods.checks import check_at_least_1
from mlmc_ray.methods.reports import payload_of
from mlmc_ray.methods.running_estimates.dasha import Worker, check_settings, theory_omega
from mlmc_ray.methods.running_estimates.running_estimate import (
    Coin,
    Server,
    batch_variance,
    difference,
)
from mlmc_ray.methods.shared_draws import shared_coin
from mlmc_ray.methods.theory import ON_BATCHES, Setting, StepSize, joint_variance
from mlmc_ray.payloads import Message


@dataclass(frozen=True, kw_only=True, slots=True)
class DASHAPage(OneCompressed):
    """DASHA-PAGE: for finite sums, now and then a full gradient, else differences on minibatches.

    As ``DASHA``, with another h_i. A coin common to all workers shows heads with probability
    ``p_page``; on heads and in the first round

        h_i+ = f_i'(x+)

    and on tails, both gradients being on one minibatch of the configured size,

        h_i+ = h_i + f_i'(x+, batch) - f_i'(x, batch)

    Args:
        compressor: unbiased.
        p_page: b / (m + b) for b examples of a worker's m in a minibatch.
        momentum: a, above 0 and at most 1; None for 1 / (2 omega + 1), that of the theory.

    References:
        Tyurin and Richtarik, 2022, arXiv:2202.01268, algorithm 1.
    """

    compressor: Compressor
    p_page: float
    momentum: float | None = None

    facts: ClassVar[Facts] = Facts(
        compressor="unbiased",
        uplink="C",
        downlink="d",
        reports=("gradient", "change"),
        first="d up",
        worker_memory="3 d",
        server_memory="d",
        guarantee="O(1/T) of |grad f|^2",
        reference="Tyurin and Richtarik, 2022, arXiv:2202.01268",
    )

    def __post_init__(self) -> None:
        check_settings("dasha-page", self.compressor, self.momentum)
        check_probability("p_page", self.p_page)

    def theory(self, setting: Setting) -> StepSize:
        """1 / (L + sqrt(48 omega (2 omega + 1)(v + L~^2) / M + 2 v / (p_page M))).

        With v = (1 - p_page) L_examples^2 / batch_size; also for a convex f.
        """
        rest = (1 - self.p_page) * batch_variance(setting)
        drift = 2 * rest / (self.p_page * setting.num_workers)
        return _step(setting, self.compressor, self.momentum, 48, rest, drift)

    def worker(self) -> WorkerHalf:
        """Make the half of one worker."""
        return _PageWorker(self.compressor, self.momentum, self.p_page)

    def server(self, parameters: Tensor) -> ServerHalf:
        """Make the server's half."""
        return Server(parameters)


@dataclass(frozen=True, kw_only=True, slots=True)
class DASHAMVR(OneCompressed):
    """DASHA-MVR: for a stream of examples, momentum variance reduction.

    As ``DASHA``, with another h_i: both gradients being on one minibatch of the configured size,

        h_i+ = f_i'(x+, batch) + (1 - b) (h_i - f_i'(x, batch))

    In the first round h_i is the gradient on ``mega_batch`` examples.

    Args:
        compressor: unbiased.
        noise_momentum: b, above 0 and at most 1; 1 means that nothing of the past is used.
        momentum: a, above 0 and at most 1; None for 1 / (2 omega + 1), that of the theory.
        mega_batch: examples; None for all that a worker has.

    References:
        Tyurin and Richtarik, 2022, arXiv:2202.01268, algorithm 1.
    """

    compressor: Compressor
    noise_momentum: float
    momentum: float | None = None
    mega_batch: int | None = None

    facts: ClassVar[Facts] = Facts(
        compressor="unbiased",
        uplink="C",
        downlink="d",
        reports=("gradient", "change"),
        first="d up",
        worker_memory="3 d",
        server_memory="d",
        guarantee="O(1/T) of |grad f|^2, to a floor that the noise of the gradients leaves, which "
        "is small where b is",
        reference="Tyurin and Richtarik, 2022, arXiv:2202.01268",
    )

    def __post_init__(self) -> None:
        check_settings("dasha-mvr", self.compressor, self.momentum)
        check_at_least_1("mega_batch", self.mega_batch, "example")
        if not 0 < self.noise_momentum <= 1:
            raise ValueError(
                f"noise_momentum is {self.noise_momentum!r}: it is the weight of the new gradient, "
                "above 0 and at most 1"
            )

    def theory(self, setting: Setting) -> StepSize:
        """1 / (L + sqrt(96 omega (2 omega + 1)(v + L~^2) / M + 4 v / (noise_momentum M))).

        With v = (1 - noise_momentum)^2 L_examples^2 / batch_size; also for a convex f.
        """
        rest = (1 - self.noise_momentum) ** 2 * batch_variance(setting)
        drift = 4 * rest / (self.noise_momentum * setting.num_workers)
        step = _step(setting, self.compressor, self.momentum, 96, rest, drift)
        if setting.batch_size is None:
            return step
        return replace(step, guarantee=f"{step.guarantee}, to a floor that is low where b is")

    def worker(self) -> WorkerHalf:
        """Make the half of one worker."""
        return MVRWorker(self.compressor, self.momentum, self.noise_momentum, self.mega_batch)

    def server(self, parameters: Tensor) -> ServerHalf:
        """Make the server's half."""
        return Server(parameters)


def _step(
    setting: Setting,
    compressor: Compressor,
    momentum: float | None,
    factor: int,
    rest: float,
    drift: float,
) -> StepSize:
    """Return 1 / (L + sqrt(factor A (2 omega + 1)(rest + L~^2) + drift)), A = omega / M."""
    omega, (spread, _) = (
        theory_omega(setting, compressor, momentum),
        joint_variance(setting, compressor),
    )
    constants = setting.constants
    compression = factor * spread * (2 * omega + 1) * (rest + constants.mean_smoothness**2)
    return StepSize(
        1 / (constants.smoothness + math.sqrt(compression + drift)),
        f"1 / (L + sqrt({factor} omega (2 omega + 1) (L~^2 + v) / M + w)), v and w for minibatches",
        f"the mean of |grad f|^2 over T rounds is O(1 / (step T)), {ON_BATCHES}",
    )


class _BatchWorker(Worker):
    """Remembers the "parameters" of the last round, too."""

    def step(self, news: Message, oracle: Oracle, *, context: Context) -> Message:
        report = super().step(news, oracle, context=context)
        self.memory["parameters"] = payload_of(news, "parameters").to_dense().clone()
        return report


class _PageWorker(_BatchWorker):
    """Tracks with full gradients and differences."""

    def __init__(self, compressor: Compressor, momentum: float | None, p_page: float) -> None:
        super().__init__(compressor, momentum)
        self._p_page = p_page

    def _tracked(self, at: Tensor, oracle: Oracle, context: Context) -> Tensor:
        if shared_coin(context, "page", self._p_page):
            return super()._tracked(at, oracle, context)
        moved = difference(oracle, oracle.sample(), at, self.memory["parameters"])
        return moved.add_(self.memory["gradient"])


class MVRWorker(_BatchWorker):
    """Tracks with momentum variance reduction; a noise momentum of 0 forgets nothing."""

    def __init__(
        self,
        compressor: Compressor,
        momentum: float | None,
        noise_momentum: float,
        mega_batch: int | None,
        coin: Coin | None = None,
    ) -> None:
        super().__init__(compressor, momentum, mega_batch, coin)
        self._kept = 1 - noise_momentum

    def _tracked(self, at: Tensor, oracle: Oracle, context: Context) -> Tensor:
        batch = oracle.sample()
        moved = oracle.gradient(at, batch).clone()
        before = oracle.gradient(self.memory["parameters"], batch)
        return moved.add_(self.memory["gradient"] - before, alpha=self._kept)
