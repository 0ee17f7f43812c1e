"""How often the bits of float32 fractions are 1, by exponent."""

import numpy as np
import numpy.typing as npt

from mlmc_ray.kernels.compiled import compiled

FRACTION_BITS = 23

_Counts = npt.NDArray[np.int64]


def bit_counts(counts: _Counts) -> _Counts:
    """Return how often every fraction bit is 1, lowest bit first, by exponent.

    Args:
        counts: of the high 8, middle 8 and low 7 bits: shape (exponents, 3, 256).

    Returns:
        shape (exponents, 23).
    """
    ones = (np.arange(256)[:, None] >> np.arange(8)) & 1
    places = counts @ ones
    by_place: _Counts = np.concatenate([places[:, 2, :7], places[:, 1], places[:, 0]], axis=1)
    return by_place


@compiled
def fraction_counts(bits: npt.NDArray[np.uint32]) -> _Counts:
    """Count the high 8, middle 8 and low 7 fraction bits, by exponent: shape (256, 3, 256).

    Three additions an entry instead of 23; the bits of these few values are counted afterwards.
    """
    counts = np.zeros((256, 3, 256), np.int64)
    for j in range(bits.size):
        e = (bits[j] >> np.uint32(23)) & np.uint32(255)
        counts[e, 0, (bits[j] >> np.uint32(15)) & np.uint32(255)] += 1
        counts[e, 1, (bits[j] >> np.uint32(7)) & np.uint32(255)] += 1
        counts[e, 2, bits[j] & np.uint32(127)] += 1
    return counts
