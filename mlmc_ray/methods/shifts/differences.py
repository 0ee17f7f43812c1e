"""Sending differences to a shift h_i that both sides learn: the halves of DIANA and EF-BV.

Worker i sends m_i = C(gradient - h_i), and with h the average of the shifts, of M workers,

    h_i <- h_i + lambda m_i / p
    g = h + nu (sum of the m_i) / (M p);  h <- h + lambda (sum of the m_i) / (M p)

where each round asks the share p of the workers; the shifts of the others stay as they are. All
h_i start at 0, so nothing is sent before the first round.

References:
    Mishchenko et al., 2019, arXiv:1901.09269 (DIANA); Condat, Li and Richtarik, 2022,
    arXiv:2205.04180 (lambda and nu).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from mlmc_ray.compressors.base import Compressor, Context, bound
from mlmc_ray.methods.base import Half, Oracle
from mlmc_ray.methods.reports import payload_of, set_to_average
from mlmc_ray.methods.shared_draws import shared_coin
from mlmc_ray.methods.theory import Setting, StepSize
from mlmc_ray.observing import observed
from mlmc_ray.payloads import DensePayload, Message


@dataclass(frozen=True, kw_only=True, slots=True)
class Weights:
    """What a difference counts: lambda / p in the shift, nu / p in the estimate."""

    shift: float
    estimate: float


WeightRule = Callable[[Context, int], Weights]
"""Gives the weights in a context, for vectors of a length; the same on server and workers."""


def difference_step(
    setting: Setting, spread: float, formula: str, learning: str, needs: str
) -> StepSize:
    """Return the step 1 / (L + 6 s / M) of methods that send differences to what is learned.

    With D the Bregman divergence of f at x*, sigma the mean of |h_i - grad f_i(x*)|^2, or the like,
    and k the noise of a message per squared norm: E|g|^2 <= 2 (L + 2 s / M) D + (2 k / M) sigma,
    and the next E sigma <= (1 - r) sigma + 2 r (s / k) D. So the step is as for DIANA. Convex f_i
    give the bounds by D; where mu = 0, the step leaves a third of D as progress in every round.

    Args:
        setting: where.
        spread: s, which is k times a smoothness, such as omega L_max.
        formula: of the step, in words.
        learning: r / 2, in words.
        needs: what it takes, in words.
    """
    progress = f"E|x - x*|^2 shrinks by max(1 - step mu, 1 - {learning}) a round"
    if not setting.constants.strong_convexity:
        progress = "the mean of E f(x) - f* over T rounds is O(1 / (step T))"
    return StepSize(
        1 / (setting.constants.smoothness + 6 * spread / setting.num_workers),
        formula,
        f"{progress}, for {needs}",
    )


class ShiftedWorker(Half):
    """Sends a "difference" m_i; remembers the "shift" h_i from the first round on."""

    def __init__(self, compressor: Compressor, weights: WeightRule) -> None:
        super().__init__()
        self._compressor = compressor
        self._weights = weights

    def step(self, news: Message, oracle: Oracle, *, context: Context) -> Message:
        """Answer with the difference, and add its part to the shift."""
        gradient = self._gradient(payload_of(news, "parameters").to_dense(), oracle, context)
        shift = self.memory.setdefault("shift", torch.zeros_like(gradient))
        compressor = observed(bound(self._compressor, context))
        difference = compressor.compress(gradient - shift, generator=context.generator)
        difference.add_to(shift, weight=self._weights(context, len(shift)).shift)
        return Message({"difference": difference})

    def _gradient(self, at: Tensor, oracle: Oracle, context: Context) -> Tensor:
        """Return an estimate of the gradient of f_i, shape (d,); not modified."""
        return oracle.gradient(at, oracle.sample())


class ReferringWorker(ShiftedWorker):
    """Remembers the "reference" w and the "gradient" of f_i there besides.

    Args:
        compressor: see ``ShiftedWorker``.
        weights: see there.
        refresh: the probability that w <- x at the end of a round, by a coin that all toss alike.
    """

    def __init__(self, compressor: Compressor, weights: WeightRule, refresh: float) -> None:
        super().__init__(compressor, weights)
        self._refresh = refresh

    def _gradient(self, at: Tensor, oracle: Oracle, context: Context) -> Tensor:
        """Return grad f_ij(x) - grad f_ij(w) + grad f_i(w), w being x in the first round."""
        if "reference" not in self.memory:
            return self._refer(at, oracle)
        batch = oracle.sample()
        estimate = oracle.gradient(at, batch).clone()
        estimate.sub_(oracle.gradient(self.memory["reference"], batch))
        estimate.add_(self.memory["gradient"])
        if shared_coin(context, "reference", self._refresh):
            self._refer(at, oracle)
        return estimate

    def _refer(self, at: Tensor, oracle: Oracle) -> Tensor:
        gradient = oracle.gradient(at, oracle.full()).clone()
        self.memory |= {"reference": at.clone(), "gradient": gradient}
        return gradient


class ShiftedServer(Half):
    """Remembers the average h of the workers' shifts, "shift"."""

    def __init__(self, parameters: Tensor, weights: WeightRule) -> None:
        super().__init__()
        self._parameters = parameters
        self._weights = weights
        self._average = torch.zeros_like(parameters)
        self._estimate = torch.zeros_like(parameters)
        self.memory = {"shift": torch.zeros_like(parameters)}

    def news(self, *, context: Context) -> Message:
        """Return the parameters."""
        return Message({"parameters": DensePayload(self._parameters)})

    def step(self, reports: Mapping[int, Message], *, context: Context) -> Tensor:
        """Return the estimate g, and move the average shift."""
        set_to_average(self._average, reports, "difference", among=context.num_workers)
        weights = self._weights(context, len(self._average))
        shift = self.memory["shift"]
        torch.add(shift, self._average, alpha=weights.estimate, out=self._estimate)
        shift.add_(self._average, alpha=weights.shift)
        return self._estimate
