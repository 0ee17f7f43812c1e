"""Selecting and ranking the entries of largest magnitude."""

import numpy as np
import torch
from torch import Tensor


def largest(magnitudes: Tensor, k: int) -> Tensor:
    """Return the positions of the ``k`` largest entries, in ascending order of position.

    Ties are broken by the lower position, so the answer does not depend on the device
    (``torch.topk`` alone leaves it open).

    Args:
        magnitudes: shape (d,), non-negative and finite; not modified.
        k: 0 to d.

    Returns:
        int64, shape (k,), on the device of ``magnitudes``.
    """
    if k == magnitudes.numel():
        return torch.arange(k, device=magnitudes.device)
    if k == 0:
        return torch.empty(0, dtype=torch.int64, device=magnitudes.device)
    threshold = torch.topk(magnitudes, k, sorted=False).values.min()
    chosen = magnitudes > threshold
    ties = torch.nonzero(magnitudes == threshold).flatten()
    chosen[ties[: k - int(chosen.sum())]] = True
    return torch.nonzero(chosen).flatten()


def rank(magnitudes: Tensor) -> Tensor:
    """Return the positions of all entries by decreasing magnitude, ties by ascending position.

    On the CPU a float32 magnitude and its position are sorted as one 64-bit integer, which NumPy
    does in vector registers: 10 to 20 times faster than a stable sort of floats.

    Args:
        magnitudes: shape (d,), non-negative and finite; not modified.

    Returns:
        int64, shape (d,), on the device of ``magnitudes``.
    """
    if magnitudes.device.type != "cpu" or magnitudes.dtype != torch.float32:
        return torch.sort(magnitudes, descending=True, stable=True).indices
    # The bits of a non-negative float, read as an integer, grow with it; inverted, they fall.
    keys = (~magnitudes.contiguous().view(torch.int32)).numpy().view(np.uint32).astype(np.uint64)
    keys <<= np.uint64(32)
    keys |= np.arange(len(keys), dtype=np.uint64)
    keys.sort()
    return torch.from_numpy((keys & np.uint64(0xFFFFFFFF)).view(np.int64))
