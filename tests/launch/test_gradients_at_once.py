"""Runs of every method with gradients computed together, beside those with each alone."""

from typing import Any

import pytest
import torch
from torch import Tensor

from launch import Session
from launch.configuration.catalogue import KINDS
from launch.configuration.run_config import load_config
from mlmc_ray.errors import ConfigError
from mlmc_ray.methods import Method
from tests.launch.same_runs import RAND_K, config_of
from tests.launch.test_ray_methods import METHODS

OWN_POINTS = {kind for kind, method in KINDS[Method].items() if method.own_points}
RESTING = {"coco-ef"}  # stragglers ask for nothing


def run_of(kind: str, at_once: int, **changes: Any) -> tuple[Session, Tensor, list[str]]:
    notes: list[str] = []
    method = {"kind": kind, **METHODS[kind]}
    settings = {
        "problem": {"kind": "tests.tasks.Regression"},
        "engine": "inline",
        "observe_every": 1,
        "gradients_at_once": at_once,
        **changes,
    }
    if not KINDS[Method][kind].moves_parameters:
        settings["optimizer"] = {"kind": "sgd", "step_size": 0.02}
    with Session(config_of(method, 2, **settings), on_note=notes.append) as session:
        session.run()
        return session, session.parameters(), notes


@pytest.mark.parametrize("kind", sorted(METHODS.keys() - OWN_POINTS))
def test_every_method_goes_as_with_gradients_alone(kind: str) -> None:
    alone, expected, _ = run_of(kind, 1)
    together, parameters, notes = run_of(kind, 4)
    torch.testing.assert_close(parameters, expected, rtol=1e-3, atol=1e-4)
    assert len(notes) == (1 if kind in RESTING else 0)
    sizes = [
        [(e.round_index, e.worker_id, e.direction) for e in session.ledger]
        for session in (alone, together)
    ]
    assert sizes[0] == sizes[1]


@pytest.mark.parametrize("kind", sorted(OWN_POINTS))
def test_methods_with_points_of_their_own_would_compute_in_vain(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match=f"and {kind} gives every worker parameters of its own"):
        run_of(kind, 4)
    monkeypatch.setattr(KINDS[Method][kind], "own_points", False)
    *_, notes = run_of(kind, 4)
    assert len(notes) == 1
    assert "not used" in notes[0]
    assert notes[0].endswith("give gradients_at_once: 1")


@pytest.mark.parametrize("servers", [1, 2])
def test_the_number_of_processes_makes_no_difference(servers: int) -> None:
    config = load_config(
        config_of("sgd", 8, workers=11, gradients_at_once=3, servers=servers, rounds=1)
    )
    assert config.num_hosts(8) == 4
    assert config.hosted(2) == [(0, 1, 2, 6, 7, 8), (3, 4, 5, 9, 10)]
    assert config.hosted(1) == [tuple(range(11))]


def test_workers_that_begin_at_different_times_are_refused() -> None:
    method = {"kind": "async-sgd", "compressor": RAND_K}
    with pytest.raises(ConfigError, match="gradients_at_once is 2, and async-sgd is asynchronous"):
        load_config(config_of(method, 2, gradients_at_once=2))
    quorum = {**config_of("sgd", 2, gradients_at_once=2), "quorum": {"reports": 1}}
    with pytest.raises(ConfigError, match="compute together report together"):
        load_config(quorum)
    elastic = {"least": 1, "most": 4}
    config = {**config_of("sgd", 2, gradients_at_once=2), "elastic": elastic, "actors": None}
    with pytest.raises(ConfigError, match="and elastic is given, which gives every worker"):
        load_config(config)


def test_bfloat16_is_another_run() -> None:
    _, expected, _ = run_of("sgd", 1)
    _, parameters, _ = run_of("sgd", 1, precision="bfloat16")
    assert not torch.equal(parameters, expected)
    torch.testing.assert_close(parameters, expected, rtol=0.05, atol=0.02)
