"""What all ways to gather the reports of a round share."""

import time
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from typing import Any

from mlmc_ray.rounds import Answers, Lost, RoundResult
from server.calls import Answered, Calls, Host, HostLostError
from server.server import ParameterServer


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
        self._limit = 0.0  # when the round must have ended, as ``time.monotonic`` counts

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
        self._limit = time.monotonic() + timeout_s
        return self._begin()

    def go_on(self, hosts: Mapping[int, Host]) -> Lost | None:
        """Complete a round with others in place of the hosts that were lost; see ``begin``.

        Args:
            hosts: by what they replace.
        """
        for index, host in hosts.items():
            self._calls.hosts[index] = host
        self._limit = time.monotonic() + self._timeout_s
        return self._go_on(hosts)

    @abstractmethod
    def _begin(self) -> Lost | None: ...

    @abstractmethod
    def _go_on(self, hosts: Mapping[int, Host]) -> Lost | None: ...

    def drain(self, timeout_s: float) -> None:  # noqa: B027
        """Wait for workers that are still at work between two rounds; usually there are none."""

    def state_dict(self) -> dict[str, Any]:
        """Return reports that have come and are for later rounds, where there may be some."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:  # noqa: B027
        """Restore what ``state_dict`` returned."""

    @property
    def _place(self) -> tuple[int, int]:
        return self._server.round_index, self._server.exchange_index

    def _next(self, until: float, lost: dict[int, str]) -> Answered | None:
        """Wait for an answer, and return it; None if there is none.

        Args:
            until: as ``time.monotonic`` counts.
            lost: gets the host, with the reason, if that cannot answer.
        """
        try:
            return self._calls.next(until)
        except HostLostError as error:
            self._calls.give_up({error.host})
            lost[error.host] = error.reason
            return None

    def _give_up(self, hosts: Collection[int]) -> dict[int, str]:
        """Wait no more for hosts that take too long, and return the reason."""
        lost = set(hosts)
        self._calls.give_up(lost)
        reason = f"did not answer within round_timeout_s = {self._timeout_s:g}"
        return dict.fromkeys(lost, reason)


def views(answers: Answers) -> dict[int, memoryview]:
    """Return the reports of answers, by worker."""
    return {worker_id: memoryview(frame) for worker_id, frame in answers.reports.items()}
