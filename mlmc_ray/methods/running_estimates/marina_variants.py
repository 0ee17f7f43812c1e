"""MARINA on minibatches (VR-MARINA), and with some of the workers a round (PP-MARINA).

References:
    Gorbunov, Burlachenko, Li and Richtarik, 2021, arXiv:2102.07845.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

from torch import Tensor

from mlmc_ray.compressors.base import Compressor, Context, PaperCost
from mlmc_ray.compressors.permk import PermK
from mlmc_ray.methods.base import Facts, Half, Method, Oracle, ServerHalf, WorkerHalf
from mlmc_ray.methods.checks import check_at_least_1
from mlmc_ray.methods.reports import payload_of
from mlmc_ray.methods.running_estimates.marina import (
    check_settings,
    difference_variance,
    expected_cost,
    marina_step,
)
from mlmc_ray.methods.running_estimates.running_estimate import (
    Coin,
    PartialServer,
    Server,
    batch_variance,
    change_report,
    difference,
    gradient_report,
    large_batch,
)
from mlmc_ray.methods.theory import ON_BATCHES, Setting, StepSize, joint_variance, on_full_gradients
from mlmc_ray.payloads import Message


@dataclass(frozen=True, kw_only=True, slots=True)
class VRMARINA(Method):
    """VR-MARINA: MARINA with minibatches in the differences.

    As ``MARINA``, with C_i(f_i'(x+, batch) - f_i'(x, batch)): both gradients are on one minibatch
    of the configured size, drawn by the worker in that round. What is sent as it is, in the first
    round and with probability p, is the gradient on all examples (finite sums), or on
    ``mega_batch`` new ones (online).

    Args:
        compressor: unbiased.
        p: the probability that gradients are sent as they are. Finite sums: required, at most
            b / (m + b) for b examples of m in a minibatch. Online: None for the smaller of
            1 / (1 + omega) and 1 / (1 + mega_batch).
        mega_batch: examples; None for all.

    References:
        Gorbunov et al., 2021, arXiv:2102.07845, algorithms 2 and 3.
    """

    compressor: Compressor
    p: float | None = None
    mega_batch: int | None = None

    facts: ClassVar[Facts] = Facts(
        compressor="unbiased",
        uplink="C, or d with probability p",
        downlink="d",
        reports=("gradient", "change"),
        first="d up",
        worker_memory="d",
        server_memory="d",
        guarantee="linear under the Polyak-Lojasiewicz condition and O(1/T) of |grad f|^2 "
        "otherwise; with a mega-batch to a floor of sigma^2 / (M mega_batch)",
        reference="Gorbunov et al., 2021, arXiv:2102.07845",
    )

    def __post_init__(self) -> None:
        check_settings("vr-marina", self.compressor, self.p)
        check_at_least_1("mega_batch", self.mega_batch, "example")
        if self.p is None and self.mega_batch is None:
            raise ValueError(
                "p is None: without a mega_batch its default would need to know how many examples "
                "m a worker has; give b / (m + b) for minibatches of b, or 1 / (1 + omega) where "
                "that is less"
            )

    def theory(self, setting: Setting) -> StepSize:
        """MARINA's, V being larger by (1 + omega) L_examples^2 / (M batch_size)."""
        p = self._coin().probability(setting.omega(self.compressor), setting.num_workers)
        variance, words = difference_variance(setting, self.compressor)
        first, second = joint_variance(setting, self.compressor)
        noise = first + (1 - second) / setting.num_workers
        perm = isinstance(self.compressor, PermK)
        words += " + sigma^2" if perm else " + (1 + omega) sigma^2 / M"
        words += ", sigma^2 = L_examples^2 / batch_size"
        step = marina_step(setting, p, variance + noise * batch_variance(setting), words)
        guarantee = f"{step.guarantee}, {ON_BATCHES}"
        if self.mega_batch is not None:
            guarantee += ", to a floor that the variance of the mega-batch leaves"
        return replace(step, guarantee=guarantee)

    def worker(self) -> WorkerHalf:
        """Make the half of one worker."""
        return _BatchWorker(self.compressor, self._coin(), self.mega_batch)

    def server(self, parameters: Tensor) -> ServerHalf:
        """Make the server's half."""
        return Server(parameters, self._coin())

    def paper_cost(self, dim: int) -> PaperCost | None:
        """What is expected of a report: p times 64 d, and 1 - p times the compressor's."""
        return expected_cost(self.compressor, self._coin(), dim)

    def _coin(self) -> Coin:
        most = 1.0 if self.mega_batch is None else 1 / (1 + self.mega_batch)
        return Coin(self.compressor, self.p, most=most)


