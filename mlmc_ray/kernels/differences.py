"""Norms of differences of vectors on different grids."""

from typing import Any

import numpy as np
import numpy.typing as npt

from mlmc_ray.kernels.compiled import compiled


@compiled
def difference_energy(
    upper: npt.NDArray[Any], upper_step: float, lower: npt.NDArray[Any], lower_step: float
) -> float:
    """Return the squared norm of ``upper_step * upper - lower_step * lower`` in one pass.

    Args:
        upper: shape (d,), integers or floats.
        upper_step: what one unit of it stands for.
        lower: shape (d,), integers or floats.
        lower_step: what one unit of it stands for.
    """
    total = np.float64(0)
    for j in range(upper.size):
        gap = upper_step * upper[j] - lower_step * lower[j]
        total += gap * gap
    return total
