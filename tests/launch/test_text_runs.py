"""Runs that fine-tune a BERT on movie reviews."""

from typing import Any

import pytest
import torch

from launch import Session
from mlmc_ray.problems import MovieReviews, text_files
from tests.reviews import problem, real_data, real_network, reviews, tiny

__all__ = ["problem", "reviews", "tiny"]  # fixtures


def configuration(data_dir: Any, network: Any, **options: Any) -> dict[str, Any]:
    return {
        "problem": {"kind": "text", "data_dir": str(data_dir), "network": str(network), **options},
        "method": {
            "kind": "compressed-sgd",
            "compressor": {"kind": "mlmc", "law": "own", "ladder": "fixed-point"},
        },
        "optimizer": {"kind": "sgd", "step_size": 0.01},
        "workers": 2,
        "batch_size": 3,
        "engine": "inline",
    }


def test_a_run_repeats_itself(problem: MovieReviews) -> None:
    ends = []
    for _ in range(2):
        with Session(configuration(problem.data_dir, problem.network)) as session:
            before = session.parameters().clone()
            session.run(2)
            ends.append(session.parameters().clone())
            assert not torch.equal(ends[-1], before)
            assert 0 <= session.evaluate()["accuracy"] <= 1
    assert torch.equal(*ends)


@pytest.mark.ray
@pytest.mark.usefixtures("cluster")
def test_ray_equals_inline(problem: MovieReviews) -> None:
    ends = []
    for engine in ("inline", "ray"):
        described = configuration(problem.data_dir, problem.network)
        with Session({**described, "engine": engine, "actors": 1}) as session:
            session.run(2)
            ends.append(session.parameters().clone())
    assert torch.equal(*ends)


@real_data
@real_network
def test_a_training_round_on_the_real_snippets() -> None:
    described = configuration(text_files.default_directory(), "minilm", test_examples=8)
    with Session(described) as session:
        session.run(1)
        assert 0 <= session.evaluate()["accuracy"] <= 1
