"""Rounds of asynchronous methods, whose server takes every report as it comes."""

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from mlmc_ray.errors import RoundError
from mlmc_ray.rounds import Answers, Lost
from server.calls import Answered, Calls, Host
from server.gathering.base import Gathering, views
from server.server import ParameterServer


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
            if self._server.take(views(answers)):
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
            self._start_again(index)
        return self._begin()

    def _start_again(self, host: int) -> None:
        """Let workers start again whose host is lost."""
        self._server.start_again(self._at_work.pop(host, set()))

    def _wait(self) -> dict[int, str]:
        """Wait for a report, and return why some hosts will bring none."""
        if not self._calls.late:
            raise RoundError(
                f"round {self._place[0]}: no worker is at work: the method has given no news to any"
            )
        if overdue := self._calls.overdue(self._timeout_s):
            return self._give_up(overdue)
        lost: dict[int, str] = {}
        answered = self._next(self._limit, lost)
        if answered is not None:
            self._arrive(answered)
            return {}
        return lost or self._give_up(self._calls.late)

    def _arrive(self, arrival: Answered) -> None:
        self._arrived.append(arrival.answers)
        self._at_work[arrival.host] -= arrival.answers.reports.keys()

    def _host_of(self, answers: Answers) -> int:
        """Return which host the answers of a worker are from."""
        hosts = enumerate(self._calls.hosts)
        return next(i for i, host in hosts if answers.reports.keys() <= {*host.worker_ids})

    def drain(self, timeout_s: float) -> None:
        """Wait for the workers at work, and keep their reports for later rounds.

        Those whose host is lost, or takes too long, start again in the next round.
        """
        deadline = time.monotonic() + timeout_s
        while self._calls.late:
            lost: dict[int, str] = {}
            answered = self._next(deadline, lost)
            if answered is not None:
                self._arrive(answered)
                continue
            for host in lost or self._give_up(self._calls.late):
                self._start_again(host)

    def state_dict(self) -> dict[str, Any]:
        """Return the reports that have come: the fields of the answers of each."""
        arrived = [
            {
                "reports": {i: bytes(frame) for i, frame in answers.reports.items()},
                "losses": answers.losses,
                "seconds": answers.seconds,
                "num_gradients": answers.num_gradients,
                "remember": answers.remember,
            }
            for answers in self._arrived
        ]
        return {"arrived": arrived}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what ``state_dict`` returned."""
        self._arrived = [Answers(**fields) for fields in state.get("arrived", ())]
