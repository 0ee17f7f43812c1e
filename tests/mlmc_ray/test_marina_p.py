"""MARINA-P and M3: a point of its own for every worker."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from mlmc_ray.compressors import Identity, PermK, RandK
from mlmc_ray.compressors.base import Compressor
from mlmc_ray.estimator import MLMC
from mlmc_ray.ladders import FixedPointLadder, SegmentedTopKLadder
from mlmc_ray.laws import CostAwareLaw, OwnLaw
from mlmc_ray.methods import SERVER, DataParallelSGD, Method
from mlmc_ray.methods.downlinks.marina_p import M3, MarinaP
from mlmc_ray.methods.running_estimates.marina import MARINA
from mlmc_ray.payloads.permuted import PermutedBlockPayload
from tests.mlmc_ray.driver import QuadraticOracle, Run, oracles_of
from tests.mlmc_ray.method_checks import SMALL, STANDARD, contraction, run_of, setting_of
from tests.mlmc_ray.recording import Recording, entries

MU, L, MEAN = STANDARD.smoothness


def points(run: Run) -> Tensor:
    """The w_i, shape (workers, d)."""
    return torch.stack([worker.state_dict()["parameters"] for worker in run.workers])


def assert_same_path(one: Run, other: Run, rounds: int = 40, bits: bool = True) -> None:
    for _ in range(rounds):
        tolerance = 0.0 if bits else 1e-12
        torch.testing.assert_close(one.rounds(1), other.rounds(1), rtol=tolerance, atol=tolerance)


# MARINA-P.

DOWNLINKS: list[Any] = [
    pytest.param(PermK(), marks=pytest.mark.slow),
    RandK(k=4),
    MLMC(ladder=SegmentedTopKLadder(segment_size=4)),
]


@pytest.mark.parametrize("downlink", DOWNLINKS, ids=str)
def test_marina_p_converges_linearly_with_the_step_of_theory(downlink: Compressor) -> None:
    method = MarinaP(downlink=downlink)
    step_size = method.theory(setting_of(SMALL)).value
    factor = contraction(method, SMALL, step_size, seeds=5, max_rounds=3000)
    assert factor <= (1 - step_size * SMALL.smoothness[0]) * 1.01


@pytest.mark.slow
def test_marina_p_converges_with_a_ladder_of_large_omega() -> None:
    """The bound of the fixed-point ladder is far from what happens, so p and step are given."""
    method = MarinaP(downlink=MLMC(ladder=FixedPointLadder(), law=OwnLaw()), p=0.25)
    assert contraction(method, SMALL, 0.2) <= 1 - 0.2 * SMALL.smoothness[0] / 2


def test_the_step_of_marina_p() -> None:
    setting = setting_of(STANDARD)
    omega, p = 3.0, 0.25
    method = MarinaP(downlink=RandK(k=6))
    spread = math.sqrt(2 * omega * (1 - p) / p)
    assert method.theory(setting).value == pytest.approx(1 / (L + MEAN * spread), rel=1e-12)
    rare = MarinaP(downlink=RandK(k=23), p=0.001).theory(setting)
    assert rare.value == pytest.approx(0.001 / (2 * MU), rel=1e-12)
    anything = replace(setting, constants=replace(setting.constants, strong_convexity=0.0))
    spread = math.sqrt(omega * (1 - p) / p)
    assert method.theory(anything).value == pytest.approx(1 / (L + MEAN * spread), rel=1e-12)
    exact = MarinaP(downlink=Identity()).theory(setting)
    assert exact.value == pytest.approx(min(1 / L, 1 / (2 * MU)), rel=1e-12)


def test_with_probability_1_marina_p_is_gradient_descent_exactly() -> None:
    one = run_of(MarinaP(downlink=RandK(k=2), p=1.0), STANDARD, 0.02)
    assert_same_path(one, run_of(DataParallelSGD(), STANDARD, 0.02))


@pytest.mark.parametrize("num_workers", [1, 3, 8, 16])
def test_with_permk_the_average_of_the_points_is_the_servers(num_workers: int) -> None:
    """16 workers share 8 entries; rounding apart, since the blocks of M entries are M times u."""
    oracles = oracles_of(replace(SMALL, num_functions=num_workers))
    run = Run(MarinaP(p=0.1), oracles, torch.ones(8, dtype=torch.float64), 0.05)
    apart = 0.0
    for _ in range(30):
        at = run.x.clone()
        run.round()
        torch.testing.assert_close(points(run).mean(dim=0), at, rtol=1e-12, atol=1e-12)
        apart = max(apart, float((points(run) - at).abs().max()))
    assert (apart > 0.01) == (num_workers > 1)


def test_with_permk_and_one_hessian_it_is_gradient_descent_with_the_full_step() -> None:
    """The average gradient of quadratics of one Hessian is that at the average point."""
    hessian, _ = (torch.from_numpy(array) for array in SMALL.coefficients)
    draws = torch.randn(4, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    oracles = [QuadraticOracle(hessian[0], vector) for vector in draws]
    start = torch.ones(8, dtype=torch.float64)
    one = Run(MarinaP(p=0.05), oracles, start, 1 / SMALL.largest)
    assert_same_path(
        one, Run(DataParallelSGD(), oracles, start, 1 / SMALL.largest), rounds=100, bits=False
    )


def test_every_worker_gets_a_message_of_its_own() -> None:
    run = Recording(MarinaP(p=1e-9), STANDARD)
    run.rounds(2)
    blocks = [message.payloads["change"] for message in run.news.values()]
    assert all(isinstance(block, PermutedBlockPayload) for block in blocks)
    kept = torch.stack([block.to_dense() for block in blocks]) != 0
    assert kept.sum(dim=0).tolist() == [1] * 24
    run = Recording(MarinaP(downlink=RandK(k=6), p=1e-9), STANDARD)
    run.rounds(2)
    subsets = {
        tuple(message.payloads["change"].to_dense().nonzero().flatten().tolist())
        for message in run.news.values()
    }
    assert len(subsets) == 8


def test_the_point_is_sent_whole_as_often_as_p_says() -> None:
    """Hoeffding's bound: a right coin fails with probability at most 1e-9."""
    rounds, whole = 2000, 0
    run = Recording(MarinaP(downlink=RandK(k=2)), replace(SMALL, num_functions=1))
    for _ in range(rounds):
        run.server.news(context=run.context(SERVER))
        whole += "parameters" in run.news[0].payloads
        run.round_index += 1
    margin = math.sqrt(math.log(2 / 1e-9) / (2 * rounds))
    assert margin < 0.08
    assert abs(whole / rounds - 0.25) <= margin


