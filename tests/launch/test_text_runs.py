"""Runs that fine-tune a BERT on movie reviews."""

from pathlib import Path
from typing import Any

import pytest
import torch

from launch import Session
from tests.reviews import real_network, tiny

__all__ = ["tiny"]  # fixture


def configuration(network: Any, **options: Any) -> dict[str, Any]:
    return {
        "problem": {"kind": "text", "network": str(network), "test_examples": 8, **options},
        "method": {
            "kind": "compressed-sgd",
            "compressor": {"kind": "mlmc", "law": "own", "ladder": "fixed-point"},
        },
        "optimizer": {"kind": "sgd", "step_size": 0.01},
        "workers": 2,
        "batch_size": 3,
        "engine": "inline",
    }


@pytest.mark.parametrize("options", [{}, {"layers": 1, "train_embeddings": False}])
def test_a_run_repeats_itself(tiny: Path, options: dict[str, Any]) -> None:
    ends = []
    for _ in range(2):
        with Session(configuration(tiny, max_tokens=16, **options)) as session:
            before = session.parameters().clone()
            session.run(2)
            ends.append(session.parameters().clone())
            assert not torch.equal(ends[-1], before)
            assert 0 <= session.evaluate()["accuracy"] <= 1
    assert torch.equal(*ends)


@pytest.mark.ray
@pytest.mark.usefixtures("cluster")
@pytest.mark.parametrize("train_embeddings", [True, False])
@pytest.mark.slow
def test_ray_equals_inline(tiny: Path, train_embeddings: bool) -> None:
    ends = []
    for engine in ("inline", "ray"):
        described = configuration(tiny, max_tokens=16, train_embeddings=train_embeddings)
        with Session({**described, "engine": engine, "actors": 1}) as session:
            session.run(2)
            ends.append(session.parameters().clone())
    assert torch.equal(*ends)


@real_network
def test_a_training_round_of_minilm() -> None:
    with Session(configuration("minilm", layers=2, train_embeddings=False)) as session:
        session.run(1)
        assert 0 <= session.evaluate()["accuracy"] <= 1
