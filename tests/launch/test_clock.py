"""Runs on simulated time, in one process."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from launch import Session
from launch.configuration.run_config import RunConfig, load_config
from launch.engines.clock import Clock
from launch.engines.simulated_time import SimulatedTime
from mlmc_ray.compressors import Identity
from mlmc_ray.errors import ConfigError, RoundError
from mlmc_ray.methods import DataParallelSGD, Method, PowerSGDMethod
from mlmc_ray.methods.asynchronous.async_sgd import AsyncSGD
from mlmc_ray.methods.asynchronous.rennala import RennalaSGD
from mlmc_ray.methods.asynchronous.shadowheart import Shadowheart

SPEEDS = {"compute_s": [1, 2, 4]}


def config_of(method: Any, clock: Any, **changes: Any) -> dict[str, Any]:
    return {
        "problem": {"kind": "quadratic", "num_functions": 3, "dim": 8, "noise": 0.1},
        "method": method,
        "optimizer": {"kind": "sgd", "step_size": 0.03125},
        "workers": 3,
        "rounds": 4,
        "engine": "inline",
        "clock": clock,
        **changes,
    }


def times(session: Session) -> list[float]:
    return [metrics["clock_s"] for metrics in session.metrics]


def senders(session: Session, direction: str, round_index: int) -> list[int]:
    entries = [e for e in session.ledger if e.round_index == round_index]
    return [entry.worker_id for entry in entries if entry.direction == direction]


# Simulated seconds.


def test_a_round_takes_as_long_as_its_slowest_worker() -> None:
    clock = {**SPEEDS, "downlink_s": 0.5, "uplink_s": [0.25, 0.25, 0.125]}
    with Session(config_of("sgd", clock)) as session:
        session.run()
    assert times(session) == [4.625 * rounds for rounds in range(5)]


def test_frames_take_their_bytes() -> None:
    """News are 52 bytes and reports 50: see the sizes by hand in test_session."""
    clock = {"compute_s": 1, "downlink_bytes_per_s": 104, "uplink_bytes_per_s": [50, 100, 200]}
    with Session(config_of("sgd", clock)) as session:
        session.run(1)
    assert {entry.frame_bytes for entry in session.ledger} == {52, 50}
    assert times(session) == [0.0, 0.5 + 1 + 1]


def test_every_exchange_takes_its_time_and_only_gradients_compute() -> None:
    """The second exchange of a round of PowerSGD computes no gradient."""
    clock = {"compute_s": 1, "uplink_s": 0.25}
    config = config_of(PowerSGDMethod(rank=1), clock, problem={"kind": "tests.tasks.Regression"})
    with Session(config) as session:
        session.run(2)
    assert times(session) == [0.0, 1.5, 3.0]


def test_a_worker_computes_as_long_as_its_gradients_take() -> None:
    method = Shadowheart(compressor=Identity(), compute_s=(1.0, 2.0, 4.0), message_s=1.0, noise=4.0)
    plan = method.plan(3, 0.0)
    assert plan.gradients == (4, 2, 1)
    with Session(config_of(method, {"compute_s": [1, 2.5, 4.5]})) as session:
        session.run(1)
    assert times(session) == [0.0, max(4 * 1, 2 * 2.5, 1 * 4.5)]


def test_without_a_clock_there_is_no_time() -> None:
    with Session(config_of("sgd", None)) as session:
        session.run(1)
    assert not any("clock_s" in metrics for metrics in session.metrics)


def test_a_clock_changes_nothing_but_the_time() -> None:
    with Session(config_of("sgd", None)) as without, Session(config_of("sgd", SPEEDS)) as timed:
        without.run()
        timed.run()
        assert torch.equal(without.parameters(), timed.parameters())
        assert without.ledger == timed.ledger


# Arrivals, by hand, for workers that take 1, 2 and 4 seconds; of two at once the lower id is first.


def test_reports_arrive_in_the_order_of_time() -> None:
    with Session(config_of(AsyncSGD(), SPEEDS, rounds=8)) as session:
        session.run()
    assert times(session) == [0, 1, 2, 2, 3, 4, 4, 4, 5]
    arrivals = [0, 0, 1, 0, 0, 1, 2, 0]
    assert [senders(session, "uplink", r) for r in range(8)] == [[i] for i in arrivals]
    assert senders(session, "downlink", 0) == [0, 1, 2]
    assert [senders(session, "downlink", r) for r in range(1, 8)] == [[i] for i in arrivals[:-1]]


def test_dropped_reports_take_time_and_no_round() -> None:
    method = AsyncSGD(policy="drop", max_staleness=0)
    with Session(config_of(method, SPEEDS, rounds=5)) as session:
        session.run()
    assert times(session) == [0, 1, 2, 3, 4, 5]
    assert [senders(session, "uplink", r) for r in range(5)] == [[0], [0], [1, 0], [0], [1, 2, 0]]
    assert [senders(session, "downlink", r) for r in range(1, 5)] == [[0], [0, 1], [0], [0, 1, 2]]


def test_a_batch_of_rennala_is_filled_by_the_fast() -> None:
    with Session(config_of(RennalaSGD(batch=3), SPEEDS, rounds=2)) as session:
        session.run()
    # The step is at 2 s. What the first worker starts just before it, and the third worker's first
    # report, are thrown away at 3 and at 4 s.
    assert times(session) == [0, 2, 5]
    assert [senders(session, "uplink", r) for r in range(2)] == [[0, 0, 1], [0, 0, 1, 2, 0]]


def test_workers_that_are_too_far_ahead_wait() -> None:
    with Session(config_of(AsyncSGD(policy="ssp", slack=0), SPEEDS, rounds=6)) as session:
        session.run()
    assert times(session) == [0, 1, 2, 4, 5, 6, 8]
    assert senders(session, "downlink", 3) == [0, 1, 2]


METHODS: list[Method] = [
    AsyncSGD(),
    AsyncSGD(policy="drop", max_staleness=1),
    AsyncSGD(policy="ssp", slack=1),
    RennalaSGD(batch=2),
    DataParallelSGD(),
]
CLOCK: dict[str, Any] = {
    "compute_s": (1.0, 2.0, 4.0),
    "jitter": 0.5,
    "uplink_s": (0.5, 0.25, 0.1),
    "downlink_bytes_per_s": 1000.0,
}
BUSY = {name: list(v) if isinstance(v, tuple) else v for name, v in CLOCK.items()}


@pytest.mark.parametrize("method", METHODS, ids=str)
def test_a_run_repeats_from_its_directory(method: Method, tmp_path: Path) -> None:
    config = config_of(method, BUSY, rounds=15)
    again = tmp_path / "run" / "config.yaml"
    with Session(config, out=tmp_path / "run") as first, Session(again) as second:
        first.run()
        second.run(4)
        second.run()
        assert first.config.clock == second.config.clock == Clock(**CLOCK)
        assert times(first) == times(second)
        assert first.ledger == second.ledger
        assert torch.equal(first.parameters(), second.parameters())
    with Session(config, overrides=["seed=1"]) as other:
        other.run()
        assert times(other) != times(first)


def test_running_statistics_of_an_asynchronous_run_repeat() -> None:
    problem = {"kind": "tests.tasks.Regression", "batch_norm": True}
    config = config_of(AsyncSGD(), BUSY, problem=problem, buffers_every=3, rounds=12)
    ends = []
    for _ in range(2):
        with Session(config) as session:
            session.run()
            ends.append(session.model_state())
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])


# Jitter.


def test_jitter_is_the_relative_deviation_of_a_gradients_time() -> None:
    """To 6 standard errors; the logarithm of a time is normal."""
    time = SimulatedTime(Clock(compute_s=2.0, jitter=0.25), seed=3)
    sizes = {"news_bytes": 0, "report_bytes": 0}
    draws = [time.duration_s(0, (r, 0), **sizes, num_gradients=1) for r in range(4000)]
    one = torch.tensor(draws, dtype=torch.float64)
    assert float(one.mean()) == pytest.approx(2, abs=6 * 0.5 / math.sqrt(4000))
    assert float(one.std()) == pytest.approx(0.5, rel=0.1)
    assert time.duration_s(0, (7, 0), **sizes, num_gradients=1) == float(one[7])
    many = time.duration_s(0, (0, 1), **sizes, num_gradients=4000)
    assert many == pytest.approx(8000, abs=6 * 0.5 * math.sqrt(4000))
    assert time.duration_s(0, (0, 1), **sizes, num_gradients=0) == 0


def test_nobody_at_work_is_an_error() -> None:
    with pytest.raises(RoundError, match="no worker is at work: the method has given no news"):
        SimulatedTime(Clock(compute_s=1.0), seed=0).next_arrival()


# Configurations.


def test_a_clock_is_read_and_given_back() -> None:
    config = load_config(config_of("sgd", {**SPEEDS, "jitter": 0.1}))
    assert config.clock == Clock(compute_s=(1.0, 2.0, 4.0), jitter=0.1)
    assert load_config(config) == config
    assert load_config(config.to_mapping()) == config
    assert config.to_mapping()["clock"]["compute_s"] == [1.0, 2.0, 4.0]
    changed = load_config(config, ["clock.jitter=0", "clock.uplink_s=[1, 2, 3]"])
    assert changed.clock == Clock(compute_s=(1.0, 2.0, 4.0), uplink_s=(1.0, 2.0, 3.0))


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"engine": "ray"}, r"engine is 'ray', and clock is given: only the inline engine"),
        ({"clock": None}, r"async-sgd is asynchronous, and engine is 'inline', .* give a clock"),
        ({"engine": "ray", "method": "sgd"}, r"engine is 'ray', and clock is given: only the inl"),
        ({"clock": {"compute_s": [1, 2]}}, r"clock\.compute_s has 2 numbers, and there are 3"),
        ({"clock": {"compute_s": -1}}, r"clock: compute_s is -1\.0: give at least 0"),
        ({"clock": {"compute_s": [1, 2, math.inf]}}, r"clock: compute_s is \(1\.0, 2\.0, inf\)"),
        ({"clock": {"compute_s": 1, "jitter": math.nan}}, r"clock: jitter is nan: give at least"),
        (
            {"clock": {"compute_s": 1, "uplink_bytes_per_s": 0}},
            r"clock: uplink_bytes_per_s is 0\.0: give bytes a second above 0",
        ),
        ({"clock": {"compute_s": 1, "uplink": 3}}, r"clock: unknown keys \['uplink'\] \(did you"),
        ({"clock": {"compute_s": "fast"}}, r"clock\.compute_s: got 'fast'"),
        ({"clock": {}}, r"clock: missing keys \['compute_s'\]"),
        ({"clock": 3}, r"clock: got 3"),
    ],
)
def test_clocks_that_cannot_be_used_are_refused(changes: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError, match=rf"^configuration: {text}"):
        load_config({**config_of(AsyncSGD(), {"compute_s": 1}), **changes})


def test_a_config_made_in_python_is_refused_too() -> None:
    config = load_config(config_of("sgd", None))
    with pytest.raises(ValueError, match="async-sgd is asynchronous"):
        RunConfig(
            problem=config.problem,
            method=AsyncSGD(),
            optimizer=config.optimizer,
            engine="inline",
        )
