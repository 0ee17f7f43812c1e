"""Three workers on whose gradients Top-1 without error feedback diverges, at every step size."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mlmc_ray.problems.quadratic import QuadraticFunctions
from mlmc_ray.problems.quadratic_families import Array

_DIRECTIONS = np.array([[-3.0, 2, 2], [2, -3, 2], [2, 2, -3]])


@dataclass(frozen=True, kw_only=True)
class ThreeWorkers(QuadraticFunctions):
    """f_i(x) = <a_i, x>^2 + |x|^2 / 4 with a_1 = (-3, 2, 2) and its rotations, from (t, t, t).

    The optimum is 0 and shared by all workers; mu = 7/6, L = 103/6, every L_i = 34.5. On the way
    there the largest entry of every gradient is the one that points away: with Top-1 and steps
    eta the average step is 11/6 eta x outwards, so x grows by 1 + 11/6 eta a round.

    Since the optimum is 0 the gap has no floor: it falls until float32 underflows.

    Args:
        start: t, not 0.

    Raises:
        ValueError: t is 0 or not finite.

    References:
        Beznosikov, Horvath, Richtarik and Safaryan, 2020, arXiv:2002.12410.
    """

    start: float = 1.0

    def __post_init__(self) -> None:
        if not self.start or not math.isfinite(self.start):
            raise ValueError(f"start is {self.start!r}: give a number other than 0, the optimum")

    def _check_workers(self, num_workers: int) -> None:
        if num_workers != 3:
            raise ValueError(f"there are {num_workers} workers, and 3 functions: give workers: 3")

    @property
    def coefficients(self) -> tuple[Array, Array]:
        """A, shape (3, 3, 3), and b, which is zero, shape (3, 3)."""
        products = np.einsum("ij,ik->ijk", _DIRECTIONS, _DIRECTIONS)
        return 2 * products + 0.5 * np.eye(3), np.zeros((3, 3))

    @property
    def initial(self) -> Tensor:
        """(t, t, t)."""
        return torch.full((3,), self.start)
