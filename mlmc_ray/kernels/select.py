"""Selecting the entries of largest magnitude."""

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
