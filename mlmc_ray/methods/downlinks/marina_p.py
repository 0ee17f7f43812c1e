"""MARINA-P and M3: every worker gets a compressed step of its own, and keeps its own point."""

from dataclasses import dataclass, field, replace
from typing import ClassVar

from torch import Tensor

from mlmc_ray.compressors.base import Compressor, Context, PaperCost, bound
from mlmc_ray.compressors.permk import PermK
from mlmc_ray.methods.base import Facts, Method, News, ServerHalf, WorkerHalf
from mlmc_ray.methods.checks import check_share, require_unbiased
from mlmc_ray.methods.compressed_sgd import DataParallelSGD
from mlmc_ray.methods.downlinks.halves import DownlinkServer, MirrorWorker
from mlmc_ray.methods.running_estimates.marina import MARINA, marina_step
from mlmc_ray.methods.shared_draws import shared_coin
from mlmc_ray.methods.theory import Setting, StepSize, for_full_gradients, omega_in
from mlmc_ray.observing import observed
from mlmc_ray.payloads import DensePayload, Message
from mlmc_ray.seeding import generator_for, seed_for


@dataclass(frozen=True, kw_only=True, slots=True)
class MarinaP(Method):
    """Send every worker the server's step, compressed for it alone; gradients come up as they are.

    Worker i keeps a point w_i, x_0 at first. A round is

        server: with probability p send x;         w_i <- x
                else send worker i C_i(x - x'),    w_i <- w_i + C_i(x - x'),  x' the x of before
        worker i: send grad f_i(w_i)
        server: x <- x - step times the average of these

    With PermK the average of the w_i is x in every round, although each worker gets d/M numbers.
    Every worker takes part in every round: one that missed a change would be lost until the next
    whole x. The server takes the step, so it may be that of any optimizer.

    Args:
        downlink: C_i, unbiased; used for each worker in turn, with its identity and its own draws.
        p: above 0 and at most 1; by default 1 / (1 + omega), which for PermK and Rand-k is the
            share of the entries that C_i sends.

    References:
        Gruntkowska, Tyurin and Richtarik, 2024, arXiv:2402.06412.
    """

    downlink: Compressor = field(default_factory=PermK)
    p: float | None = None

    own_points: ClassVar[bool] = True
    facts: ClassVar[Facts] = Facts(
        compressor="unbiased",
        uplink="d",
        downlink="d with probability p, else C_i",
        news=("parameters", "change"),
        reports=("gradient",),
        first="d down",
        worker_memory="d",
        server_memory="d",
        guarantee="linear for a strongly convex f and full gradients, O(1/T) of |grad f|^2 "
        "otherwise",
        reference="Gruntkowska et al., 2024, arXiv:2402.06412",
    )

    def __post_init__(self) -> None:
        require_unbiased("marina-p", self.downlink, "downlink")
        check_share("p", self.p)

    def theory(self, setting: Setting) -> StepSize:
        """1 / (L + L~ sqrt(c omega)), c = (1 - p) / p.

        Where f is strongly convex, min(1 / (L + L~ sqrt(2 c omega)), p / (2 mu)).

        It holds for any unbiased compressors. PermK allows 1 / L where the workers' functions are
        quadratics of the same Hessian, which the constants do not say.
        """
        omega = setting.omega(self.downlink)
        p = 1 / (1 + omega) if self.p is None else self.p
        variance = omega * setting.constants.mean_smoothness**2
        return for_full_gradients(marina_step(setting, p, variance, "omega L~^2"), setting)

    def worker(self) -> WorkerHalf:
        """Make the half of one worker."""
        return MirrorWorker(DataParallelSGD().worker())

    def server(self, parameters: Tensor) -> ServerHalf:
        """Make the server's half."""
        uplink = DataParallelSGD().server(parameters)
        return _Server(uplink, parameters, self.downlink, self.p)

    def paper_cost(self, dim: int) -> PaperCost | None:
        """One number per parameter."""
        return DataParallelSGD().paper_cost(dim)


