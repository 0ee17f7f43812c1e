"""Range asymmetric numeral systems (rANS): symbols as bytes, at the cost that their counts say.

A stream holds the symbols that occur and the limits of their shares of 2**precision, both as index
sets, then the states of the lanes and 16-bit words. Symbol i belongs to lane i modulo the number of
lanes. The options, four bits that the caller keeps, are precision - 12 (bits 0 and 1) and whether
there are four lanes or one (bit 3); bit 2 is the caller's own.

References:
    Duda, arXiv:1311.2540, for the code. Giesen, arXiv:1402.3392, for the lanes.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from mlmc_ray.kernels.compiled import compiled
from mlmc_ray.kernels.index_coding import decode_indices, encode_indices

Ints = npt.NDArray[np.int64]
Symbols = npt.NDArray[np.unsignedinteger[Any]]  # uint8 or uint16
_Words = npt.NDArray[np.uint16]

MAX_PRECISION = 15
MAX_OCCURRING = 1 << (MAX_PRECISION - 1)
"""How many different symbols ``encode_rans`` takes."""
_MIN_PRECISION = 12
_FOUR_LANES = 1 << 3
_ONE_LANE = 1 << 12  # symbols up to which three more states would not pay
_LOWEST_STATE = 1 << 16


def encode_rans(symbols: Symbols, counts: Ints) -> tuple[int, bytes]:
    """Return the options and the bytes of a stream.

    Args:
        symbols: shape (n,), contiguous, below ``len(counts)``; not modified.
        counts: how often each symbol occurs, as ``count_symbols`` says; 2 to ``MAX_OCCURRING`` of
            them are positive.
    """
    occurring = np.flatnonzero(counts)
    precision, shares = _shares(counts[occurring])
    limits = np.cumsum(shares)
    frequencies = np.zeros(len(counts), dtype=np.uint64)
    frequencies[occurring] = shares
    starts = np.zeros(len(counts), dtype=np.uint64)
    starts[occurring[1:]] = limits[:-1]
    four = len(symbols) > _ONE_LANE
    states = np.full(4 if four else 1, _LOWEST_STATE, dtype=np.uint64)
    words = np.empty(len(symbols) + 1, dtype=np.uint16)
    at = _write_states(symbols, frequencies, starts, precision, states, words)
    present = encode_indices(occurring, len(counts))
    parts = encode_indices(limits[:-1] - 1, (1 << precision) - 1)
    body = [
        length_bytes(len(occurring)),
        length_bytes(len(present)),
        present,
        length_bytes(len(parts)),
        parts,
        states.astype("<u4").tobytes(),
        words[at + 1 :].astype("<u2", copy=False).tobytes(),
    ]
    return (precision - _MIN_PRECISION) | (_FOUR_LANES if four else 0), b"".join(body)


def decode_rans(options: int, data: bytes, count: int, alphabet: int) -> Symbols:
    """Undo ``encode_rans``: ``count`` symbols below ``alphabet``, of ``symbol_dtype(alphabet)``.

    Raises:
        ValueError: ``data`` is not what such symbols give.
    """
    precision = _MIN_PRECISION + (options & 3)
    reader = ByteReader(data)
    num_occurring = reader.length()
    if not 2 <= num_occurring <= min(alphabet, 1 << precision):
        raise ValueError(f"expected 2 or more of {alphabet} symbols, got {num_occurring}")
    occurring = decode_indices(reader.take(reader.length()), num_occurring, alphabet)
    parts = reader.take(reader.length())
    limits = np.zeros(num_occurring + 1, dtype=np.int64)
    limits[1:-1] = decode_indices(parts, num_occurring - 1, (1 << precision) - 1) + 1
    limits[-1] = 1 << precision
    lanes = np.frombuffer(reader.take(16 if options & _FOUR_LANES else 4), dtype="<u4")
    rest = reader.rest()
    if len(rest) % 2:
        raise ValueError(f"expected 16-bit words, got {len(rest)} bytes")
    words = np.frombuffer(rest, dtype="<u2").astype(np.uint16, copy=False)

    symbols = np.empty(count, dtype=symbol_dtype(alphabet))
    slots = np.repeat(occurring, np.diff(limits)).astype(symbols.dtype)
    frequencies = np.zeros(alphabet, dtype=np.uint64)
    frequencies[occurring] = np.diff(limits)
    starts = np.zeros(alphabet, dtype=np.uint64)
    starts[occurring] = limits[:-1]
    states = lanes.astype(np.uint64)
    if not _read_states(words, slots, frequencies, starts, precision, states, symbols):
        raise ValueError("its words do not bring the states back to their start")
    return symbols


def symbol_dtype(alphabet: int) -> np.dtype[np.unsignedinteger[Any]]:
    """Return the dtype of symbols below ``alphabet``: uint8 where they fit, or uint16."""
    return np.dtype(np.uint8 if alphabet <= 256 else np.uint16)


@compiled
def count_symbols(symbols: Symbols, size: int) -> Ints:
    """Return how often each of the symbols below ``size`` occurs, int64, shape (size,)."""
    # Four tables, so that equal neighbours do not wait for each other.
    counts = np.zeros((4, size), dtype=np.int64)
    whole = len(symbols) - len(symbols) % 4
    for i in range(0, whole, 4):
        counts[0, symbols[i]] += 1
        counts[1, symbols[i + 1]] += 1
        counts[2, symbols[i + 2]] += 1
        counts[3, symbols[i + 3]] += 1
    for i in range(whole, len(symbols)):
        counts[0, symbols[i]] += 1
    total: Ints = counts[0] + counts[1] + counts[2] + counts[3]
    return total


class ByteReader:
    """Takes bytes from the front of ``data``; every method raises ``ValueError`` if it cannot."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def take(self, length: int) -> bytes:
        """Return the next ``length`` bytes."""
        taken = self._data[self._at : self._at + length]
        if len(taken) != length:
            raise ValueError(f"expected {length} more bytes, got {len(taken)}")
        self._at += length
        return taken

    def length(self) -> int:
        """Return the number that ``length_bytes`` wrote."""
        value = 0
        for shift in range(0, 63, 7):
            byte = self.take(1)[0]
            value |= (byte & 127) << shift
            if byte < 128:
                return value
        raise ValueError("a length of more than nine bytes")

    def rest(self) -> bytes:
        """Return all that is left."""
        return self.take(len(self._data) - self._at)

    def expect_end(self) -> None:
        """Refuse bytes that are left over."""
        left = len(self._data) - self._at
        if left:
            raise ValueError(f"{left} bytes are left over")


