"""A worker on its own: the minibatches of a shard, and what a gradient costs."""

import statistics
import time

import torch
from torch import Tensor, nn

from launch.configuration.run_config import RunConfig
from mlmc_ray.problems import Problem
from mlmc_ray.seeding import drawing, generator_for, seed_for

_REPEATS = 8


class LocalWorker:
    """A model at the run's starting point, and the minibatches that a session's worker would draw.

    Args:
        config: of the run.
        worker_id: whose shard it is.
        num_workers: that share the data.
    """

    def __init__(self, config: RunConfig, worker_id: int, num_workers: int) -> None:
        assert isinstance(config.batch_size, int)
        self.problem: Problem = config.problem.load()
        self.model = initial(self.problem, config.seed)
        self._names = (config.seed, worker_id)
        self._batch_size = config.batch_size
        draws = generator_for(config.seed, "shards")
        self._shard = self.problem.shard(worker_id, num_workers, draws)

    def loss(self, model: nn.Module, round_index: int) -> Tensor:
        """Return the loss of a model on the minibatch of a round."""
        generator = generator_for(*self._names, round_index, "data")
        return self.problem.loss(model, self._shard.sample(self._batch_size, generator))

    def accuracy(self) -> float:
        """Return the accuracy of the model on the test examples."""
        return accuracy(self.problem, self.model)

    def gradient_seconds(self) -> float:
        """Return the median time of a gradient, after one that allocates; the model stays."""
        times = []
        for _ in range(_REPEATS + 1):
            started = time.perf_counter()
            self.model.zero_grad()
            self.loss(self.model, 0).backward()  # type: ignore[no-untyped-call]
            times.append(time.perf_counter() - started)
        self.model.zero_grad()
        return statistics.median(times[1:])


def initial(problem: Problem, seed: int) -> nn.Module:
    """Return the model of a problem with the parameters that a session starts from."""
    with drawing(seed_for(seed, "parameters")):
        return problem.model()


def accuracy(problem: Problem, model: nn.Module) -> float:
    """Return the accuracy of a model on the test examples; it is left in training mode."""
    model.eval()
    with torch.no_grad():
        measures = problem.evaluate(model)
    model.train()
    return measures["accuracy"]
