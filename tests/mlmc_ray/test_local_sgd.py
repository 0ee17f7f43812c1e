"""Local SGD: its fixed point in closed form, what it equals, error feedback, traffic."""

from typing import Any

import pytest
import torch
from torch import Tensor

from mlmc_ray.compressors import Identity, RandK, TopK
from mlmc_ray.compressors.base import Compressor
from mlmc_ray.estimator import MLMC, OwnLaw
from mlmc_ray.ladders import FixedPointLadder, SegmentedTopKLadder
from mlmc_ray.methods import DataParallelSGD, Method
from mlmc_ray.methods.local.local_sgd import LocalSGD
from mlmc_ray.methods.partial_participation import PartialParticipation
from mlmc_ray.payloads import Message, SeededSparsePayload
from mlmc_ray.problems import Quadratic
from tests.mlmc_ray.driver import QuadraticOracle, Run, oracles_of

PROBLEM = Quadratic(num_functions=8, dim=24)
ORACLES = oracles_of(PROBLEM)
START = torch.ones(24, dtype=torch.float64)
STEP = 2**-4  # exact, so that a step and a step times an average round alike


def local(local_steps: int, **options: Any) -> LocalSGD:
    return LocalSGD(local_step_size=STEP, local_steps=local_steps, **options)


def averaged(method: Method, oracles: list[QuadraticOracle] = ORACLES, seed: int = 0) -> Run:
    return Run(method, oracles, START, 1.0, seed)


@pytest.mark.parametrize("compressor", [Identity(), TopK(k=24)], ids=str)
def test_one_local_step_is_gradient_descent_bit_for_bit(compressor: Compressor) -> None:
    run = averaged(local(1, compressor=compressor, error_feedback=True))
    descent = Run(DataParallelSGD(), ORACLES, START, STEP)
    for _ in range(20):
        assert torch.equal(run.rounds(1), descent.rounds(1))


def fixed_point(local_steps: int) -> Tensor:
    """The x with sum (I - B_i) x = sum (I - B_i) x_i*, where B_i = (I - step A_i)^H."""
    eye = torch.eye(24, dtype=torch.float64)
    steps = [eye - torch.matrix_power(eye - STEP * o.matrix, local_steps) for o in ORACLES]
    own = [torch.linalg.solve(o.matrix, o.vector) for o in ORACLES]
    pulls = [step @ x for step, x in zip(steps, own, strict=True)]
    x: Tensor = torch.linalg.solve(torch.stack(steps).sum(0), torch.stack(pulls).sum(0))
    return x


