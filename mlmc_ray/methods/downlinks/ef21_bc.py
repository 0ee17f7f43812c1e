"""EF21-BC: error feedback both ways; what crosses the network is compressed differences."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import sqrt
from typing import ClassVar, Literal

import torch
from torch import Tensor

from mlmc_ray.compressors.base import Compressor, Context, bound
from mlmc_ray.methods.base import Facts, OneCompressed, Progress, ServerHalf, WorkerHalf
from mlmc_ray.methods.checks import require_contractive
from mlmc_ray.methods.downlinks.halves import DownlinkServer, DownlinkWorker
from mlmc_ray.methods.error_feedback.ef21 import EF21SGDM
from mlmc_ray.methods.reports import payload_of
from mlmc_ray.methods.theory import Setting, StepSize, for_full_gradients
from mlmc_ray.observing import observed
from mlmc_ray.payloads import DensePayload, Message


@dataclass(frozen=True, kw_only=True, slots=True)
class EF21BC(OneCompressed):
    """EF21 whose server compresses the direction in which everyone then steps.

    Everyone keeps the same point x and direction g; worker i keeps g_i, the server their average
    g~. A round is

        server: send b = C_M(g~ - g);  everyone: g <- g + b;  x <- x - step g
        worker i: send c_i = C_w(grad f_i(x) - g_i);  g_i <- g_i + c_i
        server: g~ <- g~ + average of c_i

    The first round begins with an exchange that brings x_0 down and g_i = C_w(grad f_i(x_0)) up;
    g is 0 before it. Every worker takes part in every round: one that missed a change would have
    another g. Everyone's x stays the same to the last bit where all processors round alike.

    Args:
        compressor: C_w, contractive.
        downlink: C_M, contractive.
        step_size: of everyone's step; "theory" for the one with a guarantee.

    References:
        Fatkhullin et al., 2021, arXiv:2110.03294, algorithm EF21-BC.
    """

    compressor: Compressor
    downlink: Compressor
    step_size: float | Literal["theory"] = "theory"

    moves_parameters: ClassVar[bool] = True
    facts: ClassVar[Facts] = Facts(
        compressor="contractive",
        uplink="C",
        downlink="C_M",
        news=("parameters", "change"),
        reports=("change",),
        first="d down, C up",
        worker_memory="4 d",
        server_memory="3 d",
        guarantee="O(1/T) of |grad f|^2 with full gradients; linear in practice for a strongly "
        "convex f",
        reference="Fatkhullin et al., 2021, arXiv:2110.03294",
    )

    def __post_init__(self) -> None:
        require_contractive("ef21-bc", self.compressor)
        require_contractive("ef21-bc", self.downlink, "downlink")
        if self.step_size != "theory" and not 0 < self.step_size < float("inf"):
            raise ValueError(f'step_size is {self.step_size!r}: give a number above 0, or "theory"')

    def theory(self, setting: Setting) -> StepSize:
        """1 / (L + L~ sqrt(2 K)), K = (1 + k) beta_w / theta_w + k.

        With k = 2 (2 - theta_w)^2 beta_M / theta_M, theta = 1 - sqrt(1 - alpha) and beta =
        (1 - alpha) / theta of the compressor (w) and of the downlink (M); cautious,
        10 to 100 times as much often works.
        """
        up_theta, up_beta = _feedback(setting.alpha(self.compressor))
        down_theta, down_beta = _feedback(setting.alpha(self.downlink))
        passed_on = 2 * (2 - up_theta) ** 2 * down_beta / down_theta
        spread = up_beta / up_theta * (1 + passed_on) + passed_on
        constants = setting.constants
        step = StepSize(
            1 / (constants.smoothness + constants.mean_smoothness * sqrt(2 * spread)),
            "1 / (L + L~ sqrt(2 K)), K = (1 + k) beta_w / theta_w + k, "
            "k = 2 (2 - theta_w)^2 beta_M / theta_M",
            "the mean of |grad f|^2 over T rounds is O(1 / (step T))",
        )
        return for_full_gradients(step, setting)

    def worker(self) -> WorkerHalf:
        """Make the half of one worker."""
        return _Worker(self._uplink().worker(), self._number())

    def server(self, parameters: Tensor) -> ServerHalf:
        """Make the server's half."""
        uplink = self._uplink().server(parameters)
        return _Server(uplink, parameters, self.downlink, self._number())

    def _uplink(self) -> EF21SGDM:
        return EF21SGDM(compressor=self.compressor, momentum=1.0)

    def _number(self) -> float:
        if self.step_size == "theory":
            raise ValueError("step_size is 'theory': the problem's constants are not known here")
        return self.step_size


def _feedback(alpha: float) -> tuple[float, float]:
    """Return EF21's theta = 1 - sqrt(1 - alpha) and beta = (1 - alpha) / theta."""
    theta = alpha / (1 + sqrt(1 - alpha))  # so that a small alpha does not give 0
    return theta, (1 - alpha) / theta


class _Worker(DownlinkWorker):
    """Remembers the point x, "parameters", and the direction g that everyone has."""

    def __init__(self, uplink: WorkerHalf, step_size: float) -> None:
        super().__init__(uplink)
        self._step_size = step_size

    def point(self, news: Message, context: Context) -> Tensor:
        if "parameters" in news.payloads:
            parameters = payload_of(news, "parameters").to_dense().clone()
            self.memory = {"parameters": parameters, "direction": torch.zeros_like(parameters)}
            return parameters
        direction = self.remembered("direction")
        payload_of(news, "change", len(direction)).add_to(direction)
        return self.memory["parameters"].add_(direction, alpha=-self._step_size)


class _Server(DownlinkServer):
    """Remembers the average g~ that it has, "known", and the direction g that everyone has."""

    def __init__(
        self, uplink: ServerHalf, parameters: Tensor, downlink: Compressor, step_size: float
    ) -> None:
        super().__init__(uplink)
        self._parameters = parameters
        self._downlink = downlink
        self._step_size = step_size

    def news(self, *, context: Context) -> Message:
        if not self.memory:
            return Message({"parameters": DensePayload(self._parameters)})
        direction = self.memory["direction"]
        compressor = observed(bound(self._downlink, context))
        change = compressor.compress(self.memory["known"] - direction, generator=context.generator)
        change.add_to(direction)
        return Message({"change": change})

    def step(self, reports: Mapping[int, Message], *, context: Context) -> Progress:
        known = self._uplink.step(reports, context=context)
        assert isinstance(known, Tensor)
        if not self.memory:
            self.memory = {"known": known.clone(), "direction": torch.zeros_like(known)}
            return Progress.MORE
        self._parameters.add_(self.memory["direction"], alpha=-self._step_size)
        self.memory["known"].copy_(known)
        return Progress.MOVED
