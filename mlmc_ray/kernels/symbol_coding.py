"""Streams of small whole numbers as bytes, near their empirical entropy.

The low three bits of the first byte say how the rest is to be read:

- ``CONSTANT``: the one symbol that occurs.
- ``FIXED``: a fixed number of bits for each symbol, or five ternary symbols in a byte.
- ``SPARSE``: the most frequent symbol, the positions of the others as an index set, then the
  others, again as a stream.
- ``SPLIT``: how many low bits are split off, the symbols without them as ``RANS``, and the low bits
  as ``FIXED``.
- ``RANS``: a static histogram and range asymmetric numeral systems, as in ``kernels.rans``, whose
  options are the other bits of the first byte. Bit 5 says that several symbols of a tiny alphabet
  are coded as one.

Numbers are little-endian, lengths have seven bits a byte. An empty stream and a stream over an
alphabet of one symbol take no bytes.
"""

import numpy as np
import numpy.typing as npt

from mlmc_ray.kernels.compiled import compiled
from mlmc_ray.kernels.index_coding import decode_indices, encode_indices
from mlmc_ray.kernels.rans import (
    MAX_OCCURRING,
    MAX_PRECISION,
    ByteReader,
    Ints,
    Symbols,
    count_symbols,
    decode_rans,
    encode_rans,
    length_bytes,
    symbol_dtype,
)

_CONSTANT, _FIXED, _SPARSE, _SPLIT, _RANS = range(5)
_GROUPED = 1 << 5
_GROUPS = {2: 8, 3: 5, 4: 4, 5: 3, 6: 3} | dict.fromkeys(range(7, 17), 2)  # at most 256 values
_MANY = 1 << 19  # symbols from which grouping pays for its larger histogram
_FEW = 1 << 12  # symbols up to which every way is tried


def encode_symbols(symbols: Symbols, alphabet: int) -> bytes:
    """Return the bytes of a stream, close to its zeroth-order entropy once they are many.

    Args:
        symbols: shape (d,), from 0 to ``alphabet - 1``; not modified.
        alphabet: 1 to 65535.

    Raises:
        ValueError: a symbol or ``alphabet`` is out of range.
    """
    _check_alphabet(alphabet)
    if len(symbols) and symbols.max() >= alphabet:
        raise ValueError(f"expected symbols below {alphabet}, got {symbols.max()}")
    if alphabet == 1 or not len(symbols):
        return b""
    compact = np.ascontiguousarray(symbols, dtype=symbol_dtype(alphabet))
    return _encode(compact, alphabet, nested=False)


def decode_symbols(data: bytes, count: int, alphabet: int) -> Symbols:
    """Undo ``encode_symbols``: ``count`` symbols, uint8 if ``alphabet`` is at most 256, or uint16.

    Raises:
        ValueError: ``data`` is not what ``count`` symbols below ``alphabet`` give.
    """
    _check_alphabet(alphabet)
    if count < 0:
        raise ValueError(f"expected a count of at least 0, got {count}")
    return _decode(data, count, alphabet, nested=False)


def _check_alphabet(alphabet: int) -> None:
    if not 1 <= alphabet <= 65535:
        raise ValueError(f"expected an alphabet of 1 to 65535 symbols, got {alphabet}")


# -- choosing how ------------------------------------------------------------------------------


def _encode(symbols: Symbols, alphabet: int, *, nested: bool) -> bytes:
    """Encode one symbol or more of an alphabet of two or more."""
    count = len(symbols)
    group = _GROUPS.get(alphabet, 1) if count >= _MANY else 1
    coded = _join(symbols, alphabet, group) if group > 1 else symbols
    coded_counts = count_symbols(coded, alphabet**group)
    counts = _counts_of_single(coded_counts, alphabet, group, count)
    top = int(counts.argmax())
    others = count - int(counts[top])
    if others == 0:
        return bytes([_CONSTANT]) + _symbol_bytes(top, alphabet)
    if count <= _FEW:
        options = [_encode_fixed(symbols, alphabet), _encode_histogram(symbols, counts)]
        options += [] if nested else [_encode_sparse(symbols, top, alphabet)]
        return min(options, key=len)
    if 16 * others <= count and not nested:
        return _encode_sparse(symbols, top, alphabet)
    fixed_size = 1 + _fixed_size(count, alphabet)
    if 8 * fixed_size <= 1.01 * _entropy_bits(counts):
        return _encode_fixed(symbols, alphabet)
    if group > 1:
        best = _encode_frequent(coded, coded_counts, _GROUPED)
    else:
        best = _encode_histogram(symbols, counts)
    return best if len(best) < fixed_size else _encode_fixed(symbols, alphabet)


