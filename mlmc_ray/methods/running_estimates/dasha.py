"""DASHA: compressed momentum differences; after the first round only compressed vectors are sent.

Worker i keeps h_i, which tracks its gradient, and g_i, what the server knows of it:

    c_i = C_i(h_i+ - h_i - a (g_i - h_i));   send c_i;   g_i <- g_i + c_i

and the server adds the average of the c_i to its own g, the average of the g_i.

References:
    Tyurin and Richtarik, 2022, arXiv:2202.01268.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from mlmc_ray.compressors.base import Compressor, Context
from mlmc_ray.compressors.permk import PermK
from mlmc_ray.methods.base import Facts, Half, OneCompressed, Oracle, ServerHalf, WorkerHalf
from mlmc_ray.methods.checks import require_unbiased
from mlmc_ray.methods.reports import payload_of
from mlmc_ray.methods.running_estimates.running_estimate import (
    Coin,
    Server,
    change_report,
    gradient_report,
    large_batch,
)
from mlmc_ray.methods.theory import (
    Setting,
    StepSize,
    averaging_in_words,
    joint_variance,
    omega_in,
    on_full_gradients,
)
from mlmc_ray.payloads import Message


@dataclass(frozen=True, kw_only=True, slots=True)
class DASHA(OneCompressed):
    """DASHA, on full gradients whatever the batch size of the configuration.

    With f_i' the gradient of worker i's whole loss, the first round sends g_i = h_i = f_i'(x_0) as
    it is, and every other one has

        h_i+ = f_i'(x+);   send c_i = C_i(h_i+ - h_i - a (g_i - h_i));   g_i <- g_i + c_i
        g <- g + average of the c_i

    so that g is the average of the g_i. An MLMC compressor computes its law from the vector in
    C_i. Without compression it is gradient descent.

    Args:
        compressor: unbiased.
        momentum: a, above 0 and at most 1; None for 1 / (2 omega + 1), that of the theory.

    References:
        Tyurin and Richtarik, 2022, arXiv:2202.01268, algorithm 1.
    """

    compressor: Compressor
    momentum: float | None = None

    facts: ClassVar[Facts] = Facts(
        compressor="unbiased",
        uplink="C",
        downlink="d",
        reports=("gradient", "change"),
        first="d up",
        worker_memory="2 d",
        server_memory="d",
        guarantee="linear under the Polyak-Lojasiewicz condition and O(1/T) of |grad f|^2 "
        "otherwise, with full gradients",
        reference="Tyurin and Richtarik, 2022, arXiv:2202.01268",
    )

    def __post_init__(self) -> None:
        check_settings("dasha", self.compressor, self.momentum)

    def theory(self, setting: Setting) -> StepSize:
        """1 / (L + L~ sqrt(2 A (4 omega + 1))), A = omega / M, for a non-convex f.

        Where f is Polyak-Lojasiewicz, min(1 / (L + L~ sqrt(4 A (6 omega + 1))), a / (2 mu)).

        With perm-k, A = 1 where d >= M.

        The constants follow from E|e_i+|^2 <= (1 - a)|e_i|^2 + 2 omega |h_i+ - h_i|^2, summed over
        i, for e_i = g_i - h_i, and E|e+|^2 <= (1 - a)|e|^2 + 2 A mean(a^2|e_i|^2 + |h_i+ - h_i|^2)
        for the average e; the paper has 16 omega (2 omega + 1) / M under the root.
        """
        omega = theory_omega(setting, self.compressor, self.momentum)
        spread, _ = joint_variance(setting, self.compressor)
        constants, mu = setting.constants, setting.constants.strong_convexity
        root = constants.mean_smoothness * math.sqrt(2 * spread * (4 * omega + 1))
        if not mu:
            step = StepSize(
                1 / (constants.smoothness + root),
                f"1 / (L + L~ sqrt(2 A (4 omega + 1))), {_spread_in_words(self.compressor)}",
                "the mean of |grad f|^2 over T rounds is at most 2 (f(x0) - inf f) / (step T)",
            )
            return on_full_gradients(step)
        root = constants.mean_smoothness * math.sqrt(4 * spread * (6 * omega + 1))
        step = StepSize(
            min(1 / (constants.smoothness + root), 1 / ((2 * omega + 1) * 2 * mu)),
            "min(1 / (L + L~ sqrt(4 A (6 omega + 1))), a / (2 mu)), "
            + _spread_in_words(self.compressor),
            "E f(x) - f* shrinks by 1 - step mu a round",
        )
        return on_full_gradients(step)

    def worker(self) -> WorkerHalf:
        """Make the half of one worker."""
        return Worker(self.compressor, self.momentum)

    def server(self, parameters: Tensor) -> ServerHalf:
        """Make the server's half."""
        return Server(parameters)


