from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from launch.catalogue import KINDS
from mlmc_ray.flat import FlatModel
from server.optimizers import SGD, Adam, AdamW, Optimizer

CASES: list[tuple[Optimizer, type[torch.optim.Optimizer], dict[str, Any]]] = [
    (SGD(step_size=0.1), torch.optim.SGD, {"lr": 0.1}),
    (SGD(step_size=0.1, momentum=0.9), torch.optim.SGD, {"lr": 0.1, "momentum": 0.9}),
    (
        SGD(step_size=0.05, momentum=0.9, nesterov=True, weight_decay=0.01),
        torch.optim.SGD,
        {"lr": 0.05, "momentum": 0.9, "nesterov": True, "weight_decay": 0.01},
    ),
    (Adam(step_size=0.01), torch.optim.Adam, {"lr": 0.01}),
    (
        Adam(step_size=0.01, betas=(0.8, 0.95), eps=1e-4, weight_decay=0.1),
        torch.optim.Adam,
        {"lr": 0.01, "betas": (0.8, 0.95), "eps": 1e-4, "weight_decay": 0.1},
    ),
    (AdamW(step_size=0.01), torch.optim.AdamW, {"lr": 0.01}),
    (
        AdamW(step_size=0.01, betas=(0.8, 0.95), eps=1e-4, weight_decay=0.1),
        torch.optim.AdamW,
        {"lr": 0.01, "betas": (0.8, 0.95), "eps": 1e-4, "weight_decay": 0.1},
    ),
]


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 3))


def loss(module: nn.Module, round_index: int) -> Tensor:
    generator = torch.Generator().manual_seed(round_index)
    inputs = torch.randn(8, 5, generator=generator)
    return functional.cross_entropy(module(inputs), torch.arange(8) % 3)


def test_the_list_is_complete() -> None:
    assert {type(optimizer) for optimizer, _, _ in CASES} == set(KINDS[Optimizer].values())
    assert all(isinstance(optimizer, Optimizer) for optimizer, _, _ in CASES)


@pytest.mark.parametrize(("optimizer", "kind", "settings"), CASES, ids=str)
def test_one_flat_vector_moves_as_the_tensors_of_a_module_do(
    optimizer: Optimizer, kind: type[torch.optim.Optimizer], settings: dict[str, Any]
) -> None:
    module, plain = FlatModel(network()), network()
    parameter = nn.Parameter(module.parameters)
    ours, theirs = optimizer.build(parameter), kind(plain.parameters(), **settings)
    for round_index in range(20):
        theirs.zero_grad()
        loss(plain, round_index).backward()  # type: ignore[no-untyped-call]
        tensors = list(plain.parameters())
        parameter.grad = torch.cat([t.grad.reshape(-1) for t in tensors if t.grad is not None])
        theirs.step()
        ours.step()
        expected = torch.cat([tensor.detach().reshape(-1) for tensor in tensors])
        assert torch.equal(module.parameters, expected)
    assert parameter.data_ptr() == module.parameters.data_ptr()


@pytest.mark.parametrize(
    ("kind", "arguments", "complaint"),
    [
        (SGD, {"step_size": 0.0}, r"step_size is 0\.0"),
        (SGD, {"step_size": float("nan")}, "step_size is nan"),
        (SGD, {"step_size": float("inf")}, "step_size is inf"),
        (SGD, {"step_size": 1.0, "momentum": 1.0}, r"momentum is 1\.0"),
        (SGD, {"step_size": 1.0, "weight_decay": -1.0}, r"weight_decay is -1\.0"),
        (SGD, {"step_size": 1.0, "nesterov": True}, "Nesterov needs a momentum"),
        (Adam, {"step_size": -1.0}, r"step_size is -1\.0"),
        (Adam, {"betas": (0.9, 1.0)}, r"betas are \(0\.9, 1\.0\)"),
        (AdamW, {"eps": 0.0}, r"eps is 0\.0"),
        (AdamW, {"weight_decay": float("nan")}, "weight_decay is nan"),
    ],
)
def test_settings_out_of_range_are_refused(
    kind: Any, arguments: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(ValueError, match=complaint):
        kind(**arguments)
