"""Selecting and ranking entries by magnitude.

On the CPU the selections count the bits of float32 magnitudes (``kernels.magnitudes``) instead of
sorting them, and one pass collects the positions. The time hardly depends on the values.
"""

import itertools
import math

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mlmc_ray.kernels.compiled import compiled
from mlmc_ray.kernels.device import on_cpu
from mlmc_ray.kernels.magnitudes import (
    ABOVE_ALL,
    MAGNITUDE,
    Bits,
    bits_of,
    bounds,
    count_bins,
    reach,
    smallest_of_largest,
)
from mlmc_ray.kernels.tensors import magnitudes as tensors

_Positions = npt.NDArray[np.int64]
_OTHER_COUNTS = "counts is not the histogram of the vector's magnitudes"

_CHUNK = 1024  # entries between two checks for a full output
_SAMPLE_SIZE = 1 << 14
_FEW = 1 / 32  # of all entries: so many are quicker to copy than to pass all by twice more


def largest_entries(vector: Tensor, k: int) -> Tensor:
    """Return the positions of the ``k`` entries of largest magnitude, ascending.

    Ties are broken by the lower position, so the answer does not depend on the device
    (``torch.topk`` alone leaves it open). When few entries of a float32 vector on the CPU are
    wanted, a sample guesses a magnitude that somewhat more of them reach, and only those are
    looked at closely; where the guess is wrong, all are.

    Args:
        vector: shape (d,), any float dtype, any device, finite; not modified.
        k: 0 to d.

    Returns:
        int64, shape (k,), on the device of ``vector``.

    Raises:
        ValueError: k is out of range.
    """
    dim = vector.numel()
    _check_ranks(0, k, dim)
    if k == dim:
        return torch.arange(k, device=vector.device)
    if not on_cpu(vector, torch.float32):
        return tensors.entries_between(vector.abs(), 0, k)
    bits = bits_of(vector)
    candidates = _candidates(bits, k)
    if candidates is None:
        return torch.from_numpy(_between(bits, count_bins(bits), 0, k))
    among = bits[candidates]
    return torch.from_numpy(candidates[_between(among, count_bins(among), 0, k)])


def largest(magnitudes: Tensor, k: int) -> Tensor:
    """Return the positions of the ``k`` largest entries, as ``largest_entries`` does.

    Args:
        magnitudes: shape (d,), non-negative and finite; not modified.
        k: 0 to d.

    Returns:
        int64, shape (k,), ascending, on the device of ``magnitudes``.
    """
    return largest_entries(magnitudes, k)


def rank(magnitudes: Tensor) -> Tensor:
    """Return the positions of all entries by decreasing magnitude, ties by ascending position.

    On the CPU a float32 magnitude and its position are sorted as one 64-bit integer, which NumPy
    does in vector registers: 10 to 20 times faster than a stable sort of floats.

    Args:
        magnitudes: shape (d,), non-negative and finite; not modified.

    Returns:
        int64, shape (d,), on the device of ``magnitudes``.
    """
    if not on_cpu(magnitudes, torch.float32):
        return torch.sort(magnitudes, descending=True, stable=True).indices
    # The bits of a non-negative float, read as an integer, grow with it; inverted, they fall.
    keys = (~bits_of(magnitudes)).astype(np.uint64)
    keys <<= np.uint64(32)
    keys |= np.arange(len(keys), dtype=np.uint64)
    keys.sort()
    return torch.from_numpy((keys & np.uint64(0xFFFFFFFF)).view(np.int64))


def entries_between(
    vector: Tensor, low_rank: int, high_rank: int, counts: npt.NDArray[np.int64] | None = None
) -> Tensor:
    """Return the positions of the entries of magnitude rank ``low_rank`` to ``high_rank - 1``.

    Ranks start at 0 and go by decreasing magnitude, ties by ascending position: the answer is
    ``rank(vector.abs())[low_rank:high_rank]``, in ascending order, without the sort.

    Args:
        vector: shape (d,), any float dtype, any device, finite; not modified.
        low_rank: 0 to ``high_rank``.
        high_rank: ``low_rank`` to d.
        counts: of ``magnitude_histogram(vector)``, where it is known; used for float32 on the CPU.

    Returns:
        int64, shape (high_rank - low_rank,), ascending, on the device of ``vector``.

    Raises:
        ValueError: the ranks are out of range, or ``counts`` is not the vector's histogram.
    """
    _check_ranks(low_rank, high_rank, vector.numel())
    if not on_cpu(vector, torch.float32):
        return tensors.entries_between(vector.abs(), low_rank, high_rank)
    bits = bits_of(vector)
    known = count_bins(bits) if counts is None else counts
    return torch.from_numpy(_between(bits, known, low_rank, high_rank))


