"""Runs on Ray: the same as in one process, and what happens when something fails.

All tests share one cluster of ten slots, in which every process that a run starts takes a few
seconds; so rounds are few and actors as many as the test needs.
"""

import time
from pathlib import Path
from typing import Any

import pytest
import ray
import yaml
from typer.testing import CliRunner

from launch import Session
from launch.cli import app
from mlmc_ray.errors import ClusterError, MlmcRayError, NonFiniteError, ProblemError, RoundError
from tests.launch.same_runs import EF21, RAND_K, assert_same_on_ray_and_inline, config_of

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("cluster")]

SLOTS = 10
# Of 37 entries, one level has 20 and one 17, so that the ledger shows whose report was whose.
MLMC_S_TOP_K = {"kind": "mlmc", "ladder": {"kind": "s-top-k", "segment_size": 20}}
MLMC_FIXED_POINT = {"kind": "mlmc", "law": "own", "ladder": "fixed-point"}

# By kind, what to run on one, two and four actors.
METHODS: dict[str, dict[int, Any]] = {
    "sgd": dict.fromkeys((1, 4), "sgd"),
    "compressed-sgd": {
        1: {"kind": "compressed-sgd", "compressor": RAND_K},
        2: {"kind": "compressed-sgd", "compressor": MLMC_S_TOP_K},
        4: {"kind": "compressed-sgd", "compressor": MLMC_FIXED_POINT},
    },
    "ef21-sgdm": {2: EF21},
}


# The same result.

RUNS = [
    pytest.param(*run, marks=[] if run == ("compressed-sgd", 2) else [pytest.mark.slow])
    for run in ((kind, actors) for kind, methods in METHODS.items() for actors in methods)
]


@pytest.mark.parametrize(("kind", "actors"), RUNS)
def test_ray_gives_what_one_process_gives(kind: str, actors: int) -> None:
    session = assert_same_on_ray_and_inline(config_of(METHODS[kind][actors], actors))
    assert len(session.ledger) == 2 * 4 * 5


@pytest.mark.slow
def test_batch_normalisation_of_digits_gives_what_one_process_gives() -> None:
    digits = {"kind": "digits", "batch_norm": True}
    compressor = {"kind": "mlmc", "ladder": {"kind": "s-top-k", "segment_size": 0.01}}
    method = {"kind": "compressed-sgd", "compressor": compressor}
    assert_same_on_ray_and_inline(config_of(method, 1, problem=digits, rounds=2))


@pytest.mark.slow
def test_many_logical_workers_fit_few_actors() -> None:
    session = assert_same_on_ray_and_inline(config_of(EF21, 2, workers=32, rounds=3))
    assert {entry.worker_id for entry in session.ledger} == set(range(32))
    assert len(session.ledger) == 2 * 32 * 3
    assert ray.is_initialized()  # the session leaves a cluster that it did not start


# What can fail. The task is beside its configuration, where no process would find it by itself.

FAULTY = """
import os
import time
import torch
from mlmc_ray.problems import Quadratic

class Shard:
    def __init__(self, shard, faulty):
        self.shard, self.faulty, self.batches = shard, faulty, 0

    def sample(self, size, generator):
        self.batches += 1
        return self.shard.sample(size, generator), self.faulty and self.batches == 3

class Task:
    def __init__(self, fault, worker=2):
        self.inner, self.fault, self.worker = Quadratic(dim=8), fault, worker
        self.evaluations = 0
        self.model = self.inner.model

    def shard(self, worker_id, num_workers, generator):
        if self.fault == "shard":
            raise OSError("no data")
        if self.fault == "slow" and worker_id == self.worker:
            time.sleep(60)
        return Shard(self.inner.shard(worker_id, num_workers, generator), worker_id == self.worker)

    def loss(self, model, batch):
        batch, faulty = batch
        if faulty and self.fault == "exit":
            os._exit(1)
        if faulty and self.fault == "leave":
            raise SystemExit(1)
        if faulty and self.fault == "interrupt":
            raise KeyboardInterrupt
        if faulty and self.fault == "sleep":
            time.sleep(60)
        if faulty and self.fault == "raise":
            raise RuntimeError("no such label")
        loss = self.inner.loss(model, batch)
        return loss * torch.nan if faulty and self.fault == "nan" else loss

    def evaluate(self, model):
        self.evaluations += 1
        if self.fault == "evaluate" and self.evaluations == 2:
            os._exit(1)
        return self.inner.evaluate(model)
"""


@pytest.fixture
def faulty(tmp_path: Path) -> Any:
    """Write a configuration whose task fails in the third round, at worker 2."""
    module = f"{tmp_path.name}_faulty"
    (tmp_path / f"{module}.py").write_text(FAULTY)

    def write(fault: str, actors: int = 1, **changes: Any) -> Path:
        problem = {"kind": f"{module}.Task", "fault": fault}
        common = {"rounds": 9, "evaluate_every": 3, "restarts": 0}
        config = {**config_of("sgd", actors, **common), "problem": problem}
        path = tmp_path / "config.yaml"
        path.write_text(yaml.safe_dump({**config, **changes}))
        return path

    return write


