"""Every method gives on Ray what it gives in one process.

A process takes seconds to start and a round milliseconds, so all runs share their three actors.
"""

from collections.abc import Iterator
from typing import Any

import pytest
import ray
import torch

from launch import Session
from launch.configuration.catalogue import KINDS
from launch.engines.ray_engine import RayEngine
from mlmc_ray.methods import Method
from tests.launch.same_runs import EF21, RAND_K, TOP_K, assert_same_on_ray_and_inline, config_of

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("cluster", "_same_actors")]

SOME = {"participants": 3}
STEPS = {"step_size": 0.05, "probability": 0.5}
LOCAL = {"local_step_size": 0.05, "local_steps": 2}


def with_rand_k(**settings: Any) -> dict[str, Any]:
    return {"compressor": RAND_K, **settings}


def with_top_k(**settings: Any) -> dict[str, Any]:
    return {"compressor": TOP_K, **settings}


METHODS: dict[str, dict[str, Any]] = {
    "sgd": {},
    "compressed-sgd": with_rand_k(),
    "ef": with_top_k(),
    "ef21-sgdm": with_top_k(),
    "ef-bv": with_top_k(),
    "diana": with_rand_k(),
    "rand-diana": with_rand_k(p=0.5),
    "adiana": with_rand_k(smoothness=5.0, strong_convexity=0.1),
    "svrg": with_rand_k(refresh=2),
    "marina": {"compressor": "perm-k", "p": 0.3},
    "vr-marina": with_rand_k(p=0.3),
    "pp-marina": with_rand_k(p=0.3, **SOME),
    "dasha": {"compressor": "perm-k"},
    "dasha-page": with_rand_k(p_page=0.5),
    "dasha-mvr": with_rand_k(noise_momentum=0.3),
    "dasha-sync-mvr": with_rand_k(p=0.3),
    "dasha-pp": with_rand_k(**SOME),
    "shadowheart": with_rand_k(compute_s=[1, 1, 1, 9], message_s=1, noise=1),
    "ef21-p": {"downlink": TOP_K},
    "ef21-p-diana": with_rand_k(downlink=TOP_K),
    "ef21-bc": with_top_k(downlink=TOP_K, step_size=0.05),
    "marina-p": {"p": 0.3},
    "m3": with_rand_k(p=0.3, downlink_p=0.3),
    "docofl": with_rand_k(anchor=RAND_K, anchor_rounds=1, anchors_alive=1),
    "power-sgd": {"rank": 1},
    "learned": {"k": 0.5, "dense_rounds": 1, "training_rounds": 1},
    "local-sgd": with_top_k(error_feedback=True, **LOCAL),
    "scaffnew": STEPS,
    "compressed-scaffnew": STEPS,
    "tamuna": {**STEPS, **SOME},
    "coco-ef": with_top_k(straggling=0.3),
    "partial-participation": {"method": EF21, **SOME},
}


def test_the_list_is_complete() -> None:
    """Others go by the order of arrival, or by how long workers take: they differ every time."""
    kinds = KINDS[Method].items()
    same = {kind for kind, method in kinds if not (method.asynchronous or method.timed)}
    assert set(METHODS) == same


@pytest.fixture(scope="module")
def _same_actors(cluster: None) -> Iterator[None]:
    """Let every session on Ray use a server and two hosts that are started once."""
    with Session(config_of("sgd", 2)) as session, pytest.MonkeyPatch.context() as patch:
        started: Any = session._engine

        def take(engine: RayEngine, *_: object) -> None:
            engine._servers, engine._hosts = started._servers, started._hosts
            engine._demand = started._demand

        patch.setattr(RayEngine, "_place", take)
        yield


@pytest.mark.parametrize("kind", METHODS)
def test_ray_gives_what_one_process_gives(kind: str) -> None:
    method = {"kind": kind, **METHODS[kind]}
    session = assert_same_on_ray_and_inline(config_of(method, 2, rounds=4))
    assert {entry.round_index for entry in session.ledger} == {0, 1, 2, 3}


DOWNLINKS: dict[str, Any] = {
    "half": "half",
    "delta": "delta",
    "relay": {"kind": "relay", "digest_every": 2},
    "compressed": {"kind": "compressed", "compressor": TOP_K},
}


@pytest.mark.parametrize("method", ["compressed-sgd", "partial-participation"])
@pytest.mark.parametrize("kind", DOWNLINKS)
def test_downlinks_give_on_ray_what_they_give_in_one_process(kind: str, method: str) -> None:
    """Some rounds bring no running statistics, so that their reports are short enough to relay."""
    settings = {"kind": method, **METHODS[method]}
    config = config_of(settings, 2, rounds=6, buffers_every=4, downlink=DOWNLINKS[kind])
    session = assert_same_on_ray_and_inline(config)
    sizes = {entry.frame_bytes for entry in session.ledger if entry.direction == "downlink"}
    assert len(sizes) > 1


def test_a_host_that_has_lost_its_copy_gets_another() -> None:
    notes: list[str] = []
    settings = {"kind": "compressed-sgd", **METHODS["compressed-sgd"]}
    config = config_of(settings, 2, buffers_every=100, downlink="relay")
    with Session({**config, "engine": "inline"}) as expected:
        expected.run()
    with Session(config, on_note=notes.append) as session:
        session.run(2)
        engine: Any = session._engine
        host = engine._hosts[1]
        ray.get(host.load_state_dict(host.state_dict()))
        session.run()
        assert torch.equal(session.parameters(), expected._engine.parameters())
    (note,) = notes
    assert note.startswith(f"round 2: workers {list(host.worker_ids)} have no copy")
