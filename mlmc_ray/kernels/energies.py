"""Energies of consecutive segments."""

from typing import Any

import numpy as np
import numpy.typing as npt

from mlmc_ray.kernels.compiled import compiled


@compiled
def segment_sums(vector: npt.NDArray[Any], size: int) -> npt.NDArray[np.float64]:
    """Return the sum of squares of every ``size`` consecutive entries, the last maybe of fewer.

    Args:
        vector: shape (d,), any float dtype; not modified.
        size: at least 1.

    Returns:
        shape (ceil(d / size),), float64; each in the order of the entries.
    """
    count = -(-len(vector) // size)
    sums = np.zeros(count)
    for segment in range(count):
        total = 0.0
        for j in range(segment * size, min(len(vector), (segment + 1) * size)):
            value = np.float64(vector[j])
            total += value * value
        sums[segment] = total
    return sums
