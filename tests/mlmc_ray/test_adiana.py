"""ADIANA: its parameters, its recursion, linear convergence, acceleration, traffic."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch

from mlmc_ray.compressors import Bernoulli, Identity, RandK, TopK
from mlmc_ray.compressors.base import Compressor
from mlmc_ray.estimator import MLMC
from mlmc_ray.ladders import SegmentedTopKLadder
from mlmc_ray.methods import SERVER
from mlmc_ray.methods.shifts.adiana import ADIANA
from mlmc_ray.methods.shifts.adiana_numbers import Numbers, original_numbers, refined_numbers
from mlmc_ray.methods.shifts.diana import DIANA
from mlmc_ray.methods.theory import Setting
from mlmc_ray.payloads import Message
from mlmc_ray.problems import Quadratic
from mlmc_ray.problems.constants import Constants
from tests.mlmc_ray.driver import QuadraticOracle, Run, oracles_of, squared_distances
from tests.mlmc_ray.method_checks import (
    SMALL,
    gradients,
    optimum_of,
    run_of,
    setting_of,
)

PAIR = Quadratic(num_functions=2, dim=4, smallest=1.0, largest=1.5)


def rounds_of(method: ADIANA, problem: Quadratic, max_rounds: int, seed: int = 0) -> int:
    """Rounds until |y - x*|^2 is 1e-20 of the first, all constants by theory."""
    run = run_of(method.with_theory(setting_of(problem)), problem, math.nan, seed)
    return len(squared_distances(run, optimum_of(problem), 1e-20, max_rounds)) - 1


def test_the_numbers_of_the_paper() -> None:
    """L = 10, mu = 1, omega = 1: p = 1/4 and eta = 1/320 for M = 8; for many workers 1 and 1/20."""
    few = original_numbers(10, 1, 1, 8)
    momentum = math.sqrt(1 / 80)
    long_step = (1 / 320) / (2 * (momentum + 1 / 320))
    expected = Numbers(0.25, 1 / 320, momentum, 0.5, long_step, 1 - long_step)
    assert vars_of(few) == pytest.approx(vars_of(expected), rel=1e-12)
    many = original_numbers(10, 1, 1, 3200)
    assert (many.anchor_probability, many.step_size) == (1.0, 0.05)
    between = original_numbers(10, 1, 1, 32 * 9)
    assert between.anchor_probability == pytest.approx(0.5)
    assert original_numbers(10, 10, 0, 1).momentum == 0.25


def test_without_noise_p_is_1_and_eta_is_1_over_2_l() -> None:
    numbers = original_numbers(10, 1, 0, 8)
    assert (numbers.anchor_probability, numbers.step_size) == (1.0, 0.05)


def test_the_refined_numbers() -> None:
    omega, workers, smoothness, mu = 3.0, 16, 10.0, 0.4
    numbers = refined_numbers(smoothness, mu, omega, workers)
    theta_1 = 1 / (3 * math.sqrt(smoothness / mu))
    theta_2 = 1 / (3 * math.sqrt(workers) + 3 * workers / omega)
    eta = workers * theta_2 / (120 * omega * smoothness)
    whole = 2 * theta_1 + eta * mu
    expected = Numbers(0.25, eta, theta_1, theta_2, eta / whole, 2 * theta_1 / whole)
    assert vars_of(numbers) == pytest.approx(vars_of(expected), rel=1e-12)
    nearly, none = (refined_numbers(smoothness, mu, w, workers) for w in (1e-9, 0.0))
    assert vars_of(nearly) == pytest.approx(vars_of(none), abs=1e-8)


def vars_of(numbers: Numbers) -> list[float]:
    return [getattr(numbers, name) for name in Numbers.__slots__]


@pytest.mark.parametrize("kind", ["original", "refined"])
def test_every_round_is_the_formula(kind: str) -> None:
    omega, workers = 1.0, 4
    method = ADIANA(compressor=RandK(k=4), smoothness=2.0, strong_convexity=0.5, numbers=kind)  # type: ignore[arg-type]
    n = method.numbers_for(omega, workers)
    run = run_of(method, SMALL, math.nan)
    y, z, w = run.x.clone(), run.x.clone(), run.x.clone()
    shifts = torch.zeros(4, 8, dtype=torch.float64)
    coins = []
    for _ in range(60):
        x = n.momentum * z + n.anchoring * w + (1 - n.momentum - n.anchoring) * y
        news = run.server.news(context=run.context(SERVER))
        assert isinstance(news, Message)
        torch.testing.assert_close(news.payloads["point"].to_dense(), x, rtol=1e-12, atol=1e-13)
        assert torch.equal(news.payloads["anchor"].to_dense(), w)
        wanted = [(g - shifts) for g in (gradients(SMALL, x), gradients(SMALL, w))]
        assert run.round() is None
        sent = torch.zeros(2, 4, 8, dtype=torch.float64)
        for i, report in run.reports.items():
            for row, name in enumerate(("at_point", "at_anchor")):
                report.payloads[name].add_to(sent[row, i])
        for message, vector in zip(sent, wanted, strict=True):
            kept = message != 0
            torch.testing.assert_close(message[kept], 2 * vector[kept], rtol=1e-9, atol=1e-11)
        g = shifts.mean(dim=0) + sent[0].mean(dim=0)
        shifts += sent[1] / (1 + omega)
        before, y = y, x - n.step_size * g
        z = n.memory * z + (1 - n.memory) * x + n.long_step / n.step_size * (y - x)
        torch.testing.assert_close(run.x, y, rtol=1e-12, atol=1e-13)
        state = run.server.state_dict()
        torch.testing.assert_close(state["z"], z, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(state["shift"], shifts.mean(dim=0), rtol=1e-12, atol=1e-13)
        moved = not torch.equal(state["anchor"], w)
        if moved:
            expected = before if kind == "original" else y
            torch.testing.assert_close(state["anchor"], expected, rtol=1e-12, atol=1e-13)
        coins.append(moved)
        y, z, w = run.x.clone(), state["z"], state["anchor"]
    # The first round cannot move the anchor of the original, for y is still there. Hoeffding, 1e-6.
    share = sum(coins[1:]) / len(coins[1:])
    assert abs(share - n.anchor_probability) <= math.sqrt(math.log(2 / 1e-6) / (2 * 59))
    assert 0 < sum(coins) < 60


COMPRESSORS: list[Any] = [
    RandK(k=3),
    pytest.param(MLMC(ladder=SegmentedTopKLadder(segment_size=2)), marks=pytest.mark.slow),
]


@pytest.mark.parametrize("compressor", COMPRESSORS, ids=str)
def test_linear_convergence(compressor: Compressor) -> None:
    for seed in range(2):
        assert rounds_of(ADIANA(compressor=compressor), PAIR, 3000, seed) > 50


def test_well_conditioned_problems_take_more_rounds_than_diana() -> None:
    diana = DIANA(compressor=RandK(k=6))
    run = run_of(diana, SMALL, diana.theory(setting_of(SMALL)).value)
    rounds = len(squared_distances(run, optimum_of(SMALL), 1e-20, 1000)) - 1
    assert rounds_of(ADIANA(compressor=RandK(k=6)), SMALL, 2000) > rounds


@pytest.mark.slow
def test_badly_conditioned_problems_take_fewer_rounds_than_diana() -> None:
    """At kappa = 1000, where ADIANA is at 1/100 DIANA is above 1/20 still."""
    hessian = torch.diag(torch.tensor([1.0, 1e-3], dtype=torch.float64))
    oracles = [QuadraticOracle(hessian, torch.tensor([b, -b]).double()) for b in (0.01, -0.01)]
    constants = Constants(
        smoothness=1.0, mean_smoothness=1.0, largest_smoothness=1.0, strong_convexity=1e-3
    )
    setting = Setting(constants=constants, dim=2, num_workers=2)
    start, diana = torch.ones(2).double(), DIANA(compressor=RandK(k=1))
    fast = Run(ADIANA(compressor=RandK(k=1)).with_theory(setting), oracles, start, math.nan)
    rounds = len(squared_distances(fast, torch.zeros(2).double(), 0.01, 5000)) - 1
    slow = Run(diana, oracles, start, diana.theory(setting).value)
    assert float(slow.rounds(rounds).square().sum()) > 0.05 * float(start.square().sum())


def test_shifts_tend_to_the_gradients_at_the_optimum() -> None:
    run = run_of(ADIANA(compressor=RandK(k=3)).with_theory(setting_of(PAIR)), PAIR, math.nan)
    run.rounds(400)
    for worker, gradient in zip(run.workers, gradients(PAIR, optimum_of(PAIR)), strict=True):
        torch.testing.assert_close(worker.state_dict()["shift"], gradient, rtol=0, atol=1e-5)


def test_it_is_faster_than_gradient_descent_by_the_root_of_kappa() -> None:
    """On diag(1, 1e-4), after T steps of 1/L, descent still has 0.9999^T of the second entry."""
    oracle = QuadraticOracle(
        torch.diag(torch.tensor([1.0, 1e-4], dtype=torch.float64)), torch.zeros(2).double()
    )
    method = ADIANA(compressor=Identity(), smoothness=1.0, strong_convexity=1e-4)
    run = Run(method, [oracle], torch.ones(2).double(), math.nan)
    assert float(run.rounds(1500).norm()) < 0.05
    assert (1 - 1e-4) ** 1500 > 0.8


@pytest.mark.slow
def test_the_refined_numbers_converge_linearly() -> None:
    """Five runs in one: copies of a problem in one vector, whose entries are dropped one by one.

    The runs share the draws of when the anchor moves, and no others.
    """
    problem, copies = Quadratic(num_functions=2, dim=2, smallest=1.0, largest=1.1), 5
    eye = torch.eye(copies, dtype=torch.float64)
    oracles = [
        QuadraticOracle(torch.kron(eye, o.matrix), o.vector.repeat(copies))
        for o in oracles_of(problem)
    ]
    method = ADIANA(compressor=Bernoulli(p=0.75), numbers="refined")
    run = Run(method.with_theory(setting_of(problem)), oracles, torch.ones(10).double(), math.nan)

    def distances() -> torch.Tensor:
        away = run.x - optimum_of(problem).repeat(copies)
        return away.view(copies, 2).square().sum(dim=1)

    goal = 1e-20 * distances()
    rounds = 0
    while bool((distances() > goal).any()):
        assert rounds < 8000
        rounds += 50
        run.rounds(50)
    assert len(set(distances().tolist())) == copies


def test_traffic() -> None:
    """2 C up, and two points down."""
    run = run_of(ADIANA(compressor=RandK(k=3), smoothness=2.0, strong_convexity=0.5), SMALL, 0.0)
    news = run.server.news(context=run.context(SERVER))
    assert isinstance(news, Message)
    assert {name: payload.dim for name, payload in news.payloads.items()} == {
        "point": 8,
        "anchor": 8,
    }
    run.round()
    for report in run.reports.values():
        assert {name: p.dim for name, p in report.payloads.items()} == {
            "at_point": 8,
            "at_anchor": 8,
        }
        assert all(p.to_dense().count_nonzero() == 3 for p in report.payloads.values())
    cost = ADIANA(compressor=RandK(k=3)).paper_cost(8)
    assert cost is not None
    assert cost.bits == 2 * 64 * 3


def test_theory_fills_in_what_is_not_given() -> None:
    setting = setting_of(SMALL)
    method = ADIANA(compressor=RandK(k=4))
    resolved = method.with_theory(setting)
    assert (resolved.smoothness, resolved.strong_convexity) == (2.0, SMALL.smoothness[0])
    given = ADIANA(compressor=RandK(k=4), smoothness=3.0, strong_convexity=0.25)
    assert given.with_theory(setting) == given
    for each in (method, given):
        numbers = each.with_theory(setting).numbers_for(1.0, 4)
        assert each.theory(setting).value == numbers.step_size


def test_what_is_refused() -> None:
    with pytest.raises(ValueError, match="adiana needs an unbiased compressor"):
        ADIANA(compressor=TopK(k=1))
    with pytest.raises(
        ValueError, match=r"numbers is 'new': give one of \['original', 'refined'\]"
    ):
        ADIANA(compressor=RandK(k=1), numbers="new")  # type: ignore[arg-type]
    for bad in (0.0, -1.0, math.inf, "much"):
        with pytest.raises(
            ValueError, match=r'smoothness is .*: give a number above 0, or "theory"'
        ):
            ADIANA(compressor=RandK(k=1), smoothness=bad)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="of at most the smoothness"):
        ADIANA(compressor=RandK(k=1), smoothness=1.0, strong_convexity=2.0)
    with pytest.raises(ValueError, match=r"smoothness is 'theory' .*: give numbers"):
        run_of(ADIANA(compressor=RandK(k=1)), SMALL, 0.0).round()


def test_a_problem_that_is_not_strongly_convex_needs_a_number() -> None:
    setting = setting_of(SMALL)
    flat = replace(setting, constants=replace(setting.constants, strong_convexity=0.0))
    with pytest.raises(ValueError, match="needs a strongly convex problem"):
        ADIANA(compressor=RandK(k=4)).theory(flat)
    assert ADIANA(compressor=RandK(k=4), strong_convexity=0.1).theory(flat).value > 0
