"""Heterogeneous quadratics, whose optimum and constants are known in closed form."""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch
from torch import Generator, Tensor, nn


@dataclass(frozen=True, kw_only=True)
class Quadratic:
    """f_i(x) = x'A_i x / 2 - b_i'x with a random Hessian A_i and a random b_i for every worker.

    A_i has eigenvalues between ``smallest`` and ``largest``, both attained, and random
    eigenvectors; b_i is standard normal. The number of functions is part of the problem, so it
    must equal the number of workers. In float32 the trained model is one vector; the constants
    below are in float64.

    Args:
        num_functions: how many functions f_i, one for each worker.
        dim: number of variables.
        smallest: least eigenvalue of every A_i.
        largest: largest eigenvalue of every A_i.
        noise: standard deviation of the norm of the gradient noise; it is Gaussian, with variance
            ``noise ** 2`` in total for a batch of one, less for larger ones.
        interpolation: make b_i = A_i x* for one x*, so that every f_i is minimal at x*.
        seed: of A_i and b_i.
    """

    num_functions: int = 4
    dim: int = 24
    smallest: float = 0.1
    largest: float = 10.0
    noise: float = 0.0
    interpolation: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        if self.num_functions < 1 or self.dim < 2:
            raise ValueError(
                f"num_functions is {self.num_functions!r} and dim is {self.dim!r}: "
                "give at least 1 and at least 2"
            )
        if not 0 < self.smallest <= self.largest:
            raise ValueError(
                f"smallest is {self.smallest!r} and largest is {self.largest!r}: "
                "give 0 < smallest <= largest"
            )
        if self.noise < 0:
            raise ValueError(f"noise is {self.noise!r}: give 0 or more")

    @cached_property
    def coefficients(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """A, shape (functions, dim, dim), and b, shape (functions, dim)."""
        rng = np.random.default_rng(self.seed)
        matrices, vectors = [], []
        for _ in range(self.num_functions):
            basis, _ = np.linalg.qr(rng.standard_normal((self.dim, self.dim)))
            spectrum = np.exp(rng.uniform(np.log(self.smallest), np.log(self.largest), self.dim))
            spectrum[:2] = self.smallest, self.largest
            matrices.append(basis * spectrum @ basis.T)
            vectors.append(rng.standard_normal(self.dim))
        stacked = np.stack(matrices)
        if self.interpolation:
            return stacked, stacked @ rng.standard_normal(self.dim)
        return stacked, np.stack(vectors)

    @cached_property
    def optimum(self) -> npt.NDArray[np.float64]:
        """The minimiser of the average, shape (dim,)."""
        matrices, vectors = self.coefficients
        return np.linalg.solve(matrices.mean(axis=0), vectors.mean(axis=0))

    @cached_property
    def smoothness(self) -> tuple[float, float, float]:
        """mu and L of the average, and the quadratic mean of the L_i."""
        matrices, _ = self.coefficients
        spectrum = np.linalg.eigvalsh(matrices.mean(axis=0))
        each = np.array([np.linalg.eigvalsh(matrix)[-1] for matrix in matrices])
        return float(spectrum[0]), float(spectrum[-1]), float(np.sqrt((each**2).mean()))

    def model(self) -> nn.Module:
        """One vector of variables, at zero."""
        return _Variables(self.dim)

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
        if num_workers != self.num_functions:
            raise ValueError(
                f"quadratic: num_functions is {self.num_functions} and there are {num_workers} "
                "workers; every worker holds one function, so set both alike"
            )
        matrices, vectors = self.coefficients
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


class _Variables(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.x = nn.Parameter(torch.zeros(dim))

    def forward(self, _: None) -> Tensor:
        return self.x


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
