"""EF-BV: one method for biased and unbiased compressors, between EF21 and DIANA.

References:
    Condat, Yi and Richtarik, 2022, arXiv:2205.04180.
"""

import math
from dataclasses import dataclass, replace
from typing import ClassVar

from torch import Tensor

from mlmc_ray.compressors.base import Compressor, Context, count_of
from mlmc_ray.compressors.randk import RandK
from mlmc_ray.methods.base import Facts, OneCompressed, ServerHalf, WorkerHalf
from mlmc_ray.methods.checks import check_share
from mlmc_ray.methods.shifts.differences import ShiftedServer, ShiftedWorker, Weights
from mlmc_ray.methods.theory import (
    Setting,
    StepSize,
    bound_anywhere,
    effective_workers,
    for_full_gradients,
)
from mlmc_ray.seeding import generator_for


@dataclass(frozen=True, slots=True)
class Noise:
    """A compressor's class C(eta, omega).

    Attributes:
        bias: eta < 1 with |E C(v) - v| <= eta |v|.
        variance: omega with E|C(v) - E C(v)|^2 <= omega |v|^2.
    """

    bias: float
    variance: float

    def of_average(self, workers: float) -> "Noise":
        """Return the class of the average over so many workers that draw independently."""
        return replace(self, variance=self.variance / workers)

    def best_weight(self) -> float:
        """Return min(1, (1 - eta) / ((1 - eta)^2 + omega)), which minimises ``left_by``."""
        if not self.variance:
            return 1.0  # also for a bias that rounds to 1
        kept = 1 - self.bias
        return min(1.0, kept / (kept**2 + self.variance))

    def left_by(self, weight: float) -> float:
        """Return r with E|w C(v) - v|^2 <= r |v|^2 for the weight w in [0, 1]."""
        return (1 - weight + weight * self.bias) ** 2 + weight**2 * self.variance


def noise_of(compressor: Compressor, dim: int) -> Noise:
    """Return a class of a compressor for vectors of ``dim`` entries.

    Unbiased: (0, omega). Rand-k without scaling: (1 - k/d, (k/d) (1 - k/d)). Contractive:
    ((1 - alpha)^1/2, 0), which is exact where C does not draw. Where it draws, eta^2 + omega is
    still right, and with omega 0 the weights are 1, for which nothing else counts.

    Raises:
        ValueError: the compressor is of none of these kinds, or its constant is not known.
    """
    if isinstance(compressor, RandK) and not compressor.scaled:
        share = count_of(compressor.k, dim) / dim
        return Noise(1 - share, share * (1 - share))
    omega = compressor.omega(dim) if compressor.unbiased else None
    if omega is not None:
        return Noise(0.0, omega)
    alpha = compressor.alpha(dim)
    if alpha is None:
        raise ValueError(
            f"compressor is {compressor}: neither omega nor alpha is known of it, from which "
            "theory would set shift_step and estimate_weight; give numbers for both"
        )
    return Noise(math.sqrt(1 - alpha), 0.0)


@dataclass(frozen=True, kw_only=True, slots=True)
class EFBV(OneCompressed):
    """EF-BV; for unbiased and for contractive compressors. Worker i keeps h_i, 0 at first.

        send c_i = C(gradient - h_i);      h_i <- h_i + lambda c_i
        g = h + nu (average of the c_i);   h <- h + lambda (average of the c_i)

    For C with |E C(v) - v| <= eta |v| and E|C(v) - E C(v)|^2 <= omega |v|^2, theory takes

        lambda = min(1, (1 - eta) / ((1 - eta)^2 + omega))

    and nu alike with omega / M for omega, omega / (M - 1) with PermK. With lambda = nu = 1 it is
    EF21, with eta = 0 and nu = 1 DIANA.

    Args:
        compressor: unbiased or contractive; workers draw independently, or as PermK.
        shift_step: lambda, above 0 and at most 1; by default theory's.
        estimate_weight: nu, above 0 and at most 1; by default theory's.

    References:
        Condat, Yi and Richtarik, 2022, arXiv:2205.04180.
    """

    compressor: Compressor
    shift_step: float | None = None
    estimate_weight: float | None = None

    facts: ClassVar[Facts] = Facts(
        compressor="any",
        uplink="C",
        downlink="d",
        reports=("difference",),
        worker_memory="d",
        server_memory="d",
        guarantee="with full gradients, linear to the optimum for a strongly convex f and O(1/T) "
        "of |grad f|^2 otherwise",
        reference="Condat, Yi and Richtarik, 2022, arXiv:2205.04180",
    )

    def __post_init__(self) -> None:
        check_share("shift_step", self.shift_step)
        check_share("estimate_weight", self.estimate_weight)
        if not self.compressor.unbiased and self.compressor.alpha(1) is None:
            raise ValueError(
                f"compressor is {self.compressor}: ef-bv needs an unbiased or a contractive "
                "compressor, such as rand-k or top-k"
            )

    def theory(self, setting: Setting) -> StepSize:
        """1 / (L + L~ (r_av / r)^1/2 / s), s = ((1 + r) / 2r)^1/2 - 1, for full gradients.

        Here r = (1 - lambda + lambda eta)^2 + lambda^2 omega, and r_av alike with nu and omega / M.
        With G the mean of |grad f_i(x) - h_i|^2, f(x) + step r_av G / (2 s (1 + s) r) falls by at
        least step |grad f|^2 / 2 in the mean of a round, also where f is not convex.

        Raises:
            ValueError: eta and omega are not known, or r is not below 1.
        """
        context = Context(
            generator_for(0),
            num_workers=setting.num_workers,
            layer_sizes=setting.layer_sizes,
            layer_shapes=setting.layer_shapes,
        )
        noise = noise_of(bound_anywhere(self.compressor, context), setting.dim)
        weights = self._weights(context, setting.dim)
        left = noise.left_by(weights.shift)
        if left >= 1:
            raise ValueError(
                f"shift_step is {weights.shift!r}: a step size is known for those with which the "
                f"shifts approach the gradients, such as {noise.best_weight():.6g}"
            )
        workers = effective_workers(self.compressor, setting.num_workers, setting.dim)
        left_on_average = noise.of_average(workers).left_by(weights.estimate)
        ratio = math.sqrt(left_on_average) / (math.sqrt((1 + left) / 2) - math.sqrt(left))
        constants = setting.constants
        progress = "f(x) - f* shrinks by max(1 - step mu, (1 + r) / 2) a round"
        if not constants.strong_convexity:
            progress = "the mean of |grad f|^2 over T rounds is O(1 / (step T))"
        step = StepSize(
            1 / (constants.smoothness + constants.mean_smoothness * ratio),
            "1 / (L + L~ sqrt(r_av / r) / s), s = sqrt((1 + r) / 2r) - 1",
            progress,
        )
        return for_full_gradients(step, setting)

    def worker(self) -> WorkerHalf:
        """Make the half of one worker."""
        return ShiftedWorker(self.compressor, self._weights)

    def server(self, parameters: Tensor) -> ServerHalf:
        """Make the server's half."""
        return ShiftedServer(parameters, self._weights)

    def _weights(self, context: Context, dim: int) -> Weights:
        shift, estimate = self.shift_step, self.estimate_weight
        if shift is not None and estimate is not None:
            return Weights(shift=shift, estimate=estimate)
        noise = noise_of(bound_anywhere(self.compressor, context), dim)
        average = noise.of_average(effective_workers(self.compressor, context.num_workers, dim))
        return Weights(
            shift=noise.best_weight() if shift is None else shift,
            estimate=average.best_weight() if estimate is None else estimate,
        )
