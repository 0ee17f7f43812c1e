"""Counting entries by magnitude.

The magnitude of a float32 is its bits without the sign: read as an integer, they grow with it. A
histogram of these integers finds the bin that holds an entry of given rank, and a histogram inside
that bin finds its magnitude. Bin 0 holds the zeros, and bin b the integers (b - 1) 2^15 + 1 to
b 2^15: larger magnitudes in higher bins, 2^-8 wide relative to the power of two below (bins up to
256, of the subnormal numbers, have equal widths).
"""

from functools import cache

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mlmc_ray.kernels.compiled import compiled
from mlmc_ray.kernels.device import array_of, on_cpu
from mlmc_ray.kernels.tensors import magnitudes as tensors
from mlmc_ray.kernels.tensors.magnitudes import LOW_BITS, NUM_BINS

Bits = npt.NDArray[np.uint32]
Counts = npt.NDArray[np.int64]

MAGNITUDE = np.uint32(0x7FFFFFFF)
_LOW_BITS = np.uint32(LOW_BITS)
_ROUND_UP = np.uint32((1 << LOW_BITS) - 1)
_BIN_WIDTH = np.uint32(1 << LOW_BITS)
ABOVE_ALL = 1 << 31
_BLOCK = 64  # looked at together, in vector registers


def magnitude_histogram(vector: Tensor) -> Counts:
    """Count the entries of every bin of magnitudes.

    Args:
        vector: shape (d,), any float dtype, any device, finite; rounded to float32 where it is not.

    Returns:
        The counts, int64, shape (65537,), on the host.
    """
    if on_cpu(vector):
        return count_bins(bits_of(vector.to(torch.float32)))
    counts: Counts = tensors.histogram(vector).cpu().numpy()
    return counts


def middles(bins: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Return the magnitudes in the middle of bins, which all in them are within 0.2% of.

    That of bin 0 is 0; those in the bins of subnormal numbers may differ by more.
    """
    bits = np.maximum((bins << LOW_BITS) - (1 << (LOW_BITS - 1)), 0)
    magnitudes: npt.NDArray[np.float32] = bits.astype(np.uint32).view(np.float32)
    return magnitudes.astype(np.float64)


def rank_energies(counts: Counts, size: int) -> npt.NDArray[np.float64]:
    """Return the sums of squares of the ``size`` largest entries, of as many next ones, and so on.

    Every entry is taken to be in the middle of its bin.

    Args:
        counts: the histogram of a vector of d entries, shape (65537,).
        size: at least 1.

    Returns:
        shape (ceil(d / size),), positive where one of the entries is not zero.
    """
    number = -(-int(counts.sum()) // size)
    return _rank_energies(counts, _squares(), size, np.zeros(number))


@cache
def _squares() -> npt.NDArray[np.float64]:
    """Return the squares of the middles of all bins; the last are of no finite number."""
    with np.errstate(invalid="ignore"):
        return middles(np.arange(NUM_BINS)) ** 2


def bits_of(vector: Tensor) -> Bits:
    """Return the bits of the entries of a float32 vector on the CPU."""
    bits: Bits = array_of(vector).view(np.uint32)
    return bits


def smallest_of_largest(bits: Bits, counts: Counts, size: int) -> tuple[int, int]:
    """Find which entries are the ``size`` largest.

    Returns:
        The smallest magnitude among them, as bits, and the position from which on entries of just
        that magnitude are not among them any more.
    """
    if size == 0:
        return ABOVE_ALL, len(bits)
    b, wanted = reach(counts, size)
    lowest, _ = bounds(b, b)
    within = _count_within(bits, lowest) if b else counts[:1]  # in bin 0 all are equal
    place, ties = reach(within, wanted)
    magnitude = lowest + place
    all_ties = ties == within[place]
    return magnitude, len(bits) if all_ties else _end_of_ties(bits, magnitude, ties)


def bounds(low_bin: int, high_bin: int) -> tuple[int, int]:
    """Return the lowest magnitude of a bin, and that above the highest of another, as bits."""
    lowest = ((low_bin - 1) << LOW_BITS) + 1 if low_bin else 0
    return lowest, (high_bin << LOW_BITS) + 1


@compiled
def reach(counts: Counts, size: int) -> tuple[int, int]:
    """Return the bin of the size-th entry from above, and how many of the bin that takes."""
    remaining = size
    for b in range(counts.size - 1, 0, -1):
        if counts[b] >= remaining:
            return b, remaining
        remaining -= counts[b]
    return 0, remaining


@compiled
def _rank_energies(
    counts: Counts,
    squares: npt.NDArray[np.float64],
    size: int,
    energies: npt.NDArray[np.float64],
) -> npt.NDArray[np.float64]:
    """Add what every bin has of every part to zeros, from the highest bin down."""
    part, room = 0, np.int64(size)
    for b in range(counts.size - 1, 0, -1):  # bin 0 has no energy
        rest = counts[b]
        while rest:
            taken = min(rest, room)
            energies[part] += taken * squares[b]
            rest -= taken
            room -= taken
            if room == 0:
                part, room = part + 1, np.int64(size)
    return energies


@compiled
def count_bins(bits: Bits) -> Counts:
    """Count the entries of every bin."""
    counts = np.zeros(NUM_BINS, np.int64)
    for j in range(bits.size):
        counts[((bits[j] & MAGNITUDE) + _ROUND_UP) >> _LOW_BITS] += 1
    return counts


@compiled
def _count_within(bits: Bits, lowest: int) -> Counts:
    """Count the entries of the bin from ``lowest`` on by magnitude; skip blocks without any."""
    counts = np.zeros(_BIN_WIDTH + 1, np.int64)  # the last one for all that is not in the bin
    least = np.uint32(lowest)
    for start in range(0, bits.size, _BLOCK):
        block = bits[start : start + _BLOCK]
        hits = np.uint32(0)
        for j in range(block.size):
            hits += np.uint32(np.uint32((block[j] & MAGNITUDE) - least) < _BIN_WIDTH)
        if hits:
            for j in range(block.size):
                counts[min(np.uint32((block[j] & MAGNITUDE) - least), _BIN_WIDTH)] += 1
    return counts[:-1]


@compiled
def _end_of_ties(bits: Bits, magnitude: int, ties: int) -> int:
    """Return the position after the ties-th entry of the given magnitude."""
    wanted, remaining = np.uint32(magnitude), np.int64(ties)
    for start in range(0, bits.size, _BLOCK):
        block = bits[start : start + _BLOCK]
        hits = np.uint32(0)
        for j in range(block.size):
            hits += np.uint32((block[j] & MAGNITUDE) == wanted)
        if hits >= remaining:
            for j in range(block.size):
                remaining -= np.int64((block[j] & MAGNITUDE) == wanted)
                if remaining == 0:
                    return start + j + 1
        remaining -= np.int64(hits)
    return bits.size
