"""Packing small integers into bytes, a fixed number of bits each."""

import numpy as np
import numpy.typing as npt

from mlmc_ray.kernels.compiled import compiled


def width_of(bound: int) -> int:
    """Return the bits that one of ``bound`` different values takes, at least 1."""
    return max(1, (bound - 1).bit_length())


def pack_bits(values: npt.NDArray[np.int64], width: int) -> bytes:
    """Pack non-negative integers below ``2**width``, at most 56 bits each, low bit first."""
    packed = np.empty((len(values) * width + 7) // 8, dtype=np.uint8)
    _pack(values, width, packed)
    return packed.tobytes()


def unpack_bits(data: bytes, count: int, width: int) -> npt.NDArray[np.int64]:
    """Undo ``pack_bits``.

    Raises:
        ValueError: ``data`` is not exactly what ``count`` values take, or its padding is not zero.
    """
    _check_length(data, (count * width + 7) // 8)
    values = np.empty(count, dtype=np.int64)
    if _unpack(np.frombuffer(data, dtype=np.uint8), width, values):
        raise ValueError("the unused bits of its last byte are not zero")
    return values


@compiled
def _pack(values: npt.NDArray[np.int64], width: int, packed: npt.NDArray[np.uint8]) -> None:
    waiting, num_waiting, place = np.uint64(0), np.uint64(0), 0
    for value in values:
        waiting |= np.uint64(value) << num_waiting
        num_waiting += np.uint64(width)
        while num_waiting >= 8:
            packed[place] = waiting & np.uint64(0xFF)
            place += 1
            waiting >>= np.uint64(8)
            num_waiting -= np.uint64(8)
    if num_waiting > 0:
        packed[place] = waiting & np.uint64(0xFF)


@compiled
def _unpack(packed: npt.NDArray[np.uint8], width: int, values: npt.NDArray[np.int64]) -> int:
    """Fill ``values``, and return the bits that are left over."""
    waiting, num_waiting, place = np.uint64(0), np.uint64(0), 0
    mask = (np.uint64(1) << np.uint64(width)) - np.uint64(1)
    for i in range(len(values)):
        while num_waiting < np.uint64(width):
            waiting |= np.uint64(packed[place]) << num_waiting
            place += 1
            num_waiting += np.uint64(8)
        values[i] = np.int64(waiting & mask)
        waiting >>= np.uint64(width)
        num_waiting -= np.uint64(width)
    return int(waiting)


def _check_length(data: bytes, expected: int) -> None:
    if len(data) != expected:
        raise ValueError(f"expected {expected} bytes, got {len(data)}")
