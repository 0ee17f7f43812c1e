"""How the reports of a round are gathered: all of them, the first ones, or each as it comes.

A gathering runs a round on the hosts up to its step, which is the server's. Where hosts are lost on
the way it returns ``Lost``, and waits for others in their place.
"""

import time
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

from mlmc_ray.errors import LostError, RoundError
from mlmc_ray.plan import RunPlan
from mlmc_ray.quorum import Quorum
from mlmc_ray.rounds import Answers, Lost, RoundResult
from server.calls import Calls, Host, HostLostError
from server.server import ParameterServer


def gathering_for(plan: RunPlan, server: ParameterServer, calls: Calls) -> "Gathering":
    """Return how the reports of a run are gathered."""
    if plan.method.asynchronous:
        return EachReport(server, calls)
    if plan.quorum is not None:
        return FirstReports(server, calls, plan.quorum)
    return AllReports(server, calls)


class Gathering(ABC):
    """What all of them share.

    Args:
        server: whose news are sent, and who takes the reports.
        calls: of its hosts.
    """

    def __init__(self, server: ParameterServer, calls: Calls) -> None:
        self._server = server
        self._calls = calls
        self._result = RoundResult()
        self._observe = False
        self._timeout_s = 0.0

    def begin(self, result: RoundResult, observe: bool, timeout_s: float) -> Lost | None:
        """Run a round up to its step.

        Args:
            result: of the round, to be filled.
            observe: look at what workers compress.
            timeout_s: for all of it.

        Returns:
            None once the server can take the step; or which hosts are lost.

        Raises:
            RoundError: see ``ParameterServer.take``.
            MlmcRayError: what a worker refused.
        """
        self._result, self._observe, self._timeout_s = result, observe, timeout_s
        return self._begin()

    def go_on(self, hosts: Mapping[int, Host]) -> Lost | None:
        """Complete a round with others in place of the hosts that were lost; see ``begin``.

        Args:
            hosts: by what they replace.
        """
        for index, host in hosts.items():
            self._calls.hosts[index] = host
        return self._go_on(hosts)

    @abstractmethod
    def _begin(self) -> Lost | None: ...

    @abstractmethod
    def _go_on(self, hosts: Mapping[int, Host]) -> Lost | None: ...

    def drain(self, timeout_s: float) -> None:  # noqa: B027
        """Wait for workers that are still at work between two rounds; usually there are none.

        Raises:
            LostError: one does not answer.
        """

    def state_dict(self) -> list[Any]:
        """Return reports that have come and are for later rounds."""
        return []

    def load_state_dict(self, state: list[Any]) -> None:  # noqa: B027
        """Restore what ``state_dict`` returned."""

    @property
    def _place(self) -> tuple[int, int]:
        return self._server.round_index, self._server.exchange_index

    def _lost_in_time(self, hosts: Collection[int]) -> dict[int, str]:
        """Wait no more for hosts that take too long, and return the reason."""
        self._calls.give_up(hosts)
        reason = f"did not answer within round_timeout_s = {self._timeout_s:g}"
        return dict.fromkeys(hosts, reason)


class AllReports(Gathering):
    """Waits for the reports of all workers that are asked, exchange by exchange."""

    def _begin(self) -> Lost | None:
        self._send()
        return self._gather()

    def _send(self) -> None:
        """Open an exchange."""
        frames = self._server.broadcast()
        self._asked = set(frames)
        self._answers: dict[int, Answers] = {}
        self._calls.send(self._place, frames, self._observe, each=False)

    def _go_on(self, hosts: Mapping[int, Host]) -> Lost | None:
        lost = [i for host in hosts.values() for i in host.worker_ids if i in self._asked]
        frames = self._server.send_anew(lost)
        self._calls.send(self._place, frames, self._observe, each=False)
        return self._gather()

    def _gather(self) -> Lost | None:
        deadline = time.monotonic() + self._timeout_s
        while True:
            lost = self._collect(deadline)
            lost |= self._lost_in_time(self._calls.late)
            if lost:
                return Lost(lost, self._server.exchange_index)
            reports: dict[int, memoryview] = {}
            place = self._place
            for host in sorted(self._answers):  # in their order, whoever was first
                self._result.add(place, host, self._answers[host])
                reports.update(self._answers[host].reports)
            if self._server.take(reports):
                return None
            self._send()

    def _collect(self, deadline: float) -> dict[int, str]:
        """Wait for the answers to all calls, and return why some hosts cannot answer."""
        lost = {}
        while self._calls.late:
            try:
                answered = self._calls.next(deadline)
            except HostLostError as error:
                lost[error.host] = error.reason
                continue
            if answered is None:
                break
            host, answers = answered
            reports = _views(answers)
            self._answers[host] = replace(answers, reports=reports)
            for worker_id, frame in reports.items():
                self._server.decode(worker_id, frame)
        return lost