def length_bytes(length: int) -> bytes:
    """Return a length, seven bits a byte, the lowest first, and 128 added to all but the last."""
    result = bytearray()
    while length > 127:
        result.append(length & 127 | 128)
        length >>= 7
    return bytes([*result, length])


def _shares(counts: Ints) -> tuple[int, Ints]:
    """Return a precision and the share of 2**precision of every count, at least 1."""
    options: list[tuple[float, int, Ints]] = []
    for precision in range(_MIN_PRECISION, MAX_PRECISION + 1):
        if 2 * len(counts) <= 1 << precision:
            shares = _rounded(counts, 1 << precision)
            bits = float((counts * (precision - np.log2(shares))).sum())
            options.append((bits + precision * len(counts), precision, shares))
    least = min(cost for cost, _, _ in options)
    return next((p, s) for cost, p, s in options if cost <= 1.002 * least)


def _rounded(counts: Ints, total: int) -> Ints:
    """Return positive integers near ``counts`` scaled to the sum ``total``."""
    scaled = counts * (total / counts.sum())
    shares: Ints = np.maximum(1, np.floor(scaled)).astype(np.int64)
    missing = total - int(shares.sum())
    if missing > 0:
        shares[np.argsort(shares - scaled, kind="stable")[:missing]] += 1
    while missing < 0:
        largest = int(shares.argmax())
        taken = min(-missing, max(1, int(shares[largest]) // 8))
        shares[largest] -= taken
        missing += taken
    return shares


@compiled
def _push(
    state: np.uint64,
    frequency: np.uint64,
    inverse: np.uint64,
    start: np.uint64,
    precision: np.uint64,
    words: _Words,
    at: np.int64,
) -> tuple[np.uint64, np.int64]:
    """Add a symbol to a state; a state that would leave 32 bits gives a word away before."""
    words[at] = np.uint16(state & np.uint64(0xFFFF))
    full = np.uint64(state >= frequency << (np.uint64(32) - precision))
    state >>= full << np.uint64(4)
    # Exact: the inverse is 2**(32 + precision) / frequency, rounded up by less than 1, and the
    # state is below 2**32 and below frequency * 2**(32 - precision).
    quotient = (state * inverse) >> (np.uint64(32) + precision)
    state += start + quotient * ((np.uint64(1) << precision) - frequency)
    return state, at - np.int64(full)


@compiled
def _write_states(
    symbols: Symbols,
    frequencies: npt.NDArray[np.uint64],
    starts: npt.NDArray[np.uint64],
    precision: int,
    states: npt.NDArray[np.uint64],
    words: _Words,
) -> np.int64:
    """Push the symbols from the last to the first; ``words`` fills from its end.

    Args:
        symbols: shape (n,).
        frequencies: of every symbol, from 1 to 2**precision - 1 for those that occur.
        starts: the sums of the frequencies before.
        precision: 12 to 15.
        states: shape (1,) or (4,); their final values are written here.
        words: shape (n + 1,).

    Returns:
        The place before the first word.
    """
    bits = np.uint64(precision)
    inverses = np.zeros(len(frequencies), dtype=np.uint64)
    for i in range(len(frequencies)):
        if frequencies[i] > 0:
            scaled = (np.uint64(1) << (np.uint64(32) + bits)) - np.uint64(1)
            inverses[i] = scaled // frequencies[i] + np.uint64(1)
    at = np.int64(len(symbols))
    lanes = len(states)
    whole = len(symbols) - len(symbols) % 4 if lanes == 4 else 0
    for i in range(len(symbols) - 1, whole - 1, -1):
        s = symbols[i]
        lane = i % lanes
        states[lane], at = _push(
            states[lane], frequencies[s], inverses[s], starts[s], bits, words, at
        )
    if lanes != 4:
        return at
    first, second, third, fourth = states[0], states[1], states[2], states[3]
    for i in range(whole - 4, -1, -4):
        s = symbols[i + 3]
        fourth, at = _push(fourth, frequencies[s], inverses[s], starts[s], bits, words, at)
        s = symbols[i + 2]
        third, at = _push(third, frequencies[s], inverses[s], starts[s], bits, words, at)
        s = symbols[i + 1]
        second, at = _push(second, frequencies[s], inverses[s], starts[s], bits, words, at)
        s = symbols[i]
        first, at = _push(first, frequencies[s], inverses[s], starts[s], bits, words, at)
    states[0], states[1], states[2], states[3] = first, second, third, fourth
    return at


@compiled
def _pop(
    state: np.uint64,
    frequency: np.uint64,
    start: np.uint64,
    precision: np.uint64,
    word: np.uint64,
    at: np.int64,
) -> tuple[np.uint64, np.int64]:
    """Undo ``_push`` for the symbol in whose share the low bits of the state lie."""
    slot = state & ((np.uint64(1) << precision) - np.uint64(1))
    state = frequency * (state >> precision) + slot - start
    low = np.uint64(state < np.uint64(_LOWEST_STATE))
    state = (state << (low << np.uint64(4))) | (word * low)
    return state, at + np.int64(low)


@compiled
def _read_states(
    words: _Words,
    slots: Symbols,
    frequencies: npt.NDArray[np.uint64],
    starts: npt.NDArray[np.uint64],
    precision: int,
    states: npt.NDArray[np.uint64],
    symbols: Symbols,
) -> bool:
    """Undo ``_write_states``; return whether all words are used and the states are as at first."""
    bits = np.uint64(precision)
    mask = (np.uint64(1) << bits) - np.uint64(1)
    lanes = len(states)
    whole = len(symbols) - len(symbols) % 4 if lanes == 4 else 0
    at = np.int64(0)
    done = 0
    if lanes == 4:
        first, second, third, fourth = states[0], states[1], states[2], states[3]
        while done < whole and at + 4 <= len(words):
            s = slots[first & mask]
            symbols[done] = s
            first, at = _pop(first, frequencies[s], starts[s], bits, np.uint64(words[at]), at)
            s = slots[second & mask]
            symbols[done + 1] = s
            second, at = _pop(second, frequencies[s], starts[s], bits, np.uint64(words[at]), at)
            s = slots[third & mask]
            symbols[done + 2] = s
            third, at = _pop(third, frequencies[s], starts[s], bits, np.uint64(words[at]), at)
            s = slots[fourth & mask]
            symbols[done + 3] = s
            fourth, at = _pop(fourth, frequencies[s], starts[s], bits, np.uint64(words[at]), at)
            done += 4
        states[0], states[1], states[2], states[3] = first, second, third, fourth
    for i in range(done, len(symbols)):
        lane = i % lanes
        s = slots[states[lane] & mask]
        symbols[i] = s
        word = np.uint64(words[at]) if at < len(words) else np.uint64(0)
        states[lane], at = _pop(states[lane], frequencies[s], starts[s], bits, word, at)
    good = at == len(words)
    for lane in range(lanes):
        good = good and states[lane] == np.uint64(_LOWEST_STATE)
    return bool(good)
