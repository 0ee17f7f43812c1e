"""Several servers on Ray: what one process gives, and what happens when a worker fails.

A process takes seconds to start, so all runs share two servers and two hosts.
"""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from launch import Session
from launch.engines.ray_engine import RayEngine
from mlmc_ray.errors import MlmcRayError, NonFiniteError, RoundError
from tests.launch.same_runs import RAND_K, assert_same_on_ray_and_inline, config_of
from tests.launch.test_ray_engine import FAULTY
from tests.launch.test_ray_methods import METHODS

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("cluster", "_same_actors")]

SGD = {"kind": "sgd", "step_size": 0.05}
COMPRESSED = {"kind": "compressed-sgd", "compressor": RAND_K}
CLIPPED = {"optimizer": SGD, "clip_norm": 0.5}


@pytest.fixture(scope="module")
def _same_actors(cluster: None) -> Iterator[None]:
    """Let every session use two servers and two hosts that are started once."""
    with Session(config_of("sgd", 2, servers=2)) as session, pytest.MonkeyPatch.context() as patch:
        started: Any = session._engine

        def take(engine: RayEngine, *_: object) -> None:
            engine._servers, engine._hosts = started._servers, started._hosts
            engine._demand = started._demand

        patch.setattr(RayEngine, "_place", take)
        yield


# One exchange and several, one gradient and several, some of the workers, a step of their own.
KINDS = ["sgd", "ef21-sgdm", "m3", "power-sgd", "compressed-scaffnew", "partial-participation"]
RUNS: dict[str, dict[str, Any]] = {
    **{kind: {"method": {"kind": kind, **METHODS[kind]}} for kind in KINDS},
    "clipped": {"method": COMPRESSED, **CLIPPED},
    "relay": {"method": COMPRESSED, "buffers_every": 4, "downlink": "relay"},
}


@pytest.mark.parametrize("name", RUNS)
def test_ray_gives_what_one_process_gives(name: str) -> None:
    config = config_of(RUNS[name]["method"], 2, rounds=3, servers=2, observe_every=1)
    session = assert_same_on_ray_and_inline({**config, **RUNS[name]})
    assert {entry.round_index for entry in session.ledger} == {0, 1, 2}


# What can fail.


@pytest.fixture
def faulty(tmp_path: Path) -> Any:
    """Write a configuration whose task fails in the third round, at worker 2."""
    module = f"{tmp_path.name}_faulty"
    (tmp_path / f"{module}.py").write_text(FAULTY)

    def write(fault: str, **changes: Any) -> Path:
        problem = {"kind": f"{module}.Task", "fault": fault}
        config = config_of("sgd", 2, rounds=9, servers=2, problem=problem, **changes)
        path = tmp_path / "config.yaml"
        path.write_text(yaml.safe_dump(config))
        return path

    return write


REFUSED: list[tuple[str, type[MlmcRayError], str]] = [
    ("nan", NonFiniteError, r"^round 2: worker 2: cannot compress .* first in layer x\."),
    ("sleep", RoundError, r"^round 2: the host of workers \[0, 2\] did not answer within .* = 2$"),
]


@pytest.mark.parametrize(("fault", "error", "text"), REFUSED)
def test_what_fails_at_a_worker_ends_the_round(
    faulty: Any, fault: str, error: type[MlmcRayError], text: str
) -> None:
    with Session(faulty(fault, restarts=0)) as session:
        engine: Any = session._engine
        engine._timeout_s = 2  # of rounds; to start may take longer
        started = time.monotonic()
        with pytest.raises(error, match=text):
            session.run()
        assert time.monotonic() - started < 20
    assert session.round_index == 2
