"""Where the calls of several servers meet."""

import threading
from collections.abc import Callable, Sequence
from typing import Any, cast

import pytest

from mlmc_ray.errors import NonFiniteError, RoundError
from mlmc_ray.rounds import Answers
from workers.host import WorkerHost
from workers.inbox import Frames
from workers.meeting import Meeting

NUM_SERVERS = 3
NEWS: list[Frames] = [{0: bytes([index]), 1: bytes([index])} for index in range(NUM_SERVERS)]


class Answering:
    """A host that answers with the news; ``during`` happens before the first server is answered."""

    def __init__(self, during: Callable[[], None] = lambda: None) -> None:
        self.steps: list[tuple[Any, ...]] = []
        self._during = during

    def step(
        self,
        round_index: int,
        exchange_index: int,
        frames: Sequence[Frames],
        *,
        observe: bool,
        on_answers: Callable[[int, Answers], None],
    ) -> None:
        self.steps.append((round_index, exchange_index, observe, threading.current_thread()))
        for index in range(1, len(frames)):
            on_answers(index, Answers(reports=dict(frames[index])))
        self._during()
        on_answers(0, Answers(reports=dict(frames[0])))


class Callers:
    """A thread for every server, each of which keeps what its call gave."""

    def __init__(self, host: Answering, num_servers: int = NUM_SERVERS) -> None:
        self.meeting = Meeting(cast(WorkerHost, host), num_servers)
        self.results: dict[int, Any] = {}
        self.threads: dict[int, threading.Thread] = {}

    def call(self, index: int, round_index: int = 4, exchange_index: int = 1) -> None:
        def run() -> None:
            place = (round_index, exchange_index)
            try:
                self.results[index] = self.meeting.step(index, *place, NEWS[index], True).reports
            except BaseException as error:
                self.results[index] = error

        self.threads[index] = threading.Thread(target=run, daemon=True)
        self.threads[index].start()

    def wait(self, *indices: int) -> None:
        for index in indices:
            self.threads[index].join(20)
            assert not self.threads[index].is_alive(), f"server {index} was not answered"


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
def test_an_exchange_begins_when_all_have_called(order: tuple[int, ...]) -> None:
    host = Answering()
    callers = Callers(host)
    for index in order[:2]:
        callers.call(index)
    callers.threads[order[0]].join(0.1)
    assert host.steps == []
    assert callers.results == {}
    callers.call(order[2])
    callers.wait(0, 1, 2)
    assert callers.results == dict(enumerate(NEWS))
    assert [step[:3] for step in host.steps] == [(4, 1, True)]


def test_exchanges_follow_each_other_in_one_thread() -> None:
    host = Answering()
    callers = Callers(host)
    for round_index in range(3):
        for index in range(NUM_SERVERS):
            callers.call(index, round_index, 0)
        callers.wait(0, 1, 2)
    assert [step[0] for step in host.steps] == [0, 1, 2]
    assert len({step[3] for step in host.steps}) == 1


def test_one_server_waits_for_nobody() -> None:
    callers = Callers(Answering(), 1)
    callers.call(0)
    callers.wait(0)
    assert callers.results == {0: NEWS[0]}


def test_servers_are_answered_as_soon_as_they_can_be() -> None:
    others = threading.Event()

    def during() -> None:
        assert others.wait(20)

    callers = Callers(Answering(during))
    for index in range(NUM_SERVERS):
        callers.call(index)
    callers.wait(1, 2)
    assert set(callers.results) == {1, 2}
    others.set()
    callers.wait(0)


@pytest.mark.parametrize("error", [NonFiniteError("this"), KeyboardInterrupt("now")])
def test_an_error_goes_to_all_that_have_no_answer(error: BaseException) -> None:
    def during() -> None:
        raise error

    callers = Callers(Answering(during))
    for index in range(NUM_SERVERS):
        callers.call(index)
    callers.wait(0, 1, 2)
    assert callers.results == {0: error, 1: NEWS[1], 2: NEWS[2]}


def test_servers_in_different_exchanges_are_told() -> None:
    host = Answering()
    callers = Callers(host)
    callers.call(0)
    callers.call(1)
    callers.call(2, exchange_index=2)
    callers.wait(0, 1, 2)
    assert host.steps == []
    for result in callers.results.values():
        assert isinstance(result, RoundError)
        assert str(result) == (
            "round 4: server 0 is in exchange 1 of it, and server 2 in exchange 2 of round 4: the "
            "method needs servers: 1"
        )
