"""What all processes of a run have to agree on."""

from dataclasses import dataclass

from torch import Tensor

from mlmc_ray.downlinks import FULL, Downlink
from mlmc_ray.flat import FlatModel
from mlmc_ray.methods import Method
from mlmc_ray.optimizers import Optimizer
from mlmc_ray.problems import ProblemSource
from mlmc_ray.replica import Replica


@dataclass(frozen=True, kw_only=True, slots=True)
class RunPlan:
    """What server and workers are made from.

    Args:
        problem: where the problem comes from; every process loads it for itself.
        method: makes the halves.
        optimizer: takes the step; None if the method does.
        num_workers: logical workers of the whole run.
        seed: the run's seed.
        downlink: how the parameters get to the workers.
    """

    problem: ProblemSource
    method: Method
    optimizer: Optimizer | None = None
    num_workers: int
    seed: int
    downlink: Downlink = FULL

    def replica(self, model: FlatModel, parameters: Tensor) -> Replica:
        """Make one of what the server has.

        Args:
            model: where layers lie, with the first statistics.
            parameters: shape (d,), on the CPU; the replica's own.
        """
        return Replica(
            method=self.method,
            optimizer=self.optimizer,
            num_workers=self.num_workers,
            seed=self.seed,
            model=model,
            parameters=parameters,
        )
