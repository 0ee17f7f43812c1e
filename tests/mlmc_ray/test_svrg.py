"""SVRG: exact refreshes, one minibatch at both points, linear convergence in spite of noise."""

import math
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Generator, Tensor

from mlmc_ray.compressors import Identity, RandK, TopK
from mlmc_ray.compressors.base import Compressor
from mlmc_ray.estimator import MLMC
from mlmc_ray.ladders import FixedPointLadder, SegmentedTopKLadder
from mlmc_ray.laws import OwnLaw
from mlmc_ray.methods import SERVER, CompressedSGD, DataParallelSGD
from mlmc_ray.methods.shifts.diana import DIANA
from mlmc_ray.methods.shifts.svrg import SVRG
from mlmc_ray.payloads import Message
from mlmc_ray.seeding import generator_for
from tests.mlmc_ray.driver import Run, late_factor, squared_distances
from tests.mlmc_ray.method_checks import (
    SMALL,
    assert_continues_exactly,
    contraction,
    gradients,
    run_of,
    setting_of,
)

SEGMENTS = MLMC(ladder=SegmentedTopKLadder(segment_size=2))
BITS = MLMC(ladder=FixedPointLadder(), law=OwnLaw())


@dataclass
class FiniteSum:
    """The mean of some quadratics x'A_j x / 2 - b_j'x, of which a minibatch is one."""

    matrices: Tensor
    vectors: Tensor
    draws: Generator

    def sample(self, size: int | None = None) -> int:
        return int(torch.randint(len(self.vectors), (), generator=self.draws))

    def full(self) -> None:
        return None

    def gradient(self, at: Tensor, batch: Any) -> Tensor:
        if batch is None:
            return self.matrices.mean(dim=0) @ at - self.vectors.mean(dim=0)
        return self.matrices[batch] @ at - self.vectors[batch]


LARGEST = 2.0
EXAMPLES = 5


def sums(num_workers: int = 4, seed: int = 0) -> list[FiniteSum]:
    """Diagonal matrices with entries from 1 to 2, both attained."""
    draws = generator_for(7)
    oracles = []
    for i in range(num_workers):
        spectra = 1 + torch.rand(EXAMPLES, 6, dtype=torch.float64, generator=draws)
        spectra[:, 0], spectra[:, 1] = 1, LARGEST
        vectors = torch.randn(EXAMPLES, 6, dtype=torch.float64, generator=draws)
        oracles.append(FiniteSum(torch.diag_embed(spectra), vectors, generator_for(seed, i)))
    return oracles


def solution(oracles: list[FiniteSum]) -> Tensor:
    matrix = torch.stack([o.matrices.mean(dim=0) for o in oracles]).mean(dim=0)
    vector = torch.stack([oracle.vectors.mean(dim=0) for oracle in oracles]).mean(dim=0)
    optimum: Tensor = torch.linalg.inv(matrix) @ vector
    return optimum


ZEROS = torch.zeros(6, dtype=torch.float64)


@pytest.mark.parametrize(
    ("compressor", "seeds"),
    [
        (RandK(k=4), 5),
        *(pytest.param(c, n, marks=pytest.mark.slow) for c, n in [(SEGMENTS, 2), (BITS, 1)]),
    ],
    ids=str,
)
def test_linear_convergence(compressor: Compressor, seeds: int) -> None:
    omega = compressor.omega(8)
    assert omega is not None
    mu, smoothness, _ = SMALL.smoothness
    method = SVRG(compressor=compressor, refresh=0.25)
    step_size = method.theory(setting_of(SMALL)).value
    assert step_size == pytest.approx(1 / (smoothness + 6 * omega * 2 / 4), rel=1e-12)
    bound = max(1 - step_size * mu, 1 - 0.25 / 2)
    assert contraction(method, SMALL, step_size, seeds) <= bound * 1.01


@pytest.mark.parametrize("compressor", [RandK(k=3), Identity()], ids=str)
def test_linear_convergence_on_minibatches(compressor: Compressor) -> None:
    """1 / (L + 6 (1 + omega) M^1/2 L_s / M) with L_s = 2; without a base level it stalls."""
    omega = compressor.omega(6)
    assert omega is not None
    known = setting_of(SMALL)
    constants = replace(known.constants, smoothness=LARGEST, sample_smoothness=LARGEST)
    setting = replace(known, constants=constants, batch_size=1, dim=6)
    step_size = SVRG(compressor=compressor).theory(setting).value
    assert step_size == pytest.approx(1 / (2 + 6 * (1 + omega) * 2 * 2 / 4), rel=1e-12)
    factors = []
    for seed in range(2):
        method = SVRG(compressor=compressor, refresh=0.1)
        oracles = sums(seed=seed)
        run = Run(method, oracles, ZEROS, step_size, seed)
        factors.append(late_factor(squared_distances(run, solution(oracles), 1e-20, 2500)))
    assert sum(factors) / 2 <= max(1 - step_size, 1 - 0.1 / 2) * 1.01
    for other in (CompressedSGD(compressor=compressor), DIANA(compressor=compressor)):
        run = Run(other, sums(), ZEROS, step_size)
        assert float((run.rounds(100) - solution(sums())).square().sum()) > 1e-4


