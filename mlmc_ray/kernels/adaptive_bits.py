"""Bits at the cost that their probabilities say: a binary range coder of integers alone.

The code of a sequence of bits is a number of [0, 1), written in base 256: in the interval that the
bits and their probabilities leave, the one with the most zero bits at its end. Trailing zero bytes
are left out, and a reader finds zeros past the end. Every sequence thus has one code, and
``check_end`` refuses all others.

References:
    Martin, "Range encoding: an algorithm for removing redundancy from a digitised message", 1979.
"""

import numpy as np
import numpy.typing as npt

from mlmc_ray.kernels.compiled import compiled

Coder = tuple[np.uint64, np.uint64, np.uint64, np.uint64]
"""What is remembered between two bits.

The start of the interval below the words so far and its length, both in units of 2**-64 of the last
word; the number of words; for a reader, the code less the start.
"""
State = npt.NDArray[np.uint64]
"""Shape (4,): a ``Coder`` between two compiled loops."""
Words = npt.NDArray[np.uint32]
"""Shape (any,): a code, the highest bits of the number first."""

PROBABILITY_BITS = 16
"""A probability is a number of 1 to 2**16 - 1, in units of 2**-16."""
_FULL = (1 << 64) - 1
_HALF, _LEAST_LENGTH = np.uint64(32), np.uint64(1 << 32)
_NONE, _ONE, _TWO = np.uint64(0), np.uint64(1), np.uint64(2)
_LAST_WORD, _CARRIED = np.uint32(0xFFFFFFFF), np.uint32(1)
_PROBABILITY_BITS = np.uint64(PROBABILITY_BITS)


def writer() -> State:
    """Return a coder that has written nothing."""
    return np.array([0, _FULL, 0, 0], dtype=np.uint64)


def reader(data: bytes) -> tuple[State, Words]:
    """Return a coder that has read nothing, and the words that it reads."""
    words = np.frombuffer(data + bytes(-len(data) % 4 + 8), dtype=">u4").astype(np.uint32)
    start = int(words[0]) << 32 | int(words[1])
    return np.array([0, _FULL, 0, start], dtype=np.uint64), words


def finished(state: State, words: Words) -> bytes:
    """Return the code of all bits that a writer was given.

    Args:
        state: of the writer.
        words: that it wrote; not modified.
    """
    low, length, at, _ = (int(number) for number in state)
    carried, last = divmod(_end(low, length), 1 << 64)
    before = words[:at].astype(">u4").tobytes()
    if carried:
        before = (int.from_bytes(before, "big") + 1).to_bytes(len(before), "big")
    return (before + last.to_bytes(8, "big")).rstrip(b"\0")


def check_end(state: State, data: bytes) -> None:
    """Refuse a code that is not that of the bits that were read from it.

    Args:
        state: of the reader, after the last bit.
        data: of ``reader``.

    Raises:
        ValueError: ``data`` is too long, too short, or not what those bits give.
    """
    low, length, at, ahead = (int(number) for number in state)
    if data.endswith(b"\0") or len(data) > 4 * (at + 2):
        raise ValueError(f"{len(data)} bytes are more than the bits that they code take")
    if _end(low, length) - low != ahead:
        raise ValueError(f"{len(data)} bytes are not the code of the bits that they say")


def _end(low: int, length: int) -> int:
    """Return the number of ``range(low, low + length)`` with the most zero bits at its end."""
    shift = length.bit_length() - 1
    end = -(-low >> shift) << shift
    wider = -(-low >> shift + 1) << shift + 1
    return wider if wider - low < length else end


@compiled
def resumed(state: State) -> Coder:
    """Return the coder that a state keeps."""
    return state[0], state[1], state[2], state[3]


@compiled
def keep(coder: Coder, state: State) -> None:
    """Write a coder to a state."""
    state[0], state[1], state[2], state[3] = coder


@compiled
def code_bit(
    coder: Coder, words: Words, writing: bool, bit: bool | int, probability: int
) -> tuple[Coder, int]:
    """Write a bit, or read one that was written with the same probability, and return it.

    A loop that takes most of its time here spells these lines out: numba counts the references to
    an array that is passed on, which takes longer than the bit.

    Args:
        coder: of a writer, or of a reader.
        words: of a writer with room for one word more, and a bit of probability 2**-16 takes half a
            word; those of a reader. Zeros are past the end.
        writing: whether to write.
        bit: 0 or 1; if reading, anything.
        probability: of a 1, 1 to 2**16 - 1.
    """
    share = share_of(coder, probability)
    if not writing:
        bit = is_one(coder, share)
    coder = narrowed(coder, bit, share)
    if writing and has_carried(coder, bit, share):
        carry(coder, words)
    if is_short(coder):
        coder = lengthened(coder, words, writing)
    return coder, int(bit)


@compiled
def share_of(coder: Coder, probability: int) -> np.uint64:
    """Return the part of the interval that is for a 1."""
    return (coder[1] >> _PROBABILITY_BITS) * np.uint64(probability)


@compiled
def is_one(coder: Coder, share: np.uint64) -> bool:
    """Return the bit that a reader finds."""
    return bool(coder[3] < share)


@compiled
def narrowed(coder: Coder, bit: bool | int, share: np.uint64) -> Coder:
    """Return the coder with the bit's part of the interval."""
    low, length, at, ahead = coder
    if bit:
        return low, share, at, ahead
    return low + share, length - share, at, ahead - share


@compiled
def has_carried(coder: Coder, bit: bool | int, share: np.uint64) -> bool:
    """Return whether ``carry`` is to be called after ``narrowed``."""
    return bool(not bit and coder[0] < share)


@compiled
def carry(coder: Coder, words: Words) -> None:
    """Add 1 to what is written, which never leaves the first word."""
    before = coder[2] - _ONE
    while words[before] == _LAST_WORD:
        words[before] = 0
        before -= _ONE
    words[before] += _CARRIED


@compiled
def is_short(coder: Coder) -> bool:
    """Return whether ``lengthened`` is to be called before the next bit."""
    return bool(coder[1] < _LEAST_LENGTH)


@compiled
def lengthened(coder: Coder, words: Words, writing: bool) -> Coder:
    """Write or read the next word."""
    low, length, at, ahead = coder
    word = _NONE
    if writing:
        words[at] = np.uint32(low >> _HALF)
    elif at + _TWO < np.uint64(len(words)):
        word = np.uint64(words[at + _TWO])
    return low << _HALF, length << _HALF, at + _ONE, ahead << _HALF | word
