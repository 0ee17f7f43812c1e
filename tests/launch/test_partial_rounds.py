"""Runs on Ray that do not wait for all: quorums, asynchronous methods, numbers that change."""

import csv
import itertools
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from launch import Session
from launch.configuration.run_config import load_config
from launch.elastic import Elastic
from launch.engines.ray_engine import RayEngine
from mlmc_ray.errors import ConfigError, RoundError
from mlmc_ray.methods import DataParallelSGD
from mlmc_ray.payloads import DensePayload, Message
from mlmc_ray.quorum import Quorum
from tests.chaos.faults import Disturb, killed
from tests.launch.same_runs import EF21, config_of
from tests.tasks import Regression

PLAIN: dict[str, Any] = {"kind": "tests.tasks.Regression"}
SGD = {"kind": "sgd", "step_size": 0.01}
ASYNC = {"kind": "async-sgd", "policy": "drop", "max_staleness": 2}
MEASURED = {"kind": "adaptive-shadowheart", "compressor": {"kind": "rand-k", "k": 5}, "noise": 4}
METHODS = [
    ASYNC,
    {"kind": "async-sgd", "compressor": {"kind": "rand-k", "k": 5}, "policy": "ssp", "slack": 1},
    {"kind": "rennala", "batch": 3},
]


def partial(method: Any, **changes: Any) -> dict[str, Any]:
    base = config_of(method, 2, problem=PLAIN, rounds=12, evaluate_every=5, optimizer=SGD)
    return {**base, **changes}


on_ray = [pytest.mark.ray, pytest.mark.usefixtures("cluster")]


def ray_test(test: Any) -> Any:
    """Mark a test that needs the cluster."""
    for mark in on_ray:
        test = mark(test)
    return test


# Asynchronous methods.


@ray_test
@pytest.mark.parametrize(
    "method",
    [METHODS[0], *(pytest.param(method, marks=pytest.mark.slow) for method in METHODS[1:])],
    ids=str,
)
def test_a_recorded_order_of_arrivals_repeats_bit_for_bit(method: Any, tmp_path: Path) -> None:
    config = partial(method, downlink="half")
    with Session(config, out=tmp_path / "run") as session:
        session.run()
        expected = session.parameters()
    again = {**config, "engine": "inline", "arrivals": str(tmp_path / "run")}
    with Session(again) as replay:
        replay.run()
        assert torch.equal(replay.parameters(), expected)
    assert replay.ledger == session.ledger


@ray_test
@pytest.mark.slow
def test_a_replay_goes_on_from_a_checkpoint(tmp_path: Path) -> None:
    config = partial(ASYNC)
    with Session(config, out=tmp_path / "run") as session:
        session.run()
        expected = session.parameters()
    again = {**config, "engine": "inline", "arrivals": str(tmp_path / "run")}
    with Session({**again, "checkpoints": {"every": 4}}, out=tmp_path / "again") as replay:
        replay.run(5)
    with Session.resume(tmp_path / "again") as resumed:
        resumed.run()
        assert torch.equal(resumed.parameters(), expected)
        assert resumed.ledger == session.ledger
    with Session(again) as longer, pytest.raises(RoundError, match=r"no more than .* lower rounds"):
        longer.run(1000)
    with pytest.raises(
        ConfigError, match="has another value of seed, workers: begin from that file"
    ):
        Session({**again, "workers": 2, "seed": 3})


@ray_test
@pytest.mark.slow
def test_an_asynchronous_run_goes_on_from_a_checkpoint_and_after_a_loss(tmp_path: Path) -> None:
    config = partial(METHODS[-1], checkpoints={"every": 4})
    notes: list[str] = []
    hit = Disturb({6: killed("host 1")}, 0.001)
    with Session(config, out=tmp_path / "run", callbacks=hit, on_note=notes.append) as session:
        session.run(11)
    assert session.round_index == 11
    assert any("is gone" in line and "another is started" in line for line in notes)
    with Session.resume(tmp_path / "run") as resumed:
        assert resumed.round_index == 8
        resumed.run()
    assert resumed.round_index == 12
    ups = [e for e in resumed.ledger if e.direction == "uplink"]
    assert {entry.worker_id for entry in ups} == {0, 1, 2, 3}


