"""Packing small integers into bytes: a fixed number of bits each, or five ternary digits a byte."""

import numpy as np
import numpy.typing as npt

_TRITS_PER_BYTE = 5  # 3**5 = 243 <= 256
_POWERS_OF_THREE = 3 ** np.arange(_TRITS_PER_BYTE, dtype=np.uint8)
_TRITS_OF_BYTE = (
    (np.arange(3**_TRITS_PER_BYTE)[:, None] // _POWERS_OF_THREE.astype(np.int64)) % 3
).astype(np.uint8)


def width_of(bound: int) -> int:
    """Return the bits that one of ``bound`` different values takes, at least 1."""
    return max(1, (bound - 1).bit_length())


def pack_bits(values: npt.NDArray[np.int64], width: int) -> bytes:
    """Pack non-negative integers below ``2**width``, ``width`` bits each, low bit first."""
    bits = (values[:, None] >> np.arange(width)) & 1
    return np.packbits(bits.astype(np.uint8).ravel(), bitorder="little").tobytes()


def unpack_bits(data: bytes, count: int, width: int) -> npt.NDArray[np.int64]:
    """Undo ``pack_bits``.

    Raises:
        ValueError: ``data`` is not exactly what ``count`` values take, or its padding is not zero.
    """
    _check_length(data, (count * width + 7) // 8)
    bits = np.unpackbits(np.frombuffer(data, dtype=np.uint8), bitorder="little")
    if bits[count * width :].any():
        raise ValueError("the unused bits of its last byte are not zero")
    digits = bits[: count * width].reshape(count, width).astype(np.int64)
    return digits @ (np.int64(1) << np.arange(width, dtype=np.int64))


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
