"""Shadowheart SGD: every worker computes and sends as much as fits into one and the same time.

References:
    Tyurin, Pozzi, Ilin and Richtarik, 2024, arXiv:2402.04785.
"""

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from mlmc_ray.compressors.base import Compressor, Context, bound
from mlmc_ray.compressors.wrappers.named import named
from mlmc_ray.methods.asynchronous.equilibrium import MOST_GRADIENTS, Plan, plan_for
from mlmc_ray.methods.base import Facts, Half, Method, Oracle, ServerHalf, WorkerHalf
from mlmc_ray.methods.checks import require_unbiased, whole
from mlmc_ray.methods.reports import payload_of, payloads_of
from mlmc_ray.methods.theory import Setting, StepSize
from mlmc_ray.observing import observed
from mlmc_ray.payloads import DensePayload, Message
from mlmc_ray.payloads.nested import SumPayload

Seconds = float | tuple[float, ...]
"""One number for all workers, or one for each."""

MOST_MESSAGES = 4096
"""In one report."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Shadowheart(Method):
    """Batches and numbers of messages that fit every worker's speed; for one f that all share.

    Worker i needs h_i seconds a stochastic gradient and tau_i seconds a compressed message. A round
    lasts t* seconds for computing and t* for sending: b_i = floor(t* / h_i) gradients, whose sum
    G_i is sent in m_i = floor(t* / tau_i) independent compressions; who manages none of either
    rests. With the noise n = sigma^2 / epsilon of a gradient,

        w_i = 1 / (b_i omega + omega n + m_i n)          (1 where omega = n = 0)
        g   = sum_i w_i sum_j C_ij(G_i) / sum_i w_i m_i b_i

    and E|g - grad f|^2 <= max(|grad f|^2, epsilon) / sum_i w_i m_i b_i, where t* makes the
    denominator at least 1.

    Args:
        compressor: unbiased; with omega = 0 one message says all, and more are not sent.
        compute_s: h_i, seconds a gradient, above 0.
        message_s: tau_i, seconds a compressed message, above 0.
        noise: n = sigma^2 / epsilon, at least 0: the variance of a gradient, in units of the
            |grad f|^2 that is wanted.
        omega: of the compressor; by default its own bound.
        max_messages: never send more than so many, which may cost some of the guarantee; for
            rand-k more than d / k are dearer than the vector itself.

    References:
        Tyurin, Pozzi, Ilin and Richtarik, 2024, arXiv:2402.04785.
    """

    compressor: Compressor
    compute_s: Seconds
    message_s: Seconds
    noise: float
    omega: float | None = None
    max_messages: int = MOST_MESSAGES

    facts: ClassVar[Facts] = Facts(
        compressor="unbiased",
        uplink="m_i C",
        downlink="d and two numbers",
        news=("parameters", "gradients", "messages"),
        reports=("sum",),
        guarantee="for workers that share one f, a mean of |grad f|^2 of epsilon after "
        "8 L (f(x0) - inf f) / epsilon rounds of 2 t* seconds",
        reference="Tyurin et al., 2024, arXiv:2402.04785",
    )

    def __post_init__(self) -> None:
        check_settings("shadowheart", self.compressor, self.noise, self.omega, self.max_messages)
        for name in ("compute_s", "message_s"):
            seconds = getattr(self, name)
            each = seconds if isinstance(seconds, tuple) else (seconds,)
            if not each or not all(0 < value < math.inf for value in each):
                raise ValueError(
                    f"{name} is {seconds!r}: give seconds above 0, one number or one a worker"
                )

    def theory(self, setting: Setting) -> StepSize:
        """1 / (2 L)."""
        return step_size_for(setting)

    def plan(self, num_workers: int, omega: float) -> Plan:
        """Return what every worker is to do in a round, for a compressor of that ``omega``.

        Raises:
            ValueError: ``compute_s`` or ``message_s`` is for another number of workers.
        """
        return plan_for(
            _each("compute_s", self.compute_s, num_workers),
            _each("message_s", self.message_s, num_workers),
            omega,
            self.noise,
            self.max_messages,
        )

    def worker(self) -> WorkerHalf:
        """Make the half of one worker."""
        return ShadowheartWorker(self.compressor)

    def server(self, parameters: Tensor) -> ServerHalf:
        """Make the server's half."""
        return _Server(self, parameters)


