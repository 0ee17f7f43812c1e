"""Partial participation: every round asks some of the workers, drawn at random."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

from torch import Tensor

from mlmc_ray.compressors.base import Context, PaperCost
from mlmc_ray.methods.base import Facts, Method, News, Oracle, Progress, ServerHalf, WorkerHalf
from mlmc_ray.methods.shared_draws import drawn_workers
from mlmc_ray.payloads import Message


@dataclass(frozen=True, kw_only=True, slots=True)
class PartialParticipation(Method):
    """Another method, of which each round asks ``participants`` workers, uniformly at random.

    Those that are not asked get nothing, send nothing and remember what they remembered.

    Args:
        method: one whose rounds may do without some of the workers.
        participants: how many are asked, at least 1.

    References:
        For memoryless methods it is a compressor that sends with probability p, scaled by 1/p, of
        omega (1 + omega) / p - 1. EF21: Fatkhullin et al., 2021, arXiv:2110.03294.
    """

    method: Method
    participants: int

    facts: ClassVar[Facts] = Facts(
        compressor="any",
        uplink="as the method, from the participants",
        downlink="as the method, to the participants",
        news=(),
        worker_memory="as the method",
        server_memory="as the method",
        guarantee="as the method's, with omega (1 + omega) / p - 1 where it is unbiased",
        reference="Fatkhullin et al., 2021, arXiv:2110.03294 (EF21-PP)",
    )

    def __post_init__(self) -> None:
        if self.participants < 1:
            raise ValueError(f"participants is {self.participants!r}: ask at least 1 worker")
        if not self.method.allows_absence:
            raise ValueError(
                f"method is {type(self.method).__name__}: its rounds need every worker, or it has "
                "a way of its own to do without some"
            )

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
