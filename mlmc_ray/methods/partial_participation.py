"""Partial participation: every round asks some of the workers, drawn at random."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from torch import Tensor

from mlmc_ray.compressors.base import Context, PaperCost
from mlmc_ray.methods.base import Facts, Method, News, Oracle, Progress, ServerHalf, WorkerHalf
from mlmc_ray.methods.error_feedback.ef21 import EF21SGDM, WITH_CONVEXITY, WITHOUT_CONVEXITY
from mlmc_ray.methods.shared_draws import drawn_workers
from mlmc_ray.methods.theory import Setting, StepSize, for_full_gradients
from mlmc_ray.payloads import Message


@dataclass(frozen=True, kw_only=True, slots=True)
class PartialParticipation(Method):
    """Another method, of which each round asks ``participants`` workers, uniformly at random.

    Those that are not asked get nothing, send nothing and remember what they remembered.

    Args:
        method: one whose rounds may do without some of the workers.
        participants: how many are asked, at least 1.

    References:
        For memoryless methods it is a compressor that sends with probability p, scaled by 1/p,
        whose omega is (1 + omega) / p - 1. EF21: Fatkhullin et al., 2021, arXiv:2110.03294.
    """

    method: Method
    participants: int

    theory_needs: ClassVar[str] = "ef21-sgdm with momentum 1"
    facts: ClassVar[Facts] = Facts(
        compressor="any",
        uplink="as the method, from the participants",
        downlink="as the method, to the participants",
        news=(),
        worker_memory="as the method",
        server_memory="as the method",
        guarantee="as the method's, with (1 + omega) / p - 1 for omega where it is unbiased, p "
        "being the share of the workers; for ef21-sgdm with momentum 1 at a smaller step",
        reference="Fatkhullin et al., 2021, arXiv:2110.03294 (EF21-PP)",
    )

    def __post_init__(self) -> None:
        if self.participants < 1:
            raise ValueError(f"participants is {self.participants!r}: ask at least 1 worker")
        if not self.method.allows_absence:
            raise ValueError(
                f"method is {type(self.method).__name__}: its rounds need every worker, or it has "
                "a way of its own to ask some; for marina there is pp-marina, for dasha dasha-pp, "
                "for compressed-scaffnew tamuna"
            )

    def theory(self, setting: Setting) -> StepSize:
        """EF21-PP's step, the largest of 1 / (L + sqrt(B / theta_p)).

        Where f is strongly convex, of min(1 / (L + sqrt(2 B / theta_p)), theta_p / (2 mu)).

        With all workers in every round, the method's own.

        Raises:
            ValueError: the method is not EF21, or no alpha is known of its compressor.
        """
        share = self.participants / setting.num_workers
        if share >= 1:
            return self.method.theory(setting)
        if not isinstance(self.method, EF21SGDM) or self.method.momentum != 1:
            raise ValueError(
                f"method is {self.method}: where a round asks some of the workers a step size is "
                "known for ef21-sgdm with momentum 1; give a number"
            )
        return ef21_pp_step(setting, setting.alpha(self.method.compressor), share)

    def worker(self) -> WorkerHalf:
        """Make the half of one worker."""
        return _Worker(self.method.worker(), self.participants)

    def server(self, parameters: Tensor) -> ServerHalf:
        """Make the server's half."""
        return _Server(self.method.server(parameters), self.participants)

    def paper_cost(self, dim: int) -> PaperCost | None:
        """The method's."""
        return self.method.paper_cost(dim)

    def largest_payload(self, dim: int) -> int:
        """The method's."""
        return self.method.largest_payload(dim)


def ef21_pp_step(setting: Setting, alpha: float, share: float) -> StepSize:
    """Return the step size of EF21 where a round asks a share p of the workers, below 1.

    With G the mean of |g_i - grad f_i(x)|^2, for any r > 0 and s > 0

        E G+ <= (1 - theta_p) G + B |x+ - x|^2
        theta_p = theta p - r (1 - p),  theta = 1 - (1 + s)(1 - alpha)
        B = (beta p + (1 + 1 / r)(1 - p)) L~^2,  beta = (1 + 1 / s)(1 - alpha)

    since a worker that is asked contracts, and g_i of another stays while its gradient moves: at 0
    until it is asked first, so that the first G is that of the g_i after the first round. The step
    is the largest over a grid of r and s with theta_p > 0, where each of them is proved.

    Args:
        setting: where.
        alpha: the contraction of the compressor.
        share: p, in (0, 1).
    """
    constants, kept = setting.constants, 1 - alpha
    inside = np.linspace(0, 1, 202)[1:-1]
    theta = alpha * inside[:, None]
    beta = kept + kept**2 / (alpha - theta)  # as (1 + s)(1 - alpha) = 1 - theta
    weight = share * theta * inside / (1 - share)  # r
    contraction = share * theta * (1 - inside)  # theta_p
    growth = beta * share + (1 + 1 / weight) * (1 - share)
    root = constants.mean_smoothness * np.sqrt(growth / contraction)
    formula, progress = "1 / (L + sqrt(B / theta_p))", WITHOUT_CONVEXITY.replace("theta", "theta_p")
    steps = 1 / (constants.smoothness + root)
    if mu := constants.strong_convexity:
        formula = "min(1 / (L + sqrt(2 B / theta_p)), theta_p / (2 mu))"
        progress = WITH_CONVEXITY
        steps = np.minimum(1 / (constants.smoothness + root * 2**0.5), contraction / (2 * mu))
    return for_full_gradients(StepSize(float(steps.max()), formula, progress), setting)


def _partly(context: Context, participants: int) -> Context:
    return replace(context, participation=participants / context.num_workers)


class _Worker:
    def __init__(self, half: WorkerHalf, participants: int) -> None:
        self._half = half
        self._participants = participants

    def step(self, news: Message, oracle: Oracle, *, context: Context) -> Message:
        return self._half.step(news, oracle, context=_partly(context, self._participants))

    def state_dict(self) -> dict[str, Tensor]:
        return self._half.state_dict()

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        self._half.load_state_dict(state)


class _Server:
    def __init__(self, half: ServerHalf, participants: int) -> None:
        self._half = half
        self._participants = participants

    def news(self, *, context: Context) -> News:
        asked = drawn_workers(context, self._participants)
        news = self._half.news(context=_partly(context, self._participants))
        return {i: news if isinstance(news, Message) else news[i] for i in asked}

    def step(self, reports: Mapping[int, Message], *, context: Context) -> Tensor | Progress:
        return self._half.step(reports, context=_partly(context, self._participants))

    def state_dict(self) -> dict[str, Tensor]:
        return self._half.state_dict()

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        self._half.load_state_dict(state)