@pytest.mark.parametrize(
    ("method", "gradients", "changes"),
    [
        (MarinaP(downlink=RandK(k=6), p=0.5), {"gradient": 24}, None),
        (MarinaP(p=0.5), {"gradient": 24}, None),
        (
            M3(compressor=RandK(k=4), downlink=RandK(k=6), p=0.5, downlink_p=0.5),
            {"gradient": 24},
            {"change": 4},
        ),
        (M3(compressor=PermK(), p=0.5, downlink_p=0.5), {"gradient": 24}, {"change": 3}),
    ],
    ids=str,
)
def test_traffic_is_dense_at_first_and_when_a_coin_says_so(
    method: Method, gradients: dict[str, int], changes: dict[str, int] | None
) -> None:
    assert isinstance(method, MarinaP | M3)
    down = 3 if method.downlink == PermK() else 6
    run = Recording(method, STANDARD)
    news, reports = [], []
    for _ in range(16):
        run.round()
        news.append(entries(run.news[5]))
        reports.append(entries(run.reports[5]))
    assert news[0] == {"parameters": 24}
    assert all(line in ({"parameters": 24}, {"change": down}) for line in news)
    assert {"change": down} in news
    assert {"parameters": 24} in news[1:]
    assert reports[0] == gradients
    if changes is None:
        assert all(line == gradients for line in reports)
    else:
        assert all(line in (gradients, changes) for line in reports)
        assert changes in reports
        assert gradients in reports[1:]


def test_an_omega_that_is_unknown_needs_p() -> None:
    blind = MLMC(ladder=SegmentedTopKLadder(segment_size=2), law=CostAwareLaw())
    run = run_of(MarinaP(downlink=blind), SMALL, 0.02)
    run.round()
    with pytest.raises(ValueError, match=r"^downlink is MLMC.*: no omega is known of it"):
        run.round()
    with pytest.raises(ValueError, match="no omega is known"):
        MarinaP(downlink=blind).theory(setting_of(SMALL))
    run_of(MarinaP(downlink=blind, p=0.5), SMALL, 0.02).rounds(5)


