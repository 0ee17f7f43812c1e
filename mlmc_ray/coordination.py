"""Levels whose draws the workers coordinate: every worker by the law, all together evenly spread.

References:
    Suresh, Sun, Ro and Yu, "Correlated Quantization for Distributed Mean Estimation and
    Optimization", ICML 2022, arXiv:2203.04925, where thresholds of rounding are spread so. For
    levels, and the bound for any vectors, it is ours.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Generator, Tensor

from mlmc_ray.compressors.base import Context, check_whole
from mlmc_ray.seeding import seed_for

_BELOW_ONE = 1 - 2.0**-53


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """A worker's place among M workers, of which each draws from a stratum of [0, 1) of its own.

    Draw r of worker i is u = (pi_r(i) + U) / M, with a random permutation pi_r of 0 to M - 1 that
    the seed gives to all workers alike, and a uniform U of its own. As pi_r(i) is uniform, so is u:
    what a worker draws by it has the same law as by a number of its own, whoever else is asked or
    answers; strata of those who do not stay empty.

    Args:
        seed: shared by the workers; another for every purpose.
        worker_id: i, 0 to M - 1.
        num_workers: M, at least 2.
    """

    seed: int
    worker_id: int
    num_workers: int

    def __post_init__(self) -> None:
        check_whole("seed", self.seed, 0, (1 << 64) - 1)
        check_whole("num_workers", self.num_workers, 2)
        check_whole("worker_id", self.worker_id, 0, self.num_workers - 1)

    @property
    def excess(self) -> float:
        """M / (M - 1): at most so many times is the variance of a mean that of independent draws.

        Let f_i(u) be the error of worker i, of mean 0 over u, and m_i(a) its mean over stratum a.
        For i != j the strata are distinct and the U independent, and the m_i(a) add up to 0, so
        E<f_i, f_j> = -sum_a <m_i(a), m_j(a)> / (M (M - 1)). Hence E|sum_i f_i|^2 is at most
        sum_i E|f_i|^2 + sum_i,a |m_i(a)|^2 / (M (M - 1)) <= M / (M - 1) sum_i E|f_i|^2, over all
        workers or some. Where all f_i are equal, it is at most sum_i E|f_i|^2.
        """
        return self.num_workers / (self.num_workers - 1)

    def uniforms(self, number: int, dim: int, generator: Generator) -> Tensor:
        """Return so many numbers of [0, 1), independent of each other.

        The strata of the first ones are the same whatever ``number`` is.

        Args:
            number: how many.
            dim: length of the vector; for vectors of other lengths the permutations are others.
            generator: of the worker, for the places within the strata.

        Returns:
            shape (number,), float64.
        """
        stream = np.random.Philox(key=seed_for(self.seed, dim))
        keys = stream.random_raw(number * self.num_workers).reshape(number, self.num_workers)
        own = keys[:, self.worker_id, None]
        strata = (keys < own).sum(axis=1) + (keys[:, : self.worker_id] == own).sum(axis=1)
        within = torch.rand(number, dtype=torch.float64, generator=generator)
        spread = (torch.from_numpy(strata) + within) / self.num_workers
        return spread.clamp(max=_BELOW_ONE)  # a sum may be rounded up to M


def place_in(context: Context) -> Place | None:
    """Return the place of a worker for the draws of its levels; None where there is no other.

    Args:
        context: a worker's, or the server's, which draws alone.
    """
    if context.num_workers == 1 or context.worker_id < 0:
        return None
    return Place(
        seed=seed_for(context.shared_seed, "levels"),
        worker_id=context.worker_id,
        num_workers=context.num_workers,
    )
