"""Adding quantised vectors."""

from typing import Any

import numpy as np
import numpy.typing as npt

from mlmc_ray.kernels.compiled import compiled


@compiled
def add_scaled(
    accumulator: npt.NDArray[Any],
    codes: npt.NDArray[Any],
    scales: npt.NDArray[np.float64],
    bucket_size: int,
    offset: float,
) -> None:
    """Add scales[j // bucket_size] * (codes[j] + offset) to entry j, in place.

    Args:
        accumulator: shape (d,), float32 or float64; modified.
        codes: shape (d,), any integers.
        scales: one for every bucket.
        bucket_size: entries a bucket.
        offset: added to every code.
    """
    for bucket in range(len(scales)):
        scale = scales[bucket]
        for j in range(bucket * bucket_size, min(len(codes), (bucket + 1) * bucket_size)):
            accumulator[j] += scale * (codes[j] + offset)


@compiled
def add_looked_up(
    accumulator: npt.NDArray[Any],
    codes: npt.NDArray[Any],
    scales: npt.NDArray[np.float64],
    bucket_size: int,
    table: npt.NDArray[np.float64],
    low: int,
) -> None:
    """Add scales[j // bucket_size] * table[codes[j] - low] to entry j, in place.

    Args:
        accumulator: shape (d,), float32 or float64; modified.
        codes: shape (d,), integers from ``low`` to ``low + len(table) - 1``.
        scales: one for every bucket.
        bucket_size: entries a bucket.
        table: the value of every code.
        low: the code of the first value.
    """
    for bucket in range(len(scales)):
        scale = scales[bucket]
        for j in range(bucket * bucket_size, min(len(codes), (bucket + 1) * bucket_size)):
            accumulator[j] += scale * table[codes[j] - low]