@dataclass(frozen=True, kw_only=True, slots=True)
class M3(Method):
    """MARINA-P down and MARINA up: both directions compressed, each with a coin of its own.

    Worker i keeps w_i as in MARINA-P and evaluates at a mixture z_i; both are x_0 at first. A round
    is

        server: with probability p_P send x, else send worker i C_i(x - x'), x' the x of before
        worker i: w_i <- x or w_i + C_i(x - x');  z' <- z_i;  z_i <- b w_i + (1 - b) z_i
        worker i: with probability p_D send grad f_i(z_i), else D_i(grad f_i(z_i) - grad f_i(z'))
        server: g <- the average, or g + the average;  x <- x - step g

    with b = min(1, (M / (omega_D (omega_D + 1) omega_P))^(1/3)), omega_P being that of C_i and
    omega_D that of D_i. Every worker takes part in every round, as in MARINA-P.

    Args:
        compressor: D_i, unbiased.
        downlink: C_i, unbiased.
        p: p_D, above 0 and at most 1; by default MARINA's.
        downlink_p: p_P, above 0 and at most 1; by default MARINA-P's.
        mixing: b, above 0 and at most 1; by default the formula's.

    References:
        Gruntkowska, Tyurin and Richtarik, 2024, arXiv:2402.06412.
    """

    compressor: Compressor
    downlink: Compressor = field(default_factory=PermK)
    p: float | None = None
    downlink_p: float | None = None
    mixing: float | None = None

    own_points: ClassVar[bool] = True
    facts: ClassVar[Facts] = Facts(
        compressor="unbiased",
        uplink="d with probability p_D, else C",
        downlink="d with probability p_P, else C_i",
        news=("parameters", "change"),
        reports=("gradient", "change"),
        first="d down, d up",
        worker_memory="3 d",
        server_memory="2 d",
        guarantee="O(1/T) of |grad f|^2 with full gradients, for a step to be found by trial",
        reference="Gruntkowska et al., 2024, arXiv:2402.06412",
    )

    def __post_init__(self) -> None:
        self.marina()
        require_unbiased("m3", self.downlink, "downlink")
        check_share("downlink_p", self.downlink_p)
        check_share("mixing", self.mixing)

    def worker(self) -> WorkerHalf:
        """Make the half of one worker."""
        return _MixingWorker(self)

    def server(self, parameters: Tensor) -> ServerHalf:
        """Make the server's half."""
        uplink = self.marina().server(parameters)
        return _Server(uplink, parameters, self.downlink, self.downlink_p)

    def marina(self) -> MARINA:
        """Return the method of the uplink, which checks the compressor and p_D."""
        return MARINA(compressor=self.compressor, p=self.p)


class _MixingWorker(MirrorWorker):
    """Remembers w_i, "parameters", and z_i, "mixture"."""

    def __init__(self, method: M3) -> None:
        super().__init__(method.marina().worker())
        self._method = method

    def point(self, news: Message, context: Context) -> Tensor:
        parameters = super().point(news, context)
        if "mixture" not in self.memory:
            self.memory["mixture"] = parameters.clone()
        return self.memory["mixture"].lerp_(parameters, self._mixing(context, len(parameters)))

    def _mixing(self, context: Context, dim: int) -> float:
        if self._method.mixing is not None:
            return self._method.mixing
        up = omega_in(self._method.compressor, context, dim)
        down = omega_in(self._method.downlink, context, dim, "downlink")
        noise = up * (up + 1) * down
        return min(1.0, (context.num_workers / noise) ** (1 / 3)) if noise else 1.0


class _Server(DownlinkServer):
    """Remembers the point of the last news, "sent"."""

    def __init__(
        self,
        uplink: ServerHalf,
        parameters: Tensor,
        downlink: Compressor,
        p: float | None,
    ) -> None:
        super().__init__(uplink)
        self._parameters = parameters
        self._downlink = downlink
        self._p = p

    def news(self, *, context: Context) -> News:
        if self.memory and not self._whole(context):
            change = self._parameters - self.memory["sent"]
            self.memory["sent"].copy_(self._parameters)
            return self._changes(change, context)
        self.memory["sent"] = self._parameters.clone()
        return Message({"parameters": DensePayload(self._parameters)})

    def _whole(self, context: Context) -> bool:
        p = self._p
        if p is None:
            p = 1 / (1 + omega_in(self._downlink, context, len(self._parameters), "downlink"))
        return shared_coin(context, "downlink", p)

    def _changes(self, change: Tensor, context: Context) -> dict[int, Message]:
        """Compress the change for each worker, with draws that have nothing to do with its own."""
        seed = seed_for(context.shared_seed, "downlink")
        news = {}
        for i in range(context.num_workers):
            generator = generator_for(seed, i)
            place = replace(context, worker_id=i, shared_seed=seed, generator=generator)
            payload = observed(bound(self._downlink, place)).compress(change, generator=generator)
            news[i] = Message({"change": payload})
        return news
