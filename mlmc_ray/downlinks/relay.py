"""Relay: the reports of the round go to every worker, whose replica takes the same step."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from mlmc_ray.compressors import Context
from mlmc_ray.downlinks.backlog import Backlog
from mlmc_ray.downlinks.base import (
    Downlink,
    Receiver,
    Sender,
    check_news,
    check_waits,
    with_parameters,
)
from mlmc_ray.downlinks.state import load_message, state_message
from mlmc_ray.errors import RoundError, one_line
from mlmc_ray.methods import Method
from mlmc_ray.methods.base import News
from mlmc_ray.payloads import Message
from mlmc_ray.replica import Replica
from mlmc_ray.saving import read, written
from mlmc_ray.wire import decode, encode
from mlmc_ray.wire.bundles import Bundle, decode_bundle, digest_of, encode_bundle, is_bundle


@dataclass(frozen=True, kw_only=True, slots=True)
class RelayDownlink(Downlink):
    """All reports of a round, to every worker: it takes the server's step for itself.

    Exact: every process that hosts workers has a replica of the server's parameters, optimizer and
    method, and works as much as the server for it. Short where M reports are shorter than the
    parameters; where they are not, a full copy is sent, with all that optimizer and method
    remember.

    Replicas can come to differ, on processors that round differently for one. Now and then, and to
    every worker with its first news, the server says a digest of its parameters and running
    statistics; who finds another asks for a full copy. What method and optimizer remember is not in
    it, and shows in the parameters.

    Args:
        digest_every: rounds between digests, of 8 bytes, for workers that have had their first.
    """

    digest_every: int = 50

    def __post_init__(self) -> None:
        if self.digest_every < 1:
            raise ValueError(f"digest_every is {self.digest_every!r}: give at least 1 round")

    def check(self, method: Method) -> None:
        """Refuse methods that send more than parameters, or are asynchronous.

        Raises:
            ValueError: says why.
        """
        check_waits("relay", method)
        check_news("relay", method)

    def sender(self, replica: Replica) -> Sender:
        """Make the server's side, which remembers the last reports."""
        return _Sender(replica, self.digest_every)

    def receiver(self, replica: Callable[[], Replica], max_dim: int) -> Receiver:
        """Make a side of the workers, which remembers as much as a server."""
        return _Receiver(replica, max_dim)


class _Sender(Sender):
    replicates = True

    def __init__(self, replica: Replica, digest_every: int) -> None:
        self._replica = replica
        self._digest_every = digest_every
        self._rounds = Backlog[Mapping[int, bytes]](4 * len(replica.parameters))
        self._digest: tuple[int, bytes] = (-1, b"")  # with its round

    def open(self, round_index: int, context: Context) -> None:
        """Look at the start: what no full copy can hold is refused now, not when one is needed."""
        if not round_index:
            copy = state_message(self._replica, lacking=False)
            self._rounds.most_bytes = 4 * sum(payload.dim for payload in copy.payloads.values())

    def frame(
        self, news: Message, round_index: int, since: int | None, *, confirmed: bool
    ) -> bytes:
        rounds = None if since is None else self._rounds.of(since, round_index - 1)
        if since is None or rounds is None:
            full = encode(state_message(self._replica, lacking="buffers" in news.payloads))
            self._rounds.most_bytes = len(full)
            return full
        due = not confirmed or round_index % self._digest_every == 0
        digest = self._digest_in(round_index) if due else None
        return encode_bundle(Bundle(since=since, rounds=rounds, digest=digest))

    def _digest_in(self, round_index: int) -> bytes:
        if self._digest[0] != round_index:
            self._digest = (round_index, _digest(self._replica))
        return self._digest[1]

    def more(self) -> None:
        raise RoundError(
            "downlink is relay, which knows rounds of one exchange, and the method's have several: "
            "give downlink: full"
        )

    def close(self, round_index: int, frames: Mapping[int, bytes | memoryview]) -> None:
        num_bytes = sum(memoryview(frame).nbytes for frame in frames.values())
        short = num_bytes < self._rounds.most_bytes
        kept = {i: bytes(frame) for i, frame in frames.items()} if short else {}
        self._rounds.add(round_index, kept, num_bytes)

    def copies(self) -> dict[str, Any]:
        return {"rounds": self._rounds.state(_written)}

    def load_copies(self, state: Mapping[str, Any]) -> None:
        self._rounds.load(state["rounds"], _read)


