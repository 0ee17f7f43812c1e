"""Rounds that close before all workers have reported."""

import math
import time
from collections.abc import Mapping
from dataclasses import replace

from mlmc_ray.errors import RoundError
from mlmc_ray.quorum import Quorum
from mlmc_ray.rounds import Answers, Lost
from server.calls import Answered, Calls, Host
from server.gathering.base import Gathering, views
from server.server import ParameterServer


class FirstReports(Gathering):
    """Closes a round with the first reports, or at a deadline.

    Hosts that are late are not asked again before they have answered; their reports are counted
    then, and not used. A round for which there are enough others closes without a lost host too.

    Args:
        server: see ``Gathering``.
        calls: see ``Gathering``.
        quorum: when a round closes.
    """

    def __init__(self, server: ParameterServer, calls: Calls, quorum: Quorum) -> None:
        super().__init__(server, calls)
        self._quorum = quorum
        self._told: dict[int, int] = {}  # by host, the round of the news that it got last
        self._lost: dict[int, str] = {}  # hosts, until others are in their place
        self._asked: set[int] = set()  # workers, in the open round; empty before
        self._answers: dict[int, Answers] = {}  # of it, by host
        self._deadline = math.inf  # when it closes, as ``time.monotonic`` counts

    def _begin(self) -> Lost | None:
        self._asked, self._answers = set(), {}
        self._lost |= self._give_up(self._calls.overdue(self._timeout_s))
        return Lost(self._lost, 0) if self._lost else self._gather()

    def _go_on(self, hosts: Mapping[int, Host]) -> Lost | None:
        self._lost = {}
        again = {i for host in hosts.values() for i in host.worker_ids if i in self._asked}
        self._told.update(dict.fromkeys(hosts, self._place[0]))
        self._calls.send(self._place, self._server.send_anew(again), self._observe, each=False)
        return self._gather()

    def _gather(self) -> Lost | None:
        while not self._asked:
            if not self._open() and not self._wait():
                return Lost(self._lost, 0)
        while not self._complete():
            if not self._wait():
                return Lost(self._lost, 0)
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

    def _open(self) -> bool:
        """Send the news to the hosts that are free, and return True, if they are enough."""
        unable = self._calls.late | self._lost.keys()
        workers = {index: set(host.worker_ids) for index, host in enumerate(self._calls.hosts)}
        free = set().union(*(own for index, own in workers.items() if index not in unable))
        if len(free) < (self._quorum.reports or 1):
            return False
        frames = self._server.broadcast(busy=set().union(*workers.values()) - free)
        self._asked = set(frames)
        self._deadline = time.monotonic() + (self._quorum.deadline_s or math.inf)
        self._told.update({i: self._place[0] for i, own in workers.items() if own & self._asked})
        self._calls.send(self._place, frames, self._observe, each=False)
        return True

    def _complete(self) -> bool:
        """Return whether the open round can be closed."""
        come = sum(len(answers.reports) for answers in self._answers.values())
        if come >= min(self._quorum.reports or len(self._asked), len(self._asked)):
            return True
        return bool(come) and time.monotonic() >= self._deadline

    def _wait(self) -> bool:
        """Wait for an answer, or for the deadline of the open round.

        Returns:
            Whether to go on; without the lost hosts there may be too few.
        """
        until = min(self._limit, self._deadline) if self._answers else self._limit
        known = len(self._lost)
        answered = self._next(until, self._lost)
        if answered is not None:
            self._take(answered)
            return True
        if len(self._lost) > known:
            return self._enough_without()
        if time.monotonic() < self._limit:
            return True
        self._lost |= self._give_up(self._calls.late)
        return False

    def _enough_without(self) -> bool:
        """Return whether the hosts that are not lost can still complete the round."""
        if self._quorum.reports is None:
            return False
        hosts = self._calls.hosts
        able = sum(len(host.worker_ids) for i, host in enumerate(hosts) if i not in self._lost)
        if not self._asked:
            return able >= self._quorum.reports
        now = {i for i in self._calls.late if self._told[i] == self._place[0]} | {*self._answers}
        return sum(len(hosts[i].worker_ids) for i in now) >= self._quorum.reports

    def _take(self, arrival: Answered) -> None:
        """Keep reports of the open round, and count others."""
        host, answers, _ = arrival
        reports = views(answers)
        if self._asked and self._told[host] == self._place[0]:
            self._answers[host] = replace(answers, reports=reports)
            for worker_id, frame in reports.items():
                self._server.decode(worker_id, frame)
            return
        for worker_id, frame in reports.items():
            self._server.count_late(worker_id, frame)
        self._result.late_reports += len(reports)
