"""Shadowheart SGD: plans, the estimate and its variance."""

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from torch import Generator, Tensor

from mlmc_ray.compressors import Identity, PermK, RandK, TopK
from mlmc_ray.compressors.base import Compressor
from mlmc_ray.estimator import MLMC, OwnLaw
from mlmc_ray.ladders import FixedPointLadder, SegmentedTopKLadder
from mlmc_ray.methods import SERVER
from mlmc_ray.methods.asynchronous.equilibrium import equilibrium_time
from mlmc_ray.methods.asynchronous.shadowheart import Shadowheart
from mlmc_ray.methods.theory import Setting
from mlmc_ray.payloads import Message
from mlmc_ray.payloads.nested import SumPayload
from mlmc_ray.problems import Quadratic
from mlmc_ray.problems.constants import Constants
from mlmc_ray.seeding import generator_for
from tests.mlmc_ray.driver import Run, late_factor, oracles_of, squared_distances

GRADIENT = torch.tensor([1.0, -2.0, 0.5, 3.0], dtype=torch.float64)


@dataclass
class NoisyOracle:
    """The same gradient everywhere, with normal noise of variance ``sigma ** 2`` in total."""

    sigma: float = 0.0
    draws: Generator = field(default_factory=lambda: generator_for(0, "noise"))
    asked: int = 0

    def sample(self, size: int | None = None) -> Tensor:
        self.asked += 1
        noise = torch.randn(4, generator=self.draws, dtype=torch.float64)
        return self.sigma / 2 * noise

    def full(self) -> Tensor:
        return torch.zeros(4, dtype=torch.float64)

    def gradient(self, at: Tensor, batch: Tensor) -> Tensor:
        return GRADIENT + batch


def shadowheart(**changes: Any) -> Shadowheart:
    settings = {"compressor": RandK(k=2), "compute_s": 1.0, "message_s": 1.0, "noise": 1.0}
    return Shadowheart(**{**settings, **changes})


def random_settings(seed: int) -> tuple[tuple[float, ...], tuple[float, ...], float, float]:
    rng = np.random.default_rng(seed)
    workers = int(rng.integers(1, 9))
    h, tau = (tuple(np.exp(rng.uniform(-4, 4, workers)).tolist()) for _ in range(2))
    omega, noise = (float(np.exp(rng.uniform(-3, 5))) * (rng.random() < 0.8) for _ in range(2))
    return h, tau, omega, noise


# Plans.


@pytest.mark.parametrize("seed", range(60))
def test_a_plan_says_enough_and_a_shorter_time_would_not(seed: int) -> None:
    h, tau, omega, noise = random_settings(seed)
    plan = shadowheart(compute_s=h, message_s=tau, noise=noise).plan(len(h), omega)
    assert plan.total >= 1
    assert plan.active
    time = plan.equilibrium_s
    for worker_id in range(len(h)):
        b, m = plan.gradients[worker_id], plan.messages[worker_id]
        assert b == math.floor(time / h[worker_id])
        assert m == min(4096 if omega else 1, math.floor(time / tau[worker_id]))
        assert (worker_id in plan.active) == (max(h[worker_id], tau[worker_id]) <= time)

    def enough(s: float) -> bool:
        """Whether the workers that s leaves time for say enough by the defining inequality."""
        total = 0.0
        for i in range(len(h)):
            if max(h[i], tau[i]) <= s:
                cost = 2 * tau[i] * omega + 4 * tau[i] * h[i] * omega * noise / s
                total += s / (cost + 2 * h[i] * noise) if omega or noise else math.inf
        return total >= 1

    assert enough(time * (1 + 1e-9))
    assert not enough(time * (1 - 1e-9))


@pytest.mark.parametrize("seed", range(60))
def test_where_the_gradient_is_at_its_target_the_variance_is_one_over_the_total(seed: int) -> None:
    """The identity of the variance at |grad f|^2 = epsilon = 1 and sigma^2 = n."""
    h, tau, omega, noise = random_settings(seed)
    plan = shadowheart(compute_s=h, message_s=tau, noise=noise).plan(len(h), omega)
    variance = 0.0
    for i in plan.active:
        w, b, m = plan.weights[i], plan.gradients[i], plan.messages[i]
        variance += w**2 * (m * omega * (b**2 + b * noise) + m**2 * b * noise) / plan.total**2
    expected = 1 / plan.total if omega or noise else 0.0
    assert variance == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("omega", "noise"), [(3.0, 0.5), (0.0, 7.0), (5.0, 0.0), (0.0, 0.0)])
