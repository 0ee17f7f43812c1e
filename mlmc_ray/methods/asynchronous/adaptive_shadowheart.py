"""Shadowheart SGD for workers whose speed is not known: it is measured, round by round.

References:
    Tyurin, Pozzi, Ilin and Richtarik, 2024, arXiv:2402.04785.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from mlmc_ray.compressors.base import Compressor, Context
from mlmc_ray.methods.asynchronous.equilibrium import Plan, plan_for, weighted
from mlmc_ray.methods.asynchronous.shadowheart import (
    MOST_MESSAGES,
    ShadowheartServer,
    ShadowheartWorker,
    check_settings,
    step_size_for,
)
from mlmc_ray.methods.base import Facts, Method, ServerHalf, WorkerHalf
from mlmc_ray.methods.theory import Setting, StepSize
from mlmc_ray.payloads import Message

_LEAST_S = 1e-6  # a gradient or a message takes no less, whatever a clock says
_AVERAGES = ("compute_s", "message_s")
_COUNTS = ("rested_s", "gradients", "messages")
_MEMORY = (*_AVERAGES, *_COUNTS)


@dataclass(frozen=True, kw_only=True, slots=True)
class AdaptiveShadowheart(Method):
    """Shadowheart SGD whose h_i and tau_i are moving averages of what was measured.

    A worker reports the seconds h of a gradient by its own clock. The server sees how long the
    worker took from its news to its report, the wire included, and what is left of that after the
    gradients, shared out over the messages, is tau. Every round has a plan of its own:

        h_i <- (1 - pull) h_i + pull h,   tau_i <- (1 - pull) tau_i + pull (elapsed - b_i h) / m_i

    In the first round every worker is asked for one gradient and one message, and from one round to
    the next its numbers at most double. One that has no time for either rests, until the rounds
    without it have taken as long as it would; then it is asked for one gradient and one message
    again. Numbers are chosen before the draws of their round, so the estimate is unbiased whatever
    the clocks say. No two runs are the same. Where the wire is fast many messages are sent, which
    together may be as long as the vector: the method saves time, and ``max_messages`` bytes.

    Args:
        compressor: unbiased; with omega = 0 one message says all, and more are not sent.
        noise: n = sigma^2 / epsilon, at least 0: the variance of a gradient, in units of the
            |grad f|^2 that is wanted; 1 if nothing is known of it.
        omega: of the compressor; by default its own bound.
        max_messages: never send more than so many, which may cost some of the guarantee.
        pull: weight of the newest measurement, above 0 and at most 1.

    References:
        Tyurin, Pozzi, Ilin and Richtarik, 2024, arXiv:2402.04785; they plan with known times.
    """

    compressor: Compressor
    noise: float
    omega: float | None = None
    max_messages: int = MOST_MESSAGES
    pull: float = 0.3

    timed: ClassVar[bool] = True
    facts: ClassVar[Facts] = Facts(
        compressor="unbiased",
        uplink="m_i C and a number",
        downlink="d and two numbers",
        news=("parameters", "gradients", "messages"),
        reports=("sum", "compute_s"),
        server_memory="5 M",
        guarantee="that of shadowheart where the measured times are the true ones, and what is "
        "asked for has stopped doubling; unbiased for workers that share one f",
        reference="Tyurin et al., 2024, arXiv:2402.04785",
    )

    def __post_init__(self) -> None:
        check_settings(
            "adaptive-shadowheart", self.compressor, self.noise, self.omega, self.max_messages
        )
        if not 0 < self.pull <= 1:
            raise ValueError(f"pull is {self.pull!r}: give a number above 0 and at most 1")

    def theory(self, setting: Setting) -> StepSize:
        """1 / (2 L)."""
        return step_size_for(setting)

    def worker(self) -> WorkerHalf:
        """Make the half of one worker."""
        return ShadowheartWorker(self.compressor, timed=True)

    def server(self, parameters: Tensor) -> ServerHalf:
        """Make the server's half."""
        return _Server(self, parameters)


