"""The range of a vector's magnitudes, and the norms of its buckets."""

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mlmc_ray.kernels.compiled import compiled
from mlmc_ray.kernels.device import array_of, on_cpu
from mlmc_ray.kernels.sums import segment_energies


def magnitude_range(vector: Tensor) -> tuple[float, float]:
    """Return the smallest magnitude that is not zero (infinity if there is none), and the largest.

    Args:
        vector: shape (d,), d at least 1, any float dtype, any device; not modified.

    Returns:
        The largest is infinite or NaN where the vector holds infinity or NaN.
    """
    if not on_cpu(vector):
        magnitudes = vector.abs()
        positive = magnitudes.where(magnitudes > 0, math.inf)
        return float(positive.min()), float(magnitudes.max())
    array = array_of(vector)
    integers = np.int32 if array.dtype == np.float32 else np.int64
    ends = np.array(_bit_range(array.view(integers), np.iinfo(integers).max), dtype=integers)
    smallest, largest = ends.view(array.dtype).tolist()
    return (smallest if largest != 0 else math.inf), largest


def bucket_norms(vector: Tensor, bucket_size: int, order: float) -> Tensor:
    """Return the l_p norm of every ``bucket_size`` entries, float64, on the vector's device.

    Euclidean and maximum norms are the same bits on every device; others may be rounded otherwise.

    Args:
        vector: shape (d,), finite, any float dtype, any device; not modified.
        bucket_size: entries a bucket, at least 1; the last bucket may be shorter.
        order: p, at least 1.
    """
    if order == 2:
        return segment_energies(vector, bucket_size).sqrt_()
    num_whole = vector.numel() // bucket_size * bucket_size
    parts = [vector[:num_whole].reshape(-1, bucket_size), vector[None, num_whole:]]
    return torch.cat([_row_norms(part, order) for part in parts if part.numel()])


def _row_norms(rows: Tensor, order: float) -> Tensor:
    largest = rows.abs().amax(dim=1).to(torch.float64)
    if order == math.inf:
        return largest
    divisors = torch.where(largest > 0, largest, 1.0)  # their powers cannot overflow
    ratios = rows.to(torch.float64) / divisors[:, None]
    norms: Tensor = torch.linalg.vector_norm(ratios, ord=order, dim=1)
    return norms * divisors


@compiled
def _bit_range(bits: npt.NDArray[Any], mask: int) -> tuple[int, int]:
    """Return the least of the fields that are not 0 under the mask, or 0, and the largest."""
    least, most = mask, bits[0] & mask
    for j in range(len(bits)):
        field = bits[j] & mask
        most = max(most, field)
        least = min(least, (field - 1) & mask)  # 0 becomes the mask, which is the largest
    return (least + 1) & mask, most