def test_the_equilibrium_of_one_worker_solves_a_quadratic(omega: float, noise: float) -> None:
    h, tau = 0.25, 0.5
    half = tau * omega + h * noise
    root = half + math.sqrt(half**2 + 4 * tau * h * omega * noise)
    expected = max(0.5, root)
    assert equilibrium_time((h,), (tau,), omega, noise) == pytest.approx(expected, rel=1e-12)


def test_slow_workers_rest() -> None:
    """Without noise and compression the fastest worker alone says all in one gradient."""
    method = shadowheart(compute_s=(1.0, 2.0, 5.0), message_s=(1.5, 0.5, 0.1), noise=0.0)
    plan = method.plan(3, 0.0)
    assert (plan.equilibrium_s, plan.active, plan.total) == (1.5, [0], 1.0)
    run = Run(shadowheart(noise=1e-9, compute_s=(1.0, 1e9)), 2 * [NoisyOracle()], 0 * GRADIENT, 0.1)
    run.round()
    assert list(run.reports) == [0]


def test_no_more_than_max_messages_are_sent() -> None:
    free = shadowheart(message_s=0.1).plan(2, 4.0)
    capped = shadowheart(message_s=0.1, max_messages=3).plan(2, 4.0)
    assert min(free.messages) > 3
    assert capped.messages == (3, 3)


# The estimate.


def test_exact_messages_give_a_minibatch_of_all_gradients() -> None:
    """omega = 0: the weights are those of the batches b_i, whatever the noise."""
    settings = {"compute_s": (1.0, 2.0, 3.5), "message_s": (0.1, 3.0, 1.0), "noise": 8.0}
    method = shadowheart(compressor=Identity(), **settings)
    plan = method.plan(3, 0.0)
    assert len(set(plan.gradients)) == 3
    assert set(plan.messages) == {1}
    oracles = [NoisyOracle(1.0, generator_for(0, i)) for i in range(3)]
    run = Run(method, oracles, 0 * GRADIENT, 0.1)
    estimate = run.round()
    assert tuple(oracle.asked for oracle in oracles) == plan.gradients
    again = [NoisyOracle(1.0, generator_for(0, i)) for i in range(3)]
    gradients = [
        oracle.gradient(GRADIENT, oracle.sample())
        for oracle, b in zip(again, plan.gradients, strict=True)
        for _ in range(b)
    ]
    torch.testing.assert_close(estimate, torch.stack(gradients).mean(0), rtol=1e-13, atol=0)


def test_the_variance_is_the_identity_of_the_method() -> None:
    """E|g - grad f|^2, to 6 standard errors: a correct one fails with probability 2e-9.

    Rand-k has exactly its omega. The mean of 2,500 rounds is normal to good accuracy.
    """
    sigma = 2.0
    method = shadowheart(
        compressor=RandK(k=2), compute_s=(0.7, 1.6), message_s=(1.4, 2.5), noise=1.5
    )
    plan, omega = method.plan(2, 1.0), 1.0
    assert (plan.gradients, plan.messages) == ((6, 2), (3, 1))
    energy, expected = float(GRADIENT.square().sum()), 0.0
    for w, b, m in zip(plan.weights, plan.gradients, plan.messages, strict=True):
        said = m * omega * (b**2 * energy + b * sigma**2) + m**2 * b * sigma**2
        expected += w**2 * said / plan.total**2
    oracles = [NoisyOracle(sigma, generator_for(3, i)) for i in range(2)]
    run = Run(method, oracles, 0 * GRADIENT, 0.0, seed=4)
    errors = torch.stack([_estimate(run) - GRADIENT for _ in range(2500)])
    squares = errors.square().sum(1)
    margin = 6 * float(squares.std()) / math.sqrt(len(squares))
    assert margin < 0.2 * expected  # so an error of 40% is found for certain
    assert float(squares.mean()) == pytest.approx(expected, abs=margin)
    bias = 6 * errors.std(0) / math.sqrt(len(errors))
    assert bool((errors.mean(0).abs() < bias).all())


def _estimate(run: Run) -> Tensor:
    estimate = run.round()
    assert estimate is not None
    return estimate


def test_the_messages_of_a_report_are_independent() -> None:
    """Also those of a compressor whose draws all workers share."""
    method = shadowheart(compressor=PermK(), message_s=0.2, noise=4.0)
    run = Run(method, 2 * [NoisyOracle()], 0 * GRADIENT, 0.1)
    run.round()
    payload = run.reports[0].payloads["sum"]
    assert isinstance(payload, SumPayload)
    kept = {tuple(part.to_dense().ne(0).tolist()) for part in payload.parts}
    assert len(payload.parts) > 6
    assert len(kept) > 1


