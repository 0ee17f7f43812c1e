"""Compressed SGD: each worker sends a compressed stochastic gradient, the server averages.

Algorithms 1, 2 and 3 of the MLMC paper are this method with the fitting compressor: none, MLMC
with a fixed law, MLMC with the adaptive law. With a biased compressor it need not converge.

References:
    Zukerman et al., 2025, arXiv:2507.05508, algorithms 1-3. Also known as DCGD.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from mlmc_ray.compressors.base import Compressor, Context, PaperCost, bound
from mlmc_ray.compressors.identity import Identity
from mlmc_ray.methods.base import Half, Oracle, ServerHalf, WorkerHalf, add_average
from mlmc_ray.payloads import DensePayload, Message


@dataclass(frozen=True, kw_only=True, slots=True)
class CompressedSGD:
    """Send C(gradient); estimate = the average of what arrives. No memory on either side."""

    compressor: Compressor

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
class DataParallelSGD:
    """Send the gradient as it is: compressed SGD with the identity (paper algorithm 1)."""

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
