"""Rounds that wait for every report."""

from collections.abc import Mapping
from dataclasses import replace

from mlmc_ray.rounds import Answers, Lost
from server.calls import Answered, Calls, Host
from server.gathering.base import Gathering, views
from server.server import ParameterServer


class AllReports(Gathering):
    """Waits for the reports of all workers that are asked, exchange by exchange."""

    def __init__(self, server: ParameterServer, calls: Calls) -> None:
        super().__init__(server, calls)
        self._asked: set[int] = set()  # workers, in the open exchange
        self._answers: dict[int, Answers] = {}  # of it, by host

    def _begin(self) -> Lost | None:
        self._send()
        return self._gather()

    def _send(self) -> None:
        """Open an exchange."""
        frames = self._server.broadcast()
        self._asked, self._answers = set(frames), {}
        self._calls.send(self._place, frames, self._observe, each=False)

    def _go_on(self, hosts: Mapping[int, Host]) -> Lost | None:
        lost = [i for host in hosts.values() for i in host.worker_ids if i in self._asked]
        frames = self._server.send_anew(lost)
        self._calls.send(self._place, frames, self._observe, each=False)
        return self._gather()

    def _gather(self) -> Lost | None:
        while True:
            if lost := self._collect():
                return Lost(lost, self._server.exchange_index)
            reports: dict[int, memoryview] = {}
            place = self._place
            for host in sorted(self._answers):  # in their order, whoever was first
                self._result.add(place, host, self._answers[host])
                reports.update(self._answers[host].reports)
            if self._server.take(reports):
                return None
            self._send()

    def _note_time(self, answered: Answered) -> None:
        """Tell the method how long workers took, unless they also had to look at what they do."""
        if not self._observe:
            self._server.took(answered.seconds_of_workers())

    def _collect(self) -> dict[int, str]:
        """Wait for the answers to all calls, and return why some hosts cannot answer."""
        lost: dict[int, str] = {}
        while self._calls.late:
            known = len(lost)
            answered = self._next(self._limit, lost)
            if answered is not None:
                reports = views(answered.answers)
                self._answers[answered.host] = replace(answered.answers, reports=reports)
                if self._server.timed:  # so others are not waited for while this is decoded
                    self._note_time(answered)
                    continue
                for worker_id, frame in reports.items():
                    self._server.decode(worker_id, frame)
            elif len(lost) == known:
                lost |= self._give_up(self._calls.late)
        return lost