@pytest.mark.parametrize("local_steps", [2, 5])
def test_it_tends_to_the_fixed_point_and_not_to_the_optimum(local_steps: int) -> None:
    x = averaged(local(local_steps)).rounds(700 // local_steps)
    torch.testing.assert_close(x, fixed_point(local_steps), rtol=0, atol=1e-10)
    assert float((x - torch.from_numpy(PROBLEM.optimum)).norm()) > 0.01


def alike() -> list[QuadraticOracle]:
    """Functions with one Hessian and different minima."""
    return [QuadraticOracle(ORACLES[0].matrix, oracle.vector) for oracle in ORACLES]


def test_with_one_hessian_a_round_is_that_many_steps_of_gradient_descent() -> None:
    run = averaged(local(4), alike())
    descent = Run(DataParallelSGD(), alike(), START, STEP)
    for _ in range(20):
        torch.testing.assert_close(run.rounds(1), descent.rounds(4), rtol=1e-12, atol=1e-13)


def test_a_new_batch_for_every_local_step() -> None:
    class Counting(QuadraticOracle):
        batches = 0

        def sample(self, size: int | None = None) -> None:
            Counting.batches += 1

    oracle = Counting(ORACLES[0].matrix, ORACLES[0].vector)
    averaged(local(5), [oracle]).round()
    assert Counting.batches == 5


@pytest.mark.parametrize(
    "compressor",
    [
        pytest.param(RandK(k=12), marks=pytest.mark.slow),
        MLMC(ladder=SegmentedTopKLadder(segment_size=8)),
        pytest.param(MLMC(ladder=FixedPointLadder(), law=OwnLaw()), marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_unbiased_messages_reach_a_shared_optimum(compressor: Compressor) -> None:
    problem = Quadratic(num_functions=8, dim=24, interpolation=True)
    run = averaged(local(4, compressor=compressor), oracles_of(problem))
    optimum = torch.from_numpy(problem.optimum)
    assert float((run.rounds(250) - optimum).square().sum()) < 1e-20


def test_with_error_feedback_the_corrected_iterate_takes_uncompressed_steps() -> None:
    """x - mean e moves by the mean of the changes, whatever the compressor leaves out."""
    run = averaged(local(3, compressor=TopK(k=3), error_feedback=True))
    expected = START.clone()
    for _ in range(15):
        eye = torch.eye(24, dtype=torch.float64)
        for oracle in ORACLES:
            own = torch.linalg.solve(oracle.matrix, oracle.vector)
            step = eye - torch.matrix_power(eye - STEP * oracle.matrix, 3)
            expected -= step @ (run.x - own) / 8
        run.round()
        errors = torch.stack([worker.state_dict()["error"] for worker in run.workers])
        assert float(errors.norm()) > 0.01
        torch.testing.assert_close(run.x - errors.mean(0), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    "method", [local(2), local(2, compressor=TopK(k=3), error_feedback=True)], ids=str
)
def test_halves_that_were_saved_and_loaded_continue_exactly(method: LocalSGD) -> None:
    run = averaged(method)
    run.rounds(5)
    resumed = Run(method, ORACLES, run.x, 1.0)
    resumed.round_index = 5
    for worker, twin in zip(run.workers, resumed.workers, strict=True):
        twin.load_state_dict(worker.state_dict())
    for _ in range(5):
        assert torch.equal(run.rounds(1), resumed.rounds(1))


def test_the_average_is_over_those_that_answered() -> None:
    run = averaged(PartialParticipation(method=local(2), participants=3))
    run.round()
    assert len(run.reports) == 3
    ends = torch.stack([START - r.payloads["change"].to_dense() for r in run.reports.values()])
    torch.testing.assert_close(run.x, ends.mean(0), rtol=1e-14, atol=1e-14)


def test_error_feedback_needs_every_worker() -> None:
    method = local(2, compressor=TopK(k=3), error_feedback=True)
    with pytest.raises(ValueError, match="its rounds need every worker"):
        PartialParticipation(method=method, participants=3)


def test_parameters_down_and_one_compressed_vector_up() -> None:
    run = averaged(local(3, compressor=RandK(k=5)))
    news = run.server.news(context=run.context(-1))
    assert isinstance(news, Message)
    assert {n: p.dim for n, p in news.payloads.items()} == {"parameters": 24}
    run.round()
    assert list(run.reports[2].payloads) == ["change"]
    sent = run.reports[2].payloads["change"]
    assert isinstance(sent, SeededSparsePayload)
    assert (sent.dim, len(sent.values)) == (24, 5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"local_step_size": 0.0}, "local_step_size is 0.0: give a number above 0"),
        ({"local_step_size": float("nan")}, "local_step_size is nan"),
        ({"local_steps": 0}, "local_steps is 0: take at least 1"),
        ({"compressor": TopK(k=1)}, "local-sgd without error_feedback needs an unbiased"),
        (
            {"compressor": RandK(k=2), "error_feedback": True},
            "local-sgd with error_feedback needs a contractive",
        ),
    ],
)
def test_settings_that_cannot_work_are_refused(options: dict[str, Any], message: str) -> None:
    settings: dict[str, Any] = {"local_step_size": 0.1, "local_steps": 2, **options}
    with pytest.raises(ValueError, match=message):
        LocalSGD(**settings)
