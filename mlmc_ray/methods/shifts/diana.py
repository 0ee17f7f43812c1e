"""DIANA and Rand-DIANA: unbiased compression of differences to a shift that is learned.

References:
    Mishchenko, Gorbunov, Takac and Richtarik, 2019, arXiv:1901.09269; Horvath et al., 2019,
    arXiv:1904.05115 (VR-DIANA); Shulgin and Richtarik, 2022, arXiv:2206.10452 (Rand-DIANA).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from mlmc_ray.compressors.base import Compressor, Context, bound
from mlmc_ray.methods.base import Facts, Half, Method, OneCompressed, Oracle, ServerHalf, WorkerHalf
from mlmc_ray.methods.checks import check_share, require_unbiased
from mlmc_ray.methods.reports import add_average, payload_of, payloads_of
from mlmc_ray.methods.shifts.differences import (
    ReferringWorker,
    ShiftedServer,
    ShiftedWorker,
    Weights,
    difference_step,
)
from mlmc_ray.methods.theory import (
    ON_BATCHES,
    Setting,
    StepSize,
    averaging_in_words,
    for_full_gradients,
    omega_in,
)
from mlmc_ray.observing import observed
from mlmc_ray.payloads import DensePayload, Message

_FORMULA = "1 / (L + 6 omega L_max / M)"


@dataclass(frozen=True, kw_only=True, slots=True)
class DIANA(OneCompressed):
    """DIANA; for unbiased compressors, MLMC included. Worker i keeps a shift h_i, 0 at first.

        send m_i = C(gradient - h_i);  h_i <- h_i + alpha m_i
        g = h + average of the m_i;    h <- h + alpha (average of the m_i)

    As h_i tends to the gradient of f_i at the optimum, the noise of compression vanishes. With
    ``refresh`` it is VR-DIANA, for minibatches j of a worker's examples: its gradient is

        grad f_ij(x) - grad f_ij(w_i) + grad f_i(w_i);  with probability refresh w_i <- x

    from w_i = x in the first round, so that the noise of minibatches vanishes as well. Where a
    round asks the share p of the workers, m_i is m_i / p for those and 0 for the others, a
    compressor of omega' = (1 + omega) / p - 1.

    Args:
        compressor: unbiased; workers draw independently, or share out the entries with PermK.
        shift_step: alpha, from 0 to 1; by default 1 / (1 + omega'). At 0 it is compressed SGD.
        refresh: of VR-DIANA, above 0 and at most 1: 1 / m for m examples of a worker. All toss the
            same coin. None for DIANA.

    References:
        Mishchenko et al., 2019, arXiv:1901.09269; Horvath et al., 2019, arXiv:1904.05115.
    """

    compressor: Compressor
    shift_step: float | None = None
    refresh: float | None = None

    allows_absence: ClassVar[bool] = True
    facts: ClassVar[Facts] = Facts(
        compressor="unbiased",
        uplink="C",
        downlink="d",
        reports=("difference",),
        worker_memory="d; 3 d with refresh",
        server_memory="d",
        guarantee="linear to the optimum for convex f_i, a strongly convex f and full gradients; "
        "with refresh O(1/T) of |grad f|^2, with minibatches",
        reference="Mishchenko et al., 2019, arXiv:1901.09269; Horvath et al., 2019, "
        "arXiv:1904.05115",
    )

    def __post_init__(self) -> None:
        require_unbiased("diana", self.compressor)
        check_share("shift_step", self.shift_step, least="at least 0")
        if self.refresh is not None and not 0 < self.refresh <= 1:
            raise ValueError(
                f"refresh is {self.refresh!r}: give 1 / m for m examples of a worker, above 0 and "
                "at most 1, or leave it out for gradients as they come"
            )

    def theory(self, setting: Setting) -> StepSize:
        """1 / (L + 6 omega L_max / M), for full gradients and every worker in every round.

        With refresh 1 / (10 M^1/2 L_examples sqrt(1 + omega / M) (m^2/3 + omega + 1)), m being
        1 / refresh, for a non-convex f and the shift step that is the default.

        There M^1/2 times the quadratic mean over workers bounds all L_ij.

        Raises:
            ValueError: no omega is known, or the shift step is not in (0, 1 / (1 + omega)]; an f_i
                is not convex, or with refresh, no smoothness of examples is known, or a shift step
                is given.
        """
        omega = setting.omega(self.compressor)
        if self.refresh is not None:
            return self._referring_step(setting, omega)
        largest = 1 / (1 + omega)
        shift_step = largest if self.shift_step is None else self.shift_step
        if not 0 < shift_step <= largest:
            raise ValueError(
                f"shift_step is {shift_step!r}: a step size is known for shift steps above 0 and "
                f"at most 1 / (1 + omega), here {largest:.6g}"
            )
        setting.require_convex("diana")
        spread = setting.joint_omega(self.compressor) * setting.constants.largest_smoothness
        formula = _FORMULA + averaging_in_words(self.compressor)
        step = difference_step(setting, spread, formula, "alpha / 2", "convex f_i")
        return for_full_gradients(step, setting)

    def worker(self) -> WorkerHalf:
        """Make the half of one worker."""
        if self.refresh is not None:
            return ReferringWorker(self.compressor, self._weights, self.refresh)
        return ShiftedWorker(self.compressor, self._weights)

    def server(self, parameters: Tensor) -> ServerHalf:
        """Make the server's half."""
        return ShiftedServer(parameters, self._weights)

    def _referring_step(self, setting: Setting, omega: float) -> StepSize:
        """Return the step size of VR-DIANA."""
        if self.shift_step is not None or self.refresh is None:
            raise ValueError(
                f"shift_step is {self.shift_step!r} and refresh is {self.refresh!r}: with refresh "
                "a step size is known for shift_step left out"
            )
        if setting.constants.sample_smoothness is None:
            raise ValueError("the smoothness of single examples is not known: give a step size")
        largest = math.sqrt(setting.num_workers) * setting.constants.sample_smoothness
        averaged = setting.joint_omega(self.compressor) / setting.num_workers
        rounds = (1 / self.refresh) ** (2 / 3) + omega + 1
        return StepSize(
            1 / (10 * largest * math.sqrt(1 + averaged) * rounds),
            "1 / (10 M^1/2 L_examples sqrt(1 + omega / M) (m^2/3 + omega + 1)), m = 1 / refresh"
            + averaging_in_words(self.compressor),
            f"the mean of |grad f|^2 over T rounds is O(1 / (step T)), {ON_BATCHES}, where a "
            "worker has m examples; the constants are taken over from code, without a proof",
        )

    def _weights(self, context: Context, dim: int) -> Weights:
        share = context.participation
        shift_step = self.shift_step
        if shift_step is None:
            shift_step = share / (1 + omega_in(self.compressor, context, dim))
        return Weights(shift=shift_step / share, estimate=1 / share)


@dataclass(frozen=True, kw_only=True, slots=True)
class RandDIANA(Method):
    """DIANA whose shift is now and then the gradient itself; for unbiased compressors.

        send m_i = C(gradient - h_i);  g = h + average of the m_i

    and with probability p, each worker for itself: also send gradient - h_i uncompressed, and
    h_i <- gradient. The server adds 1/M of these differences to its h, the average of the h_i.
    Where a round asks some of the workers, m_i counts as in DIANA.

    Args:
        compressor: unbiased; workers draw independently, or share out the entries with PermK.
        p: above 0 and at most 1; by default 1 / (1 + omega).

    References:
        Shulgin and Richtarik, 2022, arXiv:2206.10452. E|h_i - grad f_i(x*)|^2 obeys the recursion
        of DIANA with p for alpha, hence the same step size.
    """

    compressor: Compressor
    p: float | None = None

    allows_absence: ClassVar[bool] = True
    facts: ClassVar[Facts] = Facts(
        compressor="unbiased",
        uplink="C, and d with probability p",
        downlink="d",
        reports=("difference", "change"),
        worker_memory="d",
        server_memory="d",
        guarantee="linear to the optimum for convex f_i, a strongly convex f and full gradients",
        reference="Shulgin and Richtarik, 2022, arXiv:2206.10452",
    )

    def __post_init__(self) -> None:
        require_unbiased("rand-diana", self.compressor)
        check_share("p", self.p)

    def theory(self, setting: Setting) -> StepSize:
        """1 / (L + 6 omega L_max / M), for full gradients and every worker in every round.

        Raises:
            ValueError: no omega is known, or an f_i is not convex.
        """
        setting.require_convex("rand-diana")
        spread = setting.joint_omega(self.compressor) * setting.constants.largest_smoothness
        formula = _FORMULA + averaging_in_words(self.compressor)
        step = difference_step(setting, spread, formula, "p / 2", "convex f_i")
        return for_full_gradients(step, setting)

    def worker(self) -> WorkerHalf:
        """Make the half of one worker."""
        return _RandWorker(self.compressor, self.p)

    def server(self, parameters: Tensor) -> ServerHalf:
        """Make the server's half."""
        return _RandServer(parameters, _estimate_only)


def _estimate_only(context: Context, dim: int) -> Weights:
    return Weights(shift=0.0, estimate=1 / context.participation)


class _RandWorker(Half):
    """Remembers the "shift" h_i from the first round on; "change" is what is added to it."""

    def __init__(self, compressor: Compressor, p: float | None) -> None:
        super().__init__()
        self._compressor = compressor
        self._p = p

    def step(self, news: Message, oracle: Oracle, *, context: Context) -> Message:
        gradient = oracle.gradient(payload_of(news, "parameters").to_dense(), oracle.sample())
        if not self.memory:
            self.memory = {"shift": torch.zeros_like(gradient)}
        change = gradient - self.memory["shift"]
        compressor = observed(bound(self._compressor, context))
        difference = compressor.compress(change, generator=context.generator)
        p = self._p
        if p is None:
            p = 1 / (1 + omega_in(self._compressor, context, len(change)))
        if torch.rand((), dtype=torch.float64, generator=context.generator) >= p:
            return Message({"difference": difference})
        self.memory["shift"].copy_(gradient)
        return Message({"difference": difference, "change": DensePayload(change)})


class _RandServer(ShiftedServer):
    """Moves the average shift by the changes alone."""

    def step(self, reports: Mapping[int, Message], *, context: Context) -> Tensor:
        """Return the estimate, and move the average shift by the changes that were sent."""
        shift = self.memory["shift"]
        changed = {i: report for i, report in reports.items() if "change" in report.payloads}
        payloads_of(changed, "change", len(shift))  # refuse them before anything changes
        estimate = super().step(reports, context=context)
        add_average(shift, changed, "change", among=context.num_workers)
        return estimate
