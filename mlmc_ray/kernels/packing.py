"""Packing small integers into bytes: a fixed number of bits each, or five ternary digits a byte."""

import numpy as np
import numpy.typing as npt

from mlmc_ray.kernels.compiled import compiled

_TRITS_PER_BYTE = 5  # 3**5 = 243 <= 256
_POWERS_OF_THREE = 3 ** np.arange(_TRITS_PER_BYTE, dtype=np.uint8)
_TRITS_OF_BYTE = (
    (np.arange(3**_TRITS_PER_BYTE)[:, None] // _POWERS_OF_THREE.astype(np.int64)) % 3
).astype(np.uint8)


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


def pack_ternary(digits: npt.NDArray[np.uint8]) -> bytes:
    """Pack digits 0, 1, 2, five in a byte (1.6 bits each)."""
    padded = np.zeros(-(-len(digits) // _TRITS_PER_BYTE) * _TRITS_PER_BYTE, dtype=np.uint8)
    padded[: len(digits)] = digits
    packed = padded.reshape(-1, _TRITS_PER_BYTE) @ _POWERS_OF_THREE  # at most 242: fits a byte
    return packed.astype(np.uint8).tobytes()


def unpack_ternary(data: bytes, count: int) -> npt.NDArray[np.uint8]:
    """Undo ``pack_ternary``.

    Raises:
        ValueError: ``data`` is not exactly what ``count`` digits take, holds a byte above 242, or
            its padding is not zero.
    """
    _check_length(data, -(-count // _TRITS_PER_BYTE))
    packed = np.frombuffer(data, dtype=np.uint8)
    if (packed >= len(_TRITS_OF_BYTE)).any():
        raise ValueError("a byte is above 242, the largest that five ternary digits give")
    digits = _TRITS_OF_BYTE[packed].ravel()
    if digits[count:].any():
        raise ValueError("the unused digits of its last byte are not zero")
    return digits[:count]


def _check_length(data: bytes, expected: int) -> None:
    if len(data) != expected:
        raise ValueError(f"expected {expected} bytes, got {len(data)}")
