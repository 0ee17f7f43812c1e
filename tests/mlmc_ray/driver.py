"""Drives the halves of a method without bytes, on oracles that know their function exactly."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mlmc_ray.compressors import Context
from mlmc_ray.methods import Method
from mlmc_ray.problems import Quadratic
from mlmc_ray.seeding import generator_for


@dataclass(frozen=True)
class QuadraticOracle:
    """The full gradient of x'Ax/2 - b'x in float64."""

    matrix: Tensor
    vector: Tensor

    def sample(self) -> None:
        return None

    def gradient(self, at: Tensor, batch: Any) -> Tensor:
        return self.matrix @ at - self.vector


def oracles_of(problem: Quadratic) -> list[QuadraticOracle]:
    matrices, vectors = (torch.from_numpy(array) for array in problem.coefficients)
    return [QuadraticOracle(*pair) for pair in zip(matrices, vectors, strict=True)]


class Run:
    """A method on some oracles, from a starting point, with steps of gradient descent."""

    def __init__(
        self, method: Method, oracles: list[Any], start: Tensor, step_size: float, seed: int = 0
    ) -> None:
        self.x = start.clone()
        self.server = method.server(self.x)
        self.workers = [method.worker() for _ in oracles]
        self.round_index = 0
        self._oracles = oracles
        self._step_size = step_size
        self._seed = seed

    def round(self) -> Tensor:
        """Run one round and return the server's estimate."""
        news = self.server.news()
        reports = {}
        for worker_id, (worker, oracle) in enumerate(zip(self.workers, self._oracles, strict=True)):
            generator = generator_for(self._seed, worker_id, self.round_index)
            reports[worker_id] = worker.step(news, oracle, context=Context(generator))
        estimate = self.server.step(reports)
        self.x.add_(estimate, alpha=-self._step_size)
        self.round_index += 1
        return estimate

    def rounds(self, number: int) -> Tensor:
        """Run some rounds and return the parameters, shared with the server."""
        for _ in range(number):
            self.round()
        return self.x


def squared_distances(run: Run, optimum: Tensor, goal: float, max_rounds: int) -> list[float]:
    """Run until the squared distance to the optimum is ``goal`` times what it was.

    Returns:
        The squared distances, before the first round and after each.
    """
    distances = [float((run.x - optimum).square().sum())]
    while distances[-1] > goal * distances[0]:
        assert run.round_index < max_rounds, f"{distances[-1]:.3g} after {max_rounds} rounds"
        run.round()
        distances.append(float((run.x - optimum).square().sum()))
    return distances


def late_factor(distances: list[float]) -> float:
    """Return the average contraction factor over the last two thirds of a run."""
    start = len(distances) // 3
    rounds = len(distances) - 1 - start
    return float((distances[-1] / distances[start]) ** (1 / rounds))
