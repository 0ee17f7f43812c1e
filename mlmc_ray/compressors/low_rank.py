"""PowerSGD: every matrix of the model as a product of two thin ones."""

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Generator, Tensor

from mlmc_ray.compressors.base import (
    Context,
    PaperCost,
    RunTime,
    check_finite,
    check_whole,
    peak_of,
)
from mlmc_ray.compressors.rotation import at_ordinary_scale
from mlmc_ray.errors import NonFiniteError
from mlmc_ray.kernels.device import at_least_single
from mlmc_ray.payloads import ConcatPayload, DensePayload, LowRankPayload, Payload, ZeroPayload

_LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True, kw_only=True, slots=True)
class PowerSGD:
    """Project every matrix A of the model on ``rank`` directions P that power iteration finds.

    Starting from normal draws Q, an iteration is P = orth(A Q), Q = A^T P; sent are P and Q, which
    stand for P P^T A. The error is |A|^2 - |P^T A|^2, and a matrix of at most that rank comes out
    exact. Layers of more than two dimensions are matrices of their first dimension by the rest;
    layers of fewer, and those for which P and Q hold no fewer numbers, are sent whole.

    This is the one-way form: each worker projects its own matrices, and nothing is kept between
    rounds. The paper starts from the last round's Q, and projects the mean over the workers; an
    iteration or two more take the place of the first.

    Attributes:
        rank: columns of P and Q, at least 1; at most the smaller side of the matrix is used.
        iterations: at least 1.
        layer_shapes: set by ``bind``; while there are none, the whole vector is sent as it is.
        seed: of Q, the same for all workers; set by ``bind``.

    References:
        Vogels, Karimireddy, Jaggi, 2019, arXiv:1905.13727, algorithm 1.
    """

    rank: int
    iterations: int = 1
    layer_shapes: RunTime[tuple[tuple[int, ...], ...]] = ()
    seed: RunTime[int] = 0

    def __post_init__(self) -> None:
        check_whole("rank", self.rank, 1, advice=" column")
        check_whole("iterations", self.iterations, 1)
        for side in (side for shape in self.layer_shapes for side in shape):
            check_whole("a side in layer_shapes", side, 1)

    def bind(self, context: Context) -> "PowerSGD":
        """Take the shapes of the layers that have entries, and the seed of this round."""
        shapes = tuple(shape for shape in context.layer_shapes if math.prod(shape))
        return replace(self, layer_shapes=shapes, seed=context.shared_seed)

    @property
    def unbiased(self) -> bool:
        """False."""
        return False

    def compress(self, vector: Tensor, *, generator: Generator) -> Payload:
        """Return one message a layer, one after the other; the generator is not used.

        Raises:
            NonFiniteError: there is NaN or infinity, or a product may not fit float32.
            ValueError: the layers do not add up to the vector.
        """
        check_finite(vector)
        if not vector.any():
            return ZeroPayload(vector.numel())
        shapes = self._shapes(vector.numel())
        layers = torch.split(vector.detach(), [math.prod(shape) for shape in shapes])
        pairs = zip(layers, shapes, strict=True)
        return ConcatPayload(tuple(self._layer(*pair, i) for i, pair in enumerate(pairs)))

    def omega(self, dim: int) -> None:
        """None: biased."""
        return None

    def alpha(self, dim: int) -> None:
        """None: Q may be orthogonal to the rows of A."""
        return None

    def paper_cost(self, dim: int) -> PaperCost:
        """rank (n + m) numbers for a matrix of n x m."""
        numbers = 0
        for shape in self._shapes(dim):
            rank = rank_of(self.rank, shape)
            numbers += rank * sum(sides_of(shape)) if rank else math.prod(shape)
        return PaperCost("64 times the sum over matrices of rank (n + m)", 64 * numbers)

    def _shapes(self, dim: int) -> tuple[tuple[int, ...], ...]:
        shapes = self.layer_shapes or ((dim,),)
        total = sum(math.prod(shape) for shape in shapes)
        if total != dim:
            raise ValueError(f"layer_shapes hold {total} entries, and the vector has {dim}")
        return shapes

    def _layer(self, layer: Tensor, shape: tuple[int, ...], index: int) -> Payload:
        peak, rank = peak_of(layer), rank_of(self.rank, shape)
        if not peak:
            return ZeroPayload(layer.numel())
        if not rank:
            return DensePayload(layer)
        ordinary, factor = at_ordinary_scale(layer, peak)
        matrix = at_least_single(ordinary).reshape(sides_of(shape))
        right = normal_draws(self.seed, index, matrix.shape[1], rank).to(matrix)
        for _ in range(self.iterations):
            left: Tensor = torch.linalg.qr(matrix @ right).Q  # orthonormal even for zero columns
            right = matrix.T @ left
        wide = right.to(torch.float64) * factor
        # No entry of the product is larger than the longest row, since P is orthonormal.
        if torch.linalg.vector_norm(wide, dim=1).max() > _LARGEST:
            raise NonFiniteError(
                f"layer {index}, whose largest entry is {peak:g}, may not fit float32 once "
                "projected: its columns are too long"
            )
        return LowRankPayload(left.to(torch.float32), wide.to(torch.float32))


def rank_of(rank: int, shape: tuple[int, ...]) -> int:
    """Return how many columns P has for a layer; 0 where the layer is sent whole."""
    rows, columns = sides_of(shape)
    rank = min(rank, rows, columns)
    return rank if rank * (rows + columns) < rows * columns else 0


def sides_of(shape: tuple[int, ...]) -> tuple[int, int]:
    """Return the sides of the matrix that a layer is; one of them is 1 below two dimensions."""
    return (shape[0], math.prod(shape[1:])) if len(shape) > 1 else (1, math.prod(shape))


def normal_draws(seed: int, index: int, rows: int, columns: int) -> Tensor:
    """Return the normal draws that belong to a layer of a round, float64."""
    stream = np.random.Generator(np.random.Philox(key=np.array([seed, index], dtype=np.uint64)))
    return torch.from_numpy(stream.standard_normal((rows, columns)))
