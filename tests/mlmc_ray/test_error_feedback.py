"""EF: the virtual iterate, the bound on the error, the floor, the limits."""

import itertools

import pytest
import torch

from mlmc_ray.compressors import Identity, RandK, TopK
from mlmc_ray.compressors.base import Compressor
from mlmc_ray.estimator import MLMC
from mlmc_ray.ladders import TopKLadder
from mlmc_ray.methods import DataParallelSGD
from mlmc_ray.methods.error_feedback.ef import ErrorFeedback
from mlmc_ray.payloads import Message
from tests.mlmc_ray.driver import QuadraticOracle, Run
from tests.mlmc_ray.method_checks import (
    SMALL,
    STANDARD,
    gradients,
    optimum_of,
    run_of,
    setting_of,
)

CONTRACTIVE: list[Compressor] = [TopK(k=3), RandK(k=4, scaled=False)]


@pytest.mark.parametrize("compressor", CONTRACTIVE, ids=str)
def test_the_virtual_iterate_takes_uncompressed_steps(compressor: Compressor) -> None:
    """x~ = x - step mean(e_i), and its step is step mean(grad f_i(x)), every round."""
    step_size = 0.02
    run = run_of(ErrorFeedback(compressor=compressor), STANDARD, step_size)
    virtual = run.x.clone()
    for _ in range(40):
        virtual = virtual - step_size * gradients(STANDARD, run.x).mean(dim=0)
        run.round()
        errors = torch.stack([worker.state_dict()["error"] for worker in run.workers])
        assert bool(errors.any())
        expected = virtual + step_size * errors.mean(dim=0)
        torch.testing.assert_close(run.x, expected, rtol=1e-12, atol=1e-12)


def test_the_error_stays_within_its_bound() -> None:
    compressor = TopK(k=6)
    alpha = compressor.alpha(24)
    run = run_of(ErrorFeedback(compressor=compressor), STANDARD, 0.02)
    largest, worst = 0.0, 0.0
    for _ in range(100):
        largest = max(largest, float(gradients(STANDARD, run.x).square().sum(dim=1).max()))
        run.round()
        for worker in run.workers:
            error = float(worker.state_dict()["error"].square().sum())
            assert error <= 4 * (1 - alpha) / alpha**2 * largest
            worst = max(worst, error / largest)
    assert worst > 0.5  # more than one gradient's worth of error is kept


def floor(step_size: float) -> float:
    """Mean of |x - x*|^2 once it falls no further."""
    run = run_of(ErrorFeedback(compressor=TopK(k=2)), SMALL, step_size)
    run.rounds(round(20 / step_size))
    optimum = optimum_of(SMALL)
    late = [float((run.rounds(1) - optimum).square().sum()) for _ in range(100)]
    return sum(late) / len(late)


def test_half_the_step_is_a_quarter_of_the_floor() -> None:
    ratio = floor(0.08) / floor(0.04)
    assert 3 < ratio < 5


def test_the_identity_is_gradient_descent_bit_for_bit() -> None:
    feedback = run_of(ErrorFeedback(compressor=Identity()), SMALL, 0.3)
    descent = run_of(DataParallelSGD(), SMALL, 0.3)
    for _ in range(30):
        assert torch.equal(feedback.rounds(1), descent.rounds(1))
    assert not any(bool(w.state_dict()["error"].any()) for w in feedback.workers)


def test_top_1_converges_where_without_feedback_it_diverges() -> None:
    """f_i(x) = <a_i, x>^2 + |x|^2 / 4, by Beznosikov et al. (arXiv:2002.12410)."""
    vectors = torch.tensor([[-3, 2, 2], [2, -3, 2], [2, 2, -3]], dtype=torch.float64)
    eye = torch.eye(3, dtype=torch.float64)
    oracles = [QuadraticOracle(2 * a.outer(a) + 0.5 * eye, 0 * eye[0]) for a in vectors]
    run = Run(ErrorFeedback(compressor=TopK(k=1)), oracles, torch.ones(3).double(), 0.1)
    sizes = [float(run.rounds(200).norm()) for _ in range(4)]
    assert sizes[-1] < 1e-9
    assert all(after < 0.05 * before for before, after in itertools.pairwise(sizes))


def test_one_message_up_and_the_parameters_down() -> None:
    run = run_of(ErrorFeedback(compressor=TopK(k=3)), STANDARD, 0.02)
    news = run.server.news(context=run.context(-1))
    assert isinstance(news, Message)
    assert [(name, p.dim) for name, p in news.payloads.items()] == [("parameters", 24)]
    run.round()
    assert {(name, p.dim) for r in run.reports.values() for name, p in r.payloads.items()} == {
        ("corrected", 24)
    }


@pytest.mark.parametrize("compressor", [MLMC(ladder=TopKLadder()), RandK(k=2)], ids=str)
def test_a_compressor_that_does_not_contract_is_refused(compressor: Compressor) -> None:
    with pytest.raises(ValueError, match="ef needs a contractive compressor"):
        ErrorFeedback(compressor=compressor)


def test_no_step_size_is_known() -> None:
    with pytest.raises(ValueError, match="no step size is known for ErrorFeedback"):
        ErrorFeedback(compressor=TopK(k=3)).theory(setting_of(SMALL))
