"""Selecting and ranking entries by magnitude.

The magnitude of a float32 is its bits without the sign: read as an integer, they grow with it. On
the CPU the selections count these integers instead of sorting them: a histogram of their high 16
bits finds the bin that holds an entry of given rank, a histogram of the low 15 bits inside that
bin finds its magnitude, and one pass collects the positions. The time hardly depends on the values.
"""

import itertools
import math

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mlmc_ray.kernels.compiled import compiled

_Bits = npt.NDArray[np.uint32]
_Positions = npt.NDArray[np.int64]

_MAGNITUDE = np.uint32(0x7FFFFFFF)
_LOW_BITS = np.uint32(15)
_BIN_WIDTH = np.uint32(1 << 15)
_NUM_BINS = 1 << 16
_ABOVE_ALL = 1 << 31
_BLOCK = 64  # looked at together, in vector registers
_CHUNK = 1024  # entries between two checks for a full output
_SAMPLE_SIZE = 1 << 14


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
    if not _compilable(vector):
        return _largest_by_topk(vector.abs(), k)
    bits = _bits_of(vector)
    candidates = _candidates(bits, k)
    if candidates is None:
        return torch.from_numpy(_between(bits, _count_bins(bits), 0, k))
    among = bits[candidates]
    return torch.from_numpy(candidates[_between(among, _count_bins(among), 0, k)])


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
    if not _compilable(magnitudes):
        return torch.sort(magnitudes, descending=True, stable=True).indices
    # The bits of a non-negative float, read as an integer, grow with it; inverted, they fall.
    keys = (~_bits_of(magnitudes)).astype(np.uint64)
    keys <<= np.uint64(32)
    keys |= np.arange(len(keys), dtype=np.uint64)
    keys.sort()
    return torch.from_numpy((keys & np.uint64(0xFFFFFFFF)).view(np.int64))