@ray_test
@pytest.mark.slow
@pytest.mark.parametrize("method", [ASYNC, MEASURED], ids=str)
def test_a_run_that_goes_by_time_is_resumed_if_its_server_is_lost(
    method: Any, tmp_path: Path
) -> None:
    """Its rounds would not be the same again, so they are not run again behind its ledger."""
    config = partial(method, checkpoints={"every": 4})
    hit = Disturb({6: killed("server 0")})
    text = r"rounds 4 to 5 would not be the same again, as they .*: go on from the last checkpoint"
    with (
        Session(config, out=tmp_path / "run", callbacks=hit) as session,
        pytest.raises(RoundError, match=text),
    ):
        session.run()
    with Session.resume(tmp_path / "run") as resumed:
        resumed.run()
    assert resumed.round_index == 12
    assert {entry.round_index for entry in resumed.repeated} == {4, 5}


@ray_test
@pytest.mark.slow
def test_an_asynchronous_run_may_be_scaled_and_changed() -> None:
    notes: list[str] = []
    with Session(partial(ASYNC), on_note=notes.append) as session:
        session.run(3)
        session.scale_to(2)
        session.run(4)
        session.change(method={"kind": "rennala", "batch": 2})
        session.run(3)
        late = [entry for entry in session.ledger if entry.round_index >= 3]
        with pytest.raises(ConfigError, match="engine has changed"):
            session.change(engine="inline", arrivals="runs/other")
    assert {entry.worker_id for entry in late} == {0, 1}
    assert any("reports on their way are dropped" in line for line in notes)


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"method": ASYNC, "engine": "inline"}, "give a clock, .* or arrivals, .* or engine: ray"),
    ({"method": ASYNC, "arrivals": "x"}, "engine is 'ray', where reports arrive as they come"),
    ({"method": "sgd", "engine": "inline", "arrivals": "x"}, "sgd is not asynchronous"),
    ({"method": MEASURED, "engine": "inline"}, "is 'inline', where nothing is sent: give engine"),
    ({"method": MEASURED, "quorum": {"reports": 3}}, "needs the reports"),
    ({"method": MEASURED, "servers": 2}, "goes by how long workers take, .*: give servers: 1"),
    ({"quorum": {}}, "give reports, deadline_s, or both"),
    ({"quorum": {"reports": 0}}, "reports is 0: give at least 1"),
    ({"quorum": {"deadline_s": 0}}, "deadline_s is 0.*: give seconds above 0"),
    ({"quorum": {"reports": 5}}, "quorum.reports is 5, and there are 4 workers"),
    ({"quorum": {"reports": 3}, "engine": "inline"}, "engine is 'inline'.*: give engine: ray"),
    ({"quorum": {"reports": 3}, "servers": 2}, "servers is 2: .* give servers: 1"),
    ({"quorum": {"reports": 3}, "downlink": "delta"}, "give downlink: full or half"),
    ({"quorum": {"reports": 3}, "method": ASYNC}, "takes every report as it comes, so there is no"),
    ({"quorum": 3}, "got 3: Input should be a mapping of its keys to values"),
    (
        {"quorum": {"reports": 3}, "method": EF21},
        "ef21-sgdm has workers that remember something, which would",
    ),
    ({"quorum": {"reports": 3}, "method": {"kind": "power-sgd", "rank": 1}}, "needs the reports"),
    ({"elastic": {"least": 3, "most": 2}}, "most is 2 and least is 3"),
    ({"elastic": {"least": 5, "most": 8}, "actors": None}, "workers is 4, and elastic is from 5"),
    ({"elastic": {"least": 1, "most": 2}}, "actors is 2: .* leave actors out"),
    (
        {"elastic": {"least": 1, "most": 2}, "engine": "inline", "actors": None},
        "engine is 'inline'",
    ),
]


@pytest.mark.parametrize(("changes", "text"), REFUSED)
def test_what_cannot_be_is_refused_before_anything_starts(
    changes: dict[str, Any], text: str
) -> None:
    with pytest.raises(ConfigError, match=text):
        load_config({**partial("sgd"), **changes})


def test_arrivals_of_no_run_are_refused(tmp_path: Path) -> None:
    config = partial(ASYNC, engine="inline", arrivals=str(tmp_path))
    with pytest.raises(ConfigError, match=r"arrivals is .*: give a run directory; its config"):
        Session(config)


# Workers whose speed is measured.


@dataclass(frozen=True, kw_only=True)
class SlowFirst(Regression):
    """A task whose worker 0 takes its time."""

    def shard(self, worker_id: int, num_workers: int, generator: torch.Generator) -> Any:
        shard = Regression.shard(self, worker_id, num_workers, generator)
        return _Slow(shard) if worker_id == 0 else shard


