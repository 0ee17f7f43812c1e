"""EF21-P: the downlink carries what the workers' copy of the point lacks, compressed."""

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from mlmc_ray.compressors.base import Compressor, Context, PaperCost, bound
from mlmc_ray.methods.base import Facts, Method, OneCompressed, ServerHalf, WorkerHalf
from mlmc_ray.methods.checks import require_contractive
from mlmc_ray.methods.compressed_sgd import DataParallelSGD
from mlmc_ray.methods.downlinks.halves import DownlinkServer, MirrorWorker
from mlmc_ray.methods.error_feedback.ef21 import ef21_step
from mlmc_ray.methods.shifts.diana import DIANA
from mlmc_ray.methods.theory import (
    Setting,
    StepSize,
    averaging_in_words,
    effective_workers,
    for_full_gradients,
)
from mlmc_ray.observing import observed
from mlmc_ray.payloads import DensePayload, Message


@dataclass(frozen=True, kw_only=True, slots=True)
class EF21P(Method):
    """Compress the downlink with error feedback; gradients come up as they are.

    Everyone keeps the same copy w of the point x, w = x_0 at first, and a round is

        server: send b = C_P(x - w);  everyone: w <- w + b
        worker i: send grad f_i(w)
        server: x <- x - step times the average of these

    Every worker takes part in every round: one that missed a change would have another w. The
    server takes the step, so it may be that of any optimizer.

    Args:
        downlink: C_P, contractive.

    References:
        Gruntkowska, Tyurin and Richtarik, 2022, arXiv:2209.15218.
    """

    downlink: Compressor

    facts: ClassVar[Facts] = Facts(
        compressor="contractive",
        uplink="d",
        downlink="C_P",
        news=("parameters", "change"),
        reports=("gradient",),
        first="d down",
        worker_memory="d",
        server_memory="d",
        guarantee="linear for a strongly convex f and full gradients",
        reference="Gruntkowska et al., 2022, arXiv:2209.15218",
    )

    def __post_init__(self) -> None:
        require_contractive("ef21-p", self.downlink, "downlink")

    def theory(self, setting: Setting) -> StepSize:
        """EF21's step with L for L~, theta and beta of the downlink's alpha.

        What is unknown is the point, which all workers share.
        """
        constants = setting.constants
        shared = replace(constants, mean_smoothness=constants.smoothness)
        step = ef21_step(replace(setting, constants=shared), setting.alpha(self.downlink))
        return replace(step, formula=step.formula.replace("L~", "L"))

    def worker(self) -> WorkerHalf:
        """Make the half of one worker."""
        return MirrorWorker(DataParallelSGD().worker())

    def server(self, parameters: Tensor) -> ServerHalf:
        """Make the server's half."""
        return _Server(DataParallelSGD().server(parameters), parameters, self.downlink)

    def paper_cost(self, dim: int) -> PaperCost | None:
        """One number per parameter."""
        return DataParallelSGD().paper_cost(dim)


@dataclass(frozen=True, kw_only=True, slots=True)
class EF21PDIANA(OneCompressed):
    """EF21-P for the downlink, DIANA for the uplink: both directions compressed.

    Everyone keeps the same copy w of the point x, worker i a shift h_i, the server their average h.
    With w = x_0 and h_i = 0 at first, a round is

        server: send b = C_P(x - w);  everyone: w <- w + b
        worker i: send m_i = C_i(grad f_i(w) - h_i);  h_i <- h_i + a m_i
        server: x <- x - step (h + average of m_i);  h <- h + a average of m_i

    Every worker takes part in every round: one that missed a change would have another w.

    Args:
        compressor: C_i, unbiased.
        downlink: C_P, contractive.
        shift_step: a, from 0 to 1; by default 1 / (1 + omega).

    References:
        Gruntkowska, Tyurin and Richtarik, 2022, arXiv:2209.15218; Mishchenko et al., 2019,
        arXiv:1901.09269 (DIANA).
    """

    compressor: Compressor
    downlink: Compressor
    shift_step: float | None = None

    facts: ClassVar[Facts] = Facts(
        compressor="unbiased",
        uplink="C",
        downlink="C_P",
        news=("parameters", "change"),
        reports=("difference",),
        first="d down",
        worker_memory="2 d",
        server_memory="2 d",
        guarantee="linear for convex f_i, a strongly convex f and full gradients",
        reference="Gruntkowska et al., 2022, arXiv:2209.15218",
    )

    def __post_init__(self) -> None:
        require_contractive("ef21-p-diana", self.downlink, "downlink")
        self.diana()

    def theory(self, setting: Setting) -> StepSize:
        """min(M / (160 omega L_max), sqrt(M alpha / omega) / (20 L_max), alpha / (100 L)).

        Where mu > 0, at most 1 / ((1 + omega) mu); larger steps work in practice.

        Raises:
            ValueError: no omega or alpha is known, or an f_i is not convex.
        """
        setting.require_convex("ef21-p-diana")
        constants = setting.constants
        workers = effective_workers(self.compressor, setting.num_workers, setting.dim)
        omega, alpha = setting.omega(self.compressor), setting.alpha(self.downlink)
        largest = constants.largest_smoothness
        bounds = [alpha / (100 * constants.smoothness)]
        if omega:
            bounds.append(workers / (160 * omega * largest))
            bounds.append((workers * alpha / omega) ** 0.5 / (20 * largest))
        if constants.strong_convexity:
            bounds.append(1 / ((1 + omega) * constants.strong_convexity))
        step = StepSize(
            min(bounds),
            "min(M / (160 omega L_max), sqrt(M alpha / omega) / (20 L_max), alpha / (100 L), "
            "1 / ((1 + omega) mu))" + averaging_in_words(self.compressor),
            "|x - x*|^2 shrinks linearly for convex f_i and a strongly convex f, by constants that "
            "are taken over from code, without a proof",
        )
        return for_full_gradients(step, setting)

    def worker(self) -> WorkerHalf:
        """Make the half of one worker."""
        return MirrorWorker(self.diana().worker())

    def server(self, parameters: Tensor) -> ServerHalf:
        """Make the server's half."""
        return _Server(self.diana().server(parameters), parameters, self.downlink)

    def diana(self) -> DIANA:
        """Return the method of the uplink, which checks the compressor and the shift's step."""
        return DIANA(compressor=self.compressor, shift_step=self.shift_step)


class _Server(DownlinkServer):
    """Remembers the workers' copy of the point, "copy", from the first news on."""

    def __init__(self, uplink: ServerHalf, parameters: Tensor, downlink: Compressor) -> None:
        super().__init__(uplink)
        self._parameters = parameters
        self._downlink = downlink

    def news(self, *, context: Context) -> Message:
        if not self.memory:
            self.memory["copy"] = self._parameters.clone()
            return Message({"parameters": DensePayload(self._parameters)})
        copy = self.memory["copy"]
        compressor = observed(bound(self._downlink, context))
        lacking = torch.sub(self._parameters, copy)
        change = compressor.compress(lacking, generator=context.generator)
        change.add_to(copy)
        return Message({"change": change})
