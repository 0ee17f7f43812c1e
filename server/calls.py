"""The calls with which a server reaches its hosts, and what becomes of them."""

import time
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import ray
from ray.exceptions import RayActorError, RayError, RayTaskError

from mlmc_ray.errors import DamagedError, LostError, MlmcRayError, one_line
from mlmc_ray.rounds import Answers, Call, checksum_of, fit_inline


class Host(Protocol):
    """Workers somewhere else, as the server sees them: the facade of another actor."""

    @property
    def worker_ids(self) -> Sequence[int]:
        """Which workers live there."""

    def step(self, call: Call, news: Sequence[Any]) -> Any:
        """Start an exchange there.

        Args:
            call: what goes with the frames.
            news: frames or references, of this server.

        Returns:
            The reference of the ``Answers``.
        """


class Answered(NamedTuple):
    """The answers of a host, and how long it took, from the call to its end."""

    host: int
    answers: Answers
    elapsed_s: float

    def seconds_of_workers(self) -> dict[int, float]:
        """Return the seconds of every worker of the host, which work one after the other.

        They are its own work, and of the time beside all work the share of its report's bytes.
        """
        sizes = {worker_id: len(frame) for worker_id, frame in self.answers.reports.items()}
        work = self.answers.seconds
        beside_s = max(0.0, self.elapsed_s - sum(work.values())) / sum(sizes.values())
        return {worker_id: work[worker_id] + size * beside_s for worker_id, size in sizes.items()}


class Calls:
    """The calls of one server that are on their way to its hosts.

    Args:
        server: which of the servers calls.
        incarnation: of all actors of the run.
        hosts: whom it calls.

    Attributes:
        hosts: as given; one that is lost may be replaced by another.
    """

    def __init__(self, server: int, incarnation: int, hosts: Sequence[Host]) -> None:
        self.hosts = list(hosts)
        self._server = server
        self._incarnation = incarnation
        self._number = 0
        self._waiting: dict[Any, tuple[int, float]] = {}  # of every answer the host, and since when

    def send(
        self, place: tuple[int, int], frames: Mapping[int, bytes], observe: bool, *, each: bool
    ) -> None:
        """Start an exchange on every host that has workers with news.

        News that fit go with the call of a host; others are put into the object store once, and
        every node fetches them once.

        Args:
            place: the round and the exchange.
            frames: by worker; the same object for those with the same news.
            observe: look at what workers compress.
            each: make a call for each worker, so that every one answers once it is done.
        """
        stored: dict[int, Any] = {}
        for index, host in enumerate(self.hosts):
            asked = [worker_id for worker_id in host.worker_ids if worker_id in frames]
            groups = [[worker_id] for worker_id in asked] if each else [asked]
            for group in filter(None, groups):
                own = {worker_id: frames[worker_id] for worker_id in group}
                self._call(index, place, own, observe, stored)

    def _call(
        self,
        index: int,
        place: tuple[int, int],
        frames: Mapping[int, bytes],
        observe: bool,
        stored: dict[int, Any],
    ) -> None:
        """Call a host; frames that are put into the store are in ``stored`` from then on."""
        news: dict[int, tuple[bytes, list[int]]] = {}
        for worker_id, frame in frames.items():
            news.setdefault(id(frame), (frame, []))[1].append(worker_id)
        self._number += 1
        call = Call(
            self._incarnation,
            self._number,
            checksum_of(frame for frame, _ in news.values()),
            self._server,
            *place,
            observe,
            tuple(tuple(workers) for _, workers in news.values()),
        )
        carried: list[Any] = [frame for frame, _ in news.values()]
        if not fit_inline(carried):
            for key, (frame, _) in news.items():
                if key not in stored:
                    stored[key] = ray.put(np.frombuffer(frame, np.uint8))
            carried = [stored[key] for key in news]
        self._waiting[self.hosts[index].step(call, carried)] = (index, time.monotonic())

    @property
    def late(self) -> set[int]:
        """The hosts that have not answered."""
        return {index for index, _ in self._waiting.values()}

    def overdue(self, timeout_s: float) -> set[int]:
        """Return the hosts that have not answered a call for longer than so many seconds."""
        before = time.monotonic() - timeout_s
        old = [reference for reference, (_, since) in self._waiting.items() if since <= before]
        done = ray.wait(old, num_returns=len(old), timeout=0)[0] if old else []
        return {self._waiting[reference][0] for reference in old if reference not in done}

    def next(self, deadline: float) -> Answered | None:
        """Wait for the next answer, and return it; None if none has come in time.

        Args:
            deadline: as ``time.monotonic`` counts.

        Raises:
            HostLostError: the host is gone, or frames have not arrived as they were sent.
            MlmcRayError: what a worker refused; of several that failed the first host counts.
        """
        left = max(0.0, deadline - time.monotonic())
        done, _ = ray.wait(list(self._waiting), timeout=left)
        if not done:
            return None
        reference = done[0]
        try:
            answers: Answers = ray.get(reference)
        except RayError as error:
            if not is_loss(error):
                self._refuse_first()
            index, _ = self._waiting.pop(reference)
            raise HostLostError(index, reason_of(error)) from error
        index, since = self._waiting.pop(reference)
        if checksum_of(answers.reports.values()) != answers.checksum:
            raise HostLostError(index, "its reports came damaged: the checksum differs")
        return Answered(index, answers, time.monotonic() - since)

    def _refuse_first(self) -> None:
        """Raise the error of the first host that is done and has refused something.

        Raises:
            MlmcRayError: what a worker refused.
            RayTaskError: any other exception in a host.
        """
        done = set(ray.wait(list(self._waiting), num_returns=len(self._waiting), timeout=0)[0])
        for reference in [reference for reference in self._waiting if reference in done]:
            try:
                ray.get(reference)
            except RayError as error:
                if not is_loss(error):
                    raise cause_of(error) from None

    def give_up(self, hosts: Collection[int]) -> None:
        """Wait no more for the answers of some hosts."""
        hosts = set(hosts)
        for reference, (index, _) in list(self._waiting.items()):
            if index in hosts:
                del self._waiting[reference]


