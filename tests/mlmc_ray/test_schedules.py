"""Step size schedules, by their formulas."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from launch.configuration.catalogue import KINDS
from mlmc_ray.errors import RoundError
from mlmc_ray.flat import FlatModel
from mlmc_ray.methods import DataParallelSGD
from mlmc_ray.optimizers import Adam, Optimizer
from mlmc_ray.payloads import DensePayload, Message
from mlmc_ray.replica import Replica
from mlmc_ray.schedules import (
    CosineSchedule,
    DropSchedule,
    LinearSchedule,
    Schedule,
    StepSizes,
)
from mlmc_ray.spans import spans_of

ALL_SCHEDULES: list[Schedule] = [
    CosineSchedule(warm_up=0.1, final=0.25),
    LinearSchedule(warm_up=0.1, final=0.25),
    DropSchedule(at=(0.5, 0.75), warm_up=0.1),
]


def factors(schedule: Schedule, rounds: int) -> list[float]:
    return [schedule.factor_of(t, rounds) for t in range(rounds)]


def test_the_list_is_complete() -> None:
    assert {type(schedule) for schedule in ALL_SCHEDULES} == set(KINDS[Schedule].values())
    assert all(isinstance(schedule, Schedule) for schedule in ALL_SCHEDULES)


# Factors.


def test_a_line_after_a_warm_up() -> None:
    plain = LinearSchedule()
    assert factors(plain, 4) == [1, 0.75, 0.5, 0.25]
    assert factors(LinearSchedule(final=0.5), 4) == [1, 0.875, 0.75, 0.625]
    assert factors(LinearSchedule(warm_up=0.5), 8) == [0.25, 0.5, 0.75, 1, 1, 0.75, 0.5, 0.25]
    assert factors(LinearSchedule(warm_up=0.25, final=1), 8) == [0.5, 1, 1, 1, 1, 1, 1, 1]


@pytest.mark.parametrize("share", [0.04, 0.125])
def test_a_warm_up_of_less_than_two_rounds_does_not_rise(share: float) -> None:
    assert factors(LinearSchedule(warm_up=share, final=1), 8) == [1] * 8


def test_a_cosine_after_a_warm_up() -> None:
    root = math.sqrt(0.5)
    expected = [1, (1 + root) / 2, 0.5, (1 - root) / 2]
    assert factors(CosineSchedule(), 4) == pytest.approx(expected, rel=1e-15)
    warm = CosineSchedule(warm_up=1 / 3, final=0.2)
    rest = [0.2 + 0.8 * factor for factor in expected]
    assert factors(warm, 6) == pytest.approx([0.5, 1, *rest], rel=1e-15)
    assert factors(CosineSchedule(final=1), 5) == [1] * 5


def test_drops_at_shares_of_the_rounds() -> None:
    schedule = DropSchedule(at=(0.5, 0.75), factor=0.5)
    assert factors(schedule, 8) == [1] * 4 + [0.5] * 2 + [0.25] * 2
    assert factors(schedule, 6) == [1] * 3 + [0.5] * 2 + [0.25]  # of six, 4.5 comes before 5
    warm = DropSchedule(at=(0.5,), factor=0.25, warm_up=0.5)
    assert factors(warm, 4) == [0.5, 1, 0.25, 0.25]


@pytest.mark.parametrize("rounds", [100, 300])
def test_shares_that_are_whole_rounds_drop_in_these(rounds: int) -> None:
    """Though 0.07 times 100 is more than 7 in binary."""
    for hundredth in range(1, 100):
        share = hundredth / 100
        found = factors(DropSchedule(at=(share,), factor=0.5, warm_up=share), rounds)
        first = hundredth * rounds // 100
        assert found[:first] == [(t + 1) / first for t in range(first)]
        assert found[first:] == [0.5] * (rounds - first)


@pytest.mark.parametrize("schedule", ALL_SCHEDULES, ids=str)
@pytest.mark.parametrize("rounds", [*range(1, 40), 997])
def test_every_round_takes_a_step_and_none_is_too_long(schedule: Schedule, rounds: int) -> None:
    found = factors(schedule, rounds)
    assert all(0 < factor <= 1 for factor in found)
    top = found.index(max(found))
    assert found[: top + 1] == sorted(found[: top + 1])
    assert found[top:] == sorted(found[top:], reverse=True)
    if rounds >= 15:
        assert found[0] <= 1 / 2


def test_a_warm_up_may_be_nearly_all_rounds() -> None:
    assert factors(LinearSchedule(warm_up=0.99), 4) == [0.25, 0.5, 0.75, 1]


def test_the_last_factor_stays() -> None:
    sizes = StepSizes(step_size=0.5, schedule=LinearSchedule(), rounds=4)
    assert [sizes.of(t) for t in range(7)] == [0.5, 0.375, 0.25, 0.125, 0.125, 0.125, 0.125]


# What is refused.


@pytest.mark.parametrize(
    ("kind", "settings", "text"),
    [
        (CosineSchedule, {"warm_up": 1.0}, r"warm_up is 1\.0: give a share"),
        (LinearSchedule, {"warm_up": -0.1}, r"warm_up is -0\.1: give a share"),
        (LinearSchedule, {"warm_up": math.nan}, "warm_up is nan"),
        (CosineSchedule, {"final": 1.5}, r"final is 1\.5: give a part of the step size"),
        (LinearSchedule, {"final": math.nan}, "final is nan"),
        (LinearSchedule, {"final": -0.5}, r"final is -0\.5"),
        (DropSchedule, {"at": ()}, r"at is \[\]: give increasing shares"),
        (DropSchedule, {"at": (0.5, 0.5)}, r"at is \[0\.5, 0\.5\]: give increasing"),
        (DropSchedule, {"at": (0.75, 0.5)}, r"at is \[0\.75, 0\.5\]"),
        (DropSchedule, {"at": (0.0,)}, r"at is \[0\.0\]"),
        (DropSchedule, {"at": (0.5, 1.0)}, r"at is \[0\.5, 1\.0\]"),
        (DropSchedule, {"at": (math.nan,)}, r"at is \[nan\]"),
        (DropSchedule, {"at": (0.5,), "factor": 1.0}, r"factor is 1\.0: give a number above 0"),
        (DropSchedule, {"at": (0.5,), "factor": 0.0}, r"factor is 0\.0"),
        (DropSchedule, {"at": (0.5,), "warm_up": 1.0}, r"warm_up is 1\.0"),
        (DropSchedule, {"at": (0.1,), "warm_up": 0.2}, r"begins with 0\.1, and warm_up is 0\.2"),
    ],
)
def test_settings_that_are_wrong(kind: Any, settings: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        kind(**settings)


# In a replica.


class Steady:
    """A schedule of one's own."""

    def __init__(self, factor: float) -> None:
        self._factor = factor

    def factor_of(self, round_index: int, rounds: int) -> float:
        return self._factor


