"""Selecting and counting entries by magnitude with tensor operations."""

import torch
from torch import Tensor

LOW_BITS = 15
NUM_BINS = (1 << 16) + 1  # what is not finite has a place too


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


def histogram(vector: Tensor) -> Tensor:
    """Count the entries of every bin of magnitudes; int64, shape (65537,).

    Args:
        vector: shape (d,), finite, float32 or rounded to it; not modified.
    """
    bits = vector.detach().to(torch.float32).contiguous().view(torch.int32) & 0x7FFFFFFF
    return torch.bincount(-(-bits >> LOW_BITS), minlength=NUM_BINS)  # rounded up
