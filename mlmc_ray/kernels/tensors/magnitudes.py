"""Selecting and counting entries by magnitude with tensor operations."""

import torch
from torch import Tensor

NUM_BINS = 1 << 16
LOW_BITS = 15


def largest(magnitudes: Tensor, k: int) -> Tensor:
    """Return which entries are the ``k`` largest, ties going to lower positions; shape (d,), bool.

    Args:
        magnitudes: shape (d,), not negative, finite; not modified.
        k: 0 to d.
    """
    if k in (0, magnitudes.numel()):
        return torch.full(magnitudes.shape, k > 0, dtype=torch.bool, device=magnitudes.device)
    threshold = torch.topk(magnitudes, k, sorted=False).values.min()
    chosen = magnitudes > threshold
    ties = torch.nonzero(magnitudes == threshold).flatten()
    chosen[ties[: k - int(chosen.sum())]] = True
    return chosen


def entries_between(magnitudes: Tensor, low_rank: int, high_rank: int) -> Tensor:
    """Return the positions of magnitude rank ``low_rank`` to ``high_rank - 1``, ascending."""
    chosen = largest(magnitudes, high_rank)
    if low_rank:
        chosen &= ~largest(magnitudes, low_rank)
    return torch.nonzero(chosen).flatten()


def histogram(vector: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Count the entries of every bin of magnitudes, and add the low bits of their magnitudes.

    Args:
        vector: shape (d,), finite, float32 or rounded to it; not modified.

    Returns:
        For every high 16 of the 31 bits of a magnitude, int64, shape (65536,): the number of
        entries, and the sums of their low 15 bits and of the squares of these. All are exact.
    """
    bits = vector.detach().to(torch.float32).contiguous().view(torch.int32) & 0x7FFFFFFF
    bins, low = bits >> LOW_BITS, (bits & ((1 << LOW_BITS) - 1)).to(torch.int64)
    counts = torch.bincount(bins, minlength=NUM_BINS)
    first, second = (torch.zeros_like(counts) for _ in range(2))
    places = bins.to(torch.int64)
    first.scatter_add_(0, places, low)
    second.scatter_add_(0, places, low * low)
    return counts, first, second