class HostLostError(Exception):
    """A host cannot answer any more.

    Args:
        host: which, counted from 0.
        reason: why.
    """

    def __init__(self, host: int, reason: str) -> None:
        super().__init__(reason)
        self.host = host
        self.reason = reason


def cause_of(error: RayError) -> Exception:
    """Return what an actor has raised, as it raised it, if it is an error of this project."""
    cause = error.cause if isinstance(error, RayTaskError) else error
    return cause if isinstance(cause, MlmcRayError | RayError) else error


def is_loss(error: RayError) -> bool:
    """Return whether an actor is lost, or what it got was damaged; others may do what it could not.

    An exception that it has raised is none of that: it would be raised again.
    """
    cause = cause_of(error)
    if isinstance(cause, MlmcRayError):
        return isinstance(cause, DamagedError | LostError)
    return not isinstance(cause, RayTaskError)


def reason_of(error: RayError) -> str:
    """Return why an actor has not answered, on one line."""
    cause = cause_of(error)
    if isinstance(cause, MlmcRayError):
        return one_line(cause)
    if isinstance(cause, RayActorError):  # whose words are of every possible cause
        return "is gone: its process ended (crash, exit, kill, no memory), or its node is cut off"
    return f"failed: {one_line(cause)}"


def fetch(reference: Any, round_index: int, actor: str) -> Any:
    """Wait for what a reference (or a list of them) stands for.

    Args:
        reference: of the answer of an actor.
        round_index: for errors.
        actor: who answers, for errors.

    Raises:
        MlmcRayError: as the actor raised it.
        LostError: the actor died, or its answer is lost.
        RayTaskError: any other exception in the actor.
    """
    try:
        return ray.get(reference)
    except RayError as error:
        cause = cause_of(error)
        if isinstance(cause, MlmcRayError):
            raise cause from None
        if not is_loss(error):
            raise
        raise LostError(f"round {round_index}: {actor} {reason_of(error)}") from error
