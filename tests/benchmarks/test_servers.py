"""What the benchmark of several servers trains, and what it measures."""

import sys

import pytest
import torch

from benchmarks.servers import Centres, memory
from launch import Session


def test_the_gradient_is_the_distance_from_the_mean_of_the_batch() -> None:
    problem = Centres(dim=43)
    model = problem.model()
    assert sum(layer.numel() for layer in model.parameters()) == 43
    problem.loss(model, (torch.tensor([1.0, 3.0]),)).backward()  # type: ignore[no-untyped-call]
    for layer in model.parameters():
        assert layer.grad is not None
        torch.testing.assert_close(layer.grad, layer.detach() - 2)


def test_several_servers_end_like_one() -> None:
    ends = []
    for servers in (1, 4):
        config = {
            "problem": {"kind": "benchmarks.servers.Centres", "dim": 43},
            "method": "sgd",
            "optimizer": {"kind": "sgd", "step_size": 0.1},
            "engine": "inline",
            "servers": servers,
        }
        with Session(config) as session:
            session.run(3)
            ends.append(session.parameters())
    assert torch.equal(*ends)


@pytest.mark.skipif(sys.platform != "linux", reason="it reads /proc")
def test_the_memory_of_this_process_is_some_mib() -> None:
    found = memory(None)
    assert 10 < found["own"] <= found["peak"]
