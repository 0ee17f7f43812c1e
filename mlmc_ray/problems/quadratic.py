"""Heterogeneous quadratics, whose optimum and constants are known in closed form."""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, get_args

import numpy as np
import torch
from torch import Generator, Tensor, nn

from mlmc_ray.problems.constants import Constants
from mlmc_ray.problems.functions import Variables, check_workers
from mlmc_ray.problems.quadratic_families import (
    Array,
    equal_hessians,
    random_hessians,
    tridiagonal_hessians,
)

Family = Literal["random", "equal", "diagonal", "tridiagonal"]


class QuadraticFunctions(ABC):
    """f_i(x) = x'A_i x / 2 - b_i'x for worker i, given the coefficients and the first x.

    The model is trained in float32, and ``evaluate`` computes in float64 from what it finds there:
    at the best float32 vector the gap is near 1e-15 L |x*|^2, and where gradients are rounded too
    it comes to rest at up to L / mu times that.
    """

    noise: float = 0.0

    @property
    @abstractmethod
    def coefficients(self) -> tuple[Array, Array]:
        """A, shape (functions, dim, dim), and b, shape (functions, dim), in float64."""

    @property
    @abstractmethod
    def initial(self) -> Tensor:
        """The first x, shape (dim,)."""

    @cached_property
    def optimum(self) -> Array:
        """The minimiser of the average, shape (dim,)."""
        matrices, vectors = self.coefficients
        return np.linalg.solve(matrices.mean(axis=0), vectors.mean(axis=0))

    def constants(self, num_workers: int) -> Constants:
        """Return the exact constants; a gradient's noise does not depend on x.

        Raises:
            ValueError: the number of workers is not the number of functions.
        """
        matrices, _ = self.coefficients
        self._check_workers(num_workers)
        mean = matrices.mean(axis=0)
        spectrum = np.linalg.eigvalsh(mean)
        spectra = np.linalg.eigvalsh(matrices)
        each = np.abs(spectra).max(axis=1)
        apart = matrices - mean
        spread = np.linalg.eigvalsh((apart @ apart).mean(axis=0))  # mean A_i^2 - (mean A_i)^2
        mean_smoothness = float(np.sqrt((each**2).mean()))
        return Constants(
            smoothness=float(spectrum[-1]),
            mean_smoothness=mean_smoothness,
            largest_smoothness=float(each.max()),
            strong_convexity=float(spectrum[0]),
            least_convexity=max(0.0, float(spectra.min())),
            hessian_variance=math.sqrt(float(spread[-1])),
            sample_smoothness=mean_smoothness,
            convex=bool(spectra.min() >= 0),
        )

    def _check_workers(self, num_workers: int) -> None:
        check_workers(len(self.coefficients[0]), num_workers)

    def model(self) -> nn.Module:
        """One vector of variables, at ``initial``."""
        return Variables(self.initial)

    def loss(self, model: nn.Module, batch: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        """f_i(x), plus noise'x, whose gradient is the noise."""
        matrix, vector, noise = batch
        x: Tensor = model(None)
        return 0.5 * x @ (matrix @ x) - vector @ x + noise @ x

    def shard(self, worker_id: int, num_workers: int, generator: Generator) -> "_QuadraticShard":
        """Return worker i's own function.

        Raises:
            ValueError: the number of workers is not the number of functions.
        """
        matrices, vectors = self.coefficients
        self._check_workers(num_workers)
        return _QuadraticShard(
            torch.tensor(matrices[worker_id], dtype=torch.float32),
            torch.tensor(vectors[worker_id], dtype=torch.float32),
            self.noise,
        )

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """f(x) - f*, and |x - x*|^2."""
        matrices, _ = self.coefficients
        with torch.no_grad():
            error = model(None).double().numpy() - self.optimum
        gap = 0.5 * error @ matrices.mean(axis=0) @ error
        return {"gap": float(gap), "squared_distance": float(error @ error)}


@dataclass(frozen=True, kw_only=True)
class Quadratic(QuadraticFunctions):
    """f_i(x) = x'A_i x / 2 - b_i'x, drawn at random for every worker, started at zero.

    The number of functions is part of the problem, so it must equal the number of workers.

    Args:
        num_functions: how many functions f_i, one for each worker.
        dim: number of variables.
        smallest: least eigenvalue: of every A_i, or, of "tridiagonal", of their average.
        largest: largest eigenvalue, likewise.
        noise: standard deviation of the norm of the gradient noise; it is Gaussian, with variance
            ``noise ** 2`` in total for a batch of one, less for larger ones.
        interpolation: make b_i = A_i x* for one x*, so that every f_i is minimal at x*.
        seed: of A_i and b_i.
        family: "random": every A_i has random eigenvectors and log-uniform eigenvalues, b_i is
            standard normal. "equal": all A_i are the same, with log-spaced eigenvalues, and the
            gradients differ by a constant. "diagonal": the same without rotation, so that
            coordinates are independent. "tridiagonal": random multiples of a second difference.
        heterogeneity: of "equal" and "diagonal" the root of the mean of |grad f_i - grad f|^2,
            which is the same everywhere; of "tridiagonal" the spread s of the multiples. 0 makes
            all functions alike. "random" has no such setting.

    Raises:
        ValueError: a value is out of range, or two of them contradict each other.
    """

    num_functions: int = 4
    dim: int = 24
    smallest: float = 0.1
    largest: float = 10.0
    noise: float = 0.0
    interpolation: bool = False
    seed: int = 0
    family: Family = "random"
    heterogeneity: float = 0.0

    def __post_init__(self) -> None:
        if self.num_functions < 1 or self.dim < 2:
            raise ValueError(
                f"num_functions is {self.num_functions!r} and dim is {self.dim!r}: "
                "give at least 1 and at least 2"
            )
        if not 0 < self.smallest <= self.largest < math.inf:
            raise ValueError(
                f"smallest is {self.smallest!r} and largest is {self.largest!r}: "
                "give 0 < smallest <= largest"
            )
        if not 0 <= self.noise < math.inf:
            raise ValueError(f"noise is {self.noise!r}: give 0 or more")
        if self.family not in get_args(Family):
            raise ValueError(f"family is {self.family!r}: give one of {list(get_args(Family))}")
        if not 0 <= self.heterogeneity < math.inf:
            raise ValueError(f"heterogeneity is {self.heterogeneity!r}: give 0 or more")
        if self.heterogeneity:
            self._check_heterogeneity()

    def _check_heterogeneity(self) -> None:
        given = f"heterogeneity is {self.heterogeneity!r} and"
        if self.family == "random":
            raise ValueError(
                f"{given} family is 'random', whose functions differ anyway: leave it out, or "
                "choose another family"
            )
        if self.family != "tridiagonal" and self.interpolation:
            raise ValueError(
                f"{given} interpolation is true: {self.family} Hessians with one optimum are one "
                "function, so leave one of the two out"
            )
        if self.family != "tridiagonal" and self.num_functions < 2:
            raise ValueError(f"{given} num_functions is 1: a single function differs from none")

    @cached_property
    def coefficients(self) -> tuple[Array, Array]:
        """A, shape (functions, dim, dim), and b, shape (functions, dim), in float64."""
        rng = np.random.default_rng(self.seed)
        bounds = (self.num_functions, self.dim, self.smallest, self.largest)
        if self.family == "random":
            matrices, vectors = random_hessians(rng, *bounds)
        elif self.family == "tridiagonal":
            matrices, vectors = tridiagonal_hessians(rng, *bounds, self.heterogeneity)
        else:
            rotated = self.family == "equal"
            matrices, vectors = equal_hessians(rng, *bounds, self.heterogeneity, rotated=rotated)
        if self.interpolation:
            vectors = matrices @ rng.standard_normal(self.dim)
        return matrices, vectors

    @property
    def initial(self) -> Tensor:
        """Zero, shape (dim,)."""
        return torch.zeros(self.dim)

    @property
    def smoothness(self) -> tuple[float, float, float]:
        """mu and L of the average, and the quadratic mean of the L_i."""
        known = self.constants(self.num_functions)
        return known.strong_convexity, known.smoothness, known.mean_smoothness


@dataclass(frozen=True, slots=True)
class _QuadraticShard:
    matrix: Tensor
    vector: Tensor
    noise: float

    def sample(self, size: int, generator: Generator) -> tuple[Tensor, Tensor, Tensor]:
        dim = len(self.vector)
        spread = self.noise / math.sqrt(dim * size)
        noise = spread * torch.randn(dim, generator=generator)
        return self.matrix, self.vector, noise

    def full(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.matrix, self.vector, torch.zeros_like(self.vector)