def _check_ranks(low: int, high: int, dim: int) -> None:
    if not 0 <= low <= high <= dim:
        raise ValueError(f"ranks {low} to {high}: expected 0 <= low <= high <= {dim}")


def _candidates(bits: Bits, k: int) -> _Positions | None:
    """Return all positions from some magnitude up, somewhat more than k; None if that fails."""
    dim = len(bits)
    if not dim >= 4 * _SAMPLE_SIZE or not 0 < 16 * k <= dim:
        return None
    sample = bits[:: dim // _SAMPLE_SIZE] & MAGNITUDE
    expected = k * len(sample) / dim
    place = math.ceil(expected + 4 * math.sqrt(expected) + 4)  # four standard deviations more
    threshold = int(np.partition(sample, len(sample) - place)[len(sample) - place])
    capacity = 2 * place * dim // len(sample)
    out = np.empty(capacity + _CHUNK, dtype=np.int64)
    found = _collect(bits, 0, dim, threshold, ABOVE_ALL, out, 0)
    return out[:found] if k <= found <= capacity else None


def _between(bits: Bits, counts: npt.NDArray[np.int64], low: int, high: int) -> _Positions:
    """Collect the entries that belong to the ``high`` largest, but not to the ``low`` largest.

    Where the bins that hold them hold few others, what is in these bins is collected first.
    """
    if low == high:
        return np.empty(0, dtype=np.int64)
    bottom, _ = reach(counts, high)
    top, taken = reach(counts, low + 1)
    number = int(counts[bottom : top + 1].sum())
    if number > _FEW * len(bits):
        return _exactly_between(bits, counts, low, high)
    out = np.empty(number + _CHUNK, dtype=np.int64)
    found = _collect(bits, 0, len(bits), *bounds(bottom, top), out, 0)
    if found != number:
        raise ValueError(_OTHER_COUNTS)
    among, above = bits[out[:found]], low + 1 - taken
    return out[_exactly_between(among, count_bins(among), low - above, high - above)]


def _exactly_between(bits: Bits, counts: npt.NDArray[np.int64], low: int, high: int) -> _Positions:
    dim, size = len(bits), high - low
    out = np.empty(size + _CHUNK, dtype=np.int64)
    bottom, bottom_end = smallest_of_largest(bits, counts, high)
    top, top_end = smallest_of_largest(bits, counts, low)
    found, cuts = 0, sorted({0, bottom_end, top_end, dim})
    for first, last in itertools.pairwise(cuts):
        least = bottom if first < bottom_end else bottom + 1
        limit = top if first < top_end else top + 1
        found = _collect(bits, first, last, least, limit, out, found)
    if found != size:
        raise ValueError(_OTHER_COUNTS)
    return out[:size]


@compiled
def _collect(
    bits: Bits, first: int, last: int, least: int, limit: int, out: _Positions, found: int
) -> int:
    """Append the positions in [first, last) of the magnitudes in [least, limit).

    There is no branch: every position is written, and the next one over it unless it counts.

    Args:
        bits: of the vector.
        first: start of the range.
        last: end of the range.
        least: smallest magnitude, as bits.
        limit: above the largest magnitude, as bits; at least ``least``.
        out: written from ``found`` on; the last 1024 places are for what does not count.
        found: how many there are before.

    Returns:
        How many there are now. It stops soon after they no longer fit: the answer is then larger
        than ``len(out) - 1024``.
    """
    lowest, width = np.uint32(least), np.uint32(limit - least)
    total = np.int64(found)
    for start in range(first, last, _CHUNK):
        if total > out.size - _CHUNK:
            break
        chunk = bits[start : min(start + _CHUNK, last)]
        rest, more = out[total:], np.int64(0)  # the loop runs faster from 0
        for j in range(chunk.size):
            rest[more] = start + j
            more += np.int64(np.uint32((chunk[j] & MAGNITUDE) - lowest) < width)
        total += more
    return int(total)
