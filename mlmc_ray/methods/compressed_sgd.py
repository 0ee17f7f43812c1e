"""Compressed SGD: each worker sends a compressed stochastic gradient, the server averages.

Algorithms 1, 2 and 3 of the MLMC paper are this method with the fitting compressor: none, MLMC
with a fixed law, MLMC with the adaptive law. With a biased compressor it need not converge.

References:
    Zukerman et al., 2025, arXiv:2507.05508, algorithms 1-3. Also known as DCGD.
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from mlmc_ray.compressors.base import Compressor, Context, PaperCost, bound
from mlmc_ray.compressors.identity import Identity
from mlmc_ray.methods.averaging import AverageServer
from mlmc_ray.methods.base import Facts, Half, Method, OneCompressed, Oracle, ServerHalf, WorkerHalf
from mlmc_ray.methods.checks import require_unbiased
from mlmc_ray.methods.reports import payload_of
from mlmc_ray.methods.theory import (
    Setting,
    StepSize,
    averaging_in_words,
    for_full_gradients,
)
from mlmc_ray.observing import observed
from mlmc_ray.payloads import Message


@dataclass(frozen=True, kw_only=True, slots=True)
class CompressedSGD(OneCompressed):
    """Compressed SGD, also known as DCGD; no memory on either side.

        send C(gradient);  g = average of what arrives

    With an MLMC compressor it is the paper's algorithm 2 (a fixed law) or 3 (the adaptive law).
    With a biased compressor it need not converge.

    Args:
        compressor: any; workers draw independently, or share out the entries with PermK.

    References:
        Zukerman et al., 2025, arXiv:2507.05508; Khirirat et al., 2018, arXiv:1806.06573.
    """

    compressor: Compressor

    theory_needs: ClassVar[str] = "an unbiased compressor"
    allows_absence: ClassVar[bool] = True
    takes_any_device: ClassVar[bool] = True
    facts: ClassVar[Facts] = Facts(
        compressor="any",
        uplink="C",
        downlink="d",
        reports=("gradient",),
        guarantee="linear to a neighbourhood for an unbiased C, convex f_i and a strongly convex "
        "f, to the optimum where all workers share it and gradients are full; with a biased C it "
        "may diverge",
        reference="Zukerman et al., 2025, arXiv:2507.05508, algorithms 2 and 3; Khirirat et al., "
        "2018, arXiv:1806.06573",
    )

    def theory(self, setting: Setting) -> StepSize:
        """1 / (L + 2 omega L_max / M), for convex f_i.

        For D = f(x) - f* and s = 2 omega L_max / M, E|g|^2 is at most |grad f|^2 + 2 s D and the
        noise at x*. Where mu = 0, <grad f, x - x*> >= D + |grad f|^2 / 2L makes the mean of D
        |x0 - x*|^2 / (2 step^2 L T), up to the noise.

        Raises:
            ValueError: the compressor is biased, no omega is known, or an f_i is not convex.
        """
        require_unbiased("the theory of compressed-sgd", self.compressor)
        setting.require_convex("compressed-sgd")
        constants = setting.constants
        spread = 2 * setting.joint_omega(self.compressor) * constants.largest_smoothness
        progress = "E|x - x*|^2 shrinks by 1 - step mu a round"
        if not constants.strong_convexity:
            progress = "the mean of E f(x) - f* over T rounds is O(1/T)"
        step = StepSize(
            1 / (constants.smoothness + spread / setting.num_workers),
            "1 / (L + 2 omega L_max / M)" + averaging_in_words(self.compressor),
            f"{progress}, to a plateau unless workers share x*, for convex f_i",
        )
        return for_full_gradients(step, setting)

    def worker(self) -> WorkerHalf:
        """Make the half of one worker."""
        return _Worker(self.compressor)

    def server(self, parameters: Tensor) -> ServerHalf:
        """Make the server's half."""
        return AverageServer(parameters, "gradient")


@dataclass(frozen=True, kw_only=True, slots=True)
class DataParallelSGD(Method):
    """Data-parallel SGD: compressed SGD without compression.

        send the gradient;  g = average of what arrives

    References:
        Zukerman et al., 2025, arXiv:2507.05508, algorithm 1.
    """

    allows_absence: ClassVar[bool] = True
    takes_any_device: ClassVar[bool] = True
    facts: ClassVar[Facts] = Facts(
        compressor="none",
        uplink="d",
        downlink="d",
        reports=("gradient",),
        guarantee="linear for a strongly convex f and full gradients",
        reference="Zukerman et al., 2025, arXiv:2507.05508, algorithm 1",
    )

    def theory(self, setting: Setting) -> StepSize:
        """1 / L."""
        progress = "f(x) - f* shrinks by 1 - step mu a round"
        if not setting.constants.strong_convexity:
            progress = (
                "the mean of |grad f|^2 over T rounds is at most 2 (f(x0) - inf f) / (step T)"
            )
        step = StepSize(1 / setting.constants.smoothness, "1 / L", progress)
        return for_full_gradients(step, setting)

    def worker(self) -> WorkerHalf:
        """Make the half of one worker."""
        return _Worker(Identity())

    def server(self, parameters: Tensor) -> ServerHalf:
        """Make the server's half."""
        return AverageServer(parameters, "gradient")

    def paper_cost(self, dim: int) -> PaperCost:
        """One number per parameter."""
        return Identity().paper_cost(dim)


class _Worker(Half):
    def __init__(self, compressor: Compressor) -> None:
        super().__init__()
        self._compressor = compressor

    def step(self, news: Message, oracle: Oracle, *, context: Context) -> Message:
        gradient = oracle.gradient(payload_of(news, "parameters").to_dense(), oracle.sample())
        compressor = observed(bound(self._compressor, context))
        return Message({"gradient": compressor.compress(gradient, generator=context.generator)})
