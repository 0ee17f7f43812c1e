"""EF-BV: classes of compressors, weights, linear convergence, the limits EF21 and DIANA."""

import itertools
import math
from dataclasses import replace
from typing import Any

import pytest
import torch

from mlmc_ray.compressors import Identity, RandK, TernGrad, TopK
from mlmc_ray.compressors.base import Compressor
from mlmc_ray.estimator import MLMC
from mlmc_ray.ladders import SegmentedTopKLadder
from mlmc_ray.laws import CostAwareLaw
from mlmc_ray.methods import EF21SGDM, SERVER
from mlmc_ray.methods.shifts.diana import DIANA
from mlmc_ray.methods.shifts.ef_bv import EFBV, Noise, noise_of
from mlmc_ray.payloads import Message
from tests.mlmc_ray.driver import oracles_of
from tests.mlmc_ray.method_checks import (
    SMALL,
    STANDARD,
    contraction,
    gradients,
    run_of,
    setting_of,
)

SEGMENTS = MLMC(ladder=SegmentedTopKLadder(segment_size=4))


@pytest.mark.parametrize("k", [1, 2, 4])
def test_the_class_of_plain_rand_k_is_exact(k: int) -> None:
    vector = torch.tensor([3.0, -1.0, 0.5, 2.0, 7.0], dtype=torch.float64)
    kept = [
        vector * torch.tensor([float(j in subset) for j in range(5)])
        for subset in itertools.combinations(range(5), k)
    ]
    mean = torch.stack(kept).mean(dim=0)
    square = float(vector.square().sum())
    noise = noise_of(RandK(k=k, scaled=False), 5)
    assert noise.bias == pytest.approx(float((mean - vector).norm()) / math.sqrt(square))
    variance = float((torch.stack(kept) - mean).square().sum(dim=1).mean())
    assert noise.variance == pytest.approx(variance / square)


def test_the_classes_of_other_compressors() -> None:
    assert noise_of(RandK(k=2), 8) == Noise(0.0, 3.0)
    assert noise_of(SEGMENTS, 8) == Noise(0.0, 1.0)
    assert noise_of(Identity(), 8) == Noise(0.0, 0.0)
    assert noise_of(TopK(k=6), 8) == Noise(0.5, 0.0)


@pytest.mark.parametrize("noise", [Noise(0.0, 3.0), Noise(0.5, 0.7), Noise(0.9, 0.05)])
def test_the_weight_is_the_best(noise: Noise) -> None:
    best = noise.left_by(noise.best_weight())
    assert best < 1
    assert best <= min(noise.left_by(step / 1000) for step in range(1001)) + 1e-12


def naive_step(noise: Noise, shift: float, estimate: float) -> tuple[float, float]:
    """1 / (L + L~ sqrt(r_av / r) / s) on the small problem, and max(1 - step mu, (1 + r) / 2)."""
    mu, smoothness, mean_smoothness = SMALL.smoothness
    r = (1 - shift + shift * noise.bias) ** 2 + shift**2 * noise.variance
    average = (1 - estimate + estimate * noise.bias) ** 2 + estimate**2 * noise.variance / 4
    s = math.sqrt((1 + r) / (2 * r)) - 1
    step = 1 / (smoothness + mean_smoothness * math.sqrt(average / r) / s)
    return step, max(1 - step * mu, (1 + r) / 2)


CASES: list[Any] = [
    (TopK(k=6), Noise(0.5, 0.0), 1.0, 1.0),
    pytest.param(RandK(k=4), Noise(0.0, 1.0), 0.5, 0.8, marks=pytest.mark.slow),
    pytest.param(RandK(k=4, scaled=False), Noise(0.5, 0.25), 1.0, 1.0, marks=pytest.mark.slow),
    (SEGMENTS, Noise(0.0, 1.0), 0.5, 0.8),
]


@pytest.mark.parametrize(("compressor", "noise", "shift", "estimate"), CASES, ids=str)
def test_linear_convergence(
    compressor: Compressor, noise: Noise, shift: float, estimate: float
) -> None:
    method = EFBV(compressor=compressor)
    step = method.theory(setting_of(SMALL))
    expected, bound = naive_step(noise, shift, estimate)
    assert step.value == pytest.approx(expected, rel=1e-12)
    seeds = 5 if isinstance(compressor, RandK) else 1
    assert contraction(method, SMALL, step.value, seeds) <= bound * 1.01


@pytest.mark.slow
def test_linear_convergence_on_the_standard_problem() -> None:
    method = EFBV(compressor=TopK(k=16))
    step_size = method.theory(setting_of(STANDARD)).value
    r = 1 - 16 / 24
    bound = max(1 - step_size * STANDARD.smoothness[0], (1 + r) / 2)
    assert contraction(method, STANDARD, step_size) <= bound


def test_without_noise_the_step_is_that_of_gradient_descent() -> None:
    step = EFBV(compressor=Identity()).theory(setting_of(SMALL))
    assert step.value == pytest.approx(1 / SMALL.smoothness[1], rel=1e-12)


def test_with_weights_1_it_is_ef21() -> None:
    """Not bit for bit: EF21 adds every message to its g, EF-BV the average of them."""
    bv = run_of(EFBV(compressor=TopK(k=3)), SMALL, 0.1)
    ef21 = run_of(EF21SGDM(compressor=TopK(k=3), momentum=1.0), SMALL, 0.1)
    for _ in range(30):
        torch.testing.assert_close(bv.rounds(1), ef21.rounds(1), rtol=1e-12, atol=1e-13)


