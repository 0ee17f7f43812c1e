"""Which implementation of a kernel takes a vector: compiled loops, or tensor operations."""

from typing import Any

import numpy.typing as npt
import torch
from torch import Tensor

_COMPILED = "cpu"  # a test puts another name here, to run the tensor operations on the CPU


def on_cpu(vector: Tensor, *dtypes: torch.dtype) -> bool:
    """Return whether compiled loops take a vector; tensor operations take it where they do not.

    Args:
        vector: any shape, dtype and device.
        dtypes: those that the loops read; none given means that they read any.
    """
    return vector.device.type == _COMPILED and (not dtypes or vector.dtype in dtypes)


def array_of(vector: Tensor) -> npt.NDArray[Any]:
    """Return the entries of a vector on the CPU, contiguous; half precision becomes float32."""
    array: npt.NDArray[Any] = at_least_single(vector.detach()).contiguous().numpy()
    return array


def at_least_single(values: Tensor) -> Tensor:
    """Return half precision as float32, and the rest as it is."""
    return values.float() if values.dtype in (torch.float16, torch.bfloat16) else values
