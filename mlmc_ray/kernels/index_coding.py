"""Ascending index sets as bytes, near log2 C(dim, count) bits.

Gaps cost whole bits each. Where they are so short that this matters, the first byte is 254 and the
bytes of the bitmap follow as a rANS code (``kernels.rans``), one bit or more for each. Otherwise
the set is as ``kernels.plain_indices`` says: gaps or a bitmap.
"""

import numpy as np

from mlmc_ray.kernels.golomb import Ints
from mlmc_ray.kernels.histograms import count_symbols, entropy_bits
from mlmc_ray.kernels.plain_indices import (
    bitmap_of,
    decode_plain_indices,
    encode_plain_indices,
    indices_of_bitmap,
)
from mlmc_ray.kernels.rans import decode_rans, encode_rans

_CODED_BITMAP = 0xFE
_FEWEST_BITS = 3  # a gap, from which gaps are hard to beat
_HEADER = 200  # bytes that a histogram takes, about


def encode_indices(indices: Ints, dim: int) -> bytes:
    """Return the bytes of an index set, never more than the bitmap of ``dim`` bits and one byte.

    Args:
        indices: shape (k,), strictly ascending, from 0 to ``dim - 1``; not modified.
        dim: at most 2**56.

    Raises:
        ValueError: ``indices`` are not strictly ascending or not in range.
    """
    plain = encode_plain_indices(indices, dim)
    if 8 * len(plain) >= _FEWEST_BITS * min(len(indices), dim - len(indices)):
        return plain
    bitmap = np.frombuffer(bitmap_of(indices, dim), dtype=np.uint8)
    counts = count_symbols(bitmap, 256)
    bits = entropy_bits(counts)
    if bits < len(bitmap) or bits / 8 + _HEADER > len(plain):
        return plain
    return min(plain, bytes([_CODED_BITMAP]) + encode_rans(bitmap, counts), key=len)


def decode_indices(data: bytes, count: int, dim: int) -> Ints:
    """Undo ``encode_indices``: the ``count`` indices, strictly ascending, below ``dim``.

    Raises:
        ValueError: ``data`` is not what ``count`` indices below ``dim`` give.
    """
    if data[:1] != bytes([_CODED_BITMAP]) or not 0 < count < dim:
        return decode_plain_indices(data, count, dim)
    num_bytes = (dim + 7) // 8
    if 8 * (len(data) - 1) < num_bytes:  # so that few bytes cannot ask for much memory
        raise ValueError(f"{len(data) - 1} bytes are too few for a coded bitmap of {num_bytes}")
    return indices_of_bitmap(decode_rans(data[1:], num_bytes, 256), count, dim)