def _decode(data: bytes, count: int, alphabet: int, *, nested: bool) -> Symbols:
    if alphabet == 1 or count == 0:
        if data:
            raise ValueError(f"expected 0 bytes, got {len(data)}")
        return np.zeros(count, dtype=symbol_dtype(alphabet))
    reader = ByteReader(data)
    first = reader.take(1)[0]
    if first == _CONSTANT:
        symbol = _read_symbol(reader, alphabet)
        reader.expect_end()
        return np.full(count, symbol, dtype=symbol_dtype(alphabet))
    if first == _FIXED:
        return _decode_fixed(reader.rest(), count, alphabet)
    if first == _SPARSE and not nested:
        return _decode_sparse(reader, count, alphabet)
    if first == _SPLIT:
        return _decode_split(reader, count, alphabet)
    if first & 7 == _RANS:
        return _decode_frequent(first, reader, count, alphabet)
    raise ValueError(f"unknown first byte {first}")


def _entropy_bits(counts: Ints) -> float:
    occurring = counts[counts > 0]
    return float((occurring * np.log2(occurring.sum() / occurring)).sum())


def _symbol_bytes(symbol: int, alphabet: int) -> bytes:
    return symbol.to_bytes(symbol_dtype(alphabet).itemsize, "little")


def _read_symbol(reader: ByteReader, alphabet: int) -> int:
    symbol = int.from_bytes(reader.take(symbol_dtype(alphabet).itemsize), "little")
    if symbol >= alphabet:
        raise ValueError(f"expected a symbol below {alphabet}, got {symbol}")
    return symbol


# -- fixed width and groups --------------------------------------------------------------------


