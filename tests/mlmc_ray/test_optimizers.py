from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from launch.configuration.catalogue import KINDS
from mlmc_ray.compressors import RandK, TopK
from mlmc_ray.flat import FlatModel
from mlmc_ray.methods import DIANA, EFBV, Method
from mlmc_ray.optimizers import SGD, Adam, AdamW, Optimizer, ProximalSGD
from tests.mlmc_ray.driver import Run, late_factor, oracles_of
from tests.mlmc_ray.method_checks import SMALL, regularised_optimum, setting_of

CASES: list[tuple[Optimizer, type[torch.optim.Optimizer], dict[str, Any]]] = [
    (SGD(step_size=0.1), torch.optim.SGD, {"lr": 0.1}),
    (SGD(step_size=0.1, momentum=0.9), torch.optim.SGD, {"lr": 0.1, "momentum": 0.9}),
    (
        SGD(step_size=0.05, momentum=0.9, nesterov=True, weight_decay=0.01),
        torch.optim.SGD,
        {"lr": 0.05, "momentum": 0.9, "nesterov": True, "weight_decay": 0.01},
    ),
    (ProximalSGD(step_size=0.1, l1=0.0), torch.optim.SGD, {"lr": 0.1}),
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
        (ProximalSGD, {"step_size": 0.0, "l1": 1.0}, r"step_size is 0\.0"),
        (ProximalSGD, {"step_size": "theory", "l1": -1.0}, r"l1 is -1\.0: give 0 or a positive"),
        (ProximalSGD, {"step_size": 1.0, "l1": 0.0, "l2": float("inf")}, "l2 is inf"),
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


def test_a_proximal_step_is_the_one_worked_out_by_hand() -> None:
    """A step of 1/2 with l1 = 1 and l2 = 2: entries of x - g / 2 come closer to 0 by 1/2, / 2."""
    parameter = nn.Parameter(torch.tensor([3.0, -3.0, 0.75, -0.75, 0.25, 0.5, 0.0]))
    optimizer = ProximalSGD(step_size=0.5, l1=1.0, l2=2.0).build(parameter)
    parameter.grad = torch.tensor([2.0, 2.0, 0.0, 0.0, 0.0, 2.0, -4.0])
    optimizer.step()
    expected = torch.tensor([0.75, -1.75, 0.125, -0.125, 0.0, 0.0, 0.75])
    assert torch.equal(parameter.detach(), expected)


def proximal_factor(method: Method, optimizer: ProximalSGD, optimum: Tensor, seed: int) -> float:
    """Run to 1e-20 of the first squared distance; the mean factor a round, late on."""
    run = Run(method, oracles_of(SMALL), torch.ones(8, dtype=torch.float64), 0.0, seed)
    parameter = nn.Parameter(run.x)
    torch_optimizer = optimizer.build(parameter)
    distances = [float((run.x - optimum).square().sum())]
    while distances[-1] > 1e-20 * distances[0]:
        assert run.round_index < 1000, f"{distances[-1]:.3g} after {run.round_index} rounds"
        parameter.grad = run.estimate()
        torch_optimizer.step()
        distances.append(float((run.x - optimum).square().sum()))
    return late_factor(distances)


@pytest.mark.parametrize("l2", [pytest.param(0.0, marks=pytest.mark.slow), 0.25])
@pytest.mark.parametrize(
    ("method", "left"),
    [
        (DIANA(compressor=RandK(k=4)), 1 - 0.5 / 2),  # omega = 1, so the shifts' step is 1/2
        pytest.param(  # r = omega / (1 + omega)
            EFBV(compressor=RandK(k=4)), (1 + 0.5) / 2, marks=pytest.mark.slow
        ),
        (EFBV(compressor=TopK(k=6)), (1 + 0.25) / 2),  # r = 1 - k / d
    ],
    ids=str,
)
def test_proximal_steps_converge_linearly_to_the_regularised_optimum(
    method: Method, left: float, l2: float
) -> None:
    step_size = method.theory(setting_of(SMALL)).value
    optimum = regularised_optimum(oracles_of(SMALL), 0.3, l2)
    assert 0 < int((optimum == 0).sum()) < 8
    optimizer = ProximalSGD(step_size=step_size, l1=0.3, l2=l2)
    factors = [proximal_factor(method, optimizer, optimum, seed) for seed in range(5)]
    assert sum(factors) / 5 <= max(1 - step_size * SMALL.smoothness[0], left) * 1.01
