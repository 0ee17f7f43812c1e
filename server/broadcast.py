"""The news of a round as frames, one for every worker that is asked."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from mlmc_ray.downlinks import FullDownlink
from mlmc_ray.errors import NonFiniteError, RoundError, WireError
from mlmc_ray.methods.base import News
from mlmc_ray.payloads import DensePayload, Message
from mlmc_ray.plan import RunPlan
from mlmc_ray.replica import Replica


class Broadcast:
    """Makes frames of news, and knows what every worker has.

    Args:
        plan: of the run.
        replica: the server's own.

    Attributes:
        known_statistics: by worker, which average of the running statistics it has.
        lacking: workers of the open round that have asked for a full copy.
        in_full: whether the paper's formula for parameters in full is that of the frames.
    """

    def __init__(self, plan: RunPlan, replica: Replica) -> None:
        self._replica = replica
        self._num_workers = plan.num_workers
        self._sender = plan.downlink.sender(replica)
        self._round_index = 0
        self._news: Mapping[int, Message] = {}
        # By worker, of which round its copy is, if it has one; every process can make that of 0.
        self._copies = dict.fromkeys(range(plan.num_workers), 0)
        self._confirmed: set[int] = set()  # workers that have used a copy
        self._statistics: DensePayload | None = None
        self.known_statistics = dict.fromkeys(range(plan.num_workers), 0)
        self.lacking: set[int] = set()
        self.in_full = isinstance(plan.downlink, FullDownlink)

    def open(self, round_index: int, exchange_index: int, statistics: Callable[[], Tensor]) -> None:
        """Begin an exchange.

        Args:
            round_index: counted from 0.
            exchange_index: of the round.
            statistics: returns the running statistics, for workers that lack the newest.

        Raises:
            RoundError: settings of the method or of the downlink do not fit.
        """
        self._round_index = round_index
        if not exchange_index:
            self._begin(round_index)
        news = self._new_news(round_index, exchange_index)
        if isinstance(news, Message):
            news = dict.fromkeys(range(self._num_workers), news)
        self._news = news
        lack = any(self.known_statistics[i] < self._replica.num_averages for i in news)
        self._statistics = DensePayload(statistics()) if lack else None

    def _new_news(self, round_index: int, exchange_index: int) -> News:
        """Return the half's news, which must not change what it remembers where it is replicated.

        That is looked at until somebody has used a copy.
        """
        if self._confirmed or not self._sender.replicates:
            return self._replica.news(round_index, exchange_index)
        before = self._replica.memory()
        news = self._replica.news(round_index, exchange_index)
        after = self._replica.memory()
        same = before.keys() == after.keys()
        if not same or not all(torch.equal(before[name], after[name]) for name in before):
            raise RoundError(
                "downlink is relay, and the method's news change what its server half remembers, "
                "so that another half would not make the same: change it in step, or give "
                "downlink: full"
            )
        return news

    def _begin(self, round_index: int) -> None:
        try:
            self._sender.open(round_index, self._replica.context(round_index, 0, role="downlink"))
        except (ValueError, WireError, NonFiniteError) as error:
            raise RoundError(f"round {round_index}: downlink: {error}") from error

    def frames(self) -> dict[int, bytes]:
        """Return the frames of the exchange, by worker, in worker order.

        Those for workers that get the same are the same object. Only workers that have asked for a
        full copy, if some have, are among them.

        Raises:
            RoundError: the news cannot be encoded.
        """
        return self._frames(self.lacking or self._news)

    def anew(self, workers: Iterable[int]) -> dict[int, bytes]:
        """Return frames of the exchange for workers that have lost what they were sent before.

        Raises:
            RoundError: the news cannot be encoded.
        """
        lost = set(workers)
        self._confirmed -= lost
        for worker_id in lost:
            self._copies.pop(worker_id, None)
        return self._frames(lost)

    def _frames(self, workers: Iterable[int]) -> dict[int, bytes]:
        made: dict[tuple[int, bool, int | None, bool], bytes] = {}
        frames = {}
        for worker_id in sorted(workers):
            news = self._news[worker_id]
            lacks = self.known_statistics[worker_id] < self._replica.num_averages
            since = self._copies.get(worker_id) if self._sender.uses_copies else None
            confirmed = since is None or worker_id in self._confirmed
            key = (id(news), lacks, since, confirmed)
            if key not in made:
                frame = self._frame(news, lacks, since, confirmed=confirmed)
                alike = (made[other] for other in made if other[:2] == key[:2])
                made[key] = next((other for other in alike if other == frame), frame)
            frames[worker_id] = made[key]
        return frames

    def _frame(self, news: Message, lacks: bool, since: int | None, *, confirmed: bool) -> bytes:
        if lacks and self._statistics is not None:
            news = Message({**news.payloads, "buffers": self._statistics}, news.scalars)
        try:
            return self._sender.frame(news, self._round_index, since, confirmed=confirmed)
        except (WireError, NonFiniteError) as error:
            raise RoundError(f"round {self._round_index}: the server's news: {error}") from error

    def send_again(self, workers: Iterable[int]) -> str:
        """Let the next frames be full copies for some workers; return a line about it.

        Raises:
            RoundError: one has got a full copy in this round already.
        """
        asking = set(workers)
        if twice := sorted(asking & self.lacking):
            raise RoundError(
                f"round {self._round_index}: workers {twice} were sent a full copy, and ask for "
                "another: server and workers must have the same downlink"
            )
        self.lacking = asking
        for worker_id in asking:
            self._copies.pop(worker_id, None)
        return (
            f"round {self._round_index}: workers {sorted(asking)} have no copy of the parameters, "
            "or not that of the server: they are sent a full one"
        )

    def answered(self, workers: Mapping[int, int]) -> None:
        """Note who has used the news of the round, each with the statistics that it was sent."""
        self.known_statistics.update(workers)
        self._copies.update(dict.fromkeys(workers, self._round_index))
        self._confirmed.update(workers)

    def close(self, frames: Mapping[int, bytes | memoryview], *, more: bool) -> None:
        """End an exchange, in which these reports have come.

        Raises:
            RoundError: the round goes on, and the downlink has no way to.
        """
        self.lacking = set()
        if more:
            self._sender.more()
        else:
            self._sender.close(self._round_index, frames)

    def state_dict(self) -> dict[str, Tensor]:
        """Return a copy of what the downlink must not lose."""
        return self._sender.state_dict()

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Restore what ``state_dict`` returned; every worker is sent a full copy next."""
        self._copies = {}
        if state:
            self._sender.load_state_dict(state)

    def copies(self) -> dict[str, Any]:
        """Return which copies workers have, and what goes on from them; empty if none count."""
        if not self._sender.uses_copies or not self._copies:
            return {}
        return {
            "of_workers": dict(self._copies),
            "confirmed": sorted(self._confirmed),
            "sender": self._sender.copies(),
        }

    def load_copies(self, state: Mapping[str, Any]) -> None:
        """Restore what ``copies`` returned, after ``load_state_dict``: no full copies are sent."""
        if state:
            self._copies = dict(state["of_workers"])
            self._confirmed = set(state["confirmed"])
            self._sender.load_copies(state["sender"])
