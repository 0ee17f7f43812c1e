"""Symbols at a fixed number of bits each, or several symbols of a tiny alphabet as one byte."""

import numpy as np
import numpy.typing as npt

from mlmc_ray.kernels.compiled import compiled
from mlmc_ray.kernels.histograms import Ints, Symbols, symbol_dtype

GROUPS = {2: 8, 3: 5, 4: 4, 5: 3, 6: 3} | dict.fromkeys(range(7, 17), 2)
"""How many symbols of an alphabet are joined: as many as give at most 256 values."""


def fixed_size(count: int, alphabet: int) -> int:
    """Return the bytes that ``count`` symbols take."""
    return -(-count // 5) if alphabet == 3 else (count * (alphabet - 1).bit_length() + 7) // 8


def encode_fixed(symbols: Symbols, alphabet: int) -> bytes:
    """Return the symbols at the width of ``alphabet - 1``, or five ternary ones in a byte.

    Args:
        symbols: shape (n,), contiguous, below ``alphabet``; not modified.
        alphabet: 2 to 65535.
    """
    if alphabet == 3:
        return join(symbols, 3, GROUPS[3]).tobytes()
    width = (alphabet - 1).bit_length()
    words = np.zeros(len(symbols) * width // 32 + 2, dtype=np.uint32)
    _pack(symbols, width, words)
    packed = words.astype("<u4", copy=False).tobytes()
    return packed[: fixed_size(len(symbols), alphabet)]


def decode_fixed(data: bytes, count: int, alphabet: int) -> Symbols:
    """Undo ``encode_fixed``: ``count`` symbols, at least 1, of ``symbol_dtype(alphabet)``.

    Raises:
        ValueError: ``data`` is not what such symbols give.
    """
    if len(data) != fixed_size(count, alphabet):
        raise ValueError(f"expected {fixed_size(count, alphabet)} bytes, got {len(data)}")
    if alphabet == 3:
        return split(np.frombuffer(data, dtype=np.uint8), 3, GROUPS[3], count)
    width = (alphabet - 1).bit_length()
    if count * width % 8 and data[-1] >> count * width % 8:
        raise ValueError("the unused bits of its last byte are not zero")
    words = np.frombuffer(data + bytes(-len(data) % 4 + 4), dtype="<u4")
    symbols = np.empty(count, dtype=symbol_dtype(alphabet))
    _unpack(words.astype(np.uint32, copy=False), width, symbols)
    if symbols.max() >= alphabet:
        raise ValueError(f"expected symbols below {alphabet}, got {symbols.max()}")
    return symbols


def _digits(alphabet: int, group: int) -> npt.NDArray[np.uint8]:
    """Return the symbols that each joint symbol stands for, the first with weight 1."""
    joint = np.arange(alphabet**group)[:, None]
    return (joint // alphabet ** np.arange(group) % alphabet).astype(np.uint8)


def counts_of_single(counts: Ints, alphabet: int, group: int, count: int) -> Ints:
    """Return how often each symbol occurs from how often each joint symbol does."""
    digits = _digits(alphabet, group) if group > 1 else None
    if digits is None:
        return counts
    single = np.array([counts @ (digits == symbol).sum(axis=1) for symbol in range(alphabet)])
    single[0] -= -count % group  # the padding of the last joint symbol
    return single


def split(joint: npt.NDArray[np.uint8], alphabet: int, group: int, count: int) -> Symbols:
    """Undo ``join``: the first ``count`` digits of the joint symbols; those beyond must be 0.

    Raises:
        ValueError: a joint symbol is too large, or a digit beyond is not 0.
    """
    digits = _digits(alphabet, group)
    if joint.max() >= len(digits):
        raise ValueError(f"a byte is above {len(digits) - 1}, the largest joint symbol")
    symbols = np.empty(len(joint) * group, dtype=np.uint8)
    _separate(joint, digits, symbols)
    if symbols[count:].any():
        raise ValueError("the unused digits of its last byte are not zero")
    return symbols[:count]


@compiled
def join(symbols: Symbols, alphabet: int, group: int) -> npt.NDArray[np.uint8]:
    """Return ``group`` symbols as the digits of one number below 256, the first with weight 1."""
    joint = np.empty(-(-len(symbols) // group), dtype=np.uint8)
    whole = len(symbols) // group
    base = np.uint32(alphabet)
    if group == 5:  # ternary symbols, the most frequent case
        for i in range(whole):
            first = np.uint32(symbols[5 * i]) + base * np.uint32(symbols[5 * i + 1])
            second = np.uint32(symbols[5 * i + 2]) + base * np.uint32(symbols[5 * i + 3])
            fifth = np.uint32(symbols[5 * i + 4])
            joint[i] = np.uint8(first + base * base * (second + base * base * fifth))
    elif group == 2:
        for i in range(whole):
            joint[i] = np.uint8(symbols[2 * i] + base * np.uint32(symbols[2 * i + 1]))
    else:
        for i in range(whole):
            value = np.uint32(0)
            for j in range((i + 1) * group - 1, i * group - 1, -1):
                value = value * base + np.uint32(symbols[j])
            joint[i] = np.uint8(value)
    if whole < len(joint):
        value = np.uint32(0)
        for j in range(len(symbols) - 1, whole * group - 1, -1):
            value = value * base + np.uint32(symbols[j])
        joint[whole] = np.uint8(value)
    return joint


@compiled
def _separate(
    joint: npt.NDArray[np.uint8], digits: npt.NDArray[np.uint8], symbols: npt.NDArray[np.uint8]
) -> None:
    """Write the digits of every joint symbol."""
    group = digits.shape[1]
    for i in range(len(joint)):
        for j in range(group):
            symbols[i * group + j] = digits[joint[i], j]


@compiled
def _pack(symbols: Symbols, width: int, words: npt.NDArray[np.uint32]) -> None:
    """Write ``width`` bits of every symbol, low bit first, into zeros with a word to spare."""
    mask = np.uint64((1 << width) - 1)
    for i in range(len(symbols)):
        bit = i * width
        value = (np.uint64(symbols[i]) & mask) << np.uint64(bit & 31)
        words[bit >> 5] |= np.uint32(value & np.uint64(0xFFFFFFFF))
        words[(bit >> 5) + 1] |= np.uint32(value >> np.uint64(32))


@compiled
def _unpack(words: npt.NDArray[np.uint32], width: int, symbols: Symbols) -> None:
    """Undo ``_pack``."""
    mask = np.uint64((1 << width) - 1)
    for i in range(len(symbols)):
        bit = i * width
        pair = np.uint64(words[bit >> 5]) | np.uint64(words[(bit >> 5) + 1]) << np.uint64(32)
        symbols[i] = (pair >> np.uint64(bit & 31)) & mask
