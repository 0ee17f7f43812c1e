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
_LEAST_SQUARE = 2.0**-60  # of what is left of a draw; among axes one always has 1 / size or more


def random_bases(seed: int, rows: int, size: int) -> npt.NDArray[np.float32]:
    """Return unit vectors, the rows of orthonormal bases one after the other, randomly turned.

    A basis is Gram and Schmidt's of ``size`` vectors of normal draws, hence uniformly distributed;
    so is the rotation. Draws are Box and Muller's of ``kernels.splitmix``, in float64, where
    machines whose logarithm or cosine is rounded otherwise differ in the last bits, of which
    rounding to float32 leaves nothing but in rare cases. A seed for which the draws of a basis
    depend on one another gives a basis all the same.

    Args:
        seed: of the rotation, 0 to 2**64 - 1.
        rows: how many vectors, a multiple of ``size``.
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
    """Make every ``size`` rows a basis, with axes for draws that nearly depend on those before."""
    rows, size = vectors.shape
    for row in range(rows):
        vector, before = vectors[row], vectors[row - row % size : row]
        square, least, axis = _reduced(vector, before), _LEAST_SQUARE, 0
        while square < least:
            vector[:] = 0.0
            vector[axis] = 1.0
            square, least, axis = _reduced(vector, before), 0.5 / size, axis + 1
        _divide(vector, math.sqrt(square))
        # once more, which removes what rounding has left
        _divide(vector, math.sqrt(_reduced(vector, before)))


@compiled
def _reduced(vector: _Floats, before: _Floats) -> float:
    """Subtract the products with unit vectors, and return the sum of squares that is left."""
    for row in range(len(before)):
        product = 0.0
        for j in range(len(vector)):
            product += vector[j] * before[row, j]
        for j in range(len(vector)):
            vector[j] -= product * before[row, j]
    square = 0.0
    for j in range(len(vector)):
        square += vector[j] * vector[j]
    return square


@compiled
def _divide(vector: _Floats, norm: float) -> None:
    for j in range(len(vector)):
        vector[j] /= norm
