"""Counting entries by magnitude.

The magnitude of a float32 is its bits without the sign: read as an integer, they grow with it. A
histogram of their high 16 bits finds the bin that holds an entry of given rank, and a histogram of
the low 15 bits inside that bin finds its magnitude.
"""

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
_BIN_WIDTH = np.uint32(1 << LOW_BITS)
_LOW = np.uint32((1 << LOW_BITS) - 1)
ABOVE_ALL = 1 << 31
_BLOCK = 64  # looked at together, in vector registers


def magnitude_histogram(vector: Tensor) -> tuple[Counts, npt.NDArray[np.float64]]:
    """Count the entries, and add their squares, by the high 16 of the 31 bits of their magnitude.

    Bin b holds the magnitudes whose float32 bits are b 2^15 to (b + 1) 2^15 - 1: larger magnitudes
    in higher bins, which are 2^-8 wide relative to the power of two below (bins below 256, the
    subnormal numbers, have equal widths). What is added are whole numbers, so that the sums do not
    depend on the order nor on the device.

    Args:
        vector: shape (d,), any float dtype, any device, finite; rounded to float32 where it is not.

    Returns:
        The counts, int64, and the sums of squares, float64, both of shape (65536,), on the host.
    """
    if on_cpu(vector):
        counts, first, second = _count_low_bits(bits_of(vector.to(torch.float32)))
    else:
        counts, first, second = (part.cpu().numpy() for part in tensors.histogram(vector))
    bins = np.arange(NUM_BINS)
    exponents = bins >> 8
    lowest = ((bins & 0xFF) | np.where(exponents > 0, 0x100, 0)).astype(np.float64) * 2.0**LOW_BITS
    units = np.ldexp(1.0, np.maximum(exponents, 1) - 150)
    squares = counts * lowest**2 + 2 * lowest * first + second
    return counts, squares * units**2


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
    high_bits, wanted = _reach(counts, size)
    within = _count_within(bits, high_bits)
    low_bits, ties = _reach(within, wanted)
    magnitude = (high_bits << int(_LOW_BITS)) + low_bits
    all_ties = ties == within[low_bits]
    return magnitude, len(bits) if all_ties else _end_of_ties(bits, magnitude, ties)


@compiled
def _reach(counts: Counts, size: int) -> tuple[int, int]:
    """Return the bin of the size-th entry from above, and how many of the bin that takes."""
    remaining = size
    for b in range(counts.size - 1, 0, -1):
        if counts[b] >= remaining:
            return b, remaining
        remaining -= counts[b]
    return 0, remaining


@compiled
def count_bins(bits: Bits) -> Counts:
    """Count the magnitudes by their high 16 bits."""
    counts = np.zeros(NUM_BINS, np.int64)
    for j in range(bits.size):
        counts[(bits[j] & MAGNITUDE) >> _LOW_BITS] += 1
    return counts


@compiled
def _count_within(bits: Bits, high_bits: int) -> Counts:
    """Count the entries of one bin by their low 15 bits; blocks without any are skipped."""
    counts = np.zeros(_BIN_WIDTH + 1, np.int64)  # the last one for all that is not in the bin
    least = np.uint32(high_bits << _LOW_BITS)
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


@compiled
def _count_low_bits(bits: Bits) -> tuple[Counts, Counts, Counts]:
    counts = np.zeros(NUM_BINS, np.int64)
    first, second = np.zeros(NUM_BINS, np.int64), np.zeros(NUM_BINS, np.int64)
    for j in range(bits.size):
        magnitude = bits[j] & MAGNITUDE
        b, low = magnitude >> _LOW_BITS, np.int64(magnitude & _LOW)
        counts[b] += 1
        first[b] += low
        second[b] += low * low
    return counts, first, second
