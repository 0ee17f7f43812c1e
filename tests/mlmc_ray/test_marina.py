"""MARINA, VR-MARINA, PP-MARINA: convergence, limits, coins, traffic, steps by theory."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from mlmc_ray.compressors import Identity, PermK, RandK, TopK
from mlmc_ray.compressors.base import Compressor, Context, bound
from mlmc_ray.estimator import MLMC, GivenLaw, OwnLaw
from mlmc_ray.ladders import FixedPointLadder, SegmentedTopKLadder
from mlmc_ray.methods import CompressedSGD, DataParallelSGD, Method
from mlmc_ray.methods.base import SERVER
from mlmc_ray.methods.running_estimates.marina import MARINA
from mlmc_ray.methods.running_estimates.marina_variants import PPMARINA, VRMARINA
from mlmc_ray.methods.theory import Setting, joint_variance
from mlmc_ray.payloads import Message
from mlmc_ray.payloads.plain import SeededSparsePayload
from mlmc_ray.problems import Quadratic
from mlmc_ray.problems.constants import Constants
from mlmc_ray.seeding import generator_for
from tests.mlmc_ray.driver import Run, late_factor, oracles_of, squared_distances
from tests.mlmc_ray.finite_sums import FiniteSums, resumed, setting_of

PROBLEM = Quadratic(num_functions=8, dim=24)
SMALL = Quadratic(num_functions=4, dim=8, smallest=1.0, largest=4.0)
TINY = Quadratic(num_functions=2, dim=4, smallest=1.0, largest=2.0)
SUMS = FiniteSums()
SEGMENTS = MLMC(ladder=SegmentedTopKLadder(segment_size=4))
PLANES = MLMC(ladder=FixedPointLadder(), law=OwnLaw())


def zeros(dim: int) -> Tensor:
    return torch.zeros(dim, dtype=torch.float64)


def factors(method: Method, problem: Quadratic, step_size: float, max_rounds: int) -> list[float]:
    """The late contraction factors of five seeds, to 1e-20."""
    optimum, start = torch.from_numpy(problem.optimum), zeros(problem.dim)
    runs = [Run(method, oracles_of(problem), start, step_size, seed) for seed in range(5)]
    return [late_factor(squared_distances(run, optimum, 1e-20, max_rounds)) for run in runs]


@pytest.mark.parametrize(
    ("method", "problem"),
    [
        pytest.param(MARINA(compressor=RandK(k=12)), PROBLEM, marks=pytest.mark.slow),
        pytest.param(MARINA(compressor=PermK()), SMALL, marks=pytest.mark.slow),
        (PPMARINA(compressor=RandK(k=4), participants=2), SMALL),
        (MARINA(compressor=SEGMENTS), SMALL),
        pytest.param(MARINA(compressor=PLANES), TINY, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_converges_linearly_where_optima_differ(method: Method, problem: Quadratic) -> None:
    setting = setting_of(problem)
    step_size = method.theory(setting).value
    found = factors(method, problem, step_size, 3000)
    assert sum(found) / 5 <= (1 - step_size * setting.constants.strong_convexity) * 1.01


def test_minibatches_converge_linearly_on_finite_sums() -> None:
    batch_size = 2
    method = VRMARINA(compressor=RandK(k=4), p=batch_size / (6 + batch_size))
    setting = SUMS.setting(batch_size)
    step_size, found = method.theory(setting).value, []
    for seed in range(5):
        run = Run(method, SUMS.oracles(batch_size, seed), zeros(8), step_size, seed)
        found.append(late_factor(squared_distances(run, SUMS.optimum, 1e-20, 2000)))
    assert sum(found) / 5 <= (1 - step_size * setting.constants.strong_convexity) * 1.01


@pytest.mark.parametrize(
    "compressor", [SEGMENTS, pytest.param(PLANES, marks=pytest.mark.slow)], ids=str
)
def test_gradients_themselves_would_stall(compressor: Compressor) -> None:
    """MLMC of gradients has a plateau where optima differ; MLMC of differences has none."""
    step_size = MARINA(compressor=compressor).theory(setting_of(SMALL)).value
    run = Run(CompressedSGD(compressor=compressor), oracles_of(SMALL), zeros(8), step_size)
    run.rounds(100)
    late = [(run.rounds(1) - torch.from_numpy(SMALL.optimum)).square().sum() for _ in range(50)]
    assert float(sum(late)) / 50 > 1e-3


def test_p_1_is_gradient_descent_bit_for_bit() -> None:
    run = Run(MARINA(compressor=RandK(k=3), p=1.0), oracles_of(PROBLEM), zeros(24), 0.1)
    descent = Run(DataParallelSGD(), oracles_of(PROBLEM), zeros(24), 0.1)
    for _ in range(20):
        assert torch.equal(run.rounds(1), descent.rounds(1))


ONE_LEVEL = MLMC(ladder=SegmentedTopKLadder(segment_size=24))


@pytest.mark.parametrize(
    "method",
    [
        MARINA(compressor=Identity(), p=0.25),
        MARINA(compressor=ONE_LEVEL, p=0.25),
        MARINA(compressor=ONE_LEVEL),
        VRMARINA(compressor=Identity(), p=0.25),
        PPMARINA(compressor=Identity(), participants=8, p=0.25),
    ],
    ids=str,
)
def test_without_compression_it_is_gradient_descent(method: Method) -> None:
    """Up to the rounding of sums of differences."""
    run = Run(method, oracles_of(PROBLEM), zeros(24), 0.1)
    descent = Run(DataParallelSGD(), oracles_of(PROBLEM), zeros(24), 0.1)
    for _ in range(40):
        torch.testing.assert_close(run.rounds(1), descent.rounds(1), rtol=1e-12, atol=1e-13)


def test_permuted_blocks_of_one_hessian_are_gradient_descent() -> None:
    """Up to rounding, although each worker sends 3 of 24 numbers; the step is 1 / L."""
    problem = Quadratic(num_functions=8, dim=24, family="equal", heterogeneity=2.0)
    method = MARINA(compressor=PermK(), p=1e-6)
    setting = setting_of(problem)
    flat = replace(setting, constants=replace(setting.constants, strong_convexity=0.0))
    step_size = 1 / setting.constants.smoothness
    assert method.theory(flat).value == pytest.approx(step_size, rel=1e-4)  # L_pm = 0 but for sqrt
    run = Run(method, oracles_of(problem), zeros(24), step_size)
    descent = Run(DataParallelSGD(), oracles_of(problem), zeros(24), step_size)
    for _ in range(40):
        torch.testing.assert_close(run.rounds(1), descent.rounds(1), rtol=1e-12, atol=1e-13)
        if run.round_index > 1:
            assert run.reports[0].payloads["change"].to_dense().count_nonzero() == 3


def test_full_batches_make_vr_marina_marina_bit_for_bit() -> None:
    compressor = RandK(k=2)
    run = Run(MARINA(compressor=compressor, p=0.3), SUMS.oracles(1), zeros(8), 0.1)
    batched = Run(VRMARINA(compressor=compressor, p=0.3), SUMS.oracles(None), zeros(8), 0.1)
    for _ in range(30):
        assert torch.equal(run.rounds(1), batched.rounds(1))


def test_all_participants_make_pp_marina_marina_bit_for_bit() -> None:
    compressor = RandK(k=6)
    run = Run(MARINA(compressor=compressor), oracles_of(PROBLEM), zeros(24), 0.05)
    method = PPMARINA(compressor=compressor, participants=8)
    partial = Run(method, oracles_of(PROBLEM), zeros(24), 0.05)
    for _ in range(30):
        assert torch.equal(run.rounds(1), partial.rounds(1))


def test_heads_set_the_estimate_to_the_gradient_and_tails_move_it_by_the_average() -> None:
    """The first round has gradients, of d numbers each; tails have k numbers; heads come with p."""
    run = Run(MARINA(compressor=RandK(k=6)), oracles_of(PROBLEM), zeros(24), 0.02)
    heads, before = 0, zeros(24)
    for round_index in range(200):
        at = run.x.clone()
        estimate = run.round()
        assert estimate is not None
        exact = torch.stack([o.gradient(at, None) for o in oracles_of(PROBLEM)]).mean(dim=0)
        names = {name for report in run.reports.values() for name in report.payloads}
        assert len(run.reports) == 8
        if names == {"gradient"}:
            heads += 1
            torch.testing.assert_close(estimate, exact, rtol=1e-12, atol=1e-14)
        else:
            assert names == {"change"}
            assert round_index
            sent = zeros(24)
            for report in run.reports.values():
                payload = report.payloads["change"]
                assert isinstance(payload, SeededSparsePayload)
                assert payload.values.numel() == 6
                payload.add_to(sent, weight=1 / 8)
            torch.testing.assert_close(estimate, before + sent, rtol=1e-12, atol=1e-14)
        before = estimate.clone()
    assert abs(heads - 50) < 5 * math.sqrt(200 * 3 / 16)


def test_the_news_are_the_parameters() -> None:
    for method in (MARINA(compressor=PermK()), VRMARINA(compressor=PermK(), p=0.5)):
        run = Run(method, oracles_of(PROBLEM), zeros(24), 0.02)
        run.rounds(3)
        news = run.server.news(context=run.context(SERVER))
        assert isinstance(news, Message)
        assert {name: payload.dim for name, payload in news.payloads.items()} == {"parameters": 24}


def test_only_participants_are_asked_but_for_gradients() -> None:
    method = PPMARINA(compressor=RandK(k=12), participants=3)
    run = Run(method, oracles_of(PROBLEM), zeros(24), 0.02)
    seen: set[int] = set()
    heads = 0
    for round_index in range(300):
        news = run.server.news(context=run.context(SERVER))
        if isinstance(news, Message):
            heads += 1
            assert news.payloads.keys() == {"parameters"}
        else:
            assert round_index
            assert list(news) == sorted(news)
            assert len(news) == 3
            seen |= set(news)
            message = next(iter(news.values()))
            assert {name: p.dim for name, p in message.payloads.items()} == {
                "parameters": 24,
                "previous": 24,
            }
        run.round()
        kinds = {name for report in run.reports.values() for name in report.payloads}
        assert kinds == ({"gradient"} if isinstance(news, Message) else {"change"})
        assert not run.workers[0].state_dict()
    assert seen == set(range(8))
    chance = 3 / 8 / 2
    margin = 5 * math.sqrt(300 * chance * (1 - chance))
    assert abs(heads - 300 * chance) < margin


def test_the_change_is_that_of_one_batch_at_two_points() -> None:
    """And what is sent as it is comes from all examples, or from a mega-batch."""
    for mega_batch, size in ((None, 6), (5, 5)):
        method = VRMARINA(compressor=Identity(), p=0.3, mega_batch=mega_batch)
        oracles = SUMS.oracles(2)
        run = Run(method, list(oracles), zeros(8), 0.05)
        last = run.x.clone()
        for _ in range(12):
            at = run.x.clone()
            run.round()
            for worker_id, report in run.reports.items():
                (name,), (payload,) = report.payloads.keys(), report.payloads.values()
                oracle = oracles[worker_id]
                batch = oracle.drawn[-1]
                assert len(batch) == (size if name == "gradient" else 2)
                expected = oracle.gradient(at, batch)
                if name == "change":
                    expected = expected - oracle.gradient(last, batch)
                assert torch.equal(payload.to_dense().to(expected), expected)
            last = at
        assert len(oracles[0].drawn) == 12


def test_online_gradients_are_as_rare_as_their_batches_are_large() -> None:
    method = VRMARINA(compressor=RandK(k=4), mega_batch=9)
    run = Run(method, SUMS.oracles(1), zeros(8), 0.0)
    heads = 0
    for _ in range(300):
        run.round()
        heads += "gradient" in run.reports[0].payloads
    assert abs(heads - 30) < 5 * math.sqrt(300 * 0.09)
    with pytest.raises(ValueError, match="p is None: without a mega_batch"):
        VRMARINA(compressor=RandK(k=4))


CONSTANTS = Constants(
    smoothness=2.0,
    mean_smoothness=3.0,
    largest_smoothness=5.0,
    hessian_variance=1.0,
    sample_smoothness=4.0,
)
FLAT = Setting(constants=CONSTANTS, dim=8, num_workers=4, batch_size=2)
CONVEX = replace(FLAT, constants=replace(CONSTANTS, strong_convexity=0.5))


@pytest.mark.parametrize(
    ("method", "setting", "inverse"),
    [
        # p = 1/4, omega = 3, M = 4: (1 - p) omega / (p M) = 9/4.
        (MARINA(compressor=RandK(k=2)), FLAT, 2 + 3 * 3 / 2),
        (MARINA(compressor=RandK(k=2)), CONVEX, 2 + 3 * math.sqrt(9 / 2)),
        (MARINA(compressor=RandK(k=2), p=1 / 64), CONVEX, 64.0),
        (MARINA(compressor=PermK()), FLAT, 2 + math.sqrt(3)),
        (MARINA(compressor=PermK()), CONVEX, 2 + math.sqrt(6)),
        # d = 2, M = 4: A = B = 1/3, p = 1/2.
        (MARINA(compressor=PermK()), replace(FLAT, dim=2), 2 + math.sqrt(1 / 3)),
        # 3 (3 * 9 + 4 * 16 / 2) / 4
        (VRMARINA(compressor=RandK(k=2), p=1 / 4), FLAT, 2 + math.sqrt(177 / 4)),
        (VRMARINA(compressor=RandK(k=2), p=1 / 4), replace(FLAT, batch_size=None), 6.5),
        (VRMARINA(compressor=PermK(), p=1 / 4), FLAT, 2 + math.sqrt(3 * (1 + 8))),
        # p = 1/8, r = 2: (1 - p)(1 + omega) / (p r) = 14.
        (PPMARINA(compressor=RandK(k=2), participants=2), FLAT, 2 + 3 * math.sqrt(14)),
    ],
    ids=str,
)
def test_steps_by_theory(method: Method, setting: Setting, inverse: float) -> None:
    assert method.theory(setting).value == pytest.approx(1 / inverse, rel=1e-14)


def test_what_theory_does_not_know() -> None:
    unknown = replace(FLAT, constants=replace(CONSTANTS, hessian_variance=None))
    assert MARINA(compressor=PermK()).theory(unknown).value == 1 / (2 + math.sqrt(3 * 9))
    unknown = replace(FLAT, constants=replace(CONSTANTS, sample_smoothness=None))
    with pytest.raises(ValueError, match="sample_smoothness"):
        VRMARINA(compressor=RandK(k=2), p=0.5).theory(unknown)
    floor = VRMARINA(compressor=RandK(k=2), mega_batch=3).theory(FLAT).guarantee
    assert "mega-batch" in floor


@pytest.mark.parametrize(("dim", "num_workers", "outcomes"), [(2, 3, 6), (3, 3, 6), (4, 3, 36)])
def test_the_joint_variance_of_permuted_blocks_is_exact(
    dim: int, num_workers: int, outcomes: int
) -> None:
    """Averaged over all outcomes, each found once, of a partition and an order of the workers."""
    vectors = torch.randn(
        num_workers, dim, dtype=torch.float64, generator=generator_for(dim, "vectors")
    )
    errors: dict[bytes, list[float]] = {}
    for seed in range(2000):
        sent = torch.zeros_like(vectors)
        for i, vector in enumerate(vectors):
            context = Context(generator_for(0), seed, i, num_workers)
            payload = bound(PermK(), context).compress(vector, generator=generator_for(0))
            payload.add_to(sent[i])
        key = (sent != 0).numpy().tobytes()
        errors.setdefault(key, []).append(float((sent - vectors).mean(dim=0).square().sum()))
        if len(errors) == outcomes:
            break
    assert len(errors) == outcomes
    setting = replace(FLAT, dim=dim, num_workers=num_workers)
    first, second = joint_variance(setting, PermK())
    bounds = (
        first * vectors.square().sum(dim=1).mean() - second * vectors.mean(dim=0).square().sum()
    )
    exact = sum(values[0] for values in errors.values()) / outcomes
    assert exact == pytest.approx(float(bounds), rel=1e-10)


@pytest.mark.parametrize("rounds", [0, 1, 7])
@pytest.mark.parametrize(
    "method",
    [
        MARINA(compressor=RandK(k=2)),
        VRMARINA(compressor=RandK(k=2), mega_batch=4, p=0.2),
        PPMARINA(compressor=RandK(k=2), participants=2, p=0.2),
    ],
    ids=str,
)
def test_halves_that_were_saved_and_loaded_continue_exactly(method: Method, rounds: int) -> None:
    run = Run(method, SUMS.oracles(1), zeros(8), 0.05)
    run.rounds(rounds)
    twin = resumed(run, method, SUMS.oracles(1), 0.05)
    for _ in range(10):
        assert torch.equal(run.rounds(1), twin.rounds(1))


def test_reports_of_another_kind_change_nothing() -> None:
    run = Run(MARINA(compressor=RandK(k=2), p=0.01), oracles_of(SMALL), zeros(8), 0.05)
    run.round()
    first = run.reports
    run.round()
    assert "change" in run.reports[0].payloads
    kept = run.server.state_dict()
    with pytest.raises(ValueError, match="report of worker 0 lacks 'change'"):
        run.server.step(first, context=run.context(SERVER))
    assert torch.equal(kept["estimate"], run.server.state_dict()["estimate"])


def test_settings_that_are_refused() -> None:
    for biased in (TopK(k=1), RandK(k=1, scaled=False)):
        with pytest.raises(ValueError, match=r"^marina needs an unbiased compressor"):
            MARINA(compressor=biased)
        with pytest.raises(ValueError, match="vr-marina needs an unbiased compressor"):
            VRMARINA(compressor=biased, p=0.5)
        with pytest.raises(ValueError, match="pp-marina needs an unbiased compressor"):
            PPMARINA(compressor=biased, participants=1)
    for p in (0.0, 1.5, math.nan):
        with pytest.raises(ValueError, match=r"p is .*: give a probability"):
            MARINA(compressor=RandK(k=1), p=p)
    with pytest.raises(ValueError, match="mega_batch is 0: give at least 1 example"):
        VRMARINA(compressor=RandK(k=1), mega_batch=0)
    with pytest.raises(ValueError, match="participants is 0: give at least 1 worker"):
        PPMARINA(compressor=RandK(k=1), participants=0)
    run = Run(PPMARINA(compressor=RandK(k=1), participants=5), oracles_of(SMALL), zeros(8), 0.1)
    with pytest.raises(ValueError, match="participants is 5, and there are 4 workers"):
        run.round()


def test_a_compressor_of_unknown_omega_needs_a_probability() -> None:
    compressor = MLMC(ladder=SegmentedTopKLadder(segment_size=4), law=GivenLaw((0.5, 0.5)))
    assert compressor.omega(8) is None
    run = Run(MARINA(compressor=compressor), oracles_of(SMALL), zeros(8), 0.1)
    run.round()  # of gradients whatever the coin shows, on both sides
    with pytest.raises(ValueError, match="no omega is known"):
        run.round()
    run = Run(MARINA(compressor=compressor, p=0.5), oracles_of(SMALL), zeros(8), 0.02)
    squared_distances(run, torch.from_numpy(SMALL.optimum), 1e-6, 500)


def test_the_expected_cost_by_the_papers_rule() -> None:
    """With p = k / d: (k / d) 64 d + (1 - k / d) 64 k."""
    cost = MARINA(compressor=RandK(k=6)).paper_cost(24)
    assert cost is not None
    assert cost.bits == 64 * (6 + 18 / 24 * 6)
    assert MARINA(compressor=PermK()).paper_cost(24) is None
