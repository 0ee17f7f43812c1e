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
from mlmc_ray.methods.asynchronous.equilibrium import Plan, plan_for
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
_RESTED = 0.9  # a worker that rests is taken to have become so much faster, and is tried again
_NAMES = ("compute_s", "message_s")


@dataclass(frozen=True, kw_only=True, slots=True)
class AdaptiveShadowheart(Method):
    """Shadowheart SGD whose h_i and tau_i are moving averages of what was measured.

    A worker reports the seconds h of a gradient by its own clock. The server sees how long the
    worker took from its news to its report, the wire included, and what is left of that after the
    gradients, shared out over the messages, is tau. Every round has a plan of its own:

        h_i <- (1 - pull) h_i + pull h,   tau_i <- (1 - pull) tau_i + pull (elapsed - b_i h) / m_i

    In the first round every worker is asked for one gradient and one message; one that joins later
    is taken to be like the others on average. One that has no time for either rests, and its h_i
    and tau_i shrink by a tenth a round, so that it is tried again. Numbers are chosen before the
    draws of their round, so the estimate is unbiased whatever the clocks say. No two runs are the
    same.

    Args:
        compressor: see ``Shadowheart``.
        noise: see ``Shadowheart``.
        omega: see ``Shadowheart``.
        max_messages: see ``Shadowheart``.
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
        server_memory="2 M",
        guarantee="that of shadowheart where the measured times are the true ones; unbiased always",
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
    """Remembers "compute_s" and "message_s" of every worker, shape (M,); NaN is not known."""

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
        if self._open is None:
            compute_s, message_s = (self._known(name, context) for name in _NAMES)
            self._open = _plan_of(compute_s, message_s, self._omega(context), self._method)
        return self._open

    def _known(self, name: str, context: Context) -> Tensor:
        """Return the seconds of every worker, NaN where they are not known."""
        known = self.memory.get(name, torch.empty(0, dtype=torch.float64))
        missing = torch.full((max(0, context.num_workers - len(known)),), math.nan)
        self.memory[name] = torch.cat((known[: context.num_workers], missing.double()))
        return self.memory[name]

    def _learn(self, computed: Mapping[int, float], plan: Plan) -> None:
        """Move the averages by what was measured, and let those that rested be faster."""
        memory, pull = self.memory, self._method.pull
        active = set(plan.active)
        for worker_id in range(len(plan.gradients)):
            if worker_id not in active:
                for name in _NAMES:
                    memory[name][worker_id] *= _RESTED
            elif worker_id in self._elapsed_s:
                gradients, messages = plan.gradients[worker_id], plan.messages[worker_id]
                left = self._elapsed_s[worker_id] - gradients * computed[worker_id]
                for name, new in zip(_NAMES, (computed[worker_id], left / messages), strict=True):
                    new, old = max(new, _LEAST_S), memory[name][worker_id]
                    memory[name][worker_id] = new if old.isnan() else old + pull * (new - old)


def _plan_of(
    compute_s: Tensor, message_s: Tensor, omega: float, method: AdaptiveShadowheart
) -> Plan:
    """Return the plan for what is known; newcomers are taken to be like the others on average."""
    if message_s.isnan().all():
        ones = (1,) * len(message_s)
        return Plan(equilibrium_s=0.0, gradients=ones, messages=ones, weights=(1.0,) * len(ones))
    compute_s, message_s = (
        torch.where(seconds.isnan(), seconds.nanmean(), seconds)
        for seconds in (compute_s, message_s)
    )
    times = tuple(compute_s.tolist()), tuple(message_s.tolist())
    return plan_for(*times, omega, method.noise, method.max_messages)


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
