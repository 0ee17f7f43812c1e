"""The news of an exchange, as the workers of a host get them."""

from collections.abc import Mapping, Sequence
from typing import Any

from mlmc_ray.downlinks import Receiver
from mlmc_ray.errors import RoundError, WireError
from mlmc_ray.flat import CPU, FlatModel
from mlmc_ray.methods.base import News
from mlmc_ray.payloads import DensePayload, Message
from mlmc_ray.plan import RunPlan
from mlmc_ray.replica import Replica
from mlmc_ray.spans import Span

Frames = Mapping[int, bytes | memoryview]
"""Frames by worker; the same object for those with the same news."""


class Inbox:
    """The workers' side of the downlink, with a receiver for every server.

    Args:
        plan: of the run.
        model: of the workers.
    """

    def __init__(self, plan: RunPlan, model: FlatModel) -> None:
        self._plan = plan
        self._model = model
        self._spans = plan.spans(model)
        self.forget()

    def forget(self) -> None:
        """Give up every copy of the parameters, so that others are made or asked for."""
        self._receivers = [self._receiver(span) for span in self._spans]

    def load(self, servers: Sequence[Mapping[str, Any]]) -> None:
        """Go on from the copies that workers have by the states of the servers, if they have some.

        Args:
            servers: see ``ParameterServer.state_dict``; none where full copies are to be asked for.
        """
        self.forget()
        if any(server.get("copies") for server in servers):
            for receiver, server in zip(self._receivers, servers, strict=True):
                receiver.load_copy(server)

    def _receiver(self, span: Span) -> Receiver:
        def replica() -> Replica:
            parameters = self._model.parameters[span.entries].to(CPU, copy=True)
            return self._plan.replica(span, parameters, self._model.statistics())

        max_dim = self._plan.method.largest_payload(span.dim)
        if span.index == 0:
            max_dim = max(max_dim, self._model.num_statistics)
        return self._plan.downlink.receiver(replica, max_dim)

    def read(
        self, round_index: int, exchange_index: int, frames: Sequence[Frames]
    ) -> dict[int, list[Message] | None]:
        """Return the news of every worker, in the order of the servers.

        None stands for those of a worker for which a copy of the parameters is missing.

        Args:
            round_index: counted from 0.
            exchange_index: of the round.
            frames: of every server.

        Raises:
            RoundError: a frame is malformed or for another model, or servers ask different workers.
        """
        asked = list(frames[0])
        for index, own in enumerate(frames):
            if own.keys() != frames[0].keys():
                raise RoundError(
                    f"round {round_index}: server 0 asks workers {sorted(asked)}, and server "
                    f"{index} asks {sorted(own)}: the method needs servers: 1"
                )
        place = (round_index, exchange_index)
        taken = [self._take_all(index, place, own) for index, own in enumerate(frames)]
        news: dict[int, list[Message] | None] = {}
        for worker_id in asked:
            found = [taken[i][id(frames[i][worker_id])] for i in range(len(frames))]
            complete = [one for one in found if one is not None]
            lacks = len(complete) < len(found)
            news[worker_id] = None if lacks else self._of_worker(worker_id, complete)
        return news

    def _of_worker(self, worker_id: int, news: Sequence[News]) -> list[Message]:
        own = [_own(one, worker_id) for one in news]
        statistics = self._receivers[0].statistics_for(worker_id)
        if statistics is not None:
            payloads = {**own[0].payloads, "buffers": DensePayload(statistics)}
            own[0] = Message(payloads, own[0].scalars)
        return own

    def _take_all(
        self, index: int, place: tuple[int, int], frames: Frames
    ) -> dict[int, News | None]:
        """Read the distinct frames of a server; None for those whose copy is not here."""
        sharing: dict[int, list[int]] = {}
        for worker_id, frame in frames.items():
            sharing.setdefault(id(frame), []).append(worker_id)
        taken = {}
        for key, workers in sharing.items():
            where = f"round {place[0]}: {self._sender(index)} news"
            try:
                news = self._receivers[index].take(*place, frames[workers[0]], workers)
            except WireError as error:
                raise RoundError(f"{where}: {error}") from error
            for message in _messages(news):
                self._check_sizes(where, message, self._spans[index])
            taken[key] = news
        return taken

    def _sender(self, index: int) -> str:
        return "the server's" if len(self._spans) == 1 else f"server {index}'s"

    def _check_sizes(self, place: str, message: Message, span: Span) -> None:
        sizes = {"parameters": span.dim, "buffers": self._model.num_statistics}
        here = "the model" if len(self._spans) == 1 else "its part of the model"
        for name, payload in message.payloads.items():
            if payload.dim != sizes.get(name, payload.dim):
                raise RoundError(
                    f"{place} has {payload.dim} {name}, {here} here has {sizes[name]}; "
                    "server and workers must run the same problem"
                )


def _messages(news: News | None) -> list[Message]:
    if news is None:
        return []
    return [news] if isinstance(news, Message) else list(news.values())


def _own(news: News, worker_id: int) -> Message:
    """Return the message to one worker.

    Raises:
        RoundError: a replica that made the news draws others than the server did.
    """
    if isinstance(news, Message):
        return news
    if worker_id not in news:
        raise RoundError(
            f"the server's news: worker {worker_id} was sent some, and those that a replica makes "
            f"are for workers {sorted(news)}: server and workers must run the same method"
        )
    return news[worker_id]
