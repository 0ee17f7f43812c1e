"""Random bits that are a hash of a 64-bit seed and a counter.

A draw is a function of its seed and its place alone, so it takes no memory, does not depend on how
the work is cut, and is the same in compiled loops and in tensor operations (``tensors.splitmix``).

References:
    Steele, Lea and Flood, "Fast Splittable Pseudorandom Number Generators", OOPSLA 2014.
"""

import numpy as np

from mlmc_ray.kernels.compiled import compiled

GOLDEN, FIRST_FACTOR, SECOND_FACTOR = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
UNIT = 2.0**-53
_GOLDEN, _FIRST, _SECOND = np.uint64(GOLDEN), np.uint64(FIRST_FACTOR), np.uint64(SECOND_FACTOR)
_S11, _S27, _S30, _S31 = np.uint64(11), np.uint64(27), np.uint64(30), np.uint64(31)


@compiled
def random_bits(seed: np.uint64, counter: int) -> np.uint64:
    """Return 64 bits that look random."""
    bits = np.uint64(seed) + np.uint64(counter) * _GOLDEN
    bits = (bits ^ (bits >> _S30)) * _FIRST
    bits = (bits ^ (bits >> _S27)) * _SECOND
    return bits ^ (bits >> _S31)


@compiled
def uniform_of(bits: np.uint64) -> float:
    """Return a number of [0, 1), a multiple of 2^-53."""
    return np.float64(np.int64(bits >> _S11)) * UNIT
