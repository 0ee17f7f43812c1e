"""Watching sessions: in a notebook, and where there is none."""

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from importlib import import_module
from typing import Any

import pytest

from launch import Session
from launch.callbacks import Callback
from launch.notebook import watch
from mlmc_ray.errors import ConfigError, RoundError

CONFIG: dict[str, Any] = {
    "name": "hello",
    "problem": "quadratic",
    "method": "sgd",
    "optimizer": {"kind": "sgd", "step_size": 0.001},
    "engine": "inline",
    "rounds": 12,
    "evaluate_every": 4,
}


class Interrupts(Callback):
    """Presses the stop button so often in a round."""

    def __init__(self, round_index: int, times: int = 1) -> None:
        self._round_index, self._times = round_index, times

    def on_round(self, session: Session, metrics: Any, result: Any) -> None:
        if metrics["round"] == self._round_index:
            for _ in range(self._times):
                os.kill(os.getpid(), signal.SIGINT)


@pytest.fixture
def displayed() -> Iterator[list[dict[str, Any]]]:
    """A notebook: an IPython shell with a kernel, and what it was given to show."""
    pytest.importorskip("IPython")
    shells: Any = import_module("IPython.core.interactiveshell")
    publishers: Any = import_module("IPython.core.displaypub")
    shell = shells.InteractiveShell.instance()
    shell.kernel = object()
    shell.display_pub = publishers.CapturingDisplayPublisher(parent=shell)
    yield shell.display_pub.outputs
    shells.InteractiveShell.clear_instance()


def test_without_a_notebook_it_prints_where_the_run_stands(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "IPython", None)
    with Session(CONFIG) as session:
        watch(session, rounds=5)
        assert session.round_index == 5
    first, *_, last = capsys.readouterr().out.splitlines()
    assert first.startswith("hello: round 0 of 12, gap ")
    assert last.startswith("hello: round 5 of 12, loss ")
    assert last.endswith(" down")


def test_a_watched_run_is_the_run_itself() -> None:
    with Session(CONFIG) as session, Session(CONFIG) as watched:
        session.run()
        watch(watched)
        assert watched.ledger == session.ledger
        assert [{**m, "seconds": 0} for m in watched.metrics] == [
            {**m, "seconds": 0} for m in session.metrics
        ]


def test_several_sessions_take_turns() -> None:
    turns: list[str] = []

    class Turn(Callback):
        def on_round(self, session: Session, metrics: Any, result: Any) -> None:
            turns.append(session.config.name)

    with (
        Session({**CONFIG, "name": "a"}, callbacks=[Turn()]) as first,
        Session({**CONFIG, "name": "b", "rounds": 2}, callbacks=[Turn()]) as second,
    ):
        second.run(1)
        turns.clear()
        watch([first, second], rounds=2)
        assert turns == ["a", "b", "a", "b"]
        watch([first, second])
        assert first.round_index == 12
        assert second.round_index == 3


def test_a_session_that_a_callback_pauses_has_no_more_turns() -> None:
    class Pauses(Callback):
        def on_round(self, session: Session, metrics: Any, result: Any) -> None:
            if metrics["round"] == 3:
                session.pause()

    with (
        Session({**CONFIG, "name": "a"}, callbacks=[Pauses()]) as first,
        Session({**CONFIG, "name": "b"}) as second,
    ):
        watch([first, second])
        assert (first.round_index, second.round_index) == (3, 12)
        watch(first)
        assert first.round_index == 12


def test_the_figure_is_drawn_in_its_place(displayed: list[dict[str, Any]]) -> None:
    with Session(CONFIG) as session, session.branch("branch") as branch:
        watch([session, branch], rounds=3)
    shown = [output for output in displayed if "image/png" in output["data"]]
    assert len(shown) >= 2  # before the first round, and after the last
    assert all(output["update"] for output in shown)
    assert len({output["transient"]["display_id"] for output in shown}) == 1
    assert len([output for output in displayed if not output["update"]]) == 2
    said = displayed[-1]["data"]["text/plain"].splitlines()
    assert said[0].startswith("hello: round 3 of 12")
    assert said[1].startswith("branch: round 3 of 12")


def test_it_is_drawn_twice_a_second_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[int] = []
    monkeypatch.setattr("launch.notebook._in_notebook", lambda: False)
    monkeypatch.setattr("launch.notebook._print_lines", lambda s: drawn.append(s[0].round_index))
    with Session({**CONFIG, "rounds": 100_000, "evaluate_every": 100_000}) as session:
        stop = threading.Timer(1.5, os.kill, (os.getpid(), signal.SIGINT))
        stop.start()
        started = time.monotonic()
        watch(session)
        seconds = time.monotonic() - started
        assert 5 * len(drawn) < session.round_index < 100_000
        assert drawn[-1] == session.round_index
    assert 2 <= len(drawn) <= 2 * seconds + 3


def test_an_interrupt_lets_the_round_end_and_the_session_goes_on() -> None:
    before = signal.getsignal(signal.SIGINT)
    with Session(CONFIG, callbacks=[Interrupts(3)]) as session:
        watch(session)
        assert session.round_index == 3
        assert signal.getsignal(signal.SIGINT) is before
        watch(session)
        assert session.round_index == 12


def test_an_interrupt_stops_all_that_take_turns() -> None:
    with (
        Session({**CONFIG, "name": "a"}, callbacks=[Interrupts(2)]) as first,
        Session({**CONFIG, "name": "b"}) as second,
    ):
        watch([first, second])
        assert (first.round_index, second.round_index) == (2, 1)


def test_a_second_interrupt_breaks_off() -> None:
    before = signal.getsignal(signal.SIGINT)
    with Session(CONFIG, callbacks=[Interrupts(3, times=2)]) as session:
        with pytest.raises(KeyboardInterrupt):
            watch(session)
        assert signal.getsignal(signal.SIGINT) is before


def test_a_handler_that_is_not_pythons_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    def set_handler(signum: int, handler: Any) -> None:  # one that was there before is unknown
        if handler is None:
            raise TypeError("signal handler must be callable")

    with Session(CONFIG) as session, monkeypatch.context() as patch:
        patch.setattr(signal, "getsignal", lambda _: None)
        patch.setattr(signal, "signal", set_handler)
        watch(session, rounds=2)
        assert session.round_index == 2


def test_it_works_outside_of_the_main_thread() -> None:
    with Session(CONFIG) as session:
        thread = threading.Thread(target=watch, args=(session, 2))
        thread.start()
        thread.join()
        assert session.round_index == 2


def test_the_interrupt_is_restored_after_an_error() -> None:
    before = signal.getsignal(signal.SIGINT)
    session = Session(CONFIG)
    session.close()
    with pytest.raises(RoundError, match="closed"):
        watch(session)
    assert signal.getsignal(signal.SIGINT) is before


def test_wrong_arguments_are_errors() -> None:
    with pytest.raises(ConfigError, match="watch: got no session"):
        watch([])
    with Session(CONFIG) as one, Session(CONFIG) as two:
        with pytest.raises(ConfigError, match=r"several sessions are called \['hello'\]"):
            watch([one, two], rounds=2)
        assert one.round_index == 0
    with Session(CONFIG) as session, pytest.raises(ValueError, match="every is 0"):
        watch(session, every=0)