class Stubborn:
    """An optimizer of one's own that knows no lr."""

    step_size = 1.0

    def build(self, parameter: nn.Parameter) -> torch.optim.Optimizer:
        class Fixed(torch.optim.Optimizer):
            def step(self, closure: Any = None) -> Any:
                """Stay."""

        return Fixed([parameter], {})


def replica_of(schedule: Schedule, optimizer: Optimizer) -> Replica:
    model = FlatModel(nn.Linear(3, 1))
    return Replica(
        method=DataParallelSGD(),
        optimizer=optimizer,
        step_sizes=StepSizes(step_size=0.5, schedule=schedule, rounds=8),
        clip_norm=None,
        num_workers=1,
        seed=0,
        span=spans_of(model.layers, 1)[0],
        num_spans=1,
        parameters=torch.zeros(4),
        statistics=torch.empty(0),
    )


def stepped(replica: Replica, gradient: Tensor, round_index: int) -> None:
    replica.estimate({0: Message({"gradient": DensePayload(gradient)})}, round_index, 0)
    replica.step(0.0, round_index)


def test_torch_takes_steps_of_these_sizes() -> None:
    """With moments, of which a step size is no part."""
    schedule = CosineSchedule(warm_up=0.25, final=0.1)
    replica = replica_of(schedule, Adam(step_size=0.5))
    parameter = nn.Parameter(torch.zeros(4))
    plain = torch.optim.Adam([parameter], lr=0.5)
    later = torch.optim.lr_scheduler.LambdaLR(plain, lambda t: schedule.factor_of(t, 8))
    generator = torch.Generator().manual_seed(0)
    for t in range(8):
        gradient = torch.randn(4, generator=generator)
        parameter.grad = gradient.clone()
        plain.step()
        later.step()
        stepped(replica, gradient, t)
        assert torch.equal(replica.parameters, parameter.detach())


@pytest.mark.parametrize("factor", [-1.0, math.nan, math.inf])
def test_a_factor_that_is_none_ends_the_round(factor: float) -> None:
    replica = replica_of(Steady(factor), Adam())
    with pytest.raises(RoundError, match=f"round 3: schedule: Steady gives the factor {factor}"):
        stepped(replica, torch.ones(4), 3)


def test_an_optimizer_without_a_step_size_is_refused() -> None:
    with pytest.raises(TypeError, match="optimizer that Stubborn builds has no lr to be set"):
        replica_of(LinearSchedule(), Stubborn())
