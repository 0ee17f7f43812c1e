"""DASHA and its variants: convergence, limits, invariants, traffic, steps by theory."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from mlmc_ray.compressors import Identity, PermK, RandK, TopK
from mlmc_ray.compressors.base import Compressor
from mlmc_ray.estimator import MLMC, GivenLaw, OwnLaw
from mlmc_ray.ladders import FixedPointLadder, SegmentedTopKLadder
from mlmc_ray.methods import DataParallelSGD, Method
from mlmc_ray.methods.base import SERVER
from mlmc_ray.methods.running_estimates.dasha import DASHA
from mlmc_ray.methods.running_estimates.dasha_pp import DASHAPP
from mlmc_ray.methods.running_estimates.dasha_sync_mvr import DASHASyncMVR
from mlmc_ray.methods.running_estimates.dasha_variants import DASHAMVR, DASHAPage
from mlmc_ray.methods.theory import Setting
from mlmc_ray.payloads import Message
from mlmc_ray.payloads.plain import SeededSparsePayload
from mlmc_ray.problems import Quadratic
from mlmc_ray.problems.constants import Constants
from tests.mlmc_ray.driver import Run, late_factor, oracles_of, squared_distances
from tests.mlmc_ray.finite_sums import FiniteSums, resumed, setting_of

PROBLEM = Quadratic(num_functions=8, dim=24)
SMALL = Quadratic(num_functions=4, dim=8, smallest=1.0, largest=4.0)
TINY = Quadratic(num_functions=2, dim=4, smallest=1.0, largest=2.0)
SUMS = FiniteSums()
RAND_2 = RandK(k=2)
VARIANTS: list[Method] = [
    DASHA(compressor=RAND_2),
    DASHAPage(compressor=RAND_2, p_page=0.4),
    DASHAMVR(compressor=RAND_2, noise_momentum=0.3, mega_batch=4),
    DASHASyncMVR(compressor=RAND_2, p=0.2, mega_batch=4),
    DASHAPP(compressor=RAND_2, participants=2),
]


def zeros(dim: int) -> Tensor:
    return torch.zeros(dim, dtype=torch.float64)


@pytest.mark.parametrize(
    ("compressor", "problem"),
    [
        pytest.param(RandK(k=16), PROBLEM, marks=pytest.mark.slow),
        (PermK(), TINY),
        (MLMC(ladder=SegmentedTopKLadder(segment_size=4)), SMALL),
        pytest.param(MLMC(ladder=FixedPointLadder(), law=OwnLaw()), TINY, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_converges_linearly_where_optima_differ(compressor: Compressor, problem: Quadratic) -> None:
    method, setting = DASHA(compressor=compressor), setting_of(problem)
    step_size = method.theory(setting).value
    start, optimum = zeros(problem.dim), torch.from_numpy(problem.optimum)
    factors = []
    for seed in range(5):
        run = Run(method, oracles_of(problem), start, step_size, seed)
        factors.append(late_factor(squared_distances(run, optimum, 1e-20, 3000)))
    assert sum(factors) / 5 <= (1 - step_size * setting.constants.strong_convexity) * 1.01


@pytest.mark.parametrize(
    ("method", "step_size", "sums"),
    [
        (DASHAPage(compressor=RandK(k=6), p_page=1 / 4), None, SUMS),
        (DASHASyncMVR(compressor=RandK(k=4)), 0.1, SUMS),
        (DASHAPP(compressor=RandK(k=4), participants=2), 0.08, SUMS),
        (
            DASHAMVR(compressor=RandK(k=6), noise_momentum=1 / 4),
            None,
            FiniteSums(interpolation=True),
        ),
    ],
    ids=str,
)
def test_variants_converge_linearly(
    method: Method, step_size: float | None, sums: FiniteSums
) -> None:
    """On finite sums, from minibatches of 2 of 6; with noise at the optimum MVR would not."""
    setting = sums.setting(2)
    step_size = step_size or method.theory(setting).value
    factors = []
    for seed in range(5):
        run = Run(method, list(sums.oracles(2, seed)), zeros(8), step_size, seed)
        factors.append(late_factor(squared_distances(run, sums.optimum, 1e-20, 3000)))
    assert sum(factors) / 5 <= (1 - step_size * setting.constants.strong_convexity) * 1.01


def test_mvr_comes_to_a_floor_that_its_noise_momentum_lowers() -> None:
    floors = []
    for noise_momentum in (0.8, 0.05):
        method = DASHAMVR(compressor=RandK(k=6), noise_momentum=noise_momentum)
        run = Run(method, list(SUMS.oracles(2)), zeros(8), 0.03)
        run.rounds(200)
        late = [float((run.rounds(1) - SUMS.optimum).square().sum()) for _ in range(200)]
        floors.append(sum(late) / len(late))
    assert 1e-8 < floors[1] < floors[0] / 2


@pytest.mark.parametrize("method", VARIANTS, ids=str)
def test_the_server_has_the_average_of_what_workers_think_it_knows(method: Method) -> None:
    run = Run(method, list(SUMS.oracles(2)), zeros(8), 0.05)
    for _ in range(30):
        estimate = run.round()
        known = torch.stack([worker.state_dict()["known"] for worker in run.workers])
        torch.testing.assert_close(estimate, known.mean(dim=0), rtol=1e-12, atol=1e-12)


ONE_LEVEL = MLMC(ladder=SegmentedTopKLadder(segment_size=24))


@pytest.mark.parametrize(
    "method",
    [
        DASHA(compressor=Identity()),
        DASHA(compressor=ONE_LEVEL),
        DASHAPage(compressor=Identity(), p_page=0.3),
        DASHAMVR(compressor=Identity(), noise_momentum=0.3),
        DASHASyncMVR(compressor=Identity(), p=0.3),
        DASHAPP(compressor=Identity(), participants=8),
    ],
    ids=str,
)
def test_without_compression_it_is_gradient_descent(method: Method) -> None:
    """On full gradients, up to the rounding of sums of differences."""
    run = Run(method, oracles_of(PROBLEM), zeros(24), 0.1)
    descent = Run(DataParallelSGD(), oracles_of(PROBLEM), zeros(24), 0.1)
    for _ in range(40):
        torch.testing.assert_close(run.rounds(1), descent.rounds(1), rtol=1e-12, atol=1e-13)


def test_always_synchronised_it_is_gradient_descent_bit_for_bit() -> None:
    run = Run(DASHASyncMVR(compressor=RAND_2, p=1.0), oracles_of(PROBLEM), zeros(24), 0.1)
    descent = Run(DataParallelSGD(), oracles_of(PROBLEM), zeros(24), 0.1)
    for _ in range(20):
        assert torch.equal(run.rounds(1), descent.rounds(1))


@pytest.mark.parametrize(
    ("method", "batch_size"),
    [
        (DASHAPage(compressor=RAND_2, p_page=1.0), 2),
        (DASHAPage(compressor=RAND_2, p_page=0.3), None),
        (DASHAMVR(compressor=RAND_2, noise_momentum=1.0), None),
        (DASHAMVR(compressor=RAND_2, noise_momentum=0.3), None),
        (DASHAPP(compressor=RAND_2, participants=4), None),
    ],
    ids=str,
)
def test_limits_that_are_dasha(method: Method, batch_size: int | None) -> None:
    """Up to the rounding of sums of differences."""
    plain = Run(DASHA(compressor=RAND_2), list(SUMS.oracles(None)), zeros(8), 0.05)
    run = Run(method, list(SUMS.oracles(batch_size)), zeros(8), 0.05)
    for _ in range(40):
        torch.testing.assert_close(run.rounds(1), plain.rounds(1), rtol=1e-12, atol=1e-13)


def test_dasha_is_the_recursion_of_the_paper() -> None:
    """With k = 2 of 8 entries omega = 3, so a = 1/7."""
    run = Run(DASHA(compressor=RAND_2), oracles_of(SMALL), zeros(8), 0.05)
    x = zeros(8)
    h = torch.stack([oracle.gradient(x, None) for oracle in oracles_of(SMALL)])
    g = h.clone()
    x = x - 0.05 * g.mean(dim=0)
    run.round()
    for _ in range(20):
        torch.testing.assert_close(run.x, x, rtol=1e-12, atol=1e-13)
        contexts = [run.context(i) for i in range(4)]
        run.round()
        for i, oracle in enumerate(oracles_of(SMALL)):
            new = oracle.gradient(x, None)
            sent = RAND_2.compress(new - h[i] - (g[i] - h[i]) / 7, generator=contexts[i].generator)
            h[i] = new
            sent.add_to(g[i])
        x = x - 0.05 * g.mean(dim=0)


def test_dasha_pp_is_the_recursion_of_the_paper() -> None:
    """With 2 of 4 workers b = 1/3 and a = 1/14; those that are not asked keep what they have."""
    run = Run(DASHAPP(compressor=RAND_2, participants=2), oracles_of(SMALL), zeros(8), 0.05)
    old = zeros(8)
    h = torch.stack([oracle.gradient(old, None) for oracle in oracles_of(SMALL)])
    g = h.clone()
    x = old - 0.05 * g.mean(dim=0)
    run.round()
    asked: set[tuple[int, ...]] = set()
    for _ in range(30):
        torch.testing.assert_close(run.x, x, rtol=1e-12, atol=1e-13)
        contexts = [run.context(i) for i in range(4)]
        run.round()
        asked.add(tuple(run.reports))
        for i in run.reports:
            oracle = oracles_of(SMALL)[i]
            new, before = oracle.gradient(x, None), oracle.gradient(old, None)
            k = new - before - (h[i] - before) / 3
            sent = RAND_2.compress(2 * (k - (g[i] - h[i]) / 14), generator=contexts[i].generator)
            h[i] += 2 * k
            sent.add_to(g[i])
        x, old = x - 0.05 * g.mean(dim=0), x
        kept = [worker.state_dict() for worker in run.workers]
        torch.testing.assert_close(torch.stack([k["gradient"] for k in kept]), h)
        torch.testing.assert_close(torch.stack([k["known"] for k in kept]), g)
    assert len(asked) == 6


def tracked(method: Any, name: str, rounds: int) -> list[tuple[Tensor, Tensor]]:
    """What the first worker has for its gradient, and what the formulas of ``name`` say."""
    oracles = SUMS.oracles(2)
    oracle = oracles[0]
    run = Run(method, list(oracles), zeros(8), 0.05)
    pairs = []
    h, last = zeros(8), zeros(8)
    for round_index in range(rounds):
        at = run.x.clone()
        run.round()
        batch = oracle.drawn[-1]
        new, old = oracle.gradient(at, batch), oracle.gradient(last, batch)
        whole = round_index == 0 or len(batch) != 2
        keep = 1 - method.noise_momentum if name == "mvr" else 1.0
        h, last = new if whole else new + keep * (h - old), at
        pairs.append((run.workers[0].state_dict()["gradient"], h))
    sizes = [len(batch) for batch in oracle.drawn]
    assert len(sizes) == rounds
    large = {"page": 6, "mvr": 3, "sync": 4}[name]
    assert sizes[0] == large
    assert set(sizes) == {2, large}
    assert sizes.count(large) == 1 if name == "mvr" else sizes.count(large) > 3
    return pairs


@pytest.mark.parametrize(
    ("method", "name"),
    [
        (DASHAPage(compressor=RAND_2, p_page=0.4), "page"),
        (DASHAMVR(compressor=RAND_2, noise_momentum=0.3, mega_batch=3), "mvr"),
        (DASHASyncMVR(compressor=RAND_2, p=0.4, mega_batch=4), "sync"),
    ],
)
def test_gradients_are_tracked_as_the_paper_says(method: Method, name: str) -> None:
    for found, expected in tracked(method, name, 25):
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-13)


def test_all_workers_toss_the_coin_of_page_alike() -> None:
    oracles = SUMS.oracles(2)
    run = Run(DASHAPage(compressor=RAND_2, p_page=0.4), list(oracles), zeros(8), 0.05)
    run.rounds(100)
    sizes = [[len(batch) for batch in oracle.drawn] for oracle in oracles]
    assert sizes[0] == sizes[1] == sizes[2] == sizes[3]
    assert abs(sizes[0].count(6) - 40) < 5 * math.sqrt(100 * 0.24)


@pytest.mark.parametrize("method", VARIANTS, ids=str)
def test_traffic(method: Method) -> None:
    """Gradients before the first change, and but for SYNC-MVR never again; then k numbers."""
    run = Run(method, list(SUMS.oracles(2)), zeros(8), 0.05)
    dense = 0
    for round_index in range(25):
        news = run.server.news(context=run.context(SERVER))
        run.round()
        partial = isinstance(method, DASHAPP) and round_index > 0
        assert len(run.reports) == (2 if partial else 4)
        message = news if isinstance(news, Message) else news[next(iter(run.reports))]
        names = {"parameters", "previous"} if partial else {"parameters"}
        assert {name: p.dim for name, p in message.payloads.items()} == dict.fromkeys(names, 8)
        for report in run.reports.values():
            ((name, payload),) = report.payloads.items()
            assert payload.dim == 8
            assert round_index or name == "gradient"
            if name == "change":
                assert isinstance(payload, SeededSparsePayload)
                assert payload.values.numel() == 2
        dense += "gradient" in next(iter(run.reports.values())).payloads
    assert dense > 2 if isinstance(method, DASHASyncMVR) else dense == 1


CONSTANTS = Constants(
    smoothness=2.0, mean_smoothness=3.0, largest_smoothness=5.0, sample_smoothness=4.0
)
FLAT = Setting(constants=CONSTANTS, dim=8, num_workers=4, batch_size=2)
CONVEX = replace(FLAT, constants=replace(CONSTANTS, strong_convexity=0.5))


@pytest.mark.parametrize(
    ("method", "setting", "inverse"),
    [
        # omega = 3, M = 4.
        (DASHA(compressor=RAND_2), FLAT, 2 + 3 * math.sqrt(6 * 13 / 4)),
        (DASHA(compressor=RAND_2, momentum=1 / 7), FLAT, 2 + 3 * math.sqrt(6 * 13 / 4)),
        (DASHA(compressor=RAND_2), CONVEX, 2 + 3 * math.sqrt(12 * 19 / 4)),
        (
            DASHA(compressor=RAND_2),
            replace(CONVEX, constants=replace(CONSTANTS, strong_convexity=16.0)),
            2 * 16 * 7,
        ),
        (DASHA(compressor=PermK()), FLAT, 2 + 3 * math.sqrt(2 * 13)),
        # (1 - p) 16 / 2 = 2, and 2 * 2 / (p M) = 4 / 3.
        (
            DASHAPage(compressor=RAND_2, p_page=3 / 4),
            FLAT,
            2 + math.sqrt(48 * 21 / 4 * (2 + 9) + 4 / 3),
        ),
        # (1 - b)^2 16 / 2 = 2, and 4 * 2 / (b M) = 4.
        (
            DASHAMVR(compressor=RAND_2, noise_momentum=1 / 2),
            FLAT,
            2 + math.sqrt(96 * 21 / 4 * (2 + 9) + 4),
        ),
        (
            DASHAMVR(compressor=RAND_2, noise_momentum=1 / 2),
            replace(FLAT, batch_size=None),
            2 + math.sqrt(96 * 21 / 4 * 9),
        ),
    ],
    ids=str,
)
def test_steps_by_theory(method: Method, setting: Setting, inverse: float) -> None:
    assert method.theory(setting).value == pytest.approx(1 / inverse, rel=1e-14)


def test_what_theory_does_not_know() -> None:
    with pytest.raises(ValueError, match="a step size is known for 1 / \\(2 omega \\+ 1\\)"):
        DASHA(compressor=RAND_2, momentum=0.5).theory(FLAT)
    for method in (
        DASHASyncMVR(compressor=RAND_2),
        DASHAPP(compressor=RAND_2, participants=2),
    ):
        with pytest.raises(ValueError, match="no step size is known"):
            method.theory(FLAT)


@pytest.mark.parametrize("rounds", [0, 1, 7])
@pytest.mark.parametrize("method", VARIANTS, ids=str)
def test_halves_that_were_saved_and_loaded_continue_exactly(method: Method, rounds: int) -> None:
    run = Run(method, list(SUMS.oracles(2)), zeros(8), 0.05)
    run.rounds(rounds)
    twin = resumed(run, method, SUMS.oracles(2), 0.05)
    for _ in range(10):
        assert torch.equal(run.rounds(1), twin.rounds(1))


@pytest.mark.parametrize("compressor", [TopK(k=1), RandK(k=1, scaled=False)], ids=str)
def test_a_biased_compressor_is_refused(compressor: Compressor) -> None:
    with pytest.raises(ValueError, match=r"^dasha needs an unbiased compressor"):
        DASHA(compressor=compressor)
    with pytest.raises(ValueError, match=r"^dasha-page needs an unbiased compressor"):
        DASHAPage(compressor=compressor, p_page=0.5)
    with pytest.raises(ValueError, match=r"^dasha-mvr needs an unbiased compressor"):
        DASHAMVR(compressor=compressor, noise_momentum=0.5)
    with pytest.raises(ValueError, match=r"^dasha-sync-mvr needs an unbiased compressor"):
        DASHASyncMVR(compressor=compressor)
    with pytest.raises(ValueError, match=r"^dasha-pp needs an unbiased compressor"):
        DASHAPP(compressor=compressor, participants=1)


def test_numbers_that_are_refused() -> None:
    for number in (0.0, 1.5, math.nan):
        with pytest.raises(ValueError, match="momentum is"):
            DASHA(compressor=RAND_2, momentum=number)
        with pytest.raises(ValueError, match="p_page is"):
            DASHAPage(compressor=RAND_2, p_page=number)
        with pytest.raises(ValueError, match="noise_momentum is"):
            DASHAMVR(compressor=RAND_2, noise_momentum=number)
        with pytest.raises(ValueError, match="p is"):
            DASHASyncMVR(compressor=RAND_2, p=number)
    with pytest.raises(ValueError, match="mega_batch is 0"):
        DASHAMVR(compressor=RAND_2, noise_momentum=0.5, mega_batch=0)
    with pytest.raises(ValueError, match="participants is 0"):
        DASHAPP(compressor=RAND_2, participants=0)


def test_a_compressor_of_unknown_omega_needs_a_momentum() -> None:
    compressor = MLMC(ladder=SegmentedTopKLadder(segment_size=4), law=GivenLaw((0.5, 0.5)))
    run = Run(DASHA(compressor=compressor), oracles_of(SMALL), zeros(8), 0.05)
    run.round()
    with pytest.raises(ValueError, match="no omega is known"):
        run.round()
    method = DASHA(compressor=compressor, momentum=0.25)
    run = Run(method, oracles_of(SMALL), zeros(8), 0.05)
    squared_distances(run, torch.from_numpy(SMALL.optimum), 1e-6, 500)
