"""Actors of a run with several servers that die in the middle of a round."""

import threading
import time
from pathlib import Path
from typing import Any

import pytest
import ray
import yaml

from launch import Session
from mlmc_ray.errors import RoundError
from tests.launch.same_runs import config_of
from tests.launch.test_ray_engine import FAULTY

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("cluster")]


def session_with(fault: str, path: Path, **changes: Any) -> Session:
    """Return a run on two servers and one host whose task fails in round 2, at worker 2."""
    module = f"{path.name}_dying"
    (path / f"{module}.py").write_text(FAULTY)
    problem = {"kind": f"{module}.Task", "fault": fault}
    config = config_of("sgd", 1, rounds=9, servers=2, problem=problem, restarts=0, **changes)
    (path / "config.yaml").write_text(yaml.safe_dump(config))
    return Session(path / "config.yaml")


@pytest.mark.slow
def test_a_server_that_dies_is_named_while_another_waits(tmp_path: Path) -> None:
    clipped = {"optimizer": {"kind": "sgd", "step_size": 0.05}, "clip_norm": 0.5}
    with session_with("sleep", tmp_path, **clipped) as session:
        session.run(2)
        engine: Any = session._engine
        timer = threading.Timer(1, ray.kill, [engine._servers[1]._actor])
        timer.start()
        started = time.monotonic()
        with pytest.raises(RoundError, match=r"^round 2: server 1 is gone: "):
            session.run()
        timer.join()
        assert time.monotonic() - started < 30  # the worker sleeps for 60


@pytest.mark.slow
def test_a_host_that_dies_ends_the_round_of_every_server(tmp_path: Path) -> None:
    with session_with("exit", tmp_path) as session:
        session.run(2)
        started = time.monotonic()
        with pytest.raises(RoundError, match=r"^round 2: the host of workers .* is gone: "):
            session.run()
        assert time.monotonic() - started < 30  # the time limit of a round is 600 s
