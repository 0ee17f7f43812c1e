"""Rounding to the nearest of a few values."""

from typing import Any

import numpy as np
import numpy.typing as npt

from mlmc_ray.kernels.compiled import compiled

_Floats = npt.NDArray[np.float32]
_CHUNK = 1 << 12  # entries at once: they and their codes stay within the first-level cache


def nearest_centroids(
    values: _Floats, centroids: npt.NDArray[np.float64], unit: float
) -> tuple[npt.NDArray[np.int8], float]:
    """Return which centroid is nearest to every value / ``unit``, and <c, values>.

    c holds the nearest centroids themselves; the upper one on ties.

    Args:
        values: shape (d,), float32, finite; not modified.
        centroids: ascending, 1 to 127.
        unit: positive.

    Returns:
        Places among the centroids, int8, shape (d,); the inner product, summed in float64.
    """
    boundaries = ((centroids[1:] + centroids[:-1]) / 2 * unit).astype(np.float32)
    codes = np.empty(len(values), dtype=np.int8)
    return codes, _nearest(values, centroids, boundaries, codes)


@compiled
def _nearest(
    values: _Floats, centroids: npt.NDArray[np.float64], boundaries: _Floats, codes: Any
) -> float:
    total = 0.0
    for start in range(0, len(values), _CHUNK):
        part, places = values[start : start + _CHUNK], codes[start : start + _CHUNK]
        places[:] = 0
        for boundary in boundaries:
            for j in range(len(part)):
                places[j] += np.int8(part[j] >= boundary)
        whole = len(part) // 4 * 4
        s0 = s1 = s2 = s3 = 0.0  # four sums, to add without waiting for each other
        for j in range(0, whole, 4):
            s0 += centroids[places[j]] * part[j]
            s1 += centroids[places[j + 1]] * part[j + 1]
            s2 += centroids[places[j + 2]] * part[j + 2]
            s3 += centroids[places[j + 3]] * part[j + 3]
        for j in range(whole, len(part)):
            s0 += centroids[places[j]] * part[j]
        total += (s0 + s1) + (s2 + s3)
    return total
