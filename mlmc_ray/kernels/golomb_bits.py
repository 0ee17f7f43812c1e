"""Golomb-coded gaps as bits, low bit first: writing and reading them a word of 32 bits at a time.

Every block but the first starts with its parameter: bit 0 for the parameter of the block before, or
bit 1 and seven bits.
"""

import numpy as np
import numpy.typing as npt

from mlmc_ray.kernels.compiled import compiled
from mlmc_ray.kernels.golomb import (
    BLOCK,
    CODES,
    ESCAPE,
    LAST_PARAMETER,
    LENGTHS,
    PREFIXES,
    WINDOW,
    Ints,
    kind_of,
    shift_of,
)

_Words = npt.NDArray[np.uint32]

REASONS = {
    -1: "a block has an unknown code parameter",
    -2: "an index is not below the dimension",
    -3: "a long gap would fit a short code",
}
"""What the negative results of ``read_gaps`` mean."""


@compiled
def write_gaps(indices: Ints, width: int, parameters: Ints, words: _Words) -> None:
    """Write the gaps into ``words``, one word longer than the bits that ``plan_gaps`` counted."""
    at = np.int64(0)
    pending = np.uint64(0)
    filled = np.uint64(0)
    previous = -1
    for block in range(len(parameters)):
        parameter = parameters[block]
        if block > 0:
            same = parameter == parameters[block - 1]
            header = np.uint64(0) if same else np.uint64(2 * parameter + 1)
            header_length = np.uint64(1) if same else np.uint64(8)
            at, pending, filled = _put(words, at, pending, filled, header, header_length)
        kind = kind_of(parameter)
        limit = 3 * ESCAPE if kind else ESCAPE
        shift = np.uint64(shift_of(parameter))
        mask = (np.uint64(1) << shift) - np.uint64(1)
        start = block * BLOCK
        for i in range(start, min(start + BLOCK, len(indices))):
            gap = np.uint64(indices[i] - previous - 1)
            previous = indices[i]
            prefix = gap >> shift
            if prefix >= np.uint64(limit):
                ones = np.uint64((1 << ESCAPE) - 1)
                at, pending, filled = _put(words, at, pending, filled, ones, np.uint64(ESCAPE))
                at, pending, filled = _put_long(words, at, pending, filled, gap, np.uint64(width))
                continue
            code = CODES[kind, prefix]
            length = LENGTHS[kind, prefix]
            low = gap & mask
            if length + shift <= np.uint64(32):
                code |= low << length
                at, pending, filled = _put(words, at, pending, filled, code, length + shift)
            else:
                at, pending, filled = _put(words, at, pending, filled, code, length)
                at, pending, filled = _put_long(words, at, pending, filled, low, shift)
    words[at] = np.uint32(pending)


@compiled
def read_gaps(words: _Words, parameter: np.int64, dim: int, width: int, indices: Ints) -> np.int64:
    """Read all ``indices``; return the bits that they took, or a key of ``REASONS``."""
    one = np.uint64(1)
    at = np.int64(0)
    pending = np.uint64(0)
    filled = np.uint64(0)
    index = np.int64(-1)
    for start in range(0, len(indices), BLOCK):
        if start > 0:
            at, pending, filled = _fill(words, at, pending, filled)
            used = one
            if pending & one:
                parameter = np.int64((pending >> one) & np.uint64(127))
                used = np.uint64(8)
                if parameter > LAST_PARAMETER:
                    return np.int64(-1)
            pending >>= used
            filled -= used
        kind = kind_of(parameter)
        limit = np.uint64(3 * ESCAPE if kind else ESCAPE)
        shift = np.uint64(shift_of(parameter))
        mask = (one << shift) - one
        for i in range(start, min(start + BLOCK, len(indices))):
            at, pending, filled = _fill(words, at, pending, filled)
            entry = PREFIXES[kind, pending & np.uint64((1 << WINDOW) - 1)]
            prefix = entry >> np.uint64(5)
            length = entry & np.uint64(31)
            if entry == np.uint64(0):
                prefix, length = _long_prefix(pending, kind)
            pending >>= length
            filled -= length
            if prefix == limit:
                at, pending, filled, gap = _take_long(words, at, pending, filled, np.uint64(width))
                if gap >> shift < limit:
                    return np.int64(-3)
            elif length + shift <= np.uint64(32):
                gap = (prefix << shift) | (pending & mask)
                pending >>= shift
                filled -= shift
            else:
                at, pending, filled, low = _take_long(words, at, pending, filled, shift)
                gap = (prefix << shift) | low
            if gap >= np.uint64(dim - 1 - index):
                return np.int64(-2)
            index += np.int64(gap) + 1
            indices[i] = index
    return 32 * at - np.int64(filled)


