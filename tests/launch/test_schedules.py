"""Runs whose step size follows a schedule."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from launch import Session
from launch.configuration.fitting import notes_on
from launch.configuration.run_config import load_config
from launch.engines.recorded_order import RecordedOrder
from launch.sweeps.grid import parse_axis
from launch.sweeps.plan import SweepOptions, plan_sweep
from mlmc_ray.errors import ConfigError
from mlmc_ray.problems import Quadratic, initial_model
from mlmc_ray.schedules import LinearSchedule
from mlmc_ray.seeding import generator_for
from tests.launch import same_runs
from tests.launch.checkpoints.interrupted import assert_resumes
from tests.launch.test_downlinks import (
    EXACT,
    OPTIMIZERS,
    SPARSE,
    assert_ends_like,
    config_of,
    run,
)
from tests.launch.test_session_changes import ASYNCHRONOUS, CLOCK, timeless

COSINE = {"kind": "cosine", "warm_up": 0.3, "final": 0.1}
LINE = {"kind": "linear", "warm_up": 0.25}
DROPS = {"kind": "drops", "at": [0.3, 0.6], "factor": 0.5}
MOMENTUM = OPTIMIZERS[0]
SOME = {"kind": "partial-participation", "participants": 2, "method": SPARSE}


def step_sizes(session: Session) -> list[float]:
    return [metrics["step_size"] for metrics in session.metrics[1:]]


def alone(**changes: Any) -> dict[str, Any]:
    """One worker with one quadratic, whose batches are all that there is."""
    return {
        "problem": {"kind": "quadratic", "num_functions": 1, "dim": 6},
        "method": "sgd",
        "optimizer": {"kind": "sgd", "step_size": 0.125, "momentum": 0.5},
        "workers": 1,
        "rounds": 8,
        "engine": "inline",
        **changes,
    }


# Steps.


@pytest.mark.parametrize(
    ("schedule", "factors"),
    [
        (LINE, [1 / 2, 1, 1, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6]),
        (DROPS, [1, 1, 1, 0.5, 0.5, 0.25, 0.25, 0.25]),
        (None, [1] * 8),
    ],
    ids=["linear", "drops", "none"],
)
def test_a_run_is_a_loop_with_these_step_sizes(schedule: Any, factors: list[float]) -> None:
    session = run(alone(schedule=schedule))
    problem = Quadratic(num_functions=1, dim=6)
    batch = problem.shard(0, 1, generator_for(0, "shards")).full()
    module = initial_model(problem, 0).module
    optimizer = torch.optim.SGD(module.parameters(), lr=1, momentum=0.5)
    for factor in factors:
        optimizer.param_groups[0]["lr"] = 0.125 * factor
        optimizer.zero_grad()
        problem.loss(module, batch).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    expected = torch.cat([p.detach().reshape(-1) for p in module.parameters()])
    torch.testing.assert_close(session.parameters(), expected, rtol=1e-6, atol=1e-7)
    if schedule is None:
        assert not any("step_size" in metrics for metrics in session.metrics)
    else:
        assert step_sizes(session) == pytest.approx([0.125 * f for f in factors], rel=1e-15)
        assert "step_size" not in session.metrics[0]


def test_more_rounds_than_configured_keep_the_last_factor() -> None:
    with Session(alone(schedule=LINE, rounds=4)) as session:
        session.run()
        session.run(2)
        assert step_sizes(session)[3:] == pytest.approx([0.125 / 3] * 3)


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=lambda optimizer: optimizer["kind"])
@pytest.mark.parametrize("downlink", EXACT)
def test_replicas_take_the_same_steps(downlink: str, optimizer: dict[str, Any]) -> None:
    """Of which some are behind, and catch up on several rounds at once."""
    settings = {"optimizer": optimizer, "schedule": COSINE, "buffers_every": 100}
    for method in (SPARSE, SOME):
        expected = run(config_of(method, **settings))
        assert_ends_like(run(config_of(method, downlink, **settings)), expected)
        constant = run(config_of(method, **{**settings, "schedule": None}))
        assert not torch.equal(constant.parameters(), expected.parameters())


def test_every_server_takes_the_same_step() -> None:
    settings = {"optimizer": MOMENTUM, "schedule": COSINE, "clip_norm": 0.5}
    one = run(config_of("sgd", **settings))
    several = run(config_of("sgd", **settings, servers=3))
    torch.testing.assert_close(several.parameters(), one.parameters(), rtol=1e-5, atol=1e-7)
    assert step_sizes(several) == step_sizes(one)


def test_a_clipped_step_is_scaled() -> None:
    settings = {"clip_norm": 0.5, "schedule": {"kind": "linear", "warm_up": 0.5}}
    with Session(config_of("sgd", **settings, rounds=8)) as session:
        before = session.parameters()
        session.run(1)
        step = session.parameters() - before
    assert float(step.norm()) == pytest.approx(0.05 / 4 * 0.5, rel=1e-4)


@pytest.mark.parametrize("kind", ASYNCHRONOUS)
def test_a_round_of_an_asynchronous_method_is_a_step(kind: str) -> None:
    method = {"kind": kind, **ASYNCHRONOUS[kind]}
    settings = {"clock": CLOCK, "rounds": 8, "optimizer": {"kind": "sgd", "step_size": 0.1}}
    with Session(config_of(method, **settings, schedule=LINE)) as session:
        lengths = [1 / 2, 1, 1, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6]
        for length in lengths:
            before = session.past()
            session.run(1)
            step = session.parameters() - before.state.servers[0]["parameters"]
            assert step.any()
            assert session.metrics[-1]["step_size"] == pytest.approx(0.1 * length)


# Runs that are interrupted, changed and branched.


@pytest.mark.parametrize("schedule", [COSINE, LINE, DROPS], ids=lambda schedule: schedule["kind"])
@pytest.mark.parametrize("downlink", ["full", "relay"])
@pytest.mark.parametrize(
    "method", [pytest.param(SPARSE, marks=pytest.mark.slow), SOME], ids=["all", "some"]
)
def test_a_resumed_run_ends_as_it_would_have(
    schedule: Any, downlink: str, method: Any, tmp_path: Path
) -> None:
    config = config_of(method, downlink, schedule=schedule, optimizer=MOMENTUM, observe_every=3)
    assert_resumes(config, tmp_path)


def test_a_resumed_run_keeps_its_rounds(tmp_path: Path) -> None:
    config = alone(schedule=LINE, checkpoints={"every": 2})
    with Session(config, out=tmp_path / "run") as session:
        session.run(4)
    with pytest.raises(ConfigError, match="rounds is 12, was 8, and schedule goes by it: leave"):
        Session.resume(tmp_path / "run", ["rounds=12"])
    with pytest.raises(ConfigError, match=r"schedule\.final is 0\.5, was 0\.0"):
        Session.resume(tmp_path / "run", ["schedule.final=0.5"])
    with Session.resume(tmp_path / "run") as session:
        session.change(rounds=12)
        session.run()
        expected = [0.125 * (12 - t) / 9 for t in range(4, 12)]
        assert step_sizes(session)[4:] == pytest.approx(expected)
    (line,) = (tmp_path / "run" / "changes.jsonl").read_text().splitlines()
    assert json.loads(line) == {"round": 4, "changes": {"rounds": 12}}


def test_a_run_past_its_rounds_can_be_resumed(tmp_path: Path) -> None:
    config = alone(schedule=LINE, rounds=4, checkpoints={"every": 2})
    with Session(config, out=tmp_path / "run") as session:
        session.run(6)
        expected = session.run(2)
    with Session.resume(tmp_path / "run") as resumed:
        assert resumed.round_index == 8
        assert timeless(resumed.metrics)[-1] == {**expected, "seconds": 0}


@pytest.mark.parametrize("downlink", ["full", "relay"])
@pytest.mark.parametrize(
    ("change", "lengths"),
    [
        ({"rounds": 12}, [9 / 12, 8 / 12]),
        ({"schedule": None}, None),
        ({"schedule": {"final": 0.5}}, [1 - 3 / 16, 1 - 4 / 16]),
        ({"schedule": {"kind": "drops", "at": [0.5]}}, [1, 0.1]),
        ({"optimizer": {"step_size": 0.1}}, [2 * 5 / 8, 2 * 4 / 8]),
    ],
    ids=str,
)
def test_a_session_may_change_it(downlink: str, change: Any, lengths: Any) -> None:
    ends = []
    for way in ("full", downlink):
        session = Session(config_of(SOME, way, schedule="linear", rounds=8))
        session.run(3)
        session.change(**change)
        session.run(2)
        found = [metrics.get("step_size") for metrics in session.metrics[4:]]
        expected = [None, None] if lengths is None else [0.05 * part for part in lengths]
        assert found == pytest.approx(expected)
        ends.append(session)
    assert_ends_like(*ends)


def test_a_branch_follows_its_own() -> None:
    with Session(alone(schedule=LINE)) as session:
        session.run(3)
        with session.branch("longer", rounds=16) as branch, session.branch("same") as same:
            session.run()
            branch.run(1)
            same.run()
            assert torch.equal(same.parameters(), session.parameters())
            assert branch.metrics[-1]["step_size"] == 0.125  # the end of a longer warm-up
            assert session.metrics[4]["step_size"] == pytest.approx(0.125 * 5 / 6)


def test_a_sweep_spans_its_last_rung() -> None:
    axis = parse_axis("optimizer.step_size=0.1,0.2")
    sweep = plan_sweep(alone(schedule=LINE), SweepOptions(axes=(axis,), at_rounds=(2, 20)))
    for candidate in sweep.candidates:
        assert candidate.config.step_sizes is not None
        assert candidate.config.step_sizes.rounds == 20


# What is refused, and what is said.


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        (
            {"method": "scaffnew", "optimizer": None},
            "schedule is given, and scaffnew moves the parameters itself, by steps that stay: "
            "leave schedule out",
        ),
        (
            {"optimizer": {"kind": "sgd", "step_size": "theory"}},
            "schedule is given, and optimizer.step_size is 'theory', which is of steps that stay: "
            "give a number, or leave schedule out",
        ),
        (
            {"schedule": {"kind": "drops", "at": [0.5, 0.25]}},
            "schedule: at is [0.5, 0.25]: give increasing shares of the rounds, each above 0 and "
            "below 1, such as [0.5, 0.75]",
        ),
        ({"schedule": {"kind": "cosine", "final": 2}}, "schedule: final is 2.0: give a part"),
        ({"schedule": "drops"}, "schedule: missing keys ['at'] (at: shares of the rounds"),
    ],
)
def test_what_does_not_fit_is_refused(changes: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config({**alone(schedule=LINE), **changes})
    assert text in str(caught.value)


def test_local_steps_that_stay_are_told() -> None:
    method = {"kind": "local-sgd", "local_step_size": 0.25, "local_steps": 2}
    (note,) = notes_on(load_config(alone(method=method, schedule=LINE)))
    assert note == (
        "schedule is of the server's step alone: workers keep taking steps of local_step_size 0.25"
    )
    assert notes_on(load_config(alone(method=method))) == []
    assert notes_on(load_config(alone(schedule=LINE))) == []


def test_a_recorded_order_is_of_the_same_schedule(tmp_path: Path) -> None:
    described = load_config(alone(schedule=LINE, checkpoints=None)).to_mapping()
    with Session(alone(schedule=LINE), out=tmp_path / "run") as session:
        session.run(1)
    place = str(tmp_path / "run")
    RecordedOrder(place, described)
    with pytest.raises(ConfigError, match="another value of rounds: begin from that file"):
        RecordedOrder(place, {**described, "rounds": 9})
    with pytest.raises(ConfigError, match="another value of schedule:"):
        RecordedOrder(place, {**described, "schedule": None})


OWN = """
from dataclasses import dataclass

