"""The shape of a downlink.

A method's server half says where the workers are to compute: the parameters, every time in full. A
downlink is another way to say the same, or nearly the same, in fewer bytes. It has two sides: the
sender is with the server, and a receiver with every process that hosts workers.

What a receiver has got is a *copy*, known by the round whose news it was. The copy of round 0 every
process makes for itself, since the start of a run follows from its seed. News for a worker that has
not used a copy yet come with a digest of what the copy is to be with them. A worker whose copy is
too old, or who has none or another, is sent a full one.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping
from typing import Any, ClassVar

from torch import Tensor

from mlmc_ray.compressors import Context
from mlmc_ray.methods import Method, PartialParticipation
from mlmc_ray.methods.base import News
from mlmc_ray.payloads import DensePayload, Message
from mlmc_ray.replica import Replica

PARAMETERS = "parameters"
_REQUEST = "full copy"


class Sender:
    """The server's side; most have nothing to do when a round begins or ends.

    In a round ``open`` comes first, ``frame`` for every worker that is asked, some of them twice,
    and ``close`` in the end.

    Attributes:
        uses_copies: whether a frame depends on the copy that the worker has.
        replicates: whether receivers let a half of their own make the news.
    """

    uses_copies: ClassVar[bool] = True
    replicates: ClassVar[bool] = False

    def open(self, round_index: int, context: Context) -> None:
        """Begin a round.

        Args:
            round_index: counted from 0.
            context: draws of the downlink's own in this round.
        """

    @abstractmethod
    def frame(
        self, news: Message, round_index: int, since: int | None, *, confirmed: bool
    ) -> bytes:
        """Return the news as a frame.

        Args:
            news: of the method's server half; the parameters in them are the server's own.
            round_index: of the open round.
            since: the round of the copy that the worker has; None if it has none.
            confirmed: whether the worker needs no digest, since it has used a copy before, or has
                none.

        Raises:
            WireError, NonFiniteError: they cannot be encoded.
        """

    def close(self, round_index: int, frames: Mapping[int, bytes | memoryview]) -> None:
        """End a round, in which these reports have come."""

    def more(self) -> None:
        """Hear that the round goes on with another exchange.

        Raises:
            RoundError: this downlink has no way to.
        """

    def state_dict(self) -> dict[str, Tensor]:
        """Return a copy of what must not be lost; what a full copy brings anew is no part of it."""
        return {}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Restore what ``state_dict`` returned; all workers are sent full copies."""

    def copies(self) -> dict[str, Any]:
        """Return what else is needed to go on from the copies that workers have."""
        return {}

    def load_copies(self, state: Mapping[str, Any]) -> None:
        """Restore what ``copies`` returned, after ``load_state_dict``."""


class Receiver(ABC):
    """The side of a process that hosts workers, which share its copy."""

    @abstractmethod
    def take(
        self,
        round_index: int,
        exchange_index: int,
        frame: bytes | memoryview,
        workers: Collection[int],
    ) -> News | None:
        """Return the news of a frame, as the server half gave them.

        Args:
            round_index: counted from 0.
            exchange_index: of this round, from 0.
            frame: hostile bytes.
            workers: whom the frame is for.

        Returns:
            None if they need a copy that is not here, or if that is not what it should be: ask for
            a full one.

        Raises:
            WireError: the frame is malformed.
            RoundError: it does not fit what is known here.
        """

    def statistics_for(self, worker_id: int) -> Tensor | None:
        """Return running statistics that a worker lacks and the news do not bring; else None."""
        return None

    def load_copy(self, server: Mapping[str, Any]) -> None:
        """Go on from a copy as new as that of any worker.

        Args:
            server: the state of the server between two rounds; see ``ParameterServer``.

        Raises:
            TypeError: receivers of this downlink keep no copies.
        """
        raise TypeError(f"{type(self).__qualname__} keeps no copies")


class Downlink(ABC):
    """A frozen value that makes both sides."""

    @abstractmethod
    def check(self, method: Method) -> None:
        """Refuse a method whose news cannot be sent this way.

        Raises:
            ValueError: says why, and what would do.
        """

    @abstractmethod
    def sender(self, replica: Replica) -> Sender:
        """Make the server's side.

        Args:
            replica: the server's own.
        """

    @abstractmethod
    def receiver(self, replica: Callable[[], Replica], max_dim: int) -> Receiver:
        """Make a side of the workers.

        Args:
            replica: makes another one, as it is at the start of a run; called only by those who
                need it, since it takes memory.
            max_dim: refuse payloads of more entries.
        """


def news_of(method: Method) -> tuple[str, ...]:
    """Return the names of payloads and scalars in the news of a method's server half."""
    while isinstance(method, PartialParticipation):
        method = method.method
    return method.facts.news


def check_news(kind: str, method: Method, *, also: tuple[str, ...] = ()) -> None:
    """Refuse a method that has more to say than its parameters, or a downlink of its own.

    Args:
        kind: of the downlink.
        method: of the run.
        also: names of scalars that may be in its news besides.

    Raises:
        ValueError: quotes its news.
    """
    news = news_of(method)
    if news[:1] == (PARAMETERS,) and set(news[1:]) <= set(also):
        return
    raise ValueError(
        f"downlink is {kind}, which sends parameters, and the news of {type(method).__name__} are "
        f"{', '.join(news)}: give downlink: full"
    )


def check_waits(kind: str, method: Method) -> None:
    """Refuse an asynchronous method, whose workers have copies of different rounds.

    Raises:
        ValueError: says so.
    """
    if method.asynchronous:
        raise ValueError(
            f"downlink is {kind}, which says what has changed since the last round, and "
            f"{type(method).__name__} is asynchronous, so that workers have copies of different "
            "rounds: give downlink: full or half"
        )


def with_parameters(news: Message, parameters: Tensor) -> Message:
    """Return news with these parameters in place of theirs."""
    return Message({**news.payloads, PARAMETERS: DensePayload(parameters)}, news.scalars)


def request() -> Message:
    """Return the report of a worker that has no copy to which news could be applied."""
    return Message({}, {_REQUEST: 1.0})


def is_request(report: Message) -> bool:
    """Return whether a report asks for a full copy."""
    return not report.payloads and _REQUEST in report.scalars
