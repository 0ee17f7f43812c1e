"""Sums in the fixed order of ``kernels.sums``, as tensor operations."""

import torch
from torch import Tensor
from torch.nn.functional import pad

BLOCK = 1024  # numbers folded at once


def segment_sums(terms: Tensor, size: int) -> Tensor:
    """Return the sum of every ``size`` consecutive terms, the last maybe of fewer.

    Args:
        terms: shape (n,), float64; not modified.
        size: at least 1.

    Returns:
        shape (ceil(n / size),), float64.
    """
    if not terms.numel():
        return terms
    size = min(size, terms.numel())
    rows = pad(terms, (0, -terms.numel() % size)).view(-1, size)
    while rows.shape[1] > 1:
        rows = _fold_blocks(rows)
    return rows[:, 0]


def total(terms: Tensor) -> float:
    """Return the sum of all terms, shape (n,), float64; 0 for none."""
    return float(segment_sums(terms, max(1, terms.numel())).sum())  # of one number, or none


def _fold_blocks(rows: Tensor) -> Tensor:
    """Return the sums of every 1024 numbers of every row."""
    width = min(BLOCK, 1 << (rows.shape[1] - 1).bit_length())
    blocks = pad(rows, (0, -rows.shape[1] % width)).view(len(rows), -1, width)
    while blocks.shape[2] > 1:
        half = blocks.shape[2] // 2
        blocks = blocks[:, :, :half] + blocks[:, :, half:]
    return torch.squeeze(blocks, 2)
