"""MARINA: compressed differences of gradients, and now and then the gradients themselves.

With probability p all workers send their gradients as they are; else worker i sends the compressed
difference of its gradients at the points of this round and the last. The estimate is biased given
the past, and its error vanishes where the points converge, so there is no plateau.

References:
    Gorbunov, Burlachenko, Li and Richtarik, 2021, arXiv:2102.07845 (MARINA, VR-, PP-MARINA);
    Szlendak, Tyurin and Richtarik, 2021, arXiv:2110.03300 (with PermK).
"""

import math
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from mlmc_ray.compressors.base import Compressor, Context, PaperCost
from mlmc_ray.compressors.permk import PermK
from mlmc_ray.compressors.random_sparse import check_probability
from mlmc_ray.methods.base import Facts, Half, Method, Oracle, ServerHalf, WorkerHalf
from mlmc_ray.methods.checks import require_unbiased
from mlmc_ray.methods.reports import payload_of
from mlmc_ray.methods.running_estimates.running_estimate import (
    Coin,
    Server,
    change_report,
    gradient_report,
)
from mlmc_ray.methods.theory import Setting, StepSize, joint_variance, on_full_gradients
from mlmc_ray.payloads import Message


@dataclass(frozen=True, kw_only=True, slots=True)
class MARINA(Method):
    """MARINA, on full gradients whatever the batch size of the configuration.

    With f_i' the gradient of worker i's whole loss, the first round and every one in which a common
    coin shows heads (probability p) has

        send f_i'(x+);                  g+ <- average of the f_i'(x+)

    and every other one has

        send C_i(f_i'(x+) - f_i'(x));   g+ <- g + average of the C_i(f_i'(x+) - f_i'(x))

    With ``PermK`` the errors of the workers cancel: where all have the same Hessian, it is gradient
    descent with d/M numbers a message. An MLMC compressor computes its law from the difference.

    Args:
        compressor: unbiased.
        p: the probability that gradients are sent as they are; None for 1 / (1 + omega), the share
            of entries sent by Rand-k (k/d), PermK (1/M) and the like.

    References:
        Gorbunov et al., 2021, arXiv:2102.07845, algorithm 1; Szlendak et al., 2021,
        arXiv:2110.03300.
    """

    compressor: Compressor
    p: float | None = None

    facts: ClassVar[Facts] = Facts(
        compressor="unbiased",
        uplink="C, or d with probability p",
        downlink="d",
        reports=("gradient", "change"),
        first="d up",
        worker_memory="d",
        server_memory="d",
        guarantee="linear under the Polyak-Lojasiewicz condition and O(1/T) of |grad f|^2 "
        "otherwise, with full gradients",
        reference="Gorbunov et al., 2021, arXiv:2102.07845; with PermK Szlendak et al., 2021, "
        "arXiv:2110.03300",
    )

    def __post_init__(self) -> None:
        check_settings("marina", self.compressor, self.p)

    def theory(self, setting: Setting) -> StepSize:
        """1 / (L + sqrt(c V)), c = (1 - p) / p and V = omega L~^2 / M.

        Where f is Polyak-Lojasiewicz, min(1 / (L + sqrt(2 c V)), p / (2 mu)).

        With perm-k, V = L_pm^2 where d >= M.
        """
        p = self._coin().probability(setting.omega(self.compressor), setting.num_workers)
        step = marina_step(setting, p, *difference_variance(setting, self.compressor))
        return on_full_gradients(step)

    def worker(self) -> WorkerHalf:
        """Make the half of one worker."""
        return _FullWorker(self.compressor, self._coin())

    def server(self, parameters: Tensor) -> ServerHalf:
        """Make the server's half."""
        return Server(parameters, self._coin())

    def paper_cost(self, dim: int) -> PaperCost | None:
        """What is expected of a report: p times 64 d, and 1 - p times the compressor's."""
        return expected_cost(self.compressor, self._coin(), dim)

    def _coin(self) -> Coin:
        return Coin(self.compressor, self.p)


def check_settings(name: str, compressor: Compressor, p: float | None) -> None:
    """Refuse a biased compressor, and a p that is no probability.

    Raises:
        ValueError: names the method or the field, and quotes the value.
    """
    require_unbiased(name, compressor)
    if p is not None:
        check_probability("p", p)


def difference_variance(setting: Setting, compressor: Compressor) -> tuple[float, str]:
    """Return V, with E|mean(C_i(a_i) - a_i)|^2 <= V |x+ - x|^2 for a_i = f_i'(x+) - f_i'(x).

    V = (A - B) L~^2 + B L_pm^2, with L_pm <= L~ in its place where it is not known.
    """
    constants = setting.constants
    first, second = joint_variance(setting, compressor)
    hessian_variance = constants.hessian_variance
    if hessian_variance is None:
        hessian_variance = constants.mean_smoothness
    value = (first - second) * constants.mean_smoothness**2 + second * hessian_variance**2
    return value, "A L_pm^2 (PermK)" if isinstance(compressor, PermK) else "omega L~^2 / M"


def marina_step(setting: Setting, p: float, variance: float, words: str) -> StepSize:
    """Return the step for E|g+ - f'(x+)|^2 <= (1 - p)(|g - f'(x)|^2 + V |x+ - x|^2)."""
    smoothness, mu = setting.constants.smoothness, setting.constants.strong_convexity
    spread = (1 - p) / p * variance
    if not mu:
        return StepSize(
            1 / (smoothness + math.sqrt(spread)),
            f"1 / (L + sqrt(V (1 - p) / p)), V = {words}",
            "the mean of |grad f|^2 over T rounds is at most 2 (f(x0) - inf f) / (step T)",
        )
    return StepSize(
        min(1 / (smoothness + math.sqrt(2 * spread)), p / (2 * mu)),
        f"min(1 / (L + sqrt(2 V (1 - p) / p)), p / (2 mu)), V = {words}",
        "E f(x) - f* shrinks by 1 - step mu a round",
    )


def expected_cost(compressor: Compressor, coin: Coin, dim: int) -> PaperCost | None:
    """Return None for PermK as well, whose p depends on the number of workers."""
    cost, omega = compressor.paper_cost(dim), compressor.omega(dim)
    if cost is None or omega is None or isinstance(compressor, PermK):
        return None
    p = coin.probability(omega, 1)
    bits = round(p * 64 * dim + (1 - p) * cost.bits)
    return PaperCost(f"p 64 d + (1 - p) {cost.formula}, p = {p:.4g}", bits)


class _FullWorker(Half):
    """Remembers the "gradient" of the last round."""

    def __init__(self, compressor: Compressor, coin: Coin) -> None:
        super().__init__()
        self._compressor = compressor
        self._coin = coin

    def step(self, news: Message, oracle: Oracle, *, context: Context) -> Message:
        at = payload_of(news, "parameters").to_dense()
        gradient = oracle.gradient(at, oracle.full()).clone()
        last = self.memory.get("gradient")
        if last is None or self._coin.heads(context, len(gradient)):
            report = gradient_report(gradient)
        else:
            report = change_report(gradient - last, self._compressor, context)
        self.memory["gradient"] = gradient
        return report