def _spread_in_words(compressor: Compressor) -> str:
    if isinstance(compressor, PermK):
        return "A = 1 where d >= M"
    return "A = omega / M" + averaging_in_words(compressor)


def check_settings(name: str, compressor: Compressor, momentum: float | None) -> None:
    """Refuse a biased compressor, and a momentum that is none.

    Raises:
        ValueError: names the method or the field, and quotes the value.
    """
    require_unbiased(name, compressor)
    if momentum is not None and not 0 < momentum <= 1:
        raise ValueError(
            f"momentum is {momentum!r}: give a number above 0 and at most 1, or leave it out for "
            "the theory's"
        )


def theory_omega(setting: Setting, compressor: Compressor, momentum: float | None) -> float:
    """Return omega.

    Raises:
        ValueError: it is not known, or the momentum is not the one that belongs to it.
    """
    omega = setting.omega(compressor)
    own = 1 / (2 * omega + 1)
    if momentum is not None and not math.isclose(momentum, own):
        raise ValueError(
            f"momentum is {momentum!r}: a step size is known for 1 / (2 omega + 1), which is "
            f"{own:.6g}; leave it out"
        )
    return omega


class Worker(Half):
    """Remembers h_i, the "gradient", and g_i, what is "known" of it.

    Args:
        compressor: unbiased.
        momentum: a; None for 1 / (2 omega + 1).
        mega_batch: examples of a gradient that is sent as it is; None for all.
        coin: heads ask for gradients as they are; None to do so in the first round alone.
    """

    def __init__(
        self,
        compressor: Compressor,
        momentum: float | None,
        mega_batch: int | None = None,
        coin: Coin | None = None,
    ) -> None:
        super().__init__()
        self._compressor = compressor
        self._momentum = momentum
        self._mega_batch = mega_batch
        self._coin = coin

    def step(self, news: Message, oracle: Oracle, *, context: Context) -> Message:
        """Send a gradient, or how far its trace has moved."""
        at = payload_of(news, "parameters").to_dense()
        heads = self._coin is not None and self._coin.heads(context, len(at))
        if heads or not self.memory:
            gradient = oracle.gradient(at, large_batch(oracle, self._mega_batch)).clone()
            self.memory = {"gradient": gradient, "known": gradient.clone()}
            return gradient_report(gradient)
        tracked = self._tracked(at, oracle, context)
        change = tracked - self.memory["gradient"]
        report = self._send(change, context, share=1.0)
        self.memory["gradient"] = tracked
        return report

    def _tracked(self, at: Tensor, oracle: Oracle, context: Context) -> Tensor:
        """Return h_i+, shape (d,), new."""
        return oracle.gradient(at, oracle.full()).clone()

    def _send(self, change: Tensor, context: Context, share: float) -> Message:
        """Report C((change - a (g_i - h_i)) / share), and add it to g_i; ``change`` is used up."""
        momentum = self._momentum
        if momentum is None:
            momentum = share / (2 * omega_in(self._compressor, context, len(change)) + 1)
        known = self.memory["known"]
        change.sub_(known - self.memory["gradient"], alpha=momentum).div_(share)
        report = change_report(change, self._compressor, context)
        report.payloads["change"].add_to(known)
        return report