def magnitude_histogram(
    vector: Tensor,
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Count the entries, and add their squares, by the high 16 of the 31 bits of their magnitude.

    Bin b holds the magnitudes whose float32 bits are b 2^15 to (b + 1) 2^15 - 1: larger magnitudes
    in higher bins, which are 2^-8 wide relative to the power of two below (bins below 256, the
    subnormal numbers, have equal widths).

    Args:
        vector: shape (d,), any float dtype, any device, finite; rounded to float32 where it is not.

    Returns:
        The counts, int64, and the sums of squares, float64, both of shape (65536,).
    """
    values = vector.detach().to("cpu", torch.float32).contiguous().numpy()
    counts, sums = _count_and_square(values.view(np.uint32), values)
    return counts, sums


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
    if not _compilable(vector):
        return rank(vector.abs())[low_rank:high_rank].sort().values
    bits = _bits_of(vector)
    known = _count_bins(bits) if counts is None else counts
    return torch.from_numpy(_between(bits, known, low_rank, high_rank))


def _check_ranks(low: int, high: int, dim: int) -> None:
    if not 0 <= low <= high <= dim:
        raise ValueError(f"ranks {low} to {high}: expected 0 <= low <= high <= {dim}")


def _compilable(vector: Tensor) -> bool:
    return vector.device.type == "cpu" and vector.dtype == torch.float32


def _bits_of(vector: Tensor) -> _Bits:
    bits: _Bits = vector.detach().contiguous().numpy().view(np.uint32)
    return bits


def _largest_by_topk(magnitudes: Tensor, k: int) -> Tensor:
    if k == 0:
        return torch.empty(0, dtype=torch.int64, device=magnitudes.device)
    threshold = torch.topk(magnitudes, k, sorted=False).values.min()
    chosen = magnitudes > threshold
    ties = torch.nonzero(magnitudes == threshold).flatten()
    chosen[ties[: k - int(chosen.sum())]] = True
    return torch.nonzero(chosen).flatten()


def _candidates(bits: _Bits, k: int) -> _Positions | None:
    """Return all positions from some magnitude up, somewhat more than k; None if that fails."""
    dim = len(bits)
    if not dim >= 4 * _SAMPLE_SIZE or not 0 < 16 * k <= dim:
        return None
    sample = bits[:: dim // _SAMPLE_SIZE] & _MAGNITUDE
    expected = k * len(sample) / dim
    place = math.ceil(expected + 4 * math.sqrt(expected) + 4)  # four standard deviations more
    threshold = int(np.partition(sample, len(sample) - place)[len(sample) - place])
    capacity = 2 * place * dim // len(sample)
    out = np.empty(capacity + _CHUNK, dtype=np.int64)
    found = _collect(bits, 0, dim, threshold, _ABOVE_ALL, out, 0)
    return out[:found] if k <= found <= capacity else None


def _between(bits: _Bits, counts: npt.NDArray[np.int64], low: int, high: int) -> _Positions:
    """Collect the entries that belong to the ``high`` largest, but not to the ``low`` largest."""
    dim, size = len(bits), high - low
    out = np.empty(size + _CHUNK, dtype=np.int64)
    bottom, bottom_end = _smallest_of_largest(bits, counts, high)
    top, top_end = _smallest_of_largest(bits, counts, low)
    found, cuts = 0, sorted({0, bottom_end, top_end, dim})
    for first, last in itertools.pairwise(cuts):
        least = bottom if first < bottom_end else bottom + 1
        limit = top if first < top_end else top + 1
        found = _collect(bits, first, last, least, limit, out, found)
    if found != size:
        raise ValueError("counts is not the histogram of the vector's magnitudes")
    return out[:size]


def _smallest_of_largest(bits: _Bits, counts: npt.NDArray[np.int64], size: int) -> tuple[int, int]:
    """Find which entries are the ``size`` largest.

    Returns:
        The smallest magnitude among them, as bits, and the position from which on entries of just
        that magnitude are not among them any more.
    """
    if size == 0:
        return _ABOVE_ALL, len(bits)
    high_bits, wanted = _reach(counts, size)
    within = _count_within(bits, high_bits)
    low_bits, ties = _reach(within, wanted)
    magnitude = (high_bits << int(_LOW_BITS)) + low_bits
    all_ties = ties == within[low_bits]
    return magnitude, len(bits) if all_ties else _end_of_ties(bits, magnitude, ties)


@compiled
def _reach(counts: npt.NDArray[np.int64], size: int) -> tuple[int, int]:
    """Return the bin of the size-th entry from above, and how many of the bin that takes."""
    remaining = size
    for b in range(counts.size - 1, 0, -1):
        if counts[b] >= remaining:
            return b, remaining
        remaining -= counts[b]
    return 0, remaining


@compiled
def _count_bins(bits: _Bits) -> npt.NDArray[np.int64]:
    counts = np.zeros(_NUM_BINS, np.int64)
    for j in range(bits.size):
        counts[(bits[j] & _MAGNITUDE) >> _LOW_BITS] += 1
    return counts


@compiled
def _count_and_square(
    bits: _Bits, values: npt.NDArray[np.float32]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    counts = np.zeros(_NUM_BINS, np.int64)
    even, odd = np.zeros(_NUM_BINS, np.float64), np.zeros(_NUM_BINS, np.float64)
    for pair in range(bits.size // 2):  # two sums, so that an addition need not wait for the last
        b = (bits[2 * pair] & _MAGNITUDE) >> _LOW_BITS
        value = np.float64(values[2 * pair])
        counts[b] += 1
        even[b] += value * value
        b = (bits[2 * pair + 1] & _MAGNITUDE) >> _LOW_BITS
        value = np.float64(values[2 * pair + 1])
        counts[b] += 1
        odd[b] += value * value
    if bits.size % 2:
        b = (bits[-1] & _MAGNITUDE) >> _LOW_BITS
        value = np.float64(values[-1])
        counts[b] += 1
        even[b] += value * value
    return counts, even + odd


@compiled
def _count_within(bits: _Bits, high_bits: int) -> npt.NDArray[np.int64]:
    """Count the entries of one bin by their low 15 bits; blocks without any are skipped."""
    counts = np.zeros(_BIN_WIDTH + 1, np.int64)  # the last one for all that is not in the bin
    least = np.uint32(high_bits << _LOW_BITS)
    for start in range(0, bits.size, _BLOCK):
        block = bits[start : start + _BLOCK]
        hits = np.uint32(0)
        for j in range(block.size):
            hits += np.uint32(np.uint32((block[j] & _MAGNITUDE) - least) < _BIN_WIDTH)
        if hits:
            for j in range(block.size):
                counts[min(np.uint32((block[j] & _MAGNITUDE) - least), _BIN_WIDTH)] += 1
    return counts[:-1]


@compiled
def _end_of_ties(bits: _Bits, magnitude: int, ties: int) -> int:
    """Return the position after the ties-th entry of the given magnitude."""
    wanted, remaining = np.uint32(magnitude), np.int64(ties)
    for start in range(0, bits.size, _BLOCK):
        block = bits[start : start + _BLOCK]
        hits = np.uint32(0)
        for j in range(block.size):
            hits += np.uint32((block[j] & _MAGNITUDE) == wanted)
        if hits >= remaining:
            for j in range(block.size):
                remaining -= np.int64((block[j] & _MAGNITUDE) == wanted)
                if remaining == 0:
                    return start + j + 1
        remaining -= np.int64(hits)
    return bits.size


@compiled
def _collect(
    bits: _Bits, first: int, last: int, least: int, limit: int, out: _Positions, found: int
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
            more += np.int64(np.uint32((chunk[j] & _MAGNITUDE) - lowest) < width)
        total += more
    return int(total)
