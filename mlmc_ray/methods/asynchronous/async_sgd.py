"""Asynchronous SGD: the server acts on every report as it comes, and nobody waits for the slowest.

References:
    Recht, Re, Wright and Niu, 2011, arXiv:1106.5730 (Hogwild);
    Ho et al., 2013, "More effective distributed ML via a stale synchronous parallel parameter
    server".
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor

from mlmc_ray.compressors.base import Compressor
from mlmc_ray.compressors.identity import Identity
from mlmc_ray.methods.asynchronous.arrivals import ArrivalServer, ArrivalWorker
from mlmc_ray.methods.base import Facts, OneCompressed, Progress, ServerHalf, WorkerHalf
from mlmc_ray.methods.checks import require_unbiased
from mlmc_ray.methods.theory import Setting, StepSize, for_full_gradients
from mlmc_ray.payloads import Payload

Policy = Literal["apply", "drop", "damp", "damp-cap", "ssp"]


@dataclass(frozen=True, kw_only=True, slots=True)
class AsyncSGD(OneCompressed):
    """x <- x - step weight C(gradient), for every report as it arrives.

    The age of a report is the number of steps that the server has taken since the worker got its
    parameters. With M workers the weight of a report is, by ``policy``,

        apply      1
        drop       1 up to an age of max_staleness, else the report is thrown away
        damp       1 / (1 + age)
        damp-cap   min(1, M / age)
        ssp        1, and a worker that is more than ``slack`` reports ahead of the slowest waits

    A report that is thrown away changes neither the parameters nor their version, so that the next
    report from the current version is always used. Where workers hold different data and differ in
    speed, the fast ones pull the solution towards theirs.

    With ``blocks`` above 1 the vector is cut into as many blocks, which have versions of their own,
    as where nobody locks the parameters (Hogwild): block b of an update lands b steps later than
    block 0, so that what a worker reads is of several versions.

    Args:
        compressor: any; a biased one need not converge.
        policy: see above.
        max_staleness: the largest age that ``drop`` uses; None for the number of workers.
        slack: for ``ssp``, at least 0; at 0 workers wait for each other after every report.
        blocks: at least 1.
    """

    compressor: Compressor = field(default_factory=Identity)
    policy: Policy = "apply"
    max_staleness: int | None = None
    slack: int | None = None
    blocks: int = 1

    theory_needs: ClassVar[str] = "exact gradients, policy apply, drop or ssp, and 1 block"
    asynchronous: ClassVar[bool] = True
    takes_any_device: ClassVar[bool] = True
    facts: ClassVar[Facts] = Facts(
        compressor="any",
        uplink="C and a version",
        downlink="d and a version",
        news=("parameters", "version"),
        reports=("gradient", "version"),
        server_memory="a few numbers a worker; with blocks, blocks d",
        guarantee="O(1/T) of |grad f|^2 for exact gradients of one f that all workers share and a "
        "step of 1 / (L (1 + age)) for the largest age; the damped policies have no proof",
        reference="Recht et al., 2011, arXiv:1106.5730; Ho et al., 2013 (ssp)",
    )

    def __post_init__(self) -> None:
        if self.policy not in get_args(Policy):
            raise ValueError(f"policy is {self.policy!r}: give one of {get_args(Policy)}")
        for name, policy in (("max_staleness", "drop"), ("slack", "ssp")):
            value = getattr(self, name)
            if value is not None and self.policy != policy:
                raise ValueError(
                    f"{name} is {value!r} and policy is {self.policy!r}: leave {name} out, or "
                    f"give policy: {policy}"
                )
            if value is not None and value < 0:
                raise ValueError(f"{name} is {value!r}: give 0 or more")
        if self.policy == "ssp" and self.slack is None:
            raise ValueError("policy is 'ssp': give slack, how many reports a worker may be ahead")
        if self.blocks < 1:
            raise ValueError(f"blocks is {self.blocks!r}: give at least 1")

    def theory(self, setting: Setting) -> StepSize:
        """1 / (L (1 + age)), with the largest age that the policy or the clock allows."""
        if self.blocks > 1 or self.policy.startswith("damp"):
            raise ValueError(
                f"policy is {self.policy!r} and blocks is {self.blocks!r}: a step size is known "
                "for apply, drop and ssp with 1 block; give a number"
            )
        require_unbiased("the theory of async-sgd", self.compressor)
        if setting.omega(self.compressor):
            raise ValueError(
                f"compressor is {self.compressor}: a step size is known for exact gradients; give "
                "a number, or compressor: identity"
            )
        others = setting.num_workers - 1
        age, why = _age_among(others, setting.largest_age)
        if self.policy == "drop":
            age = setting.num_workers if self.max_staleness is None else self.max_staleness
            why = "age being max_staleness"
        elif self.slack is not None:
            # Between a worker's start and its report each other one reports at most so often.
            age, why = others * (2 * self.slack + 1), "age being (M - 1) (2 slack + 1)"
        step = StepSize(
            1 / (setting.constants.smoothness * (1 + age)),
            "1 / (L (1 + age))",
            "the mean of |grad f|^2 over T steps is at most 2 (f(x0) - inf f) / (step T), for one "
            f"f that all share, {why}",
        )
        return for_full_gradients(step, setting)

    def worker(self) -> WorkerHalf:
        """Make the half of one worker."""
        return ArrivalWorker(self.compressor)

    def server(self, parameters: Tensor) -> ServerHalf:
        """Make the server's half."""
        return _AsyncServer(self, parameters)


