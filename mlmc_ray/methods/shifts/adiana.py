"""ADIANA: DIANA with Nesterov's acceleration.

References:
    Li, Kovalev, Qian and Richtarik, 2020, arXiv:2002.11364.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from torch import Tensor

from mlmc_ray.compressors.base import Compressor, Context, PaperCost, bound
from mlmc_ray.methods.base import Facts, Half, Method, Oracle, Progress, ServerHalf, WorkerHalf
from mlmc_ray.methods.checks import require_unbiased
from mlmc_ray.methods.reports import add_average, payload_of, payloads_of
from mlmc_ray.methods.shared_draws import shared_coin
from mlmc_ray.methods.shifts.adiana_numbers import Numbers, original_numbers, refined_numbers
from mlmc_ray.methods.theory import (
    Setting,
    StepSize,
    averaging_in_words,
    effective_workers,
    for_full_gradients,
    omega_in,
)
from mlmc_ray.observing import observed
from mlmc_ray.payloads import DensePayload, Message

_NUMBERS = {"original": original_numbers, "refined": refined_numbers}


@dataclass(frozen=True, kw_only=True, slots=True)
class ADIANA(Method):
    """Accelerated DIANA, for strongly convex f and unbiased compressors; it takes its own steps.

    The server keeps the points y (the parameters), z and the anchor w; worker i keeps a shift h_i,
    0 at first, and h is their average. In a round, with x = theta_1 z + theta_2 w + (1 - theta_1 -
    theta_2) y,

        send m_i = C(grad f_i(x) - h_i) and c_i = C(grad f_i(w) - h_i)
        g = h + average of the m_i
        h_i <- h_i + c_i / (1 + omega);  h <- h + (average of the c_i) / (1 + omega)
        y' = x - eta g;  z <- beta z + (1 - beta) x - gamma g
        w <- y with probability p ("original"), w <- y' with probability p ("refined");  y <- y'

    All points start at the first parameters. It needs fewer rounds than DIANA where the condition
    number kappa is large; more where it is small. Measured with half of the entries sent, 1, 2 and
    4 workers and the constants of theory: two to three times as many at kappa = 30, as many between
    100 and 300, and a third to a half as many at 1000.

    Args:
        compressor: unbiased; workers draw independently, or share out the entries with PermK.
        smoothness: L, of every f_i; or "theory", the largest L_i.
        strong_convexity: mu of f, above 0; or "theory".
        numbers: how eta, gamma, beta, theta_1, theta_2 and p follow from L, mu, omega and M: as in
            the paper, or as in a later implementation (``refined_numbers``).

    References:
        Li, Kovalev, Qian and Richtarik, 2020, arXiv:2002.11364, algorithm 2.
    """

    compressor: Compressor
    smoothness: float | Literal["theory"] = "theory"
    strong_convexity: float | Literal["theory"] = "theory"
    numbers: Literal["original", "refined"] = "original"

    moves_parameters: ClassVar[bool] = True
    facts: ClassVar[Facts] = Facts(
        compressor="unbiased",
        uplink="2 C",
        downlink="2 d",
        news=("point", "anchor"),
        reports=("at_point", "at_anchor"),
        worker_memory="d",
        server_memory="3 d",
        guarantee="linear for convex f_i, a strongly convex f and full gradients, of order "
        "omega (1 + sqrt(kappa / M)) rounds a digit where M <= omega",
        reference="Li et al., 2020, arXiv:2002.11364",
    )

    def __post_init__(self) -> None:
        require_unbiased("adiana", self.compressor)
        if self.numbers not in _NUMBERS:
            raise ValueError(f"numbers is {self.numbers!r}: give one of {sorted(_NUMBERS)}")
        for name in ("smoothness", "strong_convexity"):
            value = getattr(self, name)
            if value != "theory" and not (isinstance(value, float | int) and 0 < value < math.inf):
                raise ValueError(f'{name} is {value!r}: give a number above 0, or "theory"')
        if "theory" not in (self.smoothness, self.strong_convexity):
            self._check_order()

    def theory(self, setting: Setting) -> StepSize:
        """min(1 / (2 L_max), M / (64 omega L_max (2 p (omega + 1) + 1)^2)).

        With numbers: refined, M theta_2 / (120 omega L_max), theta_2 = 1 / (3 M^1/2 + 3 M / omega).

        Raises:
            ValueError: f is not strongly convex, an f_i is not convex, or no omega is known.
        """
        resolved = self.with_theory(setting)
        omega, num_workers = setting.omega(self.compressor), setting.num_workers
        workers = effective_workers(self.compressor, num_workers, setting.dim)
        numbers = resolved.numbers_for(omega, workers)
        formulas = {
            "original": "min(1 / (2 smoothness), "
            "M / (64 omega smoothness (2 p (omega + 1) + 1)^2))",
            "refined": "M theta_2 / (120 omega smoothness), theta_2 = 1 / (3 M^1/2 + 3 M / omega)",
        }
        step = StepSize(
            numbers.step_size,
            formulas[self.numbers] + averaging_in_words(self.compressor),
            "linear, for convex f_i and an f that is strongly convex",
        )
        return for_full_gradients(step, setting)

    def with_theory(self, setting: Setting) -> "ADIANA":
        """Return the method with the constants of the problem where its settings say "theory".

        Raises:
            ValueError: f is not strongly convex, or an f_i is not convex.
        """
        setting.require_convex("adiana")
        smoothness, convexity = self.smoothness, self.strong_convexity
        if smoothness == "theory":
            smoothness = setting.constants.largest_smoothness
        if convexity == "theory":
            convexity = setting.constants.strong_convexity
            if not convexity:
                raise ValueError(
                    "adiana needs a strongly convex problem, and its constant is not known: give "
                    "strong_convexity a number, such as the weight of an l2 penalty"
                )
        return replace(self, smoothness=smoothness, strong_convexity=convexity)

    def worker(self) -> WorkerHalf:
        """Make the half of one worker."""
        return _Worker(self.compressor)

    def server(self, parameters: Tensor) -> ServerHalf:
        """Make the server's half."""
        return _Server(self, parameters)

    def paper_cost(self, dim: int) -> PaperCost | None:
        """Twice the compressor's."""
        cost = self.compressor.paper_cost(dim)
        return None if cost is None else PaperCost(f"2 ({cost.formula})", 2 * cost.bits)

    def numbers_for(self, omega: float, workers: float) -> Numbers:
        """Return the parameters that follow from L, mu, omega and M.

        Args:
            omega: of the compressor.
            workers: M, or the N of ``effective_workers``.

        Raises:
            ValueError: L or mu is still "theory".
        """
        if self.smoothness == "theory" or self.strong_convexity == "theory":
            raise ValueError(
                f"smoothness is {self.smoothness!r} and strong_convexity is "
                f"{self.strong_convexity!r}: give numbers, or call with_theory"
            )
        rule = _NUMBERS[self.numbers]
        return rule(self.smoothness, self.strong_convexity, omega, workers)

    def _check_order(self) -> None:
        if float(self.strong_convexity) > float(self.smoothness):
            raise ValueError(
                f"strong_convexity is {self.strong_convexity!r} and smoothness is "
                f"{self.smoothness!r}: give a strong_convexity of at most the smoothness"
            )


