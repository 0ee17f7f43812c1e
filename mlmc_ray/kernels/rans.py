"""Range asymmetric numeral systems (rANS): symbols as bytes, at the cost that their counts say.

A stream holds the symbols that occur and the limits of their shares of 2**precision, both as index
sets, then the states of the lanes and 16-bit words. Symbol i belongs to lane i modulo the number of
lanes. The low three bits of the first byte are 4, the others precision - 12 (bits 3 and 4), whether
symbols are grouped (bit 5), which is the caller's business, and whether there are four lanes or one
(bit 6).

References:
    Duda, arXiv:1311.2540, for the code. Giesen, arXiv:1402.3392, for the lanes.
"""

import numpy as np

from mlmc_ray.kernels.byte_reader import ByteReader, length_bytes
from mlmc_ray.kernels.histograms import (
    MAX_PRECISION,
    MIN_PRECISION,
    Ints,
    Symbols,
    shares_of,
    symbol_dtype,
)
from mlmc_ray.kernels.plain_indices import decode_plain_indices, encode_plain_indices
from mlmc_ray.kernels.rans_lanes import LOWEST_STATE, read_states, write_states

RANS = 4
"""The low three bits of the first byte."""
GROUPED = 1 << 5
"""The bit of the first byte that the caller sets for grouped symbols."""
MAX_OCCURRING = 1 << (MAX_PRECISION - 1)
"""How many different symbols ``encode_rans`` takes."""
_FOUR_LANES = 1 << 6
_ONE_LANE = 1 << 12  # symbols up to which three more states would not pay


def encode_rans(symbols: Symbols, counts: Ints, *, grouped: bool = False) -> bytes:
    """Return the bytes of a stream.

    Args:
        symbols: shape (n,), contiguous, below ``len(counts)``; not modified.
        counts: how often each symbol occurs, as ``count_symbols`` says; 2 to ``MAX_OCCURRING`` of
            them are positive.
        grouped: what the first byte says of it.
    """
    occurring = np.flatnonzero(counts)
    precision, shares = shares_of(counts[occurring])
    limits = np.cumsum(shares)
    frequencies = np.zeros(len(counts), dtype=np.uint64)
    frequencies[occurring] = shares
    starts = np.zeros(len(counts), dtype=np.uint64)
    starts[occurring[1:]] = limits[:-1]
    four = len(symbols) > _ONE_LANE
    states = np.full(4 if four else 1, LOWEST_STATE, dtype=np.uint64)
    words = np.empty(len(symbols) + 1, dtype=np.uint16)
    at = write_states(symbols, frequencies, starts, precision, states, words)
    present = encode_plain_indices(occurring, len(counts))
    parts = encode_plain_indices(limits[:-1] - 1, (1 << precision) - 1)
    first = RANS | (precision - MIN_PRECISION) << 3 | (_FOUR_LANES if four else 0)
    body = [
        bytes([first | (GROUPED if grouped else 0)]),
        length_bytes(len(occurring)),
        length_bytes(len(present)),
        present,
        length_bytes(len(parts)),
        parts,
        states.astype("<u4").tobytes(),
        words[at + 1 :].astype("<u2", copy=False).tobytes(),
    ]
    return b"".join(body)


def decode_rans(data: bytes, count: int, alphabet: int, *, grouped: bool = False) -> Symbols:
    """Undo ``encode_rans``: ``count`` symbols below ``alphabet``, of ``symbol_dtype(alphabet)``.

    Raises:
        ValueError: ``data`` is not what such symbols give.
    """
    reader = ByteReader(data)
    first = reader.take(1)[0]
    if first & 7 != RANS or first & 128 or bool(first & GROUPED) != grouped:
        raise ValueError(f"unknown first byte {first} of a rANS code")
    precision = MIN_PRECISION + (first >> 3 & 3)
    num_occurring = reader.length()
    if not 2 <= num_occurring <= min(alphabet, 1 << precision):
        raise ValueError(f"expected 2 or more of {alphabet} symbols, got {num_occurring}")
    occurring = decode_plain_indices(reader.take(reader.length()), num_occurring, alphabet)
    parts = reader.take(reader.length())
    limits = np.zeros(num_occurring + 1, dtype=np.int64)
    limits[1:-1] = decode_plain_indices(parts, num_occurring - 1, (1 << precision) - 1) + 1
    limits[-1] = 1 << precision
    lanes = np.frombuffer(reader.take(16 if first & _FOUR_LANES else 4), dtype="<u4")
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
    if not read_states(words, slots, frequencies, starts, precision, states, symbols):
        raise ValueError("its words do not bring the states back to their start")
    return symbols