def test_with_nu_1_and_an_unbiased_compressor_it_is_diana_bit_for_bit() -> None:
    bv = run_of(EFBV(compressor=RandK(k=3), estimate_weight=1.0), SMALL, 0.1)
    diana = run_of(DIANA(compressor=RandK(k=3)), SMALL, 0.1)
    for _ in range(30):
        assert torch.equal(bv.rounds(1), diana.rounds(1))


@pytest.mark.parametrize(
    ("method", "shift", "estimate"),
    [
        (EFBV(compressor=TopK(k=3), shift_step=0.4, estimate_weight=0.4), 0.4, 0.4),
        (EFBV(compressor=TopK(k=3), shift_step=0.3, estimate_weight=0.9), 0.3, 0.9),
        (EFBV(compressor=RandK(k=4)), 0.5, 0.8),
        (EFBV(compressor=RandK(k=4), shift_step=0.2), 0.2, 0.8),
    ],
    ids=str,
)
def test_every_round_is_the_formula(method: EFBV, shift: float, estimate: float) -> None:
    """With lambda = nu, x <- x - step mean(g_i), g_i <- g_i + lambda C(grad f_i(x) - g_i)."""
    run = run_of(method, SMALL, 0.1)
    shifts, x = torch.zeros(4, 8, dtype=torch.float64), run.x.clone()
    for _ in range(20):
        differences = gradients(SMALL, x) - shifts
        run.round()
        sent = torch.zeros(4, 8, dtype=torch.float64)
        for i, report in run.reports.items():
            report.payloads["difference"].add_to(sent[i])
        if isinstance(method.compressor, TopK):
            assert (sent.count_nonzero(dim=1) == 3).all()
            torch.testing.assert_close(sent[sent != 0], differences[sent != 0])
        x = x - 0.1 * (shifts.mean(dim=0) + estimate * sent.mean(dim=0))
        shifts += shift * sent
        torch.testing.assert_close(run.x, x, rtol=1e-12, atol=1e-13)
        held = torch.stack([worker.state_dict()["shift"] for worker in run.workers])
        torch.testing.assert_close(held, shifts, rtol=1e-12, atol=1e-13)
        known = run.server.state_dict()["shift"]
        torch.testing.assert_close(known, shifts.mean(dim=0), rtol=1e-12, atol=1e-13)


def test_one_message_up_and_the_parameters_down() -> None:
    run = run_of(EFBV(compressor=TopK(k=3)), SMALL, 0.1)
    news = run.server.news(context=run.context(SERVER))
    run.round()
    for message in (news, run.reports[2]):
        assert isinstance(message, Message)
        assert [payload.dim for payload in message.payloads.values()] == [8]


@pytest.mark.parametrize("k", [1, 3, 8])
def test_every_round_makes_the_progress_that_the_rate_needs(k: int) -> None:
    """f(x) + c G falls by step |grad f|^2 / 2, from which the rate of 1/T follows for any f."""
    known, left = setting_of(SMALL), 1 - k / 8
    flat = replace(known, constants=replace(known.constants, strong_convexity=0.0))
    step = EFBV(compressor=TopK(k=k)).theory(flat)
    assert step.guarantee.startswith("the mean of |grad f|^2 over T rounds is O(1 / (step T))")
    weight = step.value * left / (1 + left - math.sqrt(2 * left * (1 + left)))  # c
    run = run_of(EFBV(compressor=TopK(k=k)), SMALL, step.value)

    def potential(shifts: torch.Tensor) -> float:
        values = [run.x @ (o.matrix @ run.x / 2 - o.vector) for o in oracles_of(SMALL)]
        errors = (gradients(SMALL, run.x) - shifts).square().sum(dim=1)
        return float(torch.stack(values).mean() + weight * errors.mean())

    before = potential(torch.zeros(4, 8, dtype=torch.float64))
    for _ in range(60):
        square = float(gradients(SMALL, run.x).mean(dim=0).square().sum())
        run.round()
        after = potential(torch.stack([worker.state_dict()["shift"] for worker in run.workers]))
        assert after <= before - step.value * square / 2 + 1e-12
        before = after


def test_what_is_refused() -> None:
    with pytest.raises(ValueError, match="ef-bv needs an unbiased or a contractive compressor"):
        EFBV(compressor=TernGrad(clip=2.5))
    with pytest.raises(ValueError, match=r"shift_step is 0: give a number above 0 and at most 1"):
        EFBV(compressor=TopK(k=1), shift_step=0)
    with pytest.raises(ValueError, match=r"estimate_weight is 1\.1: give a number above 0"):
        EFBV(compressor=TopK(k=1), estimate_weight=1.1)
    with pytest.raises(ValueError, match=r"shift_step is 1\.0: .*, such as 0\.125"):
        EFBV(compressor=RandK(k=1), shift_step=1.0).theory(setting_of(SMALL))


def test_without_constants_weights_must_be_given() -> None:
    compressor = MLMC(ladder=SegmentedTopKLadder(segment_size=2), law=CostAwareLaw())
    with pytest.raises(ValueError, match="neither omega nor alpha is known"):
        run_of(EFBV(compressor=compressor), SMALL, 0.05).round()
    given = EFBV(compressor=compressor, shift_step=0.2, estimate_weight=0.5)
    run_of(given, SMALL, 0.05).rounds(3)
