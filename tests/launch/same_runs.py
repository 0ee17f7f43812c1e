"""Runs of one configuration on Ray and in one process, compared in everything but the time."""

from pathlib import Path
from typing import Any

import torch

from launch import Session
from launch.configuration.catalogue import KINDS
from mlmc_ray.methods import Method

ROOT = Path(__file__).parents[2]
RAND_K = {"kind": "rand-k", "k": 5}
TOP_K = {"kind": "top-k", "k": 5}
EF21 = {"kind": "ef21-sgdm", "compressor": TOP_K}


def config_of(method: Any, actors: int, **changes: Any) -> dict[str, Any]:
    kind = method if isinstance(method, str) else method["kind"]
    optimizer = {"optimizer": {"kind": "adam", "step_size": 0.05}}
    return {
        "problem": {"kind": "tests.tasks.Regression", "batch_norm": True, "dropout": 0.25},
        "search_paths": [str(ROOT)],
        "method": method,
        **({} if KINDS[Method][kind].moves_parameters else optimizer),
        "workers": 4,
        "actors": actors,
        "batch_size": 5,
        "rounds": 5,
        "evaluate_every": 2,
        "buffers_every": 2,
        **changes,
    }


def assert_same_on_ray_and_inline(config: dict[str, Any]) -> Session:
    """Run both ways, compare everything but the time, and return the session, which has ended."""
    ends = []
    for engine in ("ray", "inline"):
        with Session({**config, "engine": engine}) as session:
            session.run()
            ends.append((session, session.parameters(), session.model_state()))
    (first, parameters, state), (second, expected, expected_state) = ends
    assert torch.equal(parameters, expected)
    assert state.keys() == expected_state.keys()
    assert all(torch.equal(tensor, expected_state[name]) for name, tensor in state.items())
    assert first.ledger == second.ledger
    assert [{**metrics, "seconds": 0} for metrics in first.metrics] == [
        {**metrics, "seconds": 0} for metrics in second.metrics
    ]
    return first