def _fixed_size(count: int, alphabet: int) -> int:
    return -(-count // 5) if alphabet == 3 else (count * (alphabet - 1).bit_length() + 7) // 8


def _encode_fixed(symbols: Symbols, alphabet: int) -> bytes:
    if alphabet == 3:
        return bytes([_FIXED]) + _join(symbols, 3, _GROUPS[3]).tobytes()
    width = (alphabet - 1).bit_length()
    words = np.zeros(len(symbols) * width // 32 + 2, dtype=np.uint32)
    _pack(symbols, width, words)
    packed = words.astype("<u4", copy=False).tobytes()
    return bytes([_FIXED]) + packed[: _fixed_size(len(symbols), alphabet)]


def _decode_fixed(data: bytes, count: int, alphabet: int) -> Symbols:
    if len(data) != _fixed_size(count, alphabet):
        raise ValueError(f"expected {_fixed_size(count, alphabet)} bytes, got {len(data)}")
    if alphabet == 3:
        return _split(np.frombuffer(data, dtype=np.uint8), 3, _GROUPS[3], count)
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


def _counts_of_single(counts: Ints, alphabet: int, group: int, count: int) -> Ints:
    """Return how often each symbol occurs from how often each joint symbol does."""
    digits = _digits(alphabet, group) if group > 1 else None
    if digits is None:
        return counts
    single = np.array([counts @ (digits == symbol).sum(axis=1) for symbol in range(alphabet)])
    single[0] -= -count % group  # the padding of the last joint symbol
    return single


def _split(joint: npt.NDArray[np.uint8], alphabet: int, group: int, count: int) -> Symbols:
    digits = _digits(alphabet, group)
    if joint.max() >= len(digits):
        raise ValueError(f"a byte is above {len(digits) - 1}, the largest joint symbol")
    symbols = np.empty(len(joint) * group, dtype=np.uint8)
    _separate(joint, digits, symbols)
    if symbols[count:].any():
        raise ValueError("the unused digits of its last byte are not zero")
    return symbols[:count]


@compiled
def _join(symbols: Symbols, alphabet: int, group: int) -> npt.NDArray[np.uint8]:
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


# -- one dominant symbol -----------------------------------------------------------------------


def _encode_sparse(symbols: Symbols, top: int, alphabet: int) -> bytes:
    positions = np.flatnonzero(symbols != top)
    others = symbols[positions]
    others -= others > top
    index_set = encode_indices(positions, len(symbols))
    header = bytes([_SPARSE]) + _symbol_bytes(top, alphabet) + length_bytes(len(positions))
    values = b""
    if alphabet > 2:
        values = _encode(others.astype(symbol_dtype(alphabet - 1)), alphabet - 1, nested=True)
    return header + length_bytes(len(index_set)) + index_set + values


def _decode_sparse(reader: ByteReader, count: int, alphabet: int) -> Symbols:
    top = _read_symbol(reader, alphabet)
    num_others = reader.length()
    if not 0 < num_others <= count:
        raise ValueError(f"expected 1 to {count} other symbols, got {num_others}")
    positions = decode_indices(reader.take(reader.length()), num_others, count)
    others = _decode(reader.rest(), num_others, alphabet - 1, nested=True)
    symbols = np.full(count, top, dtype=symbol_dtype(alphabet))
    symbols[positions] = others + (others >= top).astype(symbols.dtype)
    return symbols


# -- histograms --------------------------------------------------------------------------------


def _encode_histogram(symbols: Symbols, counts: Ints) -> bytes:
    """Encode as ``RANS``, or as ``SPLIT`` where the histogram would be too long."""
    shift = _best_shift(counts)
    if shift == 0:
        return _encode_frequent(symbols, counts, 0)
    alphabet = ((len(counts) - 1) >> shift) + 1
    high = (symbols >> shift).astype(symbol_dtype(alphabet))
    body = _encode_frequent(high, _without_low_bits(counts, shift), 0)
    low = _encode_fixed(symbols & np.uint16((1 << shift) - 1), 1 << shift)[1:]
    return bytes([_SPLIT, shift]) + length_bytes(len(body)) + body + low


def _decode_split(reader: ByteReader, count: int, alphabet: int) -> Symbols:
    shift = reader.take(1)[0]
    if not 0 < shift < 16 or (alphabet - 1) >> shift == 0:
        raise ValueError(f"cannot split {shift} bits off an alphabet of {alphabet}")
    body = ByteReader(reader.take(reader.length()))
    first = body.take(1)[0]
    if first & 7 != _RANS:
        raise ValueError(f"expected a histogram code within a split, got first byte {first}")
    high = _decode_frequent(first, body, count, ((alphabet - 1) >> shift) + 1)
    low = _decode_fixed(reader.rest(), count, 1 << shift)
    symbols = (high.astype(np.uint16) << shift) | low
    if symbols.max() >= alphabet:
        raise ValueError(f"expected symbols below {alphabet}, got {symbols.max()}")
    return symbols.astype(symbol_dtype(alphabet), copy=False)


def _without_low_bits(counts: Ints, shift: int) -> Ints:
    return np.add.reduceat(counts, np.arange(0, len(counts), 1 << shift))


def _best_shift(counts: Ints) -> int:
    """Return how many low bits are better sent as they are."""
    if np.count_nonzero(counts) <= 256:
        return 0
    costs: dict[int, float] = {}
    for shift in range(9):
        kept = _without_low_bits(counts, shift)
        occurring = np.count_nonzero(kept)
        if 2 <= occurring <= MAX_OCCURRING:
            floor = -np.log2(1 - occurring / (1 << MAX_PRECISION))  # for the shares of 1
            costs[shift] = (
                _entropy_bits(kept) + int(counts.sum()) * (shift + floor / 2) + 10 * occurring
            )
    return min(costs, key=costs.__getitem__)


def _encode_frequent(symbols: Symbols, counts: Ints, flags: int) -> bytes:
    options, body = encode_rans(symbols, counts)
    return bytes([_RANS | options << 3 | flags]) + body


def _decode_frequent(first: int, reader: ByteReader, count: int, alphabet: int) -> Symbols:
    group = _GROUPS.get(alphabet, 1) if first & _GROUPED else 1
    if first & 128 or (first & _GROUPED and group == 1):
        raise ValueError(f"unknown first byte {first} for an alphabet of {alphabet}")
    coded = decode_rans(first >> 3, reader.rest(), -(-count // group), alphabet**group)
    return coded if group == 1 else _split(coded.astype(np.uint8), alphabet, group, count)
