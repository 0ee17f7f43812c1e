"""Random unit vectors in orthonormal bases: a codebook of directions that a seed names.

The bases are always the same, turned by a random rotation. Such a codebook has two properties at
once: its law does not change under rotations; and for every x at least one vector of a basis has
|<x, c>| >= |x| / sqrt(n).
"""

import math
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from mlmc_ray.kernels.compiled import compiled
from mlmc_ray.kernels.splitmix import random_bits, uniform_of

_Floats = npt.NDArray[np.float64]
_FIXED_SEED = np.uint64(0)


def random_bases(seed: int, rows: int, size: int) -> npt.NDArray[np.float32]:
    """Return unit vectors, the rows of orthonormal bases one after the other, randomly turned.

    A basis is Gram and Schmidt's of ``size`` vectors of normal draws, hence uniformly distributed;
    so is the rotation. The last basis is cut short where ``size`` does not divide ``rows``. Draws
    are Box and Muller's of ``kernels.splitmix``, in float64, where machines whose logarithm or
    cosine is rounded otherwise differ in the last bits, of which rounding to float32 leaves nothing
    but in rare cases.

    Args:
        seed: of the rotation, 0 to 2**64 - 1.
        rows: how many vectors.
        size: entries of each.

    Returns:
        shape (rows, size), float32.

    References:
        Sakrison, 1968, "A geometric treatment of the source encoding of a Gaussian random
        variable", for random codes on the sphere.
    """
    rotation = _bases(np.uint64(seed), size, size)
    turned = np.zeros((rows, size))
    _multiply(_fixed_bases(rows, size), rotation, turned)
    return turned.astype(np.float32)


@lru_cache(maxsize=64)
def _fixed_bases(rows: int, size: int) -> _Floats:
    """Return the bases that are turned; not to be modified."""
    return _bases(_FIXED_SEED, rows, size)


def _bases(seed: np.uint64, rows: int, size: int) -> _Floats:
    vectors = np.empty((rows, size))
    _fill_with_normals(seed, vectors.reshape(-1))
    _orthonormalize(vectors)
    return vectors


@compiled
def _multiply(left: _Floats, right: _Floats, product: _Floats) -> None:
    """Add left times right to ``product``, in an order that is the same on every machine."""
    for i in range(left.shape[0]):
        for k in range(left.shape[1]):
            factor = left[i, k]
            for j in range(right.shape[1]):
                product[i, j] += factor * right[k, j]


@compiled
def _fill_with_normals(seed: np.uint64, values: _Floats) -> None:
    for i in range(0, len(values), 2):
        radius = math.sqrt(-2.0 * math.log(1.0 - uniform_of(random_bits(seed, i + 1))))
        angle = 2.0 * math.pi * uniform_of(random_bits(seed, i + 2))
        values[i] = radius * math.cos(angle)
        if i + 1 < len(values):
            values[i + 1] = radius * math.sin(angle)


@compiled
def _orthonormalize(vectors: _Floats) -> None:
    rows, size = vectors.shape
    for row in range(rows):
        vector = vectors[row]
        for _ in range(2):  # the second time removes what rounding has left
            for before in range(row - row % size, row):
                product = 0.0
                for j in range(size):
                    product += vector[j] * vectors[before, j]
                for j in range(size):
                    vector[j] -= product * vectors[before, j]
            square = 0.0
            for j in range(size):
                square += vector[j] * vector[j]
            for j in range(size):
                vector[j] /= math.sqrt(square)