LADDERS: list[Any] = [
    RandK(k=8),
    MLMC(ladder=SegmentedTopKLadder(segment_size=8)),
    pytest.param(MLMC(ladder=FixedPointLadder(), law=OwnLaw()), marks=pytest.mark.slow),
]


@pytest.mark.parametrize("compressor", LADDERS, ids=str)
def test_it_reaches_a_shared_optimum_linearly(compressor: Compressor) -> None:
    """Without noise E|g - grad f|^2 <= |grad f|^2, and f - f* shrinks by 1 - step mu."""
    problem = Quadratic(num_functions=1, dim=24, smallest=8.0)
    method = shadowheart(compressor=compressor, compute_s=(1.0, 2.0), message_s=0.5, noise=0.0)
    constants = Constants(smoothness=10.0, mean_smoothness=10.0, largest_smoothness=10.0)
    step = method.theory(Setting(constants=constants, dim=24, num_workers=2))
    assert step.value == 0.05
    optimum = torch.from_numpy(problem.optimum)
    factors = []
    for seed in range(5):
        run = Run(method, 2 * oracles_of(problem), 0 * optimum, step.value, seed)
        factors.append(late_factor(squared_distances(run, optimum, 1e-20, 400)))
    assert sum(factors) / 5 <= (1 - step.value * 8) * 1.01


# Messages and settings.


def test_a_report_holds_m_messages_of_one_sum() -> None:
    method = shadowheart(compute_s=(1.0, 2.0), message_s=(0.5, 2.0))
    plan = method.plan(2, 1.0)
    run = Run(method, [NoisyOracle(), NoisyOracle()], 0 * GRADIENT, 0.1)
    news = run.server.news(context=run.context(SERVER))
    assert not isinstance(news, Message)
    for i in range(2):
        assert list(news[i].payloads) == ["parameters"]
        assert news[i].scalars == {"gradients": plan.gradients[i], "messages": plan.messages[i]}
    run.round()
    for i, report in run.reports.items():
        assert {name: payload.dim for name, payload in report.payloads.items()} == {"sum": 4}
        payload = report.payloads["sum"]
        assert isinstance(payload, SumPayload)
        assert len(payload.parts) == plan.messages[i]
        assert not report.scalars
    assert run.server.state_dict() == run.workers[0].state_dict() == {}


def test_workers_with_the_same_plan_get_the_same_object() -> None:
    method = shadowheart(compute_s=(1.0, 1.0, 2.0))
    run = Run(method, 3 * [NoisyOracle()], 0 * GRADIENT, 0.1)
    news = run.server.news(context=run.context(SERVER))
    assert not isinstance(news, Message)
    assert news[0] is news[1]
    assert news[0] is not news[2]


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"compressor": TopK(k=1)}, r"shadowheart needs an unbiased compressor, and TopK"),
        ({"compute_s": 0.0}, r"compute_s is 0\.0: give seconds above 0"),
        ({"message_s": (1.0, math.inf)}, r"message_s is \(1\.0, inf\): give seconds above 0"),
        ({"message_s": ()}, r"message_s is \(\): give seconds above 0"),
        ({"noise": -1.0}, r"noise is -1\.0: give a number of at least 0"),
        ({"omega": math.nan}, r"omega is nan: give a number of at least 0"),
        ({"max_messages": 0}, r"max_messages is 0: give 1 to 4096"),
        ({"max_messages": 5000}, r"max_messages is 5000: give 1 to 4096"),
    ],
)
def test_settings_that_do_not_fit_are_refused(changes: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=f"^{text}"):
        shadowheart(**changes)


def test_times_of_another_number_of_workers_are_refused() -> None:
    run = Run(shadowheart(compute_s=(1.0, 2.0)), 3 * [NoisyOracle()], 0 * GRADIENT, 0.1)
    with pytest.raises(ValueError, match=r"^compute_s has 2 numbers, and there are 3 workers"):
        run.round()


@dataclass(frozen=True, kw_only=True, slots=True)
class Unbounded(Identity):
    """Unbiased, with a variance that nobody knows."""

    def omega(self, dim: int) -> None:  # type: ignore[override]
        return None


def test_an_unknown_omega_must_be_given() -> None:
    run = Run(shadowheart(compressor=Unbounded()), [NoisyOracle()], 0 * GRADIENT, 0.1)
    with pytest.raises(ValueError, match=r"^no omega is known of Unbounded.*: give method\.omega"):
        run.round()
    given = shadowheart(compressor=Unbounded(), omega=2.0)
    Run(given, [NoisyOracle()], 0 * GRADIENT, 0.1).round()
