"""Drives the halves of a method without bytes, on oracles that know their function exactly."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mlmc_ray.compressors import Context
from mlmc_ray.methods import SERVER, Method, Progress
from mlmc_ray.payloads import Message
from mlmc_ray.problems import Quadratic
from mlmc_ray.seeding import generator_for, seed_for


@dataclass(frozen=True)
class QuadraticOracle:
    """The full gradient of x'Ax/2 - b'x in float64."""

    matrix: Tensor
    vector: Tensor

    def sample(self, size: int | None = None) -> None:
        return None

    def full(self) -> None:
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
        self.reports: dict[int, Message] = {}  # of the last exchange
        self._oracles = oracles
        self._step_size = step_size
        self._seed = seed

    def context(self, worker_id: int, exchange_index: int = 0) -> Context:
        """The context of a worker, or of the server, in the next round."""
        names = (self.round_index, exchange_index)
        return Context(
            generator_for(self._seed, worker_id, *names),
            shared_seed=seed_for(self._seed, "shared", self.round_index),
            worker_id=worker_id,
            num_workers=len(self.workers),
        )

    def round(self) -> Tensor | None:
        """Run one round and return the server's estimate, if it made one."""
        result, exchange_index = self._exchange(0), 0
        while result is Progress.MORE:
            exchange_index += 1
            result = self._exchange(exchange_index)
        self.round_index += 1
        if not isinstance(result, Tensor):
            return None
        self.x.add_(result, alpha=-self._step_size)
        return result

    def _exchange(self, exchange_index: int) -> Tensor | Progress:
        news = self.server.news(context=self.context(SERVER, exchange_index))
        if isinstance(news, Message):
            news = dict.fromkeys(range(len(self.workers)), news)
        self.reports = {
            i: self.workers[i].step(
                message, self._oracles[i], context=self.context(i, exchange_index)
            )
            for i, message in news.items()
        }
        return self.server.step(self.reports, context=self.context(SERVER, exchange_index))

    def estimate(self) -> Tensor:
        """Run one round of a method that makes an estimate, and return it."""
        estimate = self.round()
        assert estimate is not None
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
