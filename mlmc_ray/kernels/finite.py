"""Looking for NaN and infinity, and for the largest magnitude."""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mlmc_ray.kernels.compiled import compiled
from mlmc_ray.kernels.device import array_of, on_cpu

_MAGNITUDE = np.uint32(0x7FFFFFFF)
_INFINITY = 0x7F800000  # the bits of float32 infinity; those of NaN are above


def all_finite(vector: Tensor) -> bool:
    """Return whether no entry is NaN or infinite.

    ``torch.isfinite`` makes several passes and temporaries of the vector's size; this is one pass
    without temporaries. The bits of a float32 without the sign, read as an integer, grow with its
    magnitude and are largest for NaN.

    Args:
        vector: shape (d,), any float dtype, any device; not modified.
    """
    if on_cpu(vector, torch.float32):
        return _largest_magnitude(array_of(vector).view(np.uint32)) < _INFINITY
    return scan(vector)[0]


def scan(vector: Tensor) -> tuple[bool, float]:
    """Return whether no entry is NaN or infinite, and the largest magnitude, in one pass.

    Args:
        vector: shape (d,), any float dtype, any device; not modified.

    Returns:
        Whether all entries are finite, and the largest magnitude: NaN if any entry is, 0 if there
        are none.
    """
    if not vector.numel():
        return True, 0.0
    if on_cpu(vector, torch.float32):
        bits = _largest_magnitude(array_of(vector).view(np.uint32))
        return bits < _INFINITY, float(np.uint32(bits).view(np.float32))
    # A NaN anywhere makes both extremes NaN.
    largest = float(torch.stack(torch.aminmax(vector.detach())).abs().max())
    return bool(np.isfinite(largest)), largest


@compiled
def _largest_magnitude(bits: npt.NDArray[np.uint32]) -> int:
    largest = np.uint32(0)
    for j in range(bits.size):
        magnitude = np.uint32(bits[j] & _MAGNITUDE)
        largest = magnitude if magnitude > largest else largest
    return int(largest)