class _Server(ShadowheartServer):
    """Remembers of every worker, shape (M,), what the names in ``_MEMORY`` say.

    "compute_s" and "message_s" are NaN as long as they are not known. "rested_s" is how long
    rounds without the worker have taken, "gradients" and "messages" what it was asked for last.
    """

    def __init__(self, method: AdaptiveShadowheart, parameters: Tensor) -> None:
        super().__init__(parameters, method.compressor, method.omega)
        self._method = method
        self._open: Plan | None = None  # of the open round
        self._elapsed_s: dict[int, float] = {}  # of its workers

    def news(self, *, context: Context) -> dict[int, Message]:
        self._open, self._elapsed_s = None, {}
        return super().news(context=context)

    def took(self, elapsed_s: Mapping[int, float]) -> None:
        self._elapsed_s.update(elapsed_s)

    def step(self, reports: Mapping[int, Message], *, context: Context) -> Tensor:
        computed = {i: _seconds(i, report) for i, report in reports.items()}
        estimate = super().step(reports, context=context)
        self._learn(computed, self._plan(context))
        return estimate

    def _plan(self, context: Context) -> Plan:
        if not self.memory:
            known = torch.full((context.num_workers,), math.nan, dtype=torch.float64)
            self.memory = {name: known.clone() for name in _AVERAGES}
            self.memory |= {name: torch.zeros_like(known) for name in _COUNTS}
        if self._open is None:
            self._open = self._planned(self._omega(context))
        return self._open

    def _planned(self, omega: float) -> Plan:
        """Return a plan for what is known."""
        compute_s, message_s, rested_s, *asked = (self.memory[name].tolist() for name in _MEMORY)
        if any(map(math.isnan, (*compute_s, *message_s))):
            ones = (1,) * len(compute_s)
            return weighted(0.0, ones, ones, omega, self._method.noise)
        times = tuple(compute_s), tuple(message_s)
        plan = plan_for(*times, omega, self._method.noise, self._method.max_messages)
        gradients, messages = (
            [min(number, 2 * max(1, int(before))) for number, before in zip(*pair, strict=True)]
            for pair in zip((plan.gradients, plan.messages), asked, strict=True)
        )
        for worker_id in set(range(len(gradients))) - set(plan.active):
            due = rested_s[worker_id] >= max(compute_s[worker_id], message_s[worker_id])
            gradients[worker_id] = messages[worker_id] = int(due)
        numbers = tuple(gradients), tuple(messages)
        return weighted(plan.equilibrium_s, *numbers, omega, self._method.noise)

    def _learn(self, computed: Mapping[int, float], plan: Plan) -> None:
        """Move the averages by what was measured, and note what was asked for."""
        for worker_id, asked in enumerate(zip(plan.gradients, plan.messages, strict=True)):
            for name, number in zip(_COUNTS[1:], asked, strict=True):
                self.memory[name][worker_id] = number
            if not all(asked):
                self.memory["rested_s"][worker_id] += plan.equilibrium_s
                continue
            self.memory["rested_s"][worker_id] = 0
            if (elapsed_s := self._elapsed_s.get(worker_id)) is None:
                continue
            gradients, messages = asked
            compute_s = min(computed[worker_id], elapsed_s / gradients)
            message_s = (elapsed_s - gradients * compute_s) / messages
            for name, seconds in zip(_AVERAGES, (compute_s, message_s), strict=True):
                new, old = max(seconds, _LEAST_S), float(self.memory[name][worker_id])
                pulled = new if math.isnan(old) else old + self._method.pull * (new - old)
                self.memory[name][worker_id] = pulled


def _seconds(worker_id: int, report: Message) -> float:
    """Return the seconds of a gradient that a worker reports.

    Raises:
        ValueError: there are none.
    """
    seconds = report.scalars.get("compute_s")
    if seconds is None or not 0 <= seconds < math.inf:
        raise ValueError(
            f"report of worker {worker_id}: compute_s is {seconds!r}, expected seconds; server and "
            "workers must run the same method"
        )
    return seconds
