"""Scaffnew and CompressedScaffnew: local steps that a control on each worker keeps from drifting.

A round is one communication. Everyone draws the number K of local steps from the shared seed, with
P(K = k) = p (1 - p)^(k - 1), so after each step there is a communication with probability p. From
the broadcast x worker i takes K steps

    x_i <- x_i - gamma (g_i(x_i) - h_i)

and sends x_i, or some entries of it; the server averages entry by entry. With the next broadcast
the worker learns the new x, and on the entries that it sent h_i <- h_i + (p chi / gamma) (x - x_i).
The h_i tend to grad f_i(x*), so x tends to the optimum where local SGD does not.
"""

import math
from abc import abstractmethod
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from torch import Tensor

from mlmc_ray.methods.base import Facts, Method
from mlmc_ray.methods.local.controlled import AveragingServer, ControlledWorker
from mlmc_ray.methods.local.entry_sharing import EntrySharing
from mlmc_ray.methods.theory import Setting, StepSize, for_full_gradients

Number = float | Literal["theory"]


@dataclass(frozen=True, kw_only=True, slots=True)
class ControlledSteps(Method):
    """What methods of local steps under a control have in common: their two numbers.

    Attributes:
        step_size: gamma.
        probability: p.
    """

    step_size: Number = "theory"
    probability: Number = "theory"

    moves_parameters: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.step_size != "theory" and not 0 < self.step_size < math.inf:
            raise ValueError(f'step_size is {self.step_size!r}: give a number above 0, or "theory"')
        if self.probability != "theory" and not 0 < self.probability <= 1:
            raise ValueError(
                f"probability is {self.probability!r}: give a number above 0 and at most 1, or "
                '"theory"'
            )

    @property
    @abstractmethod
    def sharing(self) -> EntrySharing:
        """Who sends which entries."""

    def theory(self, setting: Setting) -> StepSize:
        """2 / (L_max + mu_min), or the step size that is given; says the probability too."""
        step_size, probability = self._numbers(setting)
        constants = setting.constants
        shrinking = max(
            (1 - step_size * constants.least_convexity) ** 2,
            (1 - step_size * constants.largest_smoothness) ** 2,
            1 - probability**2 * self.sharing.contraction(setting.num_workers),
        )
        formula = "2 / (L_max + mu_min)" if self.step_size == "theory" else "as given"
        step = StepSize(
            step_size,
            f"{formula}, with probability {probability:.4g}",
            f"the mean squared distance to x* and of the controls shrinks by {shrinking:.6g} a "
            "local step",
        )
        return for_full_gradients(step, setting)

    def with_theory(self, setting: Setting) -> Method:
        """Return the method with numbers where its settings say "theory".

        Raises:
            ValueError: one of the workers' functions is not known to be strongly convex, or the
                step size that is given is too long for them.
        """
        if "theory" not in (self.step_size, self.probability):
            return self
        step_size, probability = self._numbers(setting)
        return replace(self, step_size=step_size, probability=probability)

    def worker(self) -> ControlledWorker:
        """Make the half of one worker."""
        return ControlledWorker(self.sharing, *self._known())

    def server(self, parameters: Tensor) -> AveragingServer:
        """Make the server's half."""
        return AveragingServer(self.sharing, parameters)

    def _known(self) -> tuple[float, float]:
        """Return gamma and p, once they are numbers."""
        step_size, probability = self.step_size, self.probability
        if step_size == "theory" or probability == "theory":
            name = "step_size" if step_size == "theory" else "probability"
            raise ValueError(f'{name} is "theory": put in a number first, by with_theory')
        return step_size, probability

    def _numbers(self, setting: Setting) -> tuple[float, float]:
        """Return gamma and p."""
        constants = setting.constants
        convexity, smoothness = constants.least_convexity, constants.largest_smoothness
        if not convexity:
            raise ValueError(
                "every worker's own function must be strongly convex, and that is not known here: "
                "give step_size and probability"
            )
        step_size, probability = self.step_size, self.probability
        if step_size == "theory":
            step_size = 2 / (smoothness + convexity)
        if step_size >= 2 / smoothness:
            raise ValueError(
                f"step_size is {step_size!r}: give less than {2 / smoothness:.6g}, 2 / L of the "
                "most curved of the workers' functions"
            )
        if probability == "theory":
            rate = max(0.0, 1 - (1 - step_size * convexity) ** 2)
            contraction = self.sharing.contraction(setting.num_workers)
            probability = math.sqrt(min(1.0, rate / contraction))
        return step_size, probability


