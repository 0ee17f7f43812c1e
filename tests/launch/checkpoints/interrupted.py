"""Runs that end in the middle, and go on from their checkpoints."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from launch import Session
from launch.engines.base import RunState
from launch.metrics import Metrics

EVERY = {"every": 2, "keep": 2}


class Lost(Exception):
    """The process is gone."""


def lose(config: Mapping[str, Any], out: Path, after: int) -> None:
    """Begin a run, and lose it after a round."""
    lose_session(Session(config, out=out), after)


def lose_session(session: Session, after: int) -> None:
    """Go on with a run, and lose it after a round."""

    def end(metrics: Metrics) -> None:
        if metrics["round"] == after:
            raise Lost

    try:
        session.run(on_round=end)
    except Lost:
        pass
    else:
        raise AssertionError(f"the run has no round {after}")
    finally:
        session.close()


def assert_same_value(one: Any, other: Any, place: str = "") -> None:
    assert type(one) is type(other), place
    if isinstance(one, Tensor):
        assert one.dtype == other.dtype, place
        assert torch.equal(one, other), place
    elif isinstance(one, dict):
        assert one.keys() == other.keys(), place
        for key in one:
            assert_same_value(one[key], other[key], f"{place}.{key}")
    elif isinstance(one, list | tuple):
        assert len(one) == len(other), place
        for index, pair in enumerate(zip(one, other, strict=True)):
            assert_same_value(*pair, f"{place}[{index}]")
    else:
        assert one == other, place


def timeless(values: Metrics) -> Metrics:
    return {**values, "seconds": 0}


def assert_same_run(one: Session, other: Session) -> None:
    """Compare all that a run leaves, and all that it remembers, but for the time."""
    assert torch.equal(one.parameters(), other.parameters())
    assert_same_value(one.model_state(), other.model_state())
    assert one.ledger == other.ledger
    assert list(map(timeless, one.metrics)) == list(map(timeless, other.metrics))
    assert one.observations == other.observations
    assert [work[:3] for work in one.work] == [work[:3] for work in other.work]
    states: list[RunState] = [session._engine.state() for session in (one, other)]
    for name in ("servers", "workers", "time"):
        found, expected = (getattr(state, name) for state in states)
        assert_same_value(found, expected, name)


def assert_same_files(one: Path, other: Path) -> None:
    for name in ("ledger.csv", "observed.jsonl"):
        assert (one / name).read_bytes() == (other / name).read_bytes()
    assert metrics_in(one) == metrics_in(other)
    lines = [(path / "timeline.csv").read_text().splitlines() for path in (one, other)]
    assert len(lines[0]) == len(lines[1])


def metrics_in(path: Path) -> list[Metrics]:
    lines = (path / "metrics.jsonl").read_text().splitlines()
    return [timeless(json.loads(line)) for line in lines]


def assert_resumes(config: Mapping[str, Any], tmp_path: Path, after: int = 5) -> Session:
    """Lose a run, go on with it, and compare it with one that was not lost.

    Returns:
        The resumed session, closed.
    """
    config = {**config, "checkpoints": EVERY}
    whole, lost = tmp_path / "whole", tmp_path / "lost"
    lose(config, lost, after)
    with Session(config, out=whole) as expected:
        expected.run()
        with Session.resume(lost) as session:
            assert session.round_index == after - after % 2
            session.run()
            assert_same_run(session, expected)
    assert_same_files(lost, whole)
    return session