def _age_among(others: int, largest: float | None) -> tuple[int, str]:
    """Return the largest age of a report among so many others, and why it is so."""
    if largest is not None and largest < math.inf:
        return int(largest), f"age being {largest:.0f}, the largest with this clock"
    why = "while no report is older than age = M - 1, "
    return others, why + (
        "as among equally fast workers" if largest is None else "which this clock does not ensure"
    )


class _AsyncServer(ArrivalServer):
    """Remembers, with blocks, what is "pending": row k is what lands k steps from now."""

    def __init__(self, method: AsyncSGD, parameters: Tensor) -> None:
        super().__init__(parameters)
        self._method = method
        if method.blocks > 1:
            self.memory["pending"] = parameters.new_zeros(method.blocks, len(parameters))

    def _may_start(self, sent: Tensor) -> Tensor:
        slack = self._method.slack
        return super()._may_start(sent) if slack is None else sent - sent.min() <= slack

    def _take(
        self, payloads: Mapping[int, Payload], ages: Mapping[int, int], num_workers: int
    ) -> Tensor | Progress:
        weights = {i: self._weight(age, num_workers) for i, age in ages.items()}
        if not any(weights.values()):
            return Progress.MORE
        self._estimate.zero_()
        for worker_id, payload in payloads.items():
            if weights[worker_id]:
                payload.add_to(self._estimate, weights[worker_id])
        if self._method.blocks > 1:
            self._delay_blocks()
        return self._estimate

    def _weight(self, age: int, num_workers: int) -> float:
        method = self._method
        if method.policy == "drop":
            largest = num_workers if method.max_staleness is None else method.max_staleness
            return float(age <= largest)
        if method.policy == "damp":
            return 1 / (1 + age)
        if method.policy == "damp-cap":
            return min(1.0, num_workers / max(1, age))
        return 1.0

    def _delay_blocks(self) -> None:
        """Put every block of the estimate off, and take what is due instead."""
        pending, blocks = self.memory["pending"], self._method.blocks
        for block, values in enumerate(torch.tensor_split(self._estimate, blocks)):
            torch.tensor_split(pending[block], blocks)[block].add_(values)
        self._estimate.copy_(pending[0])
        pending[0].zero_()
        self.memory["pending"] = pending.roll(-1, 0)