@dataclass(frozen=True, kw_only=True)
class Half:
    def factor_of(self, round_index: int, rounds: int) -> float:
        return 0.5
"""


def test_one_of_ones_own_is_found_where_the_file_is(tmp_path: Path, forgetting: None) -> None:
    module = f"{tmp_path.name}_schedule"
    (tmp_path / f"{module}.py").write_text(OWN)
    config = load_config(alone(schedule=f"{module}.Half", search_paths=[str(tmp_path)]))
    assert config.step_sizes is not None
    assert config.step_sizes.of(3) == 0.0625
    assert str(tmp_path) in config.problem.search_paths  # for the processes of Ray


# On Ray.


@pytest.mark.ray
@pytest.mark.usefixtures("cluster")
@pytest.mark.slow
def test_ray_gives_what_one_process_gives() -> None:
    settings: dict[str, Any] = {"schedule": LINE, "downlink": "relay", "buffers_every": 4}
    method = {"kind": "compressed-sgd", "compressor": same_runs.RAND_K}
    session = same_runs.assert_same_on_ray_and_inline(
        same_runs.config_of(method, 1, **settings, rounds=4)
    )
    assert step_sizes(session) == pytest.approx([0.05, 0.05, 0.05 * 2 / 3, 0.05 / 3])
    assert load_config({**session.config.to_mapping()}).schedule == LinearSchedule(warm_up=0.25)
