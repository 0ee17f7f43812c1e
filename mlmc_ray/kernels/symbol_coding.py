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

from mlmc_ray.kernels.byte_reader import ByteReader, length_bytes
from mlmc_ray.kernels.fixed_width import (
    GROUPS,
    counts_of_single,
    decode_fixed,
    encode_fixed,
    fixed_size,
    join,
    split,
)
from mlmc_ray.kernels.histograms import (
    MAX_PRECISION,
    Ints,
    Symbols,
    count_symbols,
    entropy_bits,
    symbol_dtype,
)
from mlmc_ray.kernels.index_coding import decode_indices, encode_indices
from mlmc_ray.kernels.rans import GROUPED, MAX_OCCURRING, RANS, decode_rans, encode_rans

_CONSTANT, _FIXED, _SPARSE, _SPLIT = range(RANS)
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
    group = GROUPS.get(alphabet, 1) if count >= _MANY else 1
    coded = join(symbols, alphabet, group) if group > 1 else symbols
    coded_counts = count_symbols(coded, alphabet**group)
    counts = counts_of_single(coded_counts, alphabet, group, count)
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
    plain_size = 1 + fixed_size(count, alphabet)
    if 8 * plain_size <= 1.01 * entropy_bits(counts):
        return _encode_fixed(symbols, alphabet)
    if group > 1:
        best = encode_rans(coded, coded_counts, grouped=True)
    else:
        best = _encode_histogram(symbols, counts)
    return best if len(best) < plain_size else _encode_fixed(symbols, alphabet)


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
        return decode_fixed(reader.rest(), count, alphabet)
    if first == _SPARSE and not nested:
        return _decode_sparse(reader, count, alphabet)
    if first == _SPLIT:
        return _decode_split(reader, count, alphabet)
    if first & 7 == RANS:
        return _decode_frequent(data, count, alphabet)
    raise ValueError(f"unknown first byte {first}")


def _encode_fixed(symbols: Symbols, alphabet: int) -> bytes:
    return bytes([_FIXED]) + encode_fixed(symbols, alphabet)


def _symbol_bytes(symbol: int, alphabet: int) -> bytes:
    return symbol.to_bytes(symbol_dtype(alphabet).itemsize, "little")


def _read_symbol(reader: ByteReader, alphabet: int) -> int:
    symbol = int.from_bytes(reader.take(symbol_dtype(alphabet).itemsize), "little")
    if symbol >= alphabet:
        raise ValueError(f"expected a symbol below {alphabet}, got {symbol}")
    return symbol


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
        return encode_rans(symbols, counts)
    alphabet = ((len(counts) - 1) >> shift) + 1
    high = (symbols >> shift).astype(symbol_dtype(alphabet))
    body = encode_rans(high, _without_low_bits(counts, shift))
    low = encode_fixed(symbols & np.uint16((1 << shift) - 1), 1 << shift)
    return bytes([_SPLIT, shift]) + length_bytes(len(body)) + body + low


def _decode_split(reader: ByteReader, count: int, alphabet: int) -> Symbols:
    shift = reader.take(1)[0]
    if not 0 < shift < 16 or (alphabet - 1) >> shift == 0:
        raise ValueError(f"cannot split {shift} bits off an alphabet of {alphabet}")
    body = reader.take(reader.length())
    high = _decode_frequent(body, count, ((alphabet - 1) >> shift) + 1)
    low = decode_fixed(reader.rest(), count, 1 << shift)
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
                entropy_bits(kept) + int(counts.sum()) * (shift + floor / 2) + 10 * occurring
            )
    return min(costs, key=costs.__getitem__)


def _decode_frequent(data: bytes, count: int, alphabet: int) -> Symbols:
    group = GROUPS.get(alphabet, 1) if data[:1] and data[0] & GROUPED else 1
    coded = decode_rans(data, -(-count // group), alphabet**group, grouped=group > 1)
    return coded if group == 1 else split(coded.astype(np.uint8), alphabet, group, count)
