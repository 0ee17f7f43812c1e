"""EF21-SGDM: error feedback on the difference to what the server already knows, with momentum.

References:
    Richtarik, Sokolov and Fatkhullin, 2021, arXiv:2106.05203 (EF21);
    Fatkhullin, Tyurin and Richtarik, 2023, arXiv:2305.15155 (EF21-SGDM).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from mlmc_ray.compressors.base import Compressor, Context, bound
from mlmc_ray.methods.base import Facts, Half, OneCompressed, Oracle, ServerHalf, WorkerHalf
from mlmc_ray.methods.checks import require_contractive
from mlmc_ray.methods.reports import add_average, payload_of
from mlmc_ray.methods.theory import Setting, StepSize, for_full_gradients
from mlmc_ray.observing import observed
from mlmc_ray.payloads import DensePayload, Message

WITHOUT_CONVEXITY = (
    "the mean of |grad f|^2 over T rounds is at most 2 (f(x0) - inf f) / (step T) + G / (theta T), "
    "G being the mean of |g_i - grad f_i(x0)|^2 after the first round"
)
"""What EF21 guarantees where f is not known to be Polyak-Lojasiewicz."""

WITH_CONVEXITY = "f(x) - f* shrinks by 1 - step mu a round"
"""What it guarantees where f is."""

_SYMBOLS = "theta = 1 - sqrt(1 - alpha), beta = (1 - alpha) / theta"


@dataclass(frozen=True, kw_only=True, slots=True)
class EF21SGDM(OneCompressed):
    """EF21 with momentum; for contractive compressors such as Top-k.

    Worker i keeps a momentum v_i and what the server knows of it, g_i, 0 at first:

        v_i <- (1 - eta) v_i + eta gradient        (v_i <- gradient in the first round)
        send c_i = C(v_i - g_i);  g_i <- g_i + c_i
        g <- g + average of the c_i

    and the estimate is g. With eta = 1 it is EF21 on full gradients, and EF21-SGD on minibatches,
    whose noise leaves a floor that a smaller eta lowers. Where a round asks some of the workers,
    the others count with c_i = 0.

    Args:
        compressor: contractive (``alpha`` is not None); the same on every worker.
        momentum: eta in (0, 1], the weight of the new gradient; 1 means no averaging over time.

    References:
        Richtarik et al., 2021, arXiv:2106.05203 (EF21); Fatkhullin et al., 2023, arXiv:2305.15155
        (EF21-SGDM).
    """

    compressor: Compressor
    momentum: float = 0.1

    theory_needs: ClassVar[str] = "momentum 1"
    allows_absence: ClassVar[bool] = True
    facts: ClassVar[Facts] = Facts(
        compressor="contractive",
        uplink="C",
        downlink="d",
        reports=("change",),
        worker_memory="2 d",
        server_memory="d",
        guarantee="with momentum 1 and full gradients, linear for a strongly convex f and "
        "O(1/T) of |grad f|^2 otherwise",
        reference="Richtarik et al., 2021, arXiv:2106.05203; Fatkhullin et al., 2023, "
        "arXiv:2305.15155",
    )

    def theory(self, setting: Setting) -> StepSize:
        """1 / (L + L~ sqrt(beta / theta)), theta = 1 - sqrt(1 - alpha), beta = (1 - alpha) / theta.

        Where f is strongly convex, min(1 / (L + L~ sqrt(2 beta / theta)), theta / (2 mu)).
        """
        if self.momentum != 1:
            raise ValueError(
                f"momentum is {self.momentum!r}: a step size is known for momentum 1, which is EF21"
            )
        return ef21_step(setting, setting.alpha(self.compressor))

    def __post_init__(self) -> None:
        if not 0 < self.momentum <= 1:
            raise ValueError(
                f"momentum is {self.momentum!r}: it is the weight of the new gradient, above 0 and "
                "at most 1"
            )
        require_contractive("ef21-sgdm", self.compressor)

    def worker(self) -> WorkerHalf:
        """Make the half of one worker."""
        return _Worker(self.compressor, self.momentum)

    def server(self, parameters: Tensor) -> ServerHalf:
        """Make the server's half."""
        return _Server(parameters)


def ef21_step(setting: Setting, alpha: float) -> StepSize:
    """Return EF21's step size for a contraction ``alpha`` (arXiv:2106.05203, theorems 1 and 2)."""
    constants = setting.constants
    root = math.sqrt(1 - alpha)
    theta = alpha / (1 + root)  # 1 - root, which would round to 0 for a small alpha
    ratio = root / theta
    if not constants.strong_convexity:
        step = StepSize(
            1 / (constants.smoothness + constants.mean_smoothness * ratio),
            f"1 / (L + L~ sqrt(beta / theta)), {_SYMBOLS}",
            WITHOUT_CONVEXITY,
        )
        return for_full_gradients(step, setting)
    curvature = constants.smoothness + constants.mean_smoothness * math.sqrt(2) * ratio
    step = StepSize(
        min(1 / curvature, theta / (2 * constants.strong_convexity)),
        f"min(1 / (L + L~ sqrt(2 beta / theta)), theta / (2 mu)), {_SYMBOLS}",
        WITH_CONVEXITY,
    )
    return for_full_gradients(step, setting)


class _Worker(Half):
    """Remembers the momentum v_i and what the server knows, g_i, from the first round on."""

    def __init__(self, compressor: Compressor, momentum: float) -> None:
        super().__init__()
        self._compressor = compressor
        self._momentum = momentum

    def step(self, news: Message, oracle: Oracle, *, context: Context) -> Message:
        gradient = oracle.gradient(payload_of(news, "parameters").to_dense(), oracle.sample())
        if not self.memory:
            self.memory = {"momentum": gradient.clone(), "known": torch.zeros_like(gradient)}
        else:
            average = self.memory["momentum"]
            average.mul_(1 - self._momentum).add_(gradient, alpha=self._momentum)
        momentum, known = self.memory["momentum"], self.memory["known"]
        compressor = observed(bound(self._compressor, context))
        change = compressor.compress(momentum - known, generator=context.generator)
        change.add_to(known)
        return Message({"change": change})


class _Server(Half):
    """Remembers the average g of what it knows of the workers."""

    def __init__(self, parameters: Tensor) -> None:
        super().__init__()
        self._parameters = parameters
        self.memory = {"known": torch.zeros_like(parameters)}

    def news(self, *, context: Context) -> Message:
        return Message({"parameters": DensePayload(self._parameters)})

    def step(self, reports: Mapping[int, Message], *, context: Context) -> Tensor:
        add_average(self.memory["known"], reports, "change", among=context.num_workers)
        return self.memory["known"]