class FirstReports(Gathering):
    """Closes a round with the first reports, or at a deadline.

    Hosts that are late are not asked again before they have answered. Their reports are counted
    then, and not used.

    Args:
        server: see ``Gathering``.
        calls: see ``Gathering``.
        quorum: when a round closes.
    """

    def __init__(self, server: ParameterServer, calls: Calls, quorum: Quorum) -> None:
        super().__init__(server, calls)
        self._quorum = quorum
        self._told: dict[int, int] = {}  # by host, the round of the news that it got last

    def _begin(self) -> Lost | None:
        self._answers: dict[int, Answers] = {}
        self._asked: set[int] = set()
        return self._gather()

    def _go_on(self, hosts: Mapping[int, Host]) -> Lost | None:
        lost = {i for host in hosts.values() for i in host.worker_ids if i in self._asked}
        self._told.update(dict.fromkeys(hosts, self._place[0]))
        self._calls.send(self._place, self._server.send_anew(lost), self._observe, each=False)
        return self._gather()

    def _gather(self) -> Lost | None:
        self._limit = time.monotonic() + self._timeout_s
        if overdue := self._calls.overdue(self._timeout_s):
            return Lost(self._lost_in_time(overdue), 0)
        while not self._opened() or not self._complete():
            if lost := self._wait():
                return lost
        reports: dict[int, memoryview] = {}
        for host in sorted(self._answers):
            self._result.add(self._place, host, self._answers[host])
            reports.update(self._answers[host].reports)
        if not self._server.take(reports):
            raise RoundError(
                f"round {self._place[0]}: quorum is given, and a round of the method has several "
                "exchanges: leave quorum out"
            )
        return None

    def _opened(self) -> bool:
        """Return whether the round is open; it is opened once enough workers are free."""
        if self._asked:
            return True
        hosts, late = self._calls.hosts, self._calls.late
        workers = {index: set(host.worker_ids) for index, host in enumerate(hosts)}
        free = set().union(*(own for index, own in workers.items() if index not in late))
        if len(free) < (self._quorum.reports or 1):
            return False
        frames = self._server.broadcast(busy=set().union(*workers.values()) - free)
        self._asked, self._since = set(frames), time.monotonic()
        self._told.update({i: self._place[0] for i, own in workers.items() if own & self._asked})
        self._calls.send(self._place, frames, self._observe, each=False)
        return True

    def _complete(self) -> bool:
        """Return whether the open round can be closed."""
        come = sum(len(answers.reports) for answers in self._answers.values())
        if come >= min(self._quorum.reports or len(self._asked), len(self._asked)):
            return True
        return bool(come) and time.monotonic() >= self._deadline

    @property
    def _deadline(self) -> float:
        """When the open round closes, as ``time.monotonic`` counts."""
        limit_s = self._quorum.deadline_s
        return self._limit if limit_s is None else self._since + limit_s

    def _wait(self) -> Lost | None:
        """Wait for an answer, or for the deadline of the open round."""
        until = min(self._limit, self._deadline) if self._answers else self._limit
        try:
            answered = self._calls.next(until)
        except HostLostError as error:
            self._calls.give_up({error.host})
            return Lost({error.host: error.reason}, 0)
        if answered is None:
            in_time = time.monotonic() < self._limit
            return None if in_time else Lost(self._lost_in_time(self._calls.late), 0)
        host, answers = answered
        reports = _views(answers)
        if self._asked and self._told[host] == self._place[0]:
            self._answers[host] = replace(answers, reports=reports)
            for worker_id, frame in reports.items():
                self._server.decode(worker_id, frame)
            return None
        for worker_id, frame in reports.items():
            self._server.count_late(worker_id, frame)
        self._result.late_reports += len(reports)
        return None


