"""What the tests of several methods check alike."""

from collections.abc import Sequence

import torch
from torch import Tensor

from mlmc_ray.methods import Method
from mlmc_ray.methods.theory import Setting
from mlmc_ray.problems import Quadratic
from mlmc_ray.problems.constants import Constants
from tests.mlmc_ray.driver import QuadraticOracle, Run, late_factor, oracles_of, squared_distances

SMALL = Quadratic(num_functions=4, dim=8, smallest=0.5, largest=2.0)
STANDARD = Quadratic(num_functions=8, dim=24)


def setting_of(problem: Quadratic) -> Setting:
    """Full gradients on a quadratic whose constants are exact."""
    mu, smoothness, mean_smoothness = problem.smoothness
    constants = Constants(
        smoothness=smoothness,
        mean_smoothness=mean_smoothness,
        largest_smoothness=problem.largest,
        strong_convexity=mu,
    )
    return Setting(constants=constants, dim=problem.dim, num_workers=problem.num_functions)


def run_of(method: Method, problem: Quadratic, step_size: float, seed: int = 0) -> Run:
    start = torch.ones(problem.dim, dtype=torch.float64)
    return Run(method, oracles_of(problem), start, step_size, seed)


def optimum_of(problem: Quadratic) -> Tensor:
    return torch.from_numpy(problem.optimum)


def regularised_optimum(oracles: Sequence[QuadraticOracle], l1: float, l2: float = 0.0) -> Tensor:
    """The minimiser of the mean function + l1 |x|_1 + l2 |x|^2 / 2, by proximal gradient descent.

    To machine precision: it stops where a step changes no more than rounding does.
    """
    matrix = torch.stack([oracle.matrix for oracle in oracles]).mean(0)
    vector = torch.stack([oracle.vector for oracle in oracles]).mean(0)
    step_size = 1 / float(torch.linalg.eigvalsh(matrix)[-1])
    x = torch.zeros_like(vector)
    for _ in range(100_000):
        ahead = x - step_size * (matrix @ x - vector)
        new = ahead.sign() * (ahead.abs() - step_size * l1).clamp(min=0) / (1 + step_size * l2)
        if float((new - x).norm()) <= 1e-15 * float(new.norm()):
            return new
        x = new
    raise AssertionError("proximal gradient descent has not converged")


def contraction(
    method: Method, problem: Quadratic, step_size: float, seeds: int = 1, max_rounds: int = 2000
) -> float:
    """Run until the squared distance is 1e-20 of the first; the mean factor a round, late on."""
    factors = []
    for seed in range(seeds):
        run = run_of(method, problem, step_size, seed)
        distances = squared_distances(run, optimum_of(problem), 1e-20, max_rounds)
        factors.append(late_factor(distances))
    return sum(factors) / seeds


def assert_continues_exactly(method: Method, problem: Quadratic, rounds: int) -> None:
    """Save after some rounds, load into new halves, and compare the next rounds bit for bit."""
    run = run_of(method, problem, 0.05)
    run.rounds(rounds)
    resumed = Run(method, oracles_of(problem), run.x, 0.05)
    resumed.round_index = rounds
    resumed.server.load_state_dict(run.server.state_dict())
    for worker, twin in zip(run.workers, resumed.workers, strict=True):
        twin.load_state_dict(worker.state_dict())
    for _ in range(10):
        assert torch.equal(run.rounds(1), resumed.rounds(1))


def gradients(problem: Quadratic, at: Tensor) -> Tensor:
    """Shape (workers, d)."""
    return torch.stack([oracle.gradient(at, None) for oracle in oracles_of(problem)])
