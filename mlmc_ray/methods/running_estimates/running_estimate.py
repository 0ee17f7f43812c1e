"""An estimate of the gradient that the server keeps from round to round.

In its first round, and whenever a coin says so, it is the average of the workers' gradients, sent
as they are. In the other rounds it moves by the average of compressed changes:

    g <- g + average of the C(change_i)

What a change is depends on the method; MARINA and DASHA share what is here.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mlmc_ray.compressors.base import Compressor, Context, bound, check_finite
from mlmc_ray.methods.base import Half, News, Oracle
from mlmc_ray.methods.reports import add_average
from mlmc_ray.methods.shared_draws import drawn_workers, shared_coin
from mlmc_ray.methods.theory import Setting, omega_in
from mlmc_ray.observing import observed
from mlmc_ray.payloads import DensePayload, Message


@dataclass(frozen=True, slots=True)
class Coin:
    """A coin that the server and all workers toss alike in a round, without a message.

    Attributes:
        compressor: whose omega gives the probability where none is given.
        p: of heads; None for s / (1 + omega), s being the share of the workers that are asked.
            1 / (1 + omega) is the share of the entries that Rand-k, PermK and the like send.
        most: bound of the probability where p is None.
        participants: how many workers are asked; None for all.
    """

    compressor: Compressor
    p: float | None
    most: float = 1.0
    participants: int | None = None

    def probability(self, omega: float, num_workers: int) -> float:
        """Return the probability of heads for a compressor of this omega."""
        if self.p is not None:
            return self.p
        share = (self.participants or num_workers) / num_workers
        return min(self.most, share / (1 + omega))

    def heads(self, context: Context, dim: int) -> bool:
        """Toss it: the same result for all workers and the server in a round.

        Raises:
            ValueError: p is None, and no omega is known.
        """
        omega = 0.0 if self.p is not None else omega_in(self.compressor, context, dim)
        return shared_coin(context, "gradients", self.probability(omega, context.num_workers))


def batch_variance(setting: Setting) -> float:
    """Return v with E|difference on a batch - its mean|^2 <= v |x - y|^2, averaged over workers.

    Raises:
        ValueError: gradients are of batches, and the smoothness of one example is not known.
    """
    if setting.batch_size is None:
        return 0.0
    if setting.constants.sample_smoothness is None:
        raise ValueError(
            "sample_smoothness, that of the loss of one example, is not known of this problem: "
            "give a step size, or full batches"
        )
    return setting.constants.sample_smoothness**2 / setting.batch_size


def large_batch(oracle: Oracle, mega_batch: int | None) -> Any:
    """Return ``mega_batch`` new examples, or all for None."""
    return oracle.full() if mega_batch is None else oracle.sample(mega_batch)


def difference(oracle: Oracle, batch: Any, at: Tensor, before: Tensor) -> Tensor:
    """Return the gradient on ``batch`` at one point less that at another, shape (d,), new."""
    moved = oracle.gradient(at, batch).clone()
    return moved.sub_(oracle.gradient(before, batch))


def gradient_report(gradient: Tensor) -> Message:
    """Return a report of a gradient as it is; shares its memory.

    Raises:
        NonFiniteError: it holds NaN or infinity.
    """
    check_finite(gradient)
    return Message({"gradient": DensePayload(gradient)})


def change_report(change: Tensor, compressor: Compressor, context: Context) -> Message:
    """Return a report of a change, compressed."""
    compressor = observed(bound(compressor, context))
    return Message({"change": compressor.compress(change, generator=context.generator)})


class Server(Half):
    """Asks all workers. Remembers the "estimate" g, from the first round on.

    Args:
        parameters: the server's own, shape (d,).
        coin: heads ask for gradients as they are; None to do so in the first round alone.
    """

    def __init__(self, parameters: Tensor, coin: Coin | None = None) -> None:
        super().__init__()
        self._parameters = parameters
        self._coin = coin

    def news(self, *, context: Context) -> News:
        """Return the parameters, for everyone."""
        return Message({"parameters": DensePayload(self._parameters)})

    def step(self, reports: Mapping[int, Message], *, context: Context) -> Tensor:
        """Replace the estimate, or move it; return it."""
        if self._wants_gradients(context):
            estimate = torch.zeros_like(self._parameters)
            add_average(estimate, reports, "gradient")
            self.memory["estimate"] = estimate
        else:
            among = self._divisor(reports, context)
            add_average(self.memory["estimate"], reports, "change", among=among)
        return self.memory["estimate"]

    def _wants_gradients(self, context: Context) -> bool:
        if "estimate" not in self.memory:
            return True
        return self._coin is not None and self._coin.heads(context, self._parameters.numel())

    def _divisor(self, reports: Mapping[int, Message], context: Context) -> int:
        """Return what the sum of the changes is divided by."""
        return context.num_workers


class PartialServer(Server):
    """Asks ``participants`` workers for changes, drawn every round, and all for gradients.

    Participants get the parameters of the last round as well, "previous", for they may have missed
    it. Without it the news asks for a gradient. Remembers "previous" besides the "estimate".
    """

    def __init__(self, parameters: Tensor, participants: int, coin: Coin | None = None) -> None:
        super().__init__(parameters, coin)
        self._participants = participants

    def news(self, *, context: Context) -> News:
        """Return the parameters for everyone, or those of two rounds for the participants."""
        drawn = drawn_workers(context, self._participants)
        parameters = DensePayload(self._parameters)
        if self._wants_gradients(context):
            return Message({"parameters": parameters})
        previous = DensePayload(self.memory["previous"])
        return dict.fromkeys(drawn, Message({"parameters": parameters, "previous": previous}))

    def step(self, reports: Mapping[int, Message], *, context: Context) -> Tensor:
        """Do as the other server does, and remember the parameters."""
        estimate = super().step(reports, context=context)
        self.memory["previous"] = self._parameters.clone()
        return estimate