class EachReport(Gathering):
    """Takes the reports of an asynchronous method one by one, as they come.

    Other workers stay at work when the round ends. A worker has one call at a time.
    """

    def __init__(self, server: ParameterServer, calls: Calls) -> None:
        super().__init__(server, calls)
        self._arrived: list[Answers] = []  # not taken yet
        self._at_work: dict[int, set[int]] = {}  # by host, workers that have not reported

    def _begin(self) -> Lost | None:
        while True:
            self._send()
            if not self._arrived and (lost := self._wait()):
                return Lost(lost, 0)
            answers = self._arrived.pop(0)
            seen = answers.compressions if self._observe else {}
            answers = replace(answers, compressions=seen)
            self._result.add(self._place, self._host_of(answers), answers)
            if self._server.take(_views(answers)):
                return None

    def _send(self) -> None:
        """Give news to the workers that are to start now."""
        frames = self._server.broadcast()
        for index, host in enumerate(self._calls.hosts):
            starting = {worker_id for worker_id in host.worker_ids if worker_id in frames}
            self._at_work.setdefault(index, set()).update(starting)
        self._calls.send(self._place, frames, self._observe, each=True)

    def _go_on(self, hosts: Mapping[int, Host]) -> Lost | None:
        for index in hosts:
            self._server.start_again(self._at_work.pop(index))
        return self._begin()

    def _wait(self) -> dict[int, str]:
        """Wait for a report, and return why some hosts will bring none."""
        if not self._calls.late:
            raise RoundError(
                f"round {self._place[0]}: no worker is at work: the method has given no news to any"
            )
        if overdue := self._calls.overdue(self._timeout_s):
            return self._lost_in_time(overdue)
        try:
            answered = self._calls.next(time.monotonic() + self._timeout_s)
        except HostLostError as error:
            self._calls.give_up({error.host})
            return {error.host: error.reason}
        if answered is None:
            return self._lost_in_time(self._calls.late)
        self._arrive(*answered)
        return {}

    def _arrive(self, host: int, answers: Answers) -> None:
        self._arrived.append(answers)
        self._at_work[host] -= answers.reports.keys()

    def _host_of(self, answers: Answers) -> int:
        """Return which host the answers of a worker are from."""
        hosts = enumerate(self._calls.hosts)
        return next(i for i, host in hosts if answers.reports.keys() <= {*host.worker_ids})

    def drain(self, timeout_s: float) -> None:
        """Wait for the workers at work; their reports are taken in later rounds."""
        deadline = time.monotonic() + timeout_s
        while self._calls.late:
            try:
                answered = self._calls.next(deadline)
            except HostLostError as error:
                reason = error.reason
                answered = None
            else:
                reason = f"no answer within {timeout_s:g} s"
            if answered is None:
                raise LostError(f"round {self._place[0]}: a host with workers at work: {reason}")
            self._arrive(*answered)

    def state_dict(self) -> list[Any]:
        """Return the reports that have come: of every one the worker, the frame and the loss."""
        return [
            (worker_id, bytes(frame), answers.losses.get(worker_id))
            for answers in self._arrived
            for worker_id, frame in answers.reports.items()
        ]

    def load_state_dict(self, state: list[Any]) -> None:
        """Restore what ``state_dict`` returned."""
        self._arrived = [
            Answers(reports={i: frame}, losses={} if loss is None else {i: loss})
            for i, frame, loss in state
        ]


def _views(answers: Answers) -> dict[int, memoryview]:
    """Return the reports of answers, by worker."""
    return {worker_id: memoryview(frame) for worker_id, frame in answers.reports.items()}
