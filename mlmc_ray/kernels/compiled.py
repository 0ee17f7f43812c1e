"""How the hot loops are compiled: by numba, once a machine, without Python's lock."""

from collections.abc import Callable
from typing import ParamSpec, TypeVar

import numba

_P = ParamSpec("_P")
_R = TypeVar("_R")


def compiled(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Compile a function of numbers and NumPy arrays on its first call, and cache the result."""
    result: Callable[_P, _R] = numba.njit(cache=True, nogil=True, error_model="numpy")(function)
    return result
