"""Ascending index sets as bytes: Golomb codes of the gaps, near log2 C(dim, count) bits.

The first byte is 255 for a bitmap of ``dim`` bits. Otherwise it holds the code parameter of the
first block of gaps, and its high bit says that the indices not in the set are coded instead. The
gaps follow, low bit first, in blocks of 64. Every block but the first starts with its parameter:
bit 0 for the parameter of the block before, or bit 1 and seven bits.

A gap g is sent as a prefix code of ``g >> shift`` and the ``shift`` low bits of g. The parameters
0, 1, 2, ... stand for the Golomb divisors 1, 2, 3, 4, 6, 8, 12, ...; a divisor 2**shift has unary
prefixes, a divisor 3 * 2**shift the Golomb code of 3. A prefix of 24 ones announces the whole gap
instead, as many bits as ``dim - 1`` takes. The empty set and the full set take no bytes.

References:
    Golomb, Run-length encodings, 1966. Gallager and Van Voorhis, Optimal source codes for
    geometrically distributed integer alphabets, 1975.
"""

import numpy as np
import numpy.typing as npt

from mlmc_ray.kernels.compiled import compiled

_Ints = npt.NDArray[np.int64]

_MAX_DIM = 1 << 56  # a decoded gap fits 63 bits
_LAST_PARAMETER = 112
_COMPLEMENT = 0x80
_BITMAP = 0xFF
_BLOCK = 64  # gaps that share a parameter
_ESCAPE = 24  # ones
_WINDOW = 10  # bits that most prefixes fit

# Prefix codes of 0, 1, 2, ... for divisors 1 and 3: their bits, the first lowest, and lengths.
_QUOTIENTS = np.arange(3 * _ESCAPE) // 3
_DIGITS = np.arange(3 * _ESCAPE) % 3
_CODES = np.zeros((2, 3 * _ESCAPE), dtype=np.uint64)
_CODES[0, :_ESCAPE] = (1 << np.arange(_ESCAPE)) - 1
_CODES[1] = ((1 << _QUOTIENTS) - 1) | (np.array([0, 1, 3])[_DIGITS] << (_QUOTIENTS + 1))
_LENGTHS = np.zeros((2, 3 * _ESCAPE), dtype=np.uint64)
_LENGTHS[0, :_ESCAPE] = np.arange(_ESCAPE) + 1
_LENGTHS[1] = _QUOTIENTS + np.array([2, 3, 3])[_DIGITS]


def _prefix_table() -> npt.NDArray[np.uint64]:
    """Return what the next ten bits start with: 32 * value + length, or 0 for a longer prefix."""
    table = np.zeros((2, 1 << _WINDOW), dtype=np.uint64)
    for kind, value in np.argwhere((_LENGTHS > 0) & (_LENGTHS <= _WINDOW)):
        length = int(_LENGTHS[kind, value])
        table[kind, int(_CODES[kind, value]) :: 1 << length] = 32 * value + length
    return table


_PREFIXES = _prefix_table()

_REASONS = {
    -1: "a block has an unknown code parameter",
    -2: "an index is not below the dimension",
    -3: "a long gap would fit a short code",
}


