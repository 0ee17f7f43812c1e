from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from mlmc_ray.compressors import FixedPoint, Identity, RandK, SegmentedTopK, TopK
from mlmc_ray.compressors.base import Compressor
from mlmc_ray.estimator import MLMC
from mlmc_ray.ladders import TopKLadder
from mlmc_ray.methods import (
    EF21BC,
    EF21P,
    EF21SGDM,
    DataParallelSGD,
    Method,
    PartialParticipation,
    ServerHalf,
    WorkerHalf,
)
from mlmc_ray.methods.partial_participation import ef21_pp_step
from mlmc_ray.methods.shifts.ef_bv import Noise
from mlmc_ray.methods.theory import Setting
from mlmc_ray.problems import Quadratic
from mlmc_ray.problems.constants import Constants
from tests.mlmc_ray.driver import QuadraticOracle, Run, oracles_of
from tests.mlmc_ray.finite_sums import FiniteSums
from tests.mlmc_ray.method_checks import SMALL, contraction, setting_of

PROBLEM = Quadratic(num_functions=8, dim=24)
ORACLES = oracles_of(PROBLEM)
START = torch.ones(24, dtype=torch.float64)
STEP_SIZE = 0.02


def top_entries(vector: Tensor, k: int) -> Tensor:
    """Keep the k largest magnitudes, one after the other."""
    ranked = sorted(range(len(vector)), key=lambda j: (-abs(vector[j].item()), j))
    kept = torch.zeros_like(vector)
    for j in ranked[:k]:
        kept[j] = vector[j]
    return kept


def reference_ef21(oracles: list[QuadraticOracle], k: int, rounds: int) -> list[Tensor]:
    """Algorithm 2 of arXiv:2106.05203 from g_i = C(grad f_i(x_0)); returns the iterates."""
    x = START.clone()
    known = [torch.zeros_like(x) for _ in oracles]
    g = torch.zeros_like(x)
    iterates = []
    for _ in range(rounds):
        changes = [
            top_entries(oracle.matrix @ x - oracle.vector - known[i], k)
            for i, oracle in enumerate(oracles)
        ]
        for i, change in enumerate(changes):
            known[i] = known[i] + change
            g = g + change / len(oracles)  # exact: a power of two
        x = torch.add(x, g, alpha=-STEP_SIZE)
        iterates.append(x)
    return iterates


def test_momentum_1_with_full_gradients_is_ef21_exactly() -> None:
    run = Run(EF21SGDM(compressor=TopK(k=5), momentum=1.0), ORACLES, START, STEP_SIZE)
    for x in reference_ef21(ORACLES, 5, 40):
        assert torch.equal(run.rounds(1), x)


COMPRESSORS: list[Compressor] = [
    TopK(k=3),
    SegmentedTopK(k=1, segment_size=5, contiguous=True),
    RandK(k=4, scaled=False),
    FixedPoint(planes=2),
]