@dataclass(frozen=True, kw_only=True, slots=True)
class PPMARINA(Method):
    """PP-MARINA: only some workers, drawn anew every round, send differences.

    As ``MARINA``, on full gradients; but where the coin shows tails, r workers drawn uniformly and
    without replacement are asked, and

        g+ <- g + average over these r of the C_i(f_i'(x+) - f_i'(x))

    Where it shows heads, and in the first round, all workers send their gradients. Workers remember
    nothing: participants get x too, for they may have missed the last round.

    Args:
        compressor: unbiased.
        participants: r, at least 1.
        p: the probability that gradients are sent as they are; None for (r / M) / (1 + omega).

    References:
        Gorbunov et al., 2021, arXiv:2102.07845, algorithm 4.
    """

    compressor: Compressor
    participants: int
    p: float | None = None

    facts: ClassVar[Facts] = Facts(
        compressor="unbiased",
        uplink="C from the participants, or d from all with probability p",
        downlink="2 d to the participants, or d to all with probability p",
        news=("parameters", "previous"),
        reports=("gradient", "change"),
        first="d up",
        server_memory="2 d",
        guarantee="linear under the Polyak-Lojasiewicz condition and O(1/T) of |grad f|^2 "
        "otherwise, with full gradients",
        reference="Gorbunov et al., 2021, arXiv:2102.07845",
    )

    def __post_init__(self) -> None:
        check_settings("pp-marina", self.compressor, self.p)
        check_at_least_1("participants", self.participants, "worker")

    def theory(self, setting: Setting) -> StepSize:
        """1 / (L + sqrt(c V)), c = (1 - p) / p and V = (1 + omega) L~^2 / r.

        Where f is Polyak-Lojasiewicz, min(1 / (L + sqrt(2 c V)), p / (2 mu)).

        It has L of f in the descent, and the quadratic mean L~ of the L_i in the variance of a sum
        over r workers, for which it has a proof.
        """
        omega = setting.omega(self.compressor)
        p = self._coin().probability(omega, setting.num_workers)
        variance = (1 + omega) * setting.constants.mean_smoothness**2 / self.participants
        return on_full_gradients(marina_step(setting, p, variance, "(1 + omega) L~^2 / r"))

    def worker(self) -> WorkerHalf:
        """Make the half of one worker."""
        return _PartWorker(self.compressor)

    def server(self, parameters: Tensor) -> ServerHalf:
        """Make the server's half."""
        return _PartServer(parameters, self.participants, self._coin())

    def _coin(self) -> Coin:
        return Coin(self.compressor, self.p, participants=self.participants)


class _BatchWorker(Half):
    """Remembers the "parameters" of the last round."""

    def __init__(self, compressor: Compressor, coin: Coin, mega_batch: int | None) -> None:
        super().__init__()
        self._compressor = compressor
        self._coin = coin
        self._mega_batch = mega_batch

    def step(self, news: Message, oracle: Oracle, *, context: Context) -> Message:
        at = payload_of(news, "parameters").to_dense()
        last = self.memory.get("parameters")
        if last is None or self._coin.heads(context, len(at)):
            gradient = oracle.gradient(at, large_batch(oracle, self._mega_batch))
            report = gradient_report(gradient)
        else:
            change = difference(oracle, oracle.sample(), at, last)
            report = change_report(change, self._compressor, context)
        self.memory["parameters"] = at.clone()
        return report


class _PartWorker(Half):
    """Remembers nothing: the news say where it was."""

    def __init__(self, compressor: Compressor) -> None:
        super().__init__()
        self._compressor = compressor

    def step(self, news: Message, oracle: Oracle, *, context: Context) -> Message:
        at, batch = payload_of(news, "parameters").to_dense(), oracle.full()
        if "previous" not in news.payloads:
            return gradient_report(oracle.gradient(at, batch))
        previous = payload_of(news, "previous").to_dense()
        change = difference(oracle, batch, at, previous)
        return change_report(change, self._compressor, context)


class _PartServer(PartialServer):
    """Averages over those that were asked."""

    def _divisor(self, reports: Mapping[int, Message], context: Context) -> int:
        return len(reports)
