"""What a method's theory needs to know of a run: its problem, its batches and its clock."""

import math
from typing import Any

import torch
from torch import Tensor

from launch.configuration.run_config import RunConfig
from launch.engines.clock import Clock
from mlmc_ray.flat import FlatModel
from mlmc_ray.methods.theory import Setting
from mlmc_ray.problems import Problem
from mlmc_ray.problems.constants import Constants
from mlmc_ray.seeding import generator_for

_DRAWS = 8  # batches of every worker: two examples drawn twice are the whole shard now and then


def setting_of(
    config: RunConfig, model: FlatModel, constants: Constants, batch_size: int | None
) -> Setting:
    """Return where the method of a run is used.

    Args:
        config: of the run.
        model: its model.
        constants: of its problem.
        batch_size: see ``batch_size_of``.
    """
    return Setting(
        constants=constants,
        dim=model.parameters.numel(),
        num_workers=config.workers,
        batch_size=batch_size,
        layer_sizes=model.layer_sizes,
        layer_shapes=model.layer_shapes,
        largest_age=None if config.clock is None else largest_age(config.clock, config.workers),
    )


def batch_size_of(config: RunConfig, problem: Problem) -> int | None:
    """Return the examples of a gradient; None where a batch is always the whole shard.

    That is so with ``batch_size: full``, and where a problem has no noise: what its shards draw is
    what they hold.
    """
    if config.batch_size == "full":
        return None
    size = config.batch_size
    for worker_id in range(config.workers):
        shard = problem.shard(worker_id, config.workers, generator_for(config.seed, "shards"))
        generator, whole = generator_for(config.seed, worker_id, "exactness"), shard.full()
        if not all(_equal(shard.sample(size, generator), whole) for _ in range(_DRAWS)):
            return size
    return None


def largest_age(clock: Clock, num_workers: int) -> float:
    """Return the most steps between a worker's start and its report, of a step for every report.

    While a worker is at work, for c seconds, another one that takes c' reports at most once where
    c' >= c, and else at most floor(c / c') + 1 times. Frames that take equally long on all links
    only bring the times closer.

    Returns:
        A whole number; infinity where no bound is known: times that are drawn, links of different
        rates, or a worker that takes no time.
    """
    rates = (clock.uplink_bytes_per_s, clock.downlink_bytes_per_s)
    if clock.jitter or any(isinstance(rate, tuple) and len(set(rate)) > 1 for rate in rates):
        return math.inf
    parts = (clock.compute_s, clock.uplink_s, clock.downlink_s)
    lists = [part if isinstance(part, tuple) else (part,) * num_workers for part in parts]
    seconds = [sum(part[i] for part in lists) for i in range(num_workers)]
    if len(set(seconds)) > 1 and min(seconds) == 0:
        return math.inf
    slowest = max(seconds)
    times = [math.floor(slowest / s) + 1 if s < slowest else 1 for s in seconds]
    return sum(times) - 1


def _equal(one: Any, other: Any) -> bool:
    """Return whether two batches hold the same tensors."""
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return torch.equal(one, other)
    if isinstance(one, tuple | list) and isinstance(other, tuple | list):
        return len(one) == len(other) and all(map(_equal, one, other))
    return False