@pytest.mark.parametrize("compressor", COMPRESSORS, ids=str)
def test_the_server_knows_the_average_of_what_workers_think_it_knows(
    compressor: Compressor,
) -> None:
    run = Run(EF21SGDM(compressor=compressor, momentum=0.3), ORACLES, START, STEP_SIZE)
    for _ in range(30):
        estimate = run.round()
        known = [worker.state_dict()["known"] for worker in run.workers]
        torch.testing.assert_close(estimate, torch.stack(known).mean(dim=0), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("compressor", [Identity(), TopK(k=24)], ids=str)
def test_alpha_1_is_gradient_descent(compressor: Compressor) -> None:
    assert compressor.alpha(24) == 1
    ef21 = Run(EF21SGDM(compressor=compressor, momentum=1.0), ORACLES, START, STEP_SIZE)
    descent = Run(DataParallelSGD(), ORACLES, START, STEP_SIZE)
    for _ in range(50):
        torch.testing.assert_close(ef21.rounds(1), descent.rounds(1), rtol=1e-12, atol=1e-13)


def test_the_identity_with_momentum_is_sgd_with_damped_momentum() -> None:
    eta = 0.25
    run = Run(EF21SGDM(compressor=Identity(), momentum=eta), ORACLES, START, STEP_SIZE)
    x = START.clone()
    velocity = None
    for _ in range(30):
        gradient = torch.stack([oracle.gradient(x, None) for oracle in ORACLES]).mean(dim=0)
        velocity = gradient if velocity is None else (1 - eta) * velocity + eta * gradient
        x = x - STEP_SIZE * velocity
        torch.testing.assert_close(run.rounds(1), x, rtol=1e-12, atol=1e-13)


def test_error_feedback_keeps_what_it_does_not_send() -> None:
    """At a fixed point the differences are sent piece by piece until the server knows all."""
    run = Run(EF21SGDM(compressor=TopK(k=6), momentum=1.0), ORACLES, START, 0.0)
    run.rounds(4)
    exact = torch.stack([oracle.gradient(START, None) for oracle in ORACLES]).mean(dim=0)
    torch.testing.assert_close(run.round(), exact, rtol=1e-13, atol=1e-13)


def saved(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in state.items()}


def test_loading_copies() -> None:
    method = EF21SGDM(compressor=TopK(k=4))
    run, other = (Run(method, ORACLES, START, STEP_SIZE) for _ in range(2))
    run.rounds(3)
    halves: list[tuple[ServerHalf | WorkerHalf, ServerHalf | WorkerHalf]] = [
        (run.server, other.server),
        (run.workers[0], other.workers[0]),
    ]
    for half, twin in halves:
        twin.load_state_dict(half.state_dict())
        kept = saved(twin.state_dict())
        for tensor in half.state_dict().values():
            tensor.zero_()
        assert kept.keys() == twin.state_dict().keys()
        assert all(torch.equal(kept[name], twin.state_dict()[name]) for name in kept)


@pytest.mark.parametrize("compressor", [MLMC(ladder=TopKLadder()), RandK(k=2)], ids=str)
def test_a_compressor_that_does_not_contract_is_refused(compressor: Compressor) -> None:
    with pytest.raises(ValueError, match="needs a contractive compressor"):
        EF21SGDM(compressor=compressor)


@pytest.mark.parametrize("momentum", [0.0, -0.1, 1.1, float("nan")])
def test_a_momentum_out_of_range_is_refused(momentum: float) -> None:
    with pytest.raises(ValueError, match="momentum is"):
        EF21SGDM(compressor=TopK(k=1), momentum=momentum)


@pytest.mark.parametrize("convexity", [0.0, 1.0])
@pytest.mark.parametrize(
    "method",
    [
        EF21SGDM(compressor=TopK(k=1), momentum=1.0),
        EF21P(downlink=TopK(k=1)),
        EF21BC(compressor=TopK(k=1), downlink=TopK(k=1)),
        PartialParticipation(method=EF21SGDM(compressor=TopK(k=1), momentum=1.0), participants=1),
    ],
    ids=str,
)
def test_a_contraction_below_the_rounding_of_1_has_a_step(method: Method, convexity: float) -> None:
    """The step is of the order of alpha for one such compressor, of alpha^2 for two in a row."""
    constants = Constants(
        smoothness=1.0, mean_smoothness=1.0, largest_smoothness=1.0, strong_convexity=convexity
    )
    steps = [
        method.theory(Setting(constants=constants, dim=dim, num_workers=2)).value
        for dim in (10**9, 10**18)
    ]
    order = 2 if isinstance(method, EF21BC) else 1
    assert steps[1] / steps[0] == pytest.approx(10 ** (-9 * order), rel=1e-6)


def test_ef21_on_minibatches_has_a_floor() -> None:
    guarantee = (
        EF21SGDM(compressor=TopK(k=2), momentum=1.0).theory(FiniteSums().setting(2)).guarantee
    )
    assert guarantee.endswith("with minibatches, as here, to a floor that their noise leaves")


def partly(participants: int, k: int = 2) -> PartialParticipation:
    method = EF21SGDM(compressor=TopK(k=k), momentum=1.0)
    return PartialParticipation(method=method, participants=participants)


def flat(setting: Setting) -> Setting:
    return replace(setting, constants=replace(setting.constants, strong_convexity=0.0))


@pytest.mark.parametrize("participants", [1, 2, 3])
@pytest.mark.parametrize("k", [1, 4, 8])
def test_with_some_of_the_workers_the_step_is_the_best_of_the_theory(
    participants: int, k: int
) -> None:
    """To a hundredth, on another and finer grid; see arXiv:2110.03294 for the formulas."""
    setting, p, kept = setting_of(SMALL), participants / 4, 1 - k / 8
    r, s = np.geomspace(1e-4, 1e4, 1500), np.geomspace(1e-4, 1e4, 1501)[:, None]
    theta = 1 - (1 + s) * kept
    contraction = r * p + theta * p - r
    growth = (1 + 1 / s) * kept * p + (1 + 1 / r) * (1 - p)
    known = setting.constants
    with np.errstate(invalid="ignore"):
        root = known.mean_smoothness * np.sqrt(growth / contraction)
        pl_root = known.mean_smoothness * np.sqrt(2 * growth / contraction)
    steps = 1 / (known.smoothness + root)
    pl_steps = np.minimum(
        1 / (known.smoothness + pl_root), contraction / (2 * known.strong_convexity)
    )
    inside = contraction > 0
    found = partly(participants, k).theory(flat(setting)).value
    assert found == pytest.approx(float(steps[inside].max()), rel=0.01)
    found = partly(participants, k).theory(setting).value
    assert found == pytest.approx(float(pl_steps[inside].max()), rel=0.01)


@pytest.mark.parametrize("setting", [setting_of(SMALL), flat(setting_of(SMALL))], ids=["mu", "0"])
def test_with_all_workers_the_step_is_that_of_ef21(setting: Setting) -> None:
    full = partly(4).method.theory(setting)
    assert partly(4).theory(setting) == full
    assert ef21_pp_step(setting, 0.25, 1 - 1e-6).value == pytest.approx(full.value, rel=0.01)


def test_with_some_of_the_workers_it_contracts_as_theory_says() -> None:
    step = partly(2).theory(setting_of(SMALL)).value
    mu = setting_of(SMALL).constants.strong_convexity
    assert contraction(partly(2), SMALL, step, seeds=5, max_rounds=10_000) <= 1 - step * mu


def test_with_some_of_the_workers_a_step_is_known_for_ef21_alone() -> None:
    for method in (EF21SGDM(compressor=TopK(k=2)), DataParallelSGD()):
        partial = PartialParticipation(method=method, participants=2)
        with pytest.raises(ValueError, match=r"^method is .*: where a round asks some of the work"):
            partial.theory(setting_of(SMALL))


def test_the_weight_of_a_bias_that_rounds_to_1_is_1() -> None:
    assert Noise(1.0, 0.0).best_weight() == 1.0
