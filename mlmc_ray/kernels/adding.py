"""Adding to some entries of a vector, each in its place."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from mlmc_ray.kernels.compiled import compiled

_Ints = npt.NDArray[np.int64]
_JOINED = 1 / 16  # of the vector's entries: most that are copied, with 12 bytes each
_PART = 1 << 15  # entries of a vector that stay in the cache while all parts are added
_TILE = 512  # groups whose entries are added side by side


def add_at(
    vector: npt.NDArray[Any], indices: _Ints, values: npt.NDArray[Any], weight: float
) -> None:
    """Add ``weight`` times ``values[r]`` to entry ``indices[r]``; products and sums are rounded.

    Args:
        vector: shape (d,), float32 or float64; modified.
        indices: shape (k,), from 0 to d - 1.
        values: shape (k,), of the dtype of the vector.
        weight: rounded to that dtype.

    Raises:
        IndexError: an index is out of range; those before it have been added to.
        ValueError: there are not as many values as indices.
    """
    if len(indices) != len(values):
        raise ValueError(f"{len(values)} values for {len(indices)} indices: give one each")
    added = _add_at(vector, indices, values, vector.dtype.type(weight))
    if added < len(indices):
        raise IndexError(f"index {indices[added]} is not in 0..{len(vector) - 1}")


@compiled
def _add_at(
    vector: npt.NDArray[Any], indices: _Ints, values: npt.NDArray[Any], weight: float
) -> int:
    for r in range(len(indices)):
        place = np.uint64(indices[r])
        if place >= np.uint64(len(vector)):
            return r
        vector[place] += weight * values[r]
    return len(indices)


def set_to_sum(
    vector: npt.NDArray[Any],
    indices: Sequence[_Ints],
    values: Sequence[npt.NDArray[Any]],
    weight: float,
) -> None:
    """Set to zero, then ``add_at`` with every pair of indices and values, in their order.

    It goes through the vector once, part by part, where few entries are added.

    Args:
        vector: shape (d,), float32 or float64; modified, even where an index is refused.
        indices: shape (k,) each, int64, ascending.
        values: shape (k,) each, of the dtype of the vector.
        weight: rounded to that dtype.

    Raises:
        IndexError: an index is out of range.
        ValueError: there are not as many values as indices.
    """
    lengths = [len(part) for part in indices]
    if lengths != [len(part) for part in values]:
        found = [len(part) for part in values]
        raise ValueError(f"{found} values for {lengths} indices: give one each")
    if not lengths or sum(lengths) > len(vector) * _JOINED:
        vector[:] = 0
        for places, numbers in zip(indices, values, strict=True):
            add_at(vector, places, numbers, weight)
        return
    ends = np.cumsum(np.array(lengths, np.int64))
    at = ends - lengths
    joined = np.concatenate(indices)
    _set_to_sum(vector, joined, np.concatenate(values), at, ends, vector.dtype.type(weight))
    for place, end in zip(at, ends, strict=True):
        if place < end:
            raise IndexError(f"index {joined[place]} is not in 0..{len(vector) - 1}")


@compiled
def _set_to_sum(
    vector: npt.NDArray[Any],
    indices: _Ints,
    values: npt.NDArray[Any],
    at: _Ints,
    ends: _Ints,
    weight: float,
) -> None:
    """Add from ``at[n]`` to ``ends[n]`` for every n; ``at`` stops before an index out of range."""
    for low in range(0, len(vector), _PART):
        high = np.uint64(min(low + _PART, len(vector)))
        vector[low:high] = 0
        for n in range(len(at)):
            r = at[n]
            while r < ends[n]:
                place = np.uint64(indices[r])  # of a negative one it is huge
                if place >= high:
                    break
                vector[place] += weight * values[r]
                r += 1
            at[n] = r


def add_groups(
    vector: npt.NDArray[Any],
    starts: _Ints,
    apart: int,
    factors: npt.NDArray[np.float64],
    codes: _Ints,
    codebook: npt.NDArray[np.float32],
    weight: float,
) -> None:
    """Add ``weight`` times multiples of a codebook's rows to groups of entries.

    Entry k of a group is at ``starts[r] + k * apart``; those beyond the vector are left out. A
    multiple is rounded to float32 before it is weighted.

    Args:
        vector: shape (d,), float32 or float64; modified.
        starts: shape (groups,), 0 or more.
        apart: how far entries of a group are apart, 1 or more.
        factors: shape (groups,).
        codes: shape (groups,), rows of the codebook.
        codebook: shape (rows, n).
        weight: rounded to the dtype of the vector.

    Raises:
        IndexError: a start is below 0, or the codebook has no such row; nothing has been added.
    """
    if len(starts) and (starts.min() < 0 or codes.min() < 0 or codes.max() >= len(codebook)):
        raise IndexError(
            f"starts from {starts.min()} and codes from {codes.min()} to {codes.max()}: expected 0 "
            f"or more, and {len(codebook)} rows"
        )
    columns = np.ascontiguousarray(codebook.T)
    _add_groups(vector, starts, apart, factors, codes, columns, vector.dtype.type(weight))


@compiled
def _add_groups(
    vector: npt.NDArray[Any],
    starts: _Ints,
    apart: int,
    factors: npt.NDArray[np.float64],
    codes: _Ints,
    columns: npt.NDArray[np.float32],
    weight: float,
) -> None:
    for low in range(0, len(starts), _TILE):
        high = min(low + _TILE, len(starts))
        for k in range(len(columns)):
            column, offset = columns[k], k * apart
            for r in range(low, high):
                place = np.uint64(starts[r] + offset)
                if place < np.uint64(len(vector)):
                    vector[place] += weight * np.float32(factors[r] * column[codes[r]])