@dataclass(frozen=True, kw_only=True, slots=True)
class Scaffnew(ControlledSteps):
    """ProxSkip for consensus: x is the average of the x_i, and every worker sends all of its x_i.

    From x worker i takes K steps x_i <- x_i - gamma (g_i(x_i) - h_i), K geometric with mean 1/p;
    then x is the average of the x_i, and h_i <- h_i + (p / gamma) (x - x_i). With p = 1 it is
    gradient descent.

    With l1 = a above 0 it minimises f + R, R(x) = a |x|_1. In the space of all workers' x_i that is
    the sum of the f_i(x_i), and M R(x) where all of them equal one x. The proximal step of the
    latter is that of R at the average: worker i sends z_i = x_i - (gamma / p) h_i, and

        x = prox_{(gamma / p) R}(average of the z_i);  h_i <- (p / gamma) (x - z_i)

    which is h_i + (p / gamma) (x - x_i) as before. The h_i then sum to -M times a subgradient of
    R. With one worker it is ProxSkip. A proximal step contracts as an average does, so step size,
    probability and rate are the same.

    Args:
        step_size: gamma, below 2/L; "theory" for 2 / (L + mu), L and mu being the largest L_i and
            the least mu_i.
        probability: p in (0, 1], of a communication after a local step; "theory" for the largest
            that does not slow down the local steps, sqrt(1 - (1 - gamma mu)^2), about 2/sqrt(L/mu).
        l1: a, at least 0. The problem's own measures leave R out.

    References:
        Mishchenko, Malinovsky, Stich and Richtarik, 2022, arXiv:2202.09357, algorithms 1 and 2.
    """

    l1: float = 0.0

    facts: ClassVar[Facts] = Facts(
        compressor="none",
        uplink="d",
        downlink="d",
        reports=("entries",),
        worker_memory="2 d",
        guarantee="linear for strongly convex f_i and full gradients, in sqrt(L/mu) log(1/eps) "
        "rounds",
        reference="Mishchenko et al., 2022, arXiv:2202.09357",
    )

    def __post_init__(self) -> None:
        ControlledSteps.__post_init__(self)
        if not 0 <= self.l1 < math.inf:
            raise ValueError(f"l1 is {self.l1!r}: give the weight of an l1 norm, at least 0")

    def same_memory(self, other: Method) -> bool:
        """Return whether the controls mean the same: with l1 their sum is not 0, without it is."""
        same = Method.same_memory(self, other)
        return same and isinstance(other, Scaffnew) and self.l1 == other.l1

    @property
    def sharing(self) -> EntrySharing:
        """Who sends which entries: everyone all of them."""
        return EntrySharing()

    def worker(self) -> ControlledWorker:
        """Make the half of one worker."""
        return ControlledWorker(self.sharing, *self._known(), proximal=self.l1 > 0)

    def server(self, parameters: Tensor) -> AveragingServer:
        """Make the server's half."""
        step_size, probability = self._known()
        return AveragingServer(self.sharing, parameters, self.l1 * step_size / probability)


@dataclass(frozen=True, kw_only=True, slots=True)
class CompressedScaffnew(ControlledSteps):
    """Scaffnew, of which each entry is sent by s workers only, drawn anew every round.

    From x worker i takes K steps x_i <- x_i - gamma (g_i(x_i) - h_i), K geometric with mean 1/p,
    and sends s d / M entries of x_i, without indices: everyone knows them from the shared seed.
    Entry k of x is then the average of the s values sent of it, and on the entries that it sent
    worker i sets h_i <- h_i + (p chi / gamma) (x - x_i). With s = M it is Scaffnew.

    Args:
        step_size: gamma, below 2/L; "theory" for 2 / (L + mu), L and mu being the largest L_i and
            the least mu_i.
        probability: p in (0, 1], of a communication after a local step; "theory" for the largest
            that does not slow down the local steps.
        senders: s, 2 to M. For the least traffic to the server: 2, or M / d where that is more.
        damping: chi, above 0 and at most nu = M (s - 1) / (s (M - 1)); None for nu.

    References:
        Condat, Agarsky and Richtarik, 2022, arXiv:2210.13277.
    """

    senders: int = 2
    damping: float | None = None

    facts: ClassVar[Facts] = Facts(
        compressor="none",
        uplink="s d / M",
        downlink="d",
        reports=("entries",),
        worker_memory="d + s d / M",
        guarantee="linear for strongly convex f_i and full gradients",
        reference="Condat et al., 2022, arXiv:2210.13277",
    )

    def __post_init__(self) -> None:
        ControlledSteps.__post_init__(self)
        _ = self.sharing  # checks the rest

    @property
    def sharing(self) -> EntrySharing:
        """Who sends which entries."""
        return EntrySharing(senders=self.senders, damping=self.damping)
