"""Ascending index sets as bytes: their gaps, the gaps of the indices not in the set, or a bitmap.

The first byte is 255 for a bitmap of ``dim`` bits. Otherwise it holds the code parameter of the
first block of gaps, and its high bit says that the indices not in the set are coded instead. The
gaps follow, as ``kernels.golomb`` and ``kernels.golomb_bits`` say. The empty set and the full set
take no bytes.
"""

import numpy as np
import numpy.typing as npt

from mlmc_ray.kernels.compiled import compiled
from mlmc_ray.kernels.golomb import BLOCK, LAST_PARAMETER, Ints, plan_gaps
from mlmc_ray.kernels.golomb_bits import REASONS, read_gaps, write_gaps

_MAX_DIM = 1 << 56  # a decoded gap fits 63 bits
_COMPLEMENT = 0x80
_BITMAP = 0xFF


def encode_plain_indices(indices: Ints, dim: int) -> bytes:
    """Return the bytes of an index set, never more than the bitmap of ``dim`` bits and one byte.

    Args:
        indices: shape (k,), strictly ascending, from 0 to ``dim - 1``; not modified.
        dim: at most 2**56.

    Raises:
        ValueError: ``indices`` are not strictly ascending or not in range.
    """
    _check_sizes(len(indices), dim)
    if len(indices) and (indices[0] < 0 or indices[-1] >= dim):
        raise ValueError(f"an index is not in 0..{dim - 1}")
    flag = _COMPLEMENT if 2 * len(indices) > dim else 0
    coded = np.ascontiguousarray(indices, dtype=np.int64)
    coded = _others(coded, dim) if flag else coded
    if not len(coded):
        return b""
    width = _gap_width(dim)
    parameters = np.empty(-(-len(coded) // BLOCK), dtype=np.int64)
    num_bits = plan_gaps(coded, width, parameters)
    if num_bits < 0:
        raise ValueError("the indices are not strictly ascending")
    num_bytes = (num_bits + 7) // 8
    if num_bytes > (dim + 7) // 8:
        return bytes([_BITMAP]) + bitmap_of(indices, dim)
    words = np.zeros(num_bits // 32 + 2, dtype=np.uint32)
    write_gaps(coded, width, parameters, words)
    first = int(parameters[0]) | flag
    return bytes([first]) + words.astype("<u4", copy=False).tobytes()[:num_bytes]


def decode_plain_indices(data: bytes, count: int, dim: int) -> Ints:
    """Undo ``encode_plain_indices``: the ``count`` indices, strictly ascending, below ``dim``.

    Raises:
        ValueError: ``data`` is not what ``count`` indices below ``dim`` give.
    """
    _check_sizes(count, dim)
    if count == 0 or count == dim:
        if data:
            raise ValueError(f"expected 0 bytes, got {len(data)}")
        return np.arange(count, dtype=np.int64)
    if not data:
        raise ValueError("expected at least 1 byte, got 0")
    if data[0] == _BITMAP:
        return _decode_bitmap(data[1:], count, dim)
    if not data[0] & _COMPLEMENT:
        return _decode_gaps(data[0], data[1:], count, dim)
    if 2 * count <= dim:
        raise ValueError(f"{count} of {dim} indices are not coded by those not in the set")
    others = _decode_gaps(data[0] ^ _COMPLEMENT, data[1:], dim - count, dim)
    return _others(others, dim)


def _check_sizes(count: int, dim: int) -> None:
    if not 0 <= count <= dim <= _MAX_DIM:
        raise ValueError(f"expected 0 <= count <= dim <= 2**56, got {count} and {dim}")


def _gap_width(dim: int) -> int:
    return max(1, (dim - 1).bit_length())


def bitmap_of(indices: Ints, dim: int) -> bytes:
    """Return ``dim`` bits, the first lowest, of which those at the ``indices`` are set."""
    bits = np.zeros(dim, dtype=np.uint8)
    bits[indices] = 1
    return np.packbits(bits, bitorder="little").tobytes()


def indices_of_bitmap(bitmap: npt.NDArray[np.uint8], count: int, dim: int) -> Ints:
    """Undo ``bitmap_of``.

    Args:
        bitmap: shape (ceil(dim / 8),); not modified.
        count: how many indices are expected.
        dim: the number of bits.

    Raises:
        ValueError: other than ``count`` bits are set, or one of no index.
    """
    if dim % 8 and bitmap[-1] >> dim % 8:
        raise ValueError("the unused bits of its last byte are not zero")
    indices = np.empty(count + 8, dtype=np.int64)
    number = _set_bits(bitmap, indices)
    if number != count:
        found = "more" if number > count else str(number)
        raise ValueError(f"expected {count} indices, got {found}")
    return indices[:count]


def _decode_bitmap(data: bytes, count: int, dim: int) -> Ints:
    if len(data) != (dim + 7) // 8:
        raise ValueError(f"expected a bitmap of {(dim + 7) // 8} bytes, got {len(data)}")
    return indices_of_bitmap(np.frombuffer(data, dtype=np.uint8), count, dim)


def _others(indices: Ints, dim: int) -> Ints:
    others = np.empty(dim - len(indices) + 1, dtype=np.int64)
    if _pick_others(indices, dim, others) != dim - len(indices):
        raise ValueError("the indices are not strictly ascending")
    return others[:-1]


def _decode_gaps(first: int, data: bytes, count: int, dim: int) -> Ints:
    if first > LAST_PARAMETER:
        raise ValueError(REASONS[-1])
    if count > 8 * len(data):  # a gap takes a bit or more
        raise ValueError(f"{len(data)} bytes are too few for {count} indices")
    padded = data + bytes(-len(data) % 4 + 4)
    words = np.frombuffer(padded, dtype="<u4").astype(np.uint32, copy=False)
    indices = np.empty(count, dtype=np.int64)
    num_bits = int(read_gaps(words, np.int64(first), dim, _gap_width(dim), indices))
    if num_bits < 0:
        raise ValueError(REASONS[num_bits])
    if (num_bits + 7) // 8 != len(data):
        raise ValueError(f"expected {(num_bits + 7) // 8} bytes, got {len(data)}")
    if num_bits % 8 and data[-1] >> num_bits % 8:
        raise ValueError("the unused bits of its last byte are not zero")
    return indices


@compiled
def _pick_others(indices: Ints, dim: int, others: Ints) -> np.int64:
    """Write the numbers below ``dim`` that are not among the ``indices``, one or more of them.

    Args:
        indices: shape (k,).
        dim: at least k.
        others: shape (dim - k + 1,), one to spare.

    Returns:
        How many there were: ``dim - k`` if the indices ascend strictly and are below ``dim``.
    """
    spare = np.int64(dim - len(indices))
    last = np.int64(len(indices) - 1)
    number = np.int64(0)
    place = np.int64(0)
    for j in range(dim):  # without a branch, which would be mispredicted often
        others[min(number, spare)] = j
        found = np.int64(indices[place] == j)
        number += 1 - found
        place = min(place + found, last)
    return number


@compiled
def _set_bits(bitmap: npt.NDArray[np.uint8], indices: Ints) -> np.int64:
    """Write the places of the bits that are set; stop where fewer than eight more would fit.

    Returns:
        How many were found.
    """
    number = np.int64(0)
    for i in range(len(bitmap)):
        if number + 8 > len(indices):
            break
        byte = np.int64(bitmap[i])
        for j in range(8):
            indices[number] = 8 * i + j  # without a branch; the next bit may write over it
            number += (byte >> j) & 1
    return number