def _written(frames: Mapping[int, bytes]) -> dict[int, Tensor]:
    return {i: written(frame) for i, frame in frames.items()}


def _read(frames: Mapping[int, Tensor]) -> dict[int, bytes]:
    return {i: read(frame) for i, frame in frames.items()}


def _digest(replica: Replica) -> bytes:
    return digest_of(replica.parameters, replica.statistics)


class _Receiver(Receiver):
    def __init__(self, make: Callable[[], Replica], max_dim: int) -> None:
        self._make = make
        self._max_dim = max_dim
        self._replica: Replica | None = None
        self._round_index = 0  # of the replica
        self._news: News = {}
        self._known: dict[int, int] = {}  # which statistics, by worker

    def take(
        self,
        round_index: int,
        exchange_index: int,
        frame: bytes | memoryview,
        workers: Collection[int],
    ) -> News | None:
        if not is_bundle(frame):
            return self._begin(decode(frame, max_dim=self._max_dim), round_index, workers)
        bundle = decode_bundle(frame)
        if bundle.since + len(bundle.rounds) != round_index:
            raise RoundError(
                f"the server's news: rounds {bundle.since} to "
                f"{bundle.since + len(bundle.rounds) - 1} are relayed, in round {round_index}"
            )
        if self._replica is None and bundle.since == 0 and bundle.digest is not None:
            self._replica = self._make()
            self._arrive(self._replica, 0)
        replica = self._replica
        if replica is None or not bundle.since <= self._round_index <= round_index:
            return None
        for reports in bundle.rounds[self._round_index - bundle.since :]:
            self._step(replica, reports)
        if bundle.digest is not None and bundle.digest != _digest(replica):
            self._replica = None
            return None
        return self._news

    def _begin(self, message: Message, round_index: int, workers: Collection[int]) -> News:
        """Go on from a full copy."""
        self._replica = replica = self._make()
        if not load_message(replica, message):
            self._known.update(dict.fromkeys(workers, replica.num_averages))
        return self._arrive(replica, round_index)

    def _step(self, replica: Replica, frames: Mapping[int, bytes]) -> None:
        reports = {i: decode(frame, max_dim=self._max_dim) for i, frame in frames.items()}
        try:
            replica.estimate(reports, self._round_index, 0)
            replica.step(replica.squared_norm, self._round_index)
        except (RuntimeError, ArithmeticError, LookupError, TypeError, ValueError) as error:
            raise RoundError(
                f"round {self._round_index}: the step of the relayed reports cannot be taken from "
                f"the state that the server has sent: {one_line(error)}"
            ) from error
        self._arrive(replica, self._round_index + 1)

    def _arrive(self, replica: Replica, round_index: int) -> News:
        """Let the replica's half make the news of its round, as the server's does."""
        self._round_index = round_index
        news = replica.news(round_index, 0)
        parameters = replica.parameters.clone()  # workers may keep what they are given
        if isinstance(news, Message):
            self._news = with_parameters(news, parameters)
        else:
            self._news = {i: with_parameters(news[i], parameters) for i in news}
        return self._news

    def load_copy(self, server: Mapping[str, Any]) -> None:
        self._replica = replica = self._make()
        replica.load_state_dict(server)
        replica.statistics = server["statistics_now"].clone()
        self._known = dict(server["known_statistics"])
        self._arrive(replica, server["round_index"])

    def statistics_for(self, worker_id: int) -> Tensor | None:
        replica = self._replica
        if replica is None or self._known.get(worker_id, 0) >= replica.num_averages:
            return None
        self._known[worker_id] = replica.num_averages
        return replica.statistics
