"""DASHA-SYNC-MVR: DASHA on minibatches, with a gradient sent as it is now and then.

References:
    Tyurin and Richtarik, 2022, arXiv:2202.01268.
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from mlmc_ray.compressors.base import Compressor
from mlmc_ray.compressors.random_sparse import check_probability
from mlmc_ray.methods.base import Facts, Method, ServerHalf, WorkerHalf
from mlmc_ray.methods.checks import check_at_least_1
from mlmc_ray.methods.running_estimates.dasha import check_settings
from mlmc_ray.methods.running_estimates.dasha_variants import MVRWorker
from mlmc_ray.methods.running_estimates.running_estimate import Coin, Server


@dataclass(frozen=True, kw_only=True, slots=True)
class DASHASyncMVR(Method):
    """DASHA-SYNC-MVR: differences on minibatches, and now and then a gradient sent as it is.

    As ``DASHA``, with another h_i. A coin common to all workers shows heads with probability p; on
    heads and in the first round all send the gradient on ``mega_batch`` examples,

        g_i+ = h_i+ = f_i'(x+, mega-batch);   g+ = average of the g_i+

    and on tails, both gradients being on one minibatch of the configured size,

        h_i+ = h_i + f_i'(x+, batch) - f_i'(x, batch)

    Args:
        compressor: unbiased.
        p: the probability that gradients are sent as they are; None for 1 / (1 + omega), which is
            a choice of ours: half of the traffic.
        momentum: a, above 0 and at most 1; None for 1 / (2 omega + 1), that of the theory.
        mega_batch: examples; None for all that a worker has.

    References:
        Tyurin and Richtarik, 2022, arXiv:2202.01268, algorithm 2.
    """

    compressor: Compressor
    p: float | None = None
    momentum: float | None = None
    mega_batch: int | None = None

    facts: ClassVar[Facts] = Facts(
        compressor="unbiased",
        uplink="C, or d with probability p",
        downlink="d",
        reports=("gradient", "change"),
        first="d up",
        worker_memory="3 d",
        server_memory="d",
        guarantee="O(1/T) of |grad f|^2, to a floor that the noise of a mega-batch leaves",
        reference="Tyurin and Richtarik, 2022, arXiv:2202.01268",
    )

    def __post_init__(self) -> None:
        check_settings("dasha-sync-mvr", self.compressor, self.momentum)
        check_at_least_1("mega_batch", self.mega_batch, "example")
        if self.p is not None:
            check_probability("p", self.p)

    def worker(self) -> WorkerHalf:
        """Make the half of one worker."""
        return MVRWorker(self.compressor, self.momentum, 0.0, self.mega_batch, self._coin())

    def server(self, parameters: Tensor) -> ServerHalf:
        """Make the server's half."""
        return Server(parameters, self._coin())

    def _coin(self) -> Coin:
        return Coin(self.compressor, self.p)
