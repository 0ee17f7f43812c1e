"""Compressed SGD: each worker sends a compressed stochastic gradient, the server averages.

Algorithms 1, 2 and 3 of the MLMC paper are this method with the fitting compressor: none, MLMC
with a fixed law, MLMC with the adaptive law. With a biased compressor it need not converge.

References:
    Zukerman et al., 2025, arXiv:2507.05508, algorithms 1-3. Also known as DCGD.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from mlmc_ray.compressors.base import Compressor, Context, PaperCost, bound
from mlmc_ray.compressors.identity import Identity
from mlmc_ray.methods.base import (
    Facts,
    Half,
    Method,
    Oracle,
    ServerHalf,
    WorkerHalf,
    add_average,
    require_unbiased,
)
from mlmc_ray.methods.theory import Setting, StepSize
from mlmc_ray.payloads import DensePayload, Message


@dataclass(frozen=True, kw_only=True, slots=True)
class CompressedSGD(Method):
    """Compressed SGD, also known as DCGD; no memory on either side.

        send C(gradient);  g = average of what arrives

    With an MLMC compressor it is the paper's algorithm 2 (a fixed law) or 3 (the adaptive law).
    With a biased compressor it need not converge.

    Args:
        compressor: any; its draws are independent between workers.

    References:
        Zukerman et al., 2025, arXiv:2507.05508; Khirirat et al., 2018, arXiv:1806.06573.
    """

    compressor: Compressor

    allows_absence: ClassVar[bool] = True
    facts: ClassVar[Facts] = Facts(
        compressor="any",
        uplink="C",
        downlink="d",
        guarantee="linear to a neighbourhood for an unbiased C and a strongly convex f, to the "
        "optimum where all workers share it; with a biased C it may diverge",
        reference="Zukerman et al., 2025, arXiv:2507.05508, algorithms 2 and 3; Khirirat et al., "
        "2018, arXiv:1806.06573",
    )

    def theory(self, setting: Setting) -> StepSize:
        """1 / (L + 2 omega L_max / M), for an unbiased compressor."""
        require_unbiased("the theory of compressed-sgd", self.compressor)
        spread = 2 * setting.omega(self.compressor) * setting.constants.largest_smoothness
        return StepSize(
            1 / (setting.constants.smoothness + spread / setting.num_workers),
            "1 / (L + 2 omega L_max / M)",
            "E|x - x*|^2 shrinks by 1 - step mu a round, to a plateau unless workers share x*",
        )

    def worker(self) -> WorkerHalf:
        """Make the half of one worker."""
        return _Worker(self.compressor)

    def server(self, parameters: Tensor) -> ServerHalf:
        """Make the server's half."""
        return _Server(parameters)

    def paper_cost(self, dim: int) -> PaperCost | None:
        """The compressor's."""
        return self.compressor.paper_cost(dim)


@dataclass(frozen=True, kw_only=True, slots=True)
class DataParallelSGD(Method):
    """Data-parallel SGD: compressed SGD without compression.

        send the gradient;  g = average of what arrives

    References:
        Zukerman et al., 2025, arXiv:2507.05508, algorithm 1.
    """

    allows_absence: ClassVar[bool] = True
    facts: ClassVar[Facts] = Facts(
        compressor="none",
        uplink="d",
        downlink="d",
        guarantee="linear for a strongly convex f and full gradients",
        reference="Zukerman et al., 2025, arXiv:2507.05508, algorithm 1",
    )

    def theory(self, setting: Setting) -> StepSize:
        """1 / L."""
        return StepSize(
            1 / setting.constants.smoothness,
            "1 / L",
            "f(x) - f* shrinks by 1 - step mu a round, with full gradients",
        )

    def worker(self) -> WorkerHalf:
        """Make the half of one worker."""
        return _Worker(Identity())

    def server(self, parameters: Tensor) -> ServerHalf:
        """Make the server's half."""
        return _Server(parameters)

    def paper_cost(self, dim: int) -> PaperCost:
        """One number per parameter."""
        return Identity().paper_cost(dim)


class _Worker(Half):
    def __init__(self, compressor: Compressor) -> None:
        super().__init__()
        self._compressor = compressor

    def step(self, news: Message, oracle: Oracle, *, context: Context) -> Message:
        gradient = oracle.gradient(news.payloads["parameters"].to_dense(), oracle.sample())
        compressor = bound(self._compressor, context)
        return Message({"gradient": compressor.compress(gradient, generator=context.generator)})


class _Server(Half):
    def __init__(self, parameters: Tensor) -> None:
        super().__init__()
        self._parameters = parameters
        self._estimate = torch.zeros_like(parameters)

    def news(self, *, context: Context) -> Message:
        return Message({"parameters": DensePayload(self._parameters)})

    def step(self, reports: Mapping[int, Message], *, context: Context) -> Tensor:
        self._estimate.zero_()
        add_average(self._estimate, reports, "gradient")
        return self._estimate