def check_settings(
    name: str, compressor: Compressor, noise: float, omega: float | None, max_messages: int
) -> None:
    """Refuse settings of a method that is called ``name``; see ``Shadowheart``.

    Raises:
        ValueError: names the setting and quotes its value.
    """
    require_unbiased(name, compressor)
    for key, value in (("noise", noise), ("omega", omega)):
        if value is not None and not 0 <= value < math.inf:
            raise ValueError(f"{key} is {value!r}: give a number of at least 0")
    if not 1 <= max_messages <= MOST_MESSAGES:
        raise ValueError(f"max_messages is {max_messages!r}: give 1 to {MOST_MESSAGES}")


def step_size_for(setting: Setting) -> StepSize:
    """Return the step size 1 / (2 L), and what it promises."""
    return StepSize(
        1 / (2 * setting.constants.smoothness),
        "1 / (2 L)",
        "the mean of E|grad f|^2 over 8 L (f(x0) - inf f) / epsilon rounds is at most epsilon, "
        "where all workers share one f and gradients have no more than the noise that is set",
    )


def _each(name: str, seconds: Seconds, num_workers: int) -> tuple[float, ...]:
    each = seconds if isinstance(seconds, tuple) else (seconds,) * num_workers
    if len(each) != num_workers:
        raise ValueError(
            f"{name} has {len(each)} numbers, and there are {num_workers} workers: give one for "
            "each, or one number for all"
        )
    return each


class ShadowheartWorker(Half):
    """Sends several compressions of a sum of gradients.

    Args:
        compressor: of the method.
        timed: also report "compute_s", the seconds that a gradient took.
    """

    def __init__(self, compressor: Compressor, *, timed: bool = False) -> None:
        super().__init__()
        self._compressor = compressor
        self._timed = timed

    def step(self, news: Message, oracle: Oracle, *, context: Context) -> Message:
        """Answer the server's news with a report."""
        num_gradients = whole(news.scalars, "gradients", 1, MOST_GRADIENTS)
        num_messages = whole(news.scalars, "messages", 1, MOST_MESSAGES)
        at = payload_of(news, "parameters").to_dense()
        total = torch.zeros_like(at)
        started = time.perf_counter()
        for _ in range(num_gradients):
            total += oracle.gradient(at, oracle.sample())
        compute_s = (time.perf_counter() - started) / num_gradients
        parts = []
        for index in range(num_messages):
            compressor = observed(bound(self._compressor, named(context, "message", index)))
            parts.append(compressor.compress(total, generator=context.generator))
        scalars = {"compute_s": compute_s} if self._timed else {}
        return Message({"sum": SumPayload(tuple(parts))}, scalars)


class ShadowheartServer(Half, ABC):
    """Tells every worker its numbers, and weighs what comes back.

    Args:
        parameters: shape (d,); the server's own.
        compressor: of the method.
        omega: of the compressor; None for its own bound.
    """

    def __init__(self, parameters: Tensor, compressor: Compressor, omega: float | None) -> None:
        super().__init__()
        self._compressor = compressor
        self._given_omega = omega
        self._parameters = parameters
        self._estimate = torch.zeros_like(parameters)

    def news(self, *, context: Context) -> dict[int, Message]:
        """Return what workers need for a round: the parameters, and their numbers."""
        plan = self._plan(context)
        parameters = {"parameters": DensePayload(self._parameters)}
        made: dict[tuple[int, int], Message] = {}
        news = {}
        for worker_id in plan.active:
            key = (plan.gradients[worker_id], plan.messages[worker_id])
            scalars = {"gradients": float(key[0]), "messages": float(key[1])}
            news[worker_id] = made.setdefault(key, Message(parameters, scalars))
        return news

    def step(self, reports: Mapping[int, Message], *, context: Context) -> Tensor:
        """Return the estimate of reports."""
        plan = self._plan(context)
        total = plan.total
        self._estimate.zero_()
        for worker_id, payload in payloads_of(reports, "sum", len(self._parameters)).items():
            payload.add_to(self._estimate, plan.weights[worker_id] / total)
        return self._estimate

    @abstractmethod
    def _plan(self, context: Context) -> Plan:
        """Return what the workers are to do in the open round."""

    def _omega(self, context: Context) -> float:
        """Return the compressor's omega."""
        omega = self._given_omega
        if omega is None:
            worker = replace(context, worker_id=0)  # omega is the same for all
            omega = bound(self._compressor, worker).omega(len(self._parameters))
        if omega is None:
            raise ValueError(
                f"no omega is known of {self._compressor}: give method.omega, a bound of "
                "its variance"
            )
        return omega


class _Server(ShadowheartServer):
    def __init__(self, method: Shadowheart, parameters: Tensor) -> None:
        super().__init__(parameters, method.compressor, method.omega)
        self._method = method

    def _plan(self, context: Context) -> Plan:
        return self._method.plan(context.num_workers, self._omega(context))
