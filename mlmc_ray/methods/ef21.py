"""EF21-SGDM: error feedback on the difference to what the server already knows, with momentum.

Worker i keeps a momentum v_i and the estimate g_i that the server has of it:

    v_i <- (1 - eta) v_i + eta gradient        (v_i <- gradient in the first round)
    send c_i = C(v_i - g_i);  g_i <- g_i + c_i

and the server adds the average of the c_i to its own g. With eta = 1 and full gradients it is
EF21.

References:
    Richtarik, Sokolov and Fatkhullin, 2021, arXiv:2106.05203 (EF21);
    Fatkhullin, Tyurin and Richtarik, 2023, arXiv:2305.15155 (EF21-SGDM).
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from mlmc_ray.compressors.base import Compressor, Context, PaperCost, bound
from mlmc_ray.methods.base import Half, Oracle, ServerHalf, WorkerHalf, add_average
from mlmc_ray.payloads import DensePayload, Message


@dataclass(frozen=True, kw_only=True, slots=True)
class EF21SGDM:
    """Error feedback with momentum; for contractive compressors such as Top-k.

    Args:
        compressor: contractive (``alpha`` is not None); the same on every worker.
        momentum: eta in (0, 1], the weight of the new gradient; 1 means no averaging over time.
    """

    compressor: Compressor
    momentum: float = 0.1

    def __post_init__(self) -> None:
        if not 0 < self.momentum <= 1:
            raise ValueError(
                f"momentum is {self.momentum!r}: it is the weight of the new gradient, above 0 and "
                "at most 1"
            )
        if self.compressor.alpha(1) is None:
            raise ValueError(
                f"compressor is {self.compressor}: EF21 needs a contractive compressor, such as "
                "top-k; an unbiased one belongs into compressed-sgd"
            )

    def worker(self) -> WorkerHalf:
        """Make the half of one worker."""
        return _Worker(self.compressor, self.momentum)

    def server(self, parameters: Tensor) -> ServerHalf:
        """Make the server's half."""
        return _Server(parameters)

    def paper_cost(self, dim: int) -> PaperCost | None:
        """The compressor's."""
        return self.compressor.paper_cost(dim)


class _Worker(Half):
    """Remembers the momentum v_i and what the server knows, g_i, from the first round on."""

    def __init__(self, compressor: Compressor, momentum: float) -> None:
        super().__init__()
        self._compressor = compressor
        self._momentum = momentum

    def step(self, news: Message, oracle: Oracle, *, context: Context) -> Message:
        gradient = oracle.gradient(news.payloads["parameters"].to_dense(), oracle.sample())
        if not self.memory:
            self.memory = {"momentum": gradient.clone(), "known": torch.zeros_like(gradient)}
        else:
            average = self.memory["momentum"]
            average.mul_(1 - self._momentum).add_(gradient, alpha=self._momentum)
        momentum, known = self.memory["momentum"], self.memory["known"]
        compressor = bound(self._compressor, context)
        change = compressor.compress(momentum - known, generator=context.generator)
        change.add_to(known)
        return Message({"change": change})


class _Server(Half):
    """Remembers the average g of what it knows of the workers."""

    def __init__(self, parameters: Tensor) -> None:
        super().__init__()
        self._parameters = parameters
        self.memory = {"known": torch.zeros_like(parameters)}

    def news(self, *, context: Context) -> Message:
        return Message({"parameters": DensePayload(self._parameters)})

    def step(self, reports: Mapping[int, Message], *, context: Context) -> Tensor:
        add_average(self.memory["known"], reports, "change", among=context.num_workers)
        return self.memory["known"]