class _Worker(Half):
    """Remembers the "shift" h_i from the first round on."""

    def __init__(self, compressor: Compressor) -> None:
        super().__init__()
        self._compressor = compressor

    def step(self, news: Message, oracle: Oracle, *, context: Context) -> Message:
        batch = oracle.sample()
        gradient = oracle.gradient(payload_of(news, "point").to_dense(), batch)
        if not self.memory:
            self.memory = {"shift": torch.zeros_like(gradient)}
        shift = self.memory["shift"]
        compressor = observed(bound(self._compressor, context))
        at_point = compressor.compress(gradient - shift, generator=context.generator)
        gradient = oracle.gradient(payload_of(news, "anchor", len(shift)).to_dense(), batch)
        at_anchor = compressor.compress(gradient - shift, generator=context.generator)
        at_anchor.add_to(shift, weight=1 / (1 + omega_in(self._compressor, context, len(shift))))
        return Message({"at_point": at_point, "at_anchor": at_anchor})


class _Server(Half):
    """Remembers z, the "anchor" w and the average shift h; the parameters are y."""

    def __init__(self, method: ADIANA, parameters: Tensor) -> None:
        super().__init__()
        self._method = method
        self._parameters = parameters
        self.memory = {
            "z": parameters.clone(),
            "anchor": parameters.clone(),
            "shift": torch.zeros_like(parameters),
        }

    def news(self, *, context: Context) -> Message:
        numbers, _ = self._numbers(context)
        return Message(
            {
                "point": DensePayload(self._point(numbers)),
                "anchor": DensePayload(self.memory["anchor"]),
            }
        )

    def step(self, reports: Mapping[int, Message], *, context: Context) -> Progress:
        y, shift = self._parameters, self.memory["shift"]
        payloads_of(reports, "at_anchor", len(y))  # refuse them before anything changes
        numbers, shift_step = self._numbers(context)
        estimate = shift.clone()
        add_average(estimate, reports, "at_point")
        learned = torch.zeros_like(y)
        add_average(learned, reports, "at_anchor")
        shift.add_(learned, alpha=shift_step)
        self._move(numbers, estimate, shared_coin(context, "anchor", numbers.anchor_probability))
        return Progress.MOVED

    def _move(self, numbers: Numbers, estimate: Tensor, anchors: bool) -> None:
        y, z = self._parameters, self.memory["z"]
        point = self._point(numbers)
        if anchors and self._method.numbers == "original":
            self.memory["anchor"].copy_(y)
        z.lerp_(point, 1 - numbers.memory).sub_(estimate, alpha=numbers.long_step)
        torch.sub(point, estimate, alpha=numbers.step_size, out=y)
        if anchors and self._method.numbers == "refined":
            self.memory["anchor"].copy_(y)

    def _point(self, numbers: Numbers) -> Tensor:
        """Return x, from z, w and y."""
        rest = 1 - numbers.momentum - numbers.anchoring
        point = self._parameters * rest
        point.add_(self.memory["z"], alpha=numbers.momentum)
        return point.add_(self.memory["anchor"], alpha=numbers.anchoring)

    def _numbers(self, context: Context) -> tuple[Numbers, float]:
        """Return the parameters, and the step 1 / (1 + omega) of the shifts."""
        compressor, dim = self._method.compressor, len(self._parameters)
        omega = omega_in(compressor, context, dim)
        workers = effective_workers(compressor, context.num_workers, dim)
        return self._method.numbers_for(omega, workers), 1 / (1 + omega)