@dataclass
class _Slow:
    """A shard that takes its time."""

    inner: Any

    def sample(self, size: int, generator: torch.Generator) -> Any:
        time.sleep(0.05)
        return self.inner.sample(size, generator)


@ray_test
@pytest.mark.slow
def test_a_slow_worker_is_asked_for_less() -> None:
    problem = {"kind": "tests.launch.test_partial_rounds.SlowFirst"}
    with Session(partial(MEASURED, actors=4, problem=problem, rounds=20)) as session:
        session.run()
        (state,) = session._engine.state().servers
    assert all(float(state["half"][name].min()) > 0 for name in ("compute_s", "message_s"))
    rounds = Counter(e.worker_id for e in session.ledger if e.direction == "uplink")
    assert 1 <= rounds[0] < 20  # it rests in some
    assert {rounds[i] for i in (1, 2, 3)} == {20}


# Quorums.


def test_the_average_over_a_random_quorum_is_unbiased() -> None:
    """Over all equally likely sets of those in time, by enumeration."""
    draws = torch.Generator().manual_seed(1)
    gradients = torch.randn(5, 7, generator=draws)
    half = DataParallelSGD().server(torch.zeros(7))
    sets = list(itertools.combinations(range(5), 3))
    total = torch.zeros(7)
    for chosen in sets:
        reports = {i: Message({"gradient": DensePayload(gradients[i])}) for i in chosen}
        estimate = half.step(reports, context=None)  # type: ignore[arg-type]
        assert isinstance(estimate, torch.Tensor)
        total += estimate
    torch.testing.assert_close(total / len(sets), gradients.mean(dim=0))


def test_a_quorum_does_nothing_where_no_host_can_be_missed() -> None:
    quorum = Quorum(reports=3)
    assert [quorum.idle(hosts) for hosts in ([2, 2], [4], [1, 1, 1, 1], [3, 1])] == [
        True,
        True,
        False,
        False,
    ]
    assert Quorum(reports=4).idle([1, 1, 1, 1])
    assert not Quorum(reports=3, deadline_s=1.0).idle([2, 2])
    assert not Quorum(deadline_s=1.0).idle([2, 2])


@ray_test
def test_a_run_with_a_quorum_counts_what_is_late(tmp_path: Path) -> None:
    config = partial("sgd", actors=4, quorum={"reports": 2}, rounds=40, checkpoints={"every": 15})
    with Session(config, out=tmp_path / "run") as session:
        session.run()
    late = sum(metrics.get("late_reports", 0) for metrics in session.metrics)
    with (tmp_path / "run" / "ledger.csv").open(newline="") as file:
        ups = [row for row in csv.DictReader(file) if row["direction"] == "uplink"]
    assert 80 + late <= len(ups) <= 160
    assert session.metrics[-1]["test_loss"] < session.metrics[0]["test_loss"]


@ray_test
@pytest.mark.slow
def test_a_quorum_of_all_is_what_everybody_waits_for() -> None:
    with Session(partial("sgd", engine="inline")) as whole:
        whole.run()
        expected = whole.parameters()
    with Session(partial("sgd", quorum={"reports": 4})) as session:
        session.run()
        assert torch.equal(session.parameters(), expected)
    assert session.ledger == whole.ledger


# Workers that follow the nodes.


def test_workers_follow_the_room_within_bounds() -> None:
    elastic = Elastic(least=2, most=6)
    assert [elastic.wanted(room) for room in (0, 2, 5, 6, 9)] == [2, 2, 5, 6, 6]


@ray_test
@pytest.mark.slow
def test_a_run_scales_itself_to_the_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    config = partial("sgd", actors=None, elastic={"least": 1, "most": 3}, workers=2)
    monkeypatch.setattr("launch.elastic._LOOK_EVERY_S", 0.0)
    notes: list[str] = []
    with Session(config, on_note=notes.append) as session:
        session.run(1)
        assert session.config.workers == 3
        rooms = iter([1, 1, 2])
        monkeypatch.setattr(RayEngine, "room", lambda _: next(rooms))
        session.run(3)
    first = next(line for line in notes if line.startswith("round"))
    assert first.startswith("round 0: the nodes have room for ")
    workers = [
        len({e.worker_id for e in session.ledger if e.round_index == index}) for index in range(4)
    ]
    assert workers == [3, 1, 1, 2]