# M3.


@pytest.mark.parametrize("compressor", [RandK(k=6), PermK()], ids=str)
def test_m3_with_whole_points_is_marina_exactly(compressor: Compressor) -> None:
    method = M3(compressor=compressor, downlink_p=1.0, mixing=1.0)
    assert_same_path(
        run_of(method, STANDARD, 0.02), run_of(MARINA(compressor=compressor), STANDARD, 0.02)
    )


def test_m3_with_whole_gradients_is_marina_p_exactly() -> None:
    method = M3(compressor=RandK(k=6), p=1.0, mixing=1.0)
    assert_same_path(run_of(method, STANDARD, 0.02), run_of(MarinaP(), STANDARD, 0.02))


def test_m3_without_compression_is_gradient_descent() -> None:
    """To rounding: w_i + (x - w_i) rounds where x does not."""
    exact: list[Method] = [
        M3(compressor=Identity(), downlink=Identity()),
        M3(compressor=Identity(), downlink=Identity(), p=0.2, downlink_p=0.2),
    ]
    for method in exact:
        assert_same_path(
            run_of(method, STANDARD, 0.02), run_of(DataParallelSGD(), STANDARD, 0.02), bits=False
        )


def test_workers_of_m3_evaluate_at_the_mixture() -> None:
    run = run_of(M3(compressor=RandK(k=6), p=1.0, downlink_p=0.3, mixing=0.25), STANDARD, 0.02)
    run.round()
    for _ in range(15):
        before = [worker.state_dict()["mixture"] for worker in run.workers]
        estimate = run.round()
        assert estimate is not None
        gradient = torch.zeros_like(run.x)
        for z, w, worker, oracle in zip(
            before, points(run), run.workers, oracles_of(STANDARD), strict=True
        ):
            mixture = 0.25 * w + 0.75 * z
            torch.testing.assert_close(
                worker.state_dict()["mixture"], mixture, rtol=1e-12, atol=1e-12
            )
            gradient += oracle.gradient(mixture, None) / 8
        torch.testing.assert_close(estimate, gradient, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("compressor", "downlink", "mixing"),
    [
        (RandK(k=6), PermK(), (8 / (3 * 4 * 7)) ** (1 / 3)),
        (PermK(), RandK(k=2), (8 / (7 * 8 * 11)) ** (1 / 3)),
        (RandK(k=20), RandK(k=20), 1.0),
        (Identity(), PermK(), 1.0),
        (PermK(), Identity(), 1.0),
    ],
    ids=str,
)
def test_the_mixing_of_theory(compressor: Compressor, downlink: Compressor, mixing: float) -> None:
    default = run_of(M3(compressor=compressor, downlink=downlink), STANDARD, 0.02)
    given = run_of(M3(compressor=compressor, downlink=downlink, mixing=mixing), STANDARD, 0.02)
    assert_same_path(default, given, rounds=10, bits=False)


@pytest.mark.parametrize(
    "compressor",
    [
        PermK(),
        pytest.param(MLMC(ladder=SegmentedTopKLadder(segment_size=2)), marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_m3_converges_linearly(compressor: Compressor) -> None:
    assert contraction(M3(compressor=compressor), SMALL, 0.1) <= 1 - 0.1 * SMALL.smoothness[0] / 2


def test_both_directions_draw_their_own_partition() -> None:
    """Else a worker would send just the entries that have moved, and the rest would never come."""
    run = Recording(M3(compressor=PermK(), p=1e-9, downlink_p=1e-9), STANDARD)
    run.round()
    alike = 0
    for _ in range(5):
        run.round()
        for i, report in run.reports.items():
            down, up = run.news[i].payloads["change"], report.payloads["change"]
            assert isinstance(down, PermutedBlockPayload)
            assert isinstance(up, PermutedBlockPayload)
            alike += set(down.indices().tolist()) == set(up.indices().tolist())
    assert alike < 4


def test_m3_names_no_step() -> None:
    with pytest.raises(ValueError, match="no step size is known for M3"):
        M3(compressor=PermK()).theory(setting_of(SMALL))
