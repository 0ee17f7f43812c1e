"""Rounding to the nearest of a few values."""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mlmc_ray.kernels.compiled import compiled
from mlmc_ray.kernels.device import array_of, on_cpu
from mlmc_ray.kernels.sums import fold, fold_blocks
from mlmc_ray.kernels.tensors import rounding as tensors
from mlmc_ray.kernels.tensors.sums import BLOCK, total

_Floats = npt.NDArray[np.float32]


def nearest_centroids(
    values: Tensor, centroids: npt.NDArray[np.float64], unit: float
) -> tuple[Tensor, float]:
    """Return which centroid is nearest to every value / ``unit``, and <c, values>.

    c holds the nearest centroids themselves; the upper one on ties.

    Args:
        values: shape (d,), float32, finite, any device; not modified.
        centroids: ascending, 1 to 127.
        unit: positive.

    Returns:
        Places among the centroids, int8, shape (d,), on the device of the values; the inner
        product, summed in float64.
    """
    boundaries = ((centroids[1:] + centroids[:-1]) / 2 * unit).astype(np.float32)
    if on_cpu(values):
        places = torch.empty(len(values), dtype=torch.int8)
        return places, _nearest(array_of(values), centroids, boundaries, places.numpy())
    places = tensors.nearest_centroids(values, boundaries)
    chosen = torch.from_numpy(centroids).to(values.device)[places.long()]
    return places, total(chosen.mul_(values))


@compiled
def _nearest(
    values: _Floats, centroids: npt.NDArray[np.float64], boundaries: _Floats, codes: Any
) -> float:
    products, parts = np.empty(BLOCK), np.empty(-(-len(values) // BLOCK))
    for block in range(len(parts)):
        part, places = values[block * BLOCK :][:BLOCK], codes[block * BLOCK :][:BLOCK]
        places[:] = 0
        for boundary in boundaries:
            for j in range(len(part)):
                places[j] += np.int8(part[j] >= boundary)
        for j in range(len(part)):
            products[j] = centroids[places[j]] * part[j]
        parts[block] = fold(products, len(part))
    return fold_blocks(parts, len(parts), products)