@compiled
def _long_prefix(pending: np.uint64, kind: int) -> tuple[np.uint64, np.uint64]:
    """Return the value and the length of a prefix that ``PREFIXES`` does not have.

    The value of an escape is the limit, which no other prefix reaches.
    """
    one = np.uint64(1)
    ones = np.uint64(WINDOW - 2)
    while ones < np.uint64(ESCAPE) and (pending >> ones) & one:
        ones += one
    if ones == np.uint64(ESCAPE):
        return np.uint64(3 * ESCAPE if kind else ESCAPE), ones
    length = ones + one
    if not kind:
        return ones, length
    digit = (pending >> length) & np.uint64(3)
    prefix = np.uint64(3) * ones + (digit & one) * (one + (digit >> one))
    return prefix, length + one + (digit & one)


@compiled
def _put(
    words: _Words,
    at: np.int64,
    pending: np.uint64,
    filled: np.uint64,
    value: np.uint64,
    length: np.uint64,
) -> tuple[np.int64, np.uint64, np.uint64]:
    """Append at most 32 bits to fewer than 32 pending ones; move on once a word is full."""
    pending |= value << filled
    filled += length
    words[at] = np.uint32(pending & np.uint64(0xFFFFFFFF))
    full = filled >> np.uint64(5)
    return (
        at + np.int64(full),
        pending >> (full << np.uint64(5)),
        filled & np.uint64(31),
    )


@compiled
def _put_long(
    words: _Words,
    at: np.int64,
    pending: np.uint64,
    filled: np.uint64,
    value: np.uint64,
    length: np.uint64,
) -> tuple[np.int64, np.uint64, np.uint64]:
    """Append at most 64 bits."""
    short = min(length, np.uint64(32))
    low = value & np.uint64(0xFFFFFFFF)
    at, pending, filled = _put(words, at, pending, filled, low, short)
    if length > short:
        high = value >> np.uint64(32)
        at, pending, filled = _put(words, at, pending, filled, high, length - short)
    return at, pending, filled


@compiled
def _fill(
    words: _Words, at: np.int64, pending: np.uint64, filled: np.uint64
) -> tuple[np.int64, np.uint64, np.uint64]:
    """Make at least 32 bits pending; past the end of ``words``, whose last is 0, they are zeros."""
    missing = np.uint64(filled < np.uint64(32))  # a branch would be mispredicted half of the time
    pending |= (np.uint64(words[min(at, np.int64(len(words) - 1))]) * missing) << filled
    return at + np.int64(missing), pending, filled + (missing << np.uint64(5))


@compiled
def _take_long(
    words: _Words,
    at: np.int64,
    pending: np.uint64,
    filled: np.uint64,
    length: np.uint64,
) -> tuple[np.int64, np.uint64, np.uint64, np.uint64]:
    """Take at most 64 bits; their value comes last."""
    one = np.uint64(1)
    short = min(length, np.uint64(32))
    at, pending, filled = _fill(words, at, pending, filled)
    value = pending & ((one << short) - one)
    pending >>= short
    filled -= short
    if length > short:
        at, pending, filled = _fill(words, at, pending, filled)
        rest = length - short
        value |= (pending & ((one << rest) - one)) << np.uint64(32)
        pending >>= rest
        filled -= rest
    return at, pending, filled, value