def encode_indices(indices: _Ints, dim: int) -> bytes:
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
    coded = _complement(indices, dim) if flag else np.ascontiguousarray(indices, dtype=np.int64)
    if not len(coded):
        return b""
    width = _gap_width(dim)
    parameters = np.empty(-(-len(coded) // _BLOCK), dtype=np.int64)
    num_bits = _plan(coded, width, parameters)
    if num_bits < 0:
        raise ValueError("the indices are not strictly ascending")
    num_bytes = (num_bits + 7) // 8
    if num_bytes > (dim + 7) // 8:
        return bytes([_BITMAP]) + _bitmap(indices, dim)
    words = np.zeros(num_bits // 32 + 2, dtype=np.uint32)
    _write(coded, width, parameters, words)
    first = int(parameters[0]) | flag
    return bytes([first]) + words.astype("<u4", copy=False).tobytes()[:num_bytes]


def decode_indices(data: bytes, count: int, dim: int) -> _Ints:
    """Undo ``encode_indices``: the ``count`` indices, strictly ascending, below ``dim``.

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
        return _indices_of_bitmap(data[1:], count, dim)
    if not data[0] & _COMPLEMENT:
        return _decode_gaps(data[0], data[1:], count, dim)
    if 2 * count <= dim:
        raise ValueError(f"{count} of {dim} indices are not coded by those not in the set")
    others = _decode_gaps(data[0] ^ _COMPLEMENT, data[1:], dim - count, dim)
    return _complement(others, dim)


def _check_sizes(count: int, dim: int) -> None:
    if not 0 <= count <= dim <= _MAX_DIM:
        raise ValueError(f"expected 0 <= count <= dim <= 2**56, got {count} and {dim}")


def _gap_width(dim: int) -> int:
    return max(1, (dim - 1).bit_length())


def _bitmap(indices: _Ints, dim: int) -> bytes:
    bits = np.zeros(dim, dtype=np.uint8)
    bits[indices] = 1
    return np.packbits(bits, bitorder="little").tobytes()


def _indices_of_bitmap(data: bytes, count: int, dim: int) -> _Ints:
    if len(data) != (dim + 7) // 8:
        raise ValueError(f"expected a bitmap of {(dim + 7) // 8} bytes, got {len(data)}")
    bits = np.unpackbits(np.frombuffer(data, dtype=np.uint8), bitorder="little")
    indices = np.flatnonzero(bits)
    if indices[-1:] >= dim:
        raise ValueError("the unused bits of its last byte are not zero")
    if len(indices) != count:
        raise ValueError(f"expected {count} indices, got {len(indices)}")
    return indices


def _decode_gaps(first: int, data: bytes, count: int, dim: int) -> _Ints:
    if first > _LAST_PARAMETER:
        raise ValueError(_REASONS[-1])
    if count > 8 * len(data):  # a gap takes a bit or more
        raise ValueError(f"{len(data)} bytes are too few for {count} indices")
    padded = data + bytes(-len(data) % 4 + 4)
    words = np.frombuffer(padded, dtype="<u4").astype(np.uint32, copy=False)
    indices = np.empty(count, dtype=np.int64)
    num_bits = int(_read(words, np.int64(first), dim, _gap_width(dim), indices))
    if num_bits < 0:
        raise ValueError(_REASONS[num_bits])
    if (num_bits + 7) // 8 != len(data):
        raise ValueError(f"expected {(num_bits + 7) // 8} bytes, got {len(data)}")
    if num_bits % 8 and data[-1] >> num_bits % 8:
        raise ValueError("the unused bits of its last byte are not zero")
    return indices


@compiled
def _complement(indices: _Ints, dim: int) -> _Ints:
    """Return the numbers below ``dim`` that are not among the ascending ``indices``."""
    others = np.empty(max(dim - len(indices), 0), dtype=np.int64)
    number = 0
    start = 0
    for i in range(len(indices) + 1):
        end = indices[i] if i < len(indices) else dim
        for j in range(start, end):
            if number < len(others):  # false only where the indices do not ascend
                others[number] = j
            number += 1
        start = end + 1
    return others


@compiled
def _kind(parameter: int | np.int64) -> int:
    """Return 1 for a divisor 3 * 2**shift, 0 for 2**shift."""
    return 1 if parameter > 0 and parameter % 2 == 0 else 0


@compiled
def _shift(parameter: int | np.int64) -> int | np.int64:
    """Return the low bits of a gap that are sent as they are."""
    return (parameter >> 1) - 1 if _kind(parameter) else (parameter + 1) >> 1


@compiled
def _cost(gaps: _Ints, number: int, parameter: int, width: int) -> int:
    """Return the bits that the first ``number`` gaps take."""
    shift = _shift(parameter)
    total = 0
    if _kind(parameter):
        for i in range(number):
            prefix = min(gaps[i] >> shift, 3 * _ESCAPE)
            third = ((prefix + 2) * 171) >> 9  # (prefix + 2) // 3, exact below 512
            total += third + 2 + shift if prefix < 3 * _ESCAPE else _ESCAPE + width
    else:
        for i in range(number):
            prefix = gaps[i] >> shift
            total += prefix + 1 + shift if prefix < _ESCAPE else _ESCAPE + width
    return total


@compiled
def _plan(indices: _Ints, width: int, parameters: _Ints) -> int:
    """Choose the parameter of every block; return the bits of the whole, or -1 if out of order."""
    gaps = np.empty(_BLOCK, dtype=np.int64)
    total = 0
    last = -1
    signs = 0
    for block in range(len(parameters)):
        start = block * _BLOCK
        number = min(_BLOCK, len(indices) - start)
        previous = last
        for i in range(number):
            gap = indices[start + i] - previous - 1
            previous = indices[start + i]
            gaps[i] = gap
            signs |= gap
        if signs < 0:
            return -1
        divisor = 0.6931 * ((previous - last) / number - 0.5)  # best for geometric gaps, about
        last = previous
        best = 0
        while best < _LAST_PARAMETER and (3 if _kind(best) else 1) << _shift(best) < divisor:
            best += 1
        least = _cost(gaps, number, best, width)
        while best > 0:
            cost = _cost(gaps, number, best - 1, width)
            if cost >= least:
                break
            least = cost
            best -= 1
        if block > 0:
            kept = parameters[block - 1]
            cost = least if kept == best else _cost(gaps, number, kept, width)
            if cost <= least + 7:
                best = kept
                least = cost + 1
            else:
                least += 8
        parameters[block] = best
        total += least
    return total


@compiled
def _put(
    words: npt.NDArray[np.uint32],
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
    words: npt.NDArray[np.uint32],
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
def _write(indices: _Ints, width: int, parameters: _Ints, words: npt.NDArray[np.uint32]) -> None:
    """Write the gaps into ``words``, one word longer than the bits that ``_plan`` counted."""
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
        kind = _kind(parameter)
        limit = 3 * _ESCAPE if kind else _ESCAPE
        shift = np.uint64(_shift(parameter))
        mask = (np.uint64(1) << shift) - np.uint64(1)
        start = block * _BLOCK
        for i in range(start, min(start + _BLOCK, len(indices))):
            gap = np.uint64(indices[i] - previous - 1)
            previous = indices[i]
            prefix = gap >> shift
            if prefix >= np.uint64(limit):
                ones = np.uint64((1 << _ESCAPE) - 1)
                at, pending, filled = _put(words, at, pending, filled, ones, np.uint64(_ESCAPE))
                at, pending, filled = _put_long(words, at, pending, filled, gap, np.uint64(width))
                continue
            code = _CODES[kind, prefix]
            length = _LENGTHS[kind, prefix]
            low = gap & mask
            if length + shift <= np.uint64(32):
                code |= low << length
                at, pending, filled = _put(words, at, pending, filled, code, length + shift)
            else:
                at, pending, filled = _put(words, at, pending, filled, code, length)
                at, pending, filled = _put_long(words, at, pending, filled, low, shift)
    words[at] = np.uint32(pending)


@compiled
def _fill(
    words: npt.NDArray[np.uint32], at: np.int64, pending: np.uint64, filled: np.uint64
) -> tuple[np.int64, np.uint64, np.uint64]:
    """Make at least 32 bits pending; past the end of ``words``, whose last is 0, they are zeros."""
    missing = np.uint64(filled < np.uint64(32))  # a branch would be mispredicted half of the time
    pending |= (np.uint64(words[min(at, np.int64(len(words) - 1))]) * missing) << filled
    return at + np.int64(missing), pending, filled + (missing << np.uint64(5))


@compiled
def _take_long(
    words: npt.NDArray[np.uint32],
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


@compiled
def _read(
    words: npt.NDArray[np.uint32], parameter: np.int64, dim: int, width: int, indices: _Ints
) -> np.int64:
    """Read all ``indices``; return the bits that they took, or a key of ``_REASONS``."""
    one = np.uint64(1)
    at = np.int64(0)
    pending = np.uint64(0)
    filled = np.uint64(0)
    index = np.int64(-1)
    for start in range(0, len(indices), _BLOCK):
        if start > 0:
            at, pending, filled = _fill(words, at, pending, filled)
            used = one
            if pending & one:
                parameter = np.int64((pending >> one) & np.uint64(127))
                used = np.uint64(8)
                if parameter > _LAST_PARAMETER:
                    return np.int64(-1)
            pending >>= used
            filled -= used
        kind = _kind(parameter)
        limit = np.uint64(3 * _ESCAPE if kind else _ESCAPE)
        shift = np.uint64(_shift(parameter))
        mask = (one << shift) - one
        for i in range(start, min(start + _BLOCK, len(indices))):
            at, pending, filled = _fill(words, at, pending, filled)
            entry = _PREFIXES[kind, pending & np.uint64((1 << _WINDOW) - 1)]
            prefix = entry >> np.uint64(5)
            length = entry & np.uint64(31)
            if entry == np.uint64(0):
                ones = np.uint64(_WINDOW - 2)
                while ones < np.uint64(_ESCAPE) and (pending >> ones) & one:
                    ones += one
                if ones == np.uint64(_ESCAPE):
                    pending >>= ones
                    filled -= ones
                    taken = _take_long(words, at, pending, filled, np.uint64(width))
                    at, pending, filled, gap = taken
                    if gap >> shift < limit:
                        return np.int64(-3)
                    if gap >= np.uint64(dim - 1 - index):
                        return np.int64(-2)
                    index += np.int64(gap) + 1
                    indices[i] = index
                    continue
                length = ones + one
                prefix = ones
                if kind:
                    digit = (pending >> length) & np.uint64(3)
                    length += one + (digit & one)
                    prefix = np.uint64(3) * ones + (digit & one) * (one + (digit >> one))
            pending >>= length
            filled -= length
            if length + shift <= np.uint64(32):
                low = pending & mask
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