@pytest.mark.parametrize("refresh", [1, 3])
def test_every_so_many_rounds_it_is_refreshed(refresh: int) -> None:
    run = run_of(SVRG(compressor=RandK(k=3), refresh=refresh), SMALL, 0.1)
    for rounds in range(10):
        exact = gradients(SMALL, run.x)
        estimate = run.round()
        names = {name for report in run.reports.values() for name in report.payloads}
        if rounds % refresh:
            assert names == {"difference"}
        else:
            assert names == {"gradient"}
            torch.testing.assert_close(estimate, exact.mean(dim=0), rtol=1e-13, atol=1e-14)
            base = run.server.state_dict()["gradient"]
            assert torch.equal(base, estimate if estimate is not None else ZEROS)


def test_a_coin_that_all_toss_alike() -> None:
    """The first round refreshes; of 400 others 0.3; Hoeffding, 1e-9."""
    margin = math.sqrt(math.log(2 / 1e-9) / (2 * 400))
    assert margin < 0.17
    run = run_of(SVRG(compressor=RandK(k=3), refresh=0.3), SMALL, 0.1)
    refreshes = []
    for _ in range(401):
        run.round()  # refuses the reports unless the server agrees
        refreshes.append({tuple(report.payloads) for report in run.reports.values()})
    assert all(len(names) == 1 for names in refreshes)
    assert refreshes[0] == {("gradient",)}
    assert abs(sum(names == {("gradient",)} for names in refreshes[1:]) / 400 - 0.3) <= margin


def test_a_refresh_every_round_is_gradient_descent_bit_for_bit() -> None:
    svrg = run_of(SVRG(compressor=RandK(k=1), refresh=1), SMALL, 0.3)
    descent = run_of(DataParallelSGD(), SMALL, 0.3)
    for _ in range(20):
        assert torch.equal(svrg.rounds(1), descent.rounds(1))


def test_the_estimate_is_the_base_and_a_difference_on_one_minibatch() -> None:
    """Over all minibatches its mean is the gradient, exactly."""
    (oracle,) = sums(1)
    estimates = []
    for batch in range(EXAMPLES):
        run = Run(SVRG(compressor=Identity(), refresh=50), [oracle], ZEROS, 0.1)
        snapshot = run.x.clone()
        base = run.round()
        assert base is not None
        base = base.clone()
        at = run.x.clone()
        oracle.draws = _seeded(oracle, batch)
        estimate = run.round()
        assert estimate is not None
        correction = oracle.gradient(at, batch) - oracle.gradient(snapshot, batch)
        torch.testing.assert_close(estimate, base + correction, rtol=1e-13, atol=1e-14)
        estimates.append(estimate.clone())
    mean = torch.stack(estimates).mean(dim=0)
    torch.testing.assert_close(mean, oracle.gradient(at, None), rtol=1e-12, atol=1e-13)


def _seeded(oracle: FiniteSum, batch: int) -> Generator:
    """Return draws whose first minibatch is the given one."""
    for seed in range(1000):
        candidate = replace(oracle, draws=generator_for(seed))
        if candidate.sample() == batch:
            return generator_for(seed)
    raise AssertionError(batch)


def test_traffic() -> None:
    run = run_of(SVRG(compressor=RandK(k=3), refresh=5), SMALL, 0.1)
    for expected in ({"gradient": 8}, {"difference": 8}):
        news = run.server.news(context=run.context(SERVER))
        assert isinstance(news, Message)
        assert {name: payload.dim for name, payload in news.payloads.items()} == {"parameters": 8}
        run.round()
        for report in run.reports.values():
            assert {name: payload.dim for name, payload in report.payloads.items()} == expected
    assert run.reports[0].payloads["difference"].to_dense().count_nonzero() == 3


@pytest.mark.parametrize("rounds", [0, 1, 7])
@pytest.mark.parametrize("refresh", [4, 0.4])
def test_saved_halves_continue_exactly(refresh: int | float, rounds: int) -> None:
    assert_continues_exactly(SVRG(compressor=RandK(k=3), refresh=refresh), SMALL, rounds)


def test_a_report_that_does_not_fit_changes_nothing() -> None:
    run = run_of(SVRG(compressor=Identity(), refresh=3), SMALL, 0.1)
    run.rounds(2)
    before = run.server.state_dict()
    with pytest.raises(ValueError, match="lacks 'difference'"):
        run.server.step({0: Message({})}, context=run.context(SERVER))
    after = run.server.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_what_is_refused() -> None:
    with pytest.raises(ValueError, match="svrg needs an unbiased compressor"):
        SVRG(compressor=TopK(k=1))
    for refresh in (0, -1, 0.0, 1.0, 2.5, True):
        with pytest.raises(ValueError, match=r"refresh is .*: give a whole number of rounds"):
            SVRG(compressor=RandK(k=1), refresh=refresh)
    setting = setting_of(SMALL)
    with pytest.raises(ValueError, match=r"refresh is 9: .* such as 0\.1"):
        SVRG(compressor=RandK(k=1), refresh=9).theory(setting)
    with pytest.raises(ValueError, match="smoothness of single examples is not known"):
        SVRG(compressor=RandK(k=1)).theory(replace(setting, batch_size=1))
