"""Runs on Ray whose actors are lost end as if nothing had happened."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import ray
import torch

from launch import Session
from launch.callbacks import Callback
from launch.configuration.run_config import load_config
from launch.engines.ray_engine import RayEngine
from mlmc_ray.errors import ConfigError, LostError, RoundError
from tests.chaos.faults import Disturb, actors_of, events, killed, pid_of, signalled
from tests.launch.same_runs import EF21, config_of

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("cluster")]

PLAIN: dict[str, Any] = {"kind": "tests.tasks.Regression"}
MLMC = {
    "kind": "compressed-sgd",
    "compressor": {"kind": "mlmc", "ladder": {"kind": "s-top-k", "segment_size": 5}},
}


def recovering(method: Any, **changes: Any) -> dict[str, Any]:
    base = config_of(method, 2, problem=PLAIN, rounds=8, evaluate_every=3, buffers_every=1)
    return {**base, **changes}


class Rounds(Callback):
    """Remembers which rounds it was told of."""

    def __init__(self) -> None:
        self.seen: list[int] = []

    def on_round(self, session: Any, metrics: Any, result: Any) -> None:
        self.seen.append(metrics["round"])


def assert_same_without(
    config: dict[str, Any], disturb: Disturb, out: Path | None = None
) -> tuple[Session, list[str]]:
    """Run undisturbed in one process, and disturbed on Ray; return the latter, and its notes."""
    with Session({**config, "engine": "inline", "checkpoints": None}) as whole:
        whole.run()
        expected, state = whole.parameters(), whole.model_state()
    notes: list[str] = []
    rounds = Rounds()
    with Session(config, out=out, on_note=notes.append, callbacks=[disturb, rounds]) as session:
        session.run()
        found = session.parameters()
        found_state = session.model_state()
    assert torch.equal(found, expected)
    assert all(torch.equal(tensor, found_state[name]) for name, tensor in state.items())
    assert session.ledger == whole.ledger
    times = {"seconds": 0}
    assert [{**m, **times} for m in session.metrics] == [{**m, **times} for m in whole.metrics]
    assert rounds.seen == list(range(1, 9))
    return session, events(notes)


# Workers that remember nothing.


@pytest.mark.parametrize(
    ("downlink", "delay_s"),
    [pytest.param("full", 0, marks=pytest.mark.slow), ("relay", 0.005)],
)
def test_a_killed_worker_that_remembers_nothing_costs_its_report(
    downlink: str, delay_s: float
) -> None:
    config = recovering(MLMC, downlink=downlink, actors=3)
    session, notes = assert_same_without(config, Disturb({4: killed("host 0")}, delay_s))
    assert len(notes) == 2
    assert "the host of workers [0, 3] is gone: " in notes[0]
    assert notes[0].endswith(": another is started (restart 1 of 3)")
    assert {entry.worker_id for entry in session.repeated} == {0, 3}
    assert {entry.direction for entry in session.repeated} == {"downlink"}
    assert len(session.repeated) == 2


@pytest.mark.slow
def test_all_workers_may_be_killed_and_again() -> None:
    both = {2: killed("host 0"), 3: killed("host 1"), 5: killed("host 0")}
    session, notes = assert_same_without(recovering("sgd"), Disturb(both))
    assert len(notes) == 6
    assert len(session.repeated) == 6


@pytest.mark.slow
def test_a_worker_that_hangs_is_replaced() -> None:
    config = recovering("sgd", round_timeout_s=3)
    hangs = signalled("host 1", signal.SIGSTOP)
    _, notes = assert_same_without(config, Disturb({4: hangs}))
    assert "workers [1, 3] did not answer within round_timeout_s = 3" in notes[0]


# What is remembered is lost with a process: rounds are run again.

BATCH_NORM = {**PLAIN, "batch_norm": True}


@pytest.mark.parametrize(
    ("name", "downlink"),
    [
        pytest.param("host 1", "delta", marks=pytest.mark.slow),
        pytest.param("server 0", "full", marks=pytest.mark.slow),
        ("server 0", "relay"),
    ],
)
def test_what_is_remembered_is_won_back(name: str, downlink: str, tmp_path: Path) -> None:
    config = recovering(EF21, checkpoints={"every": 3}, downlink=downlink)
    disturb = Disturb({5: killed(name)})
    session, notes = assert_same_without(config, disturb, tmp_path / "run")
    assert notes[0].endswith(": all actors are started anew, and go on from round 3")
    assert notes[1].endswith("and ran 2 rounds again")
    assert len(notes) == 2
    again = [entry for entry in session.ledger if 3 <= entry.round_index < 5]
    assert list(session.repeated) == again
    written = (tmp_path / "run" / "repeated.csv").read_text().splitlines()
    assert len(written) == 1 + len(again)


@pytest.mark.slow
def test_without_checkpoints_a_run_begins_again_and_ends_the_same() -> None:
    _, notes = assert_same_without(recovering(EF21), Disturb({5: killed("server 0")}))
    assert "go on from the start" in notes[0]


@pytest.mark.slow
def test_running_statistics_are_won_back() -> None:
    config = recovering(MLMC, problem=BATCH_NORM, buffers_every=2)
    _, notes = assert_same_without(config, Disturb({5: killed("host 0")}))
    assert "go on from the start" in notes[0]


@pytest.mark.slow
def test_several_servers() -> None:
    config = recovering(EF21, servers=2, clip_norm=0.05)
    assert_same_without(config, Disturb({4: killed("server 1")}))
    assert_same_without(recovering(MLMC, servers=2), Disturb({4: killed("host 1")}))


@pytest.mark.slow
def test_a_server_may_be_lost_before_an_evaluation() -> None:
    class Kill(Callback):
        done = False

        def on_round(self, session: Any, metrics: Any, result: Any) -> None:
            if metrics["round"] == 5 and not self.done:
                self.done = True
                os.kill(pid_of(actors_of(session)["server 0"]), signal.SIGKILL)
                self.measures = session.evaluate()

    config, kill = recovering(EF21), Kill()
    with Session(config, callbacks=kill) as session:
        session.run(5)
        assert session.evaluate() == kill.measures
        assert len(session.repeated) == 5 * 8


@pytest.mark.slow
def test_a_session_goes_on_from_where_it_was_changed() -> None:
    with Session({**recovering(EF21), "engine": "inline"}) as whole:
        whole.run(3)
        whole.change(["optimizer.step_size=0.01"])
        whole.run(3)
        expected = whole.parameters()
    notes: list[str] = []
    with Session(recovering(EF21), on_note=notes.append) as session:
        session.run(3)
        session.change(["optimizer.step_size=0.01"])
        session.run(2)
        killed("host 0")(session)()
        session.run(1)
        assert torch.equal(session.parameters(), expected)
        assert session.ledger == whole.ledger
        with session.branch("other") as branch:
            branch.run(1)
            killed("server 0")(branch)()
            branch.run(1)
            ends = branch.parameters()
        session.run(2)
        assert torch.equal(session.parameters(), ends)
    assert "go on from round 3" in events(notes)[0]
    assert "go on from round 6" in events(notes)[2]


@pytest.mark.slow
def test_an_actor_that_is_lost_while_it_starts_is_started_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tries: list[int] = []
    begin = RayEngine._set_up

    def lost_at_first(engine: RayEngine, config: Any) -> None:
        tries.append(1)
        if len(tries) == 1:
            ray.kill(engine._hosts[0]._actor)
        begin(engine, config)

    monkeypatch.setattr(RayEngine, "_set_up", lost_at_first)
    notes: list[str] = []
    with Session(recovering("sgd", actors=1), on_note=notes.append) as session:
        session.run(1)
    assert len(tries) == 2
    assert "while its model and shards were made, an actor is gone" in events(notes)[0]


# Not for ever, and not if nobody wants it.


def test_restarts_may_be_refused() -> None:
    disturb = Disturb({2: killed("host 0")})
    config = recovering("sgd", restarts=0)
    with (
        Session(config, callbacks=disturb) as session,
        pytest.raises(LostError, match=r"^round 2: the host of workers \[0, 2\] is gone: "),
    ):
        session.run()
    assert session.round_index == 2


@pytest.mark.slow
@pytest.mark.parametrize("method", ["sgd", EF21], ids=["sgd", "ef21-sgdm"])
def test_a_worker_that_always_dies_is_given_up(method: Any) -> None:
    config = recovering(method, problem={"kind": "tests.tasks.Fatal"}, restarts=2)
    text = r"^round 0: the host of workers .* is gone: .*; given up after restarts = 2: "
    with Session(config) as session, pytest.raises(RoundError, match=text):
        session.run()


def test_restarts_are_counted_from_0() -> None:
    with pytest.raises(ConfigError, match="restarts"):
        load_config(recovering("sgd", restarts=-1))