FAULTS: list[Any] = [
    ("raise", 2, ProblemError, r"^round 2: worker 2: problem: Run.*: no such label \(.*faulty.py"),
    pytest.param(
        "nan",
        2,
        NonFiniteError,
        r"^round 2: worker 2: cannot compress .* first in layer x\.",
        marks=pytest.mark.slow,
    ),
    pytest.param(  # the round itself is done
        "evaluate", 3, RoundError, r"^round 3: the server is gone: ", marks=pytest.mark.slow
    ),
]  # fmt: skip


@pytest.mark.parametrize(("fault", "rounds", "error", "text"), FAULTS)
def test_an_error_in_an_actor_arrives_as_it_is(
    faulty: Any, fault: str, rounds: int, error: type[MlmcRayError], text: str
) -> None:
    with Session(faulty(fault)) as session, pytest.raises(error, match=text):
        session.run()
    assert session.round_index == rounds


def test_an_error_while_setting_up_arrives_as_it_is(faulty: Any) -> None:
    with pytest.raises(
        ProblemError, match=r"OSError while making the shard of worker 0: .*no data"
    ):
        Session(faulty("shard"))


@pytest.mark.slow
def test_a_task_that_takes_too_long_to_load_is_an_error(faulty: Any) -> None:
    expected = r"^round 0: 1 of 3 actors have not made .* within round_timeout_s = 5$"
    with pytest.raises(RoundError, match=expected):
        Session(faulty("slow", actors=2, round_timeout_s=5))


def test_actors_that_find_no_processor_are_an_error(faulty: Any) -> None:
    @ray.remote(num_cpus=SLOTS)
    class Other:
        pass

    wait_for_all_slots()
    other: Any = Other.remote()  # type: ignore[attr-defined]
    ray.get(other.__ray_ready__.remote())
    try:
        with pytest.raises(ClusterError) as caught:
            Session(faulty("none", actors=2, placement_timeout_s=1))
        assert str(caught.value) == (
            "the 3 actors could not be placed within 1 s: each needs a free processor, and of "
            "10 processors 0 are free; lower actors"
        )
    finally:
        ray.kill(other)


@pytest.mark.slow
def test_an_actor_that_dies_ends_the_round_at_once(faulty: Any) -> None:
    with Session(faulty("exit", actors=2)) as session:
        session.run(2)
        started = time.monotonic()
        with pytest.raises(RoundError, match=r"^round 2: the host of workers \[0, 2\] is gone: "):
            session.run()
        assert time.monotonic() - started < 60  # the time limit of a round is 600 s
    assert session.round_index == 2


@pytest.mark.slow
def test_a_round_that_takes_too_long_names_the_workers(faulty: Any) -> None:
    with Session(faulty("sleep", actors=2)) as session:
        session.change(round_timeout_s=2)  # on actors that have started, which may take longer
        expected = r"^round 2: the host of workers \[0, 2\] did not answer within .* = 2$"
        with pytest.raises(RoundError, match=expected):
            session.run()
    assert session.round_index == 2


def test_more_actors_than_processors_are_refused_when_no_node_joins() -> None:
    problem = {"kind": "quadratic", "num_functions": 12}
    started = time.monotonic()
    with pytest.raises(ClusterError) as caught:
        Session(config_of("sgd", 12, workers=12, problem=problem, placement_timeout_s=1))
    assert str(caught.value) == (
        "actors is 12: with the server that takes 13 processors, and the Ray cluster has 10: "
        "lower actors"
    )
    assert time.monotonic() - started < 10


@pytest.mark.slow
def test_a_task_that_leaves_the_process_by_an_exception_is_an_error(faulty: Any) -> None:
    with Session(faulty("leave")) as session, pytest.raises(ProblemError, match="SystemExit"):
        session.run()
    with (
        Session(faulty("interrupt")) as session,
        pytest.raises(RoundError, match=r"^round 2: the host of workers \[0, 1, 2, 3\] failed: "),
    ):
        session.run()


@pytest.mark.slow
def test_the_command_line_trains_a_task_of_ones_own_on_ray(faulty: Any, tmp_path: Path) -> None:
    ledgers = []
    for engine in ("ray", "inline"):
        out = tmp_path / engine
        arguments = ["train", str(faulty("none")), "--engine", engine, "--out", str(out)]
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == 0, result.output
        ledgers.append((out / "ledger.csv").read_text())
    assert ledgers[0] == ledgers[1]


def test_sessions_give_their_processors_back() -> None:
    wait_for_all_slots()


def wait_for_all_slots() -> None:
    deadline = time.monotonic() + 30
    while ray.available_resources().get("CPU") != SLOTS:  # type: ignore[no-untyped-call]
        assert time.monotonic() < deadline, ray.available_resources()  # type: ignore[no-untyped-call]
        time.sleep(0.1)


@pytest.mark.parametrize("placement", ["pack", "spread"])
def test_actors_are_placed_as_asked(placement: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def refuse(bundles: list[dict[str, float]], strategy: str) -> None:
        asked.append((len(bundles), strategy))
        raise ClusterError("enough has been seen")

    monkeypatch.setattr("launch.engines.placement.placement_group", refuse)
    with pytest.raises(ClusterError, match="enough"):
        Session(config_of(EF21, 2, placement=placement))
    assert asked == [(3, placement.upper())]
