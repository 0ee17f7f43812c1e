"""Norms of differences of vectors on different grids."""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mlmc_ray.kernels.compiled import compiled
from mlmc_ray.kernels.device import on_cpu
from mlmc_ray.kernels.sums import fold, fold_blocks
from mlmc_ray.kernels.tensors.sums import BLOCK, total


def difference_energy(upper: Tensor, upper_step: float, lower: Tensor, lower_step: float) -> float:
    """Return the squared norm of ``upper_step * upper - lower_step * lower``.

    Args:
        upper: shape (d,), integers or floats, any device; not modified.
        upper_step: what one unit of it stands for.
        lower: shape (d,), integers or floats, on the same device; not modified.
        lower_step: what one unit of it stands for.
    """
    if on_cpu(upper):
        return _energy(upper.numpy(), upper_step, lower.numpy(), lower_step)
    gaps = upper.to(torch.float64) * upper_step - lower.to(torch.float64) * lower_step
    return total(gaps.square_())


@compiled
def _energy(
    upper: npt.NDArray[Any], upper_step: float, lower: npt.NDArray[Any], lower_step: float
) -> float:
    squares, parts = np.empty(BLOCK), np.empty(-(-len(upper) // BLOCK))
    for block in range(len(parts)):
        above, below = upper[block * BLOCK :][:BLOCK], lower[block * BLOCK :][:BLOCK]
        for j in range(len(above)):
            gap = upper_step * above[j] - lower_step * below[j]
            squares[j] = gap * gap
        parts[block] = fold(squares, len(above))
    return fold_blocks(parts, len(parts), squares)
