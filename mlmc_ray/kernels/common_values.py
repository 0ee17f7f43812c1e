"""Whether few distinct numbers make up a vector, and which."""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mlmc_ray.kernels.compiled import compiled
from mlmc_ray.kernels.device import on_cpu


def common_values(leading: Tensor, most: int) -> tuple[Tensor, Tensor] | None:
    """Return the distinct numbers of a tensor, ascending, and the place of every entry among them.

    Args:
        leading: shape (d,), int32, from 0 to a few million; not modified.
        most: how many distinct numbers there may be.

    Returns:
        int32, and int32 of shape (d,); None where there are more distinct numbers.
    """
    if not on_cpu(leading):
        distinct, places = torch.unique(leading, return_inverse=True)
        return (distinct, places.to(torch.int32)) if len(distinct) <= most else None
    array = leading.contiguous().numpy()
    present = np.zeros(int(array.max()) + 1, dtype=np.bool_)
    _mark(array, present)
    found = np.flatnonzero(present)
    if len(found) > most:
        return None
    ranks = np.cumsum(present, dtype=np.int32) - np.int32(1)
    numbers = torch.from_numpy(found.astype(np.int32))
    return numbers, torch.from_numpy(np.take(ranks, array))


@compiled
def _mark(numbers: npt.NDArray[np.int32], present: npt.NDArray[np.bool_]) -> None:
    for number in numbers:
        present[number] = True
