"""How often each symbol occurs, and the shares of a power of two that stand for it."""

from typing import Any

import numpy as np
import numpy.typing as npt

from mlmc_ray.kernels.compiled import compiled

Ints = npt.NDArray[np.int64]
Symbols = npt.NDArray[np.unsignedinteger[Any]]  # uint8 or uint16

MIN_PRECISION = 12
MAX_PRECISION = 15
"""Shares are of 2**12 to 2**15."""


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


def entropy_bits(counts: Ints) -> float:
    """Return the number of symbols times their empirical entropy."""
    occurring = counts[counts > 0]
    return float((occurring * np.log2(occurring.sum() / occurring)).sum())


def shares_of(counts: Ints) -> tuple[int, Ints]:
    """Return a precision and the share of 2**precision of every count, at least 1."""
    options: list[tuple[float, int, Ints]] = []
    for precision in range(MIN_PRECISION, MAX_PRECISION + 1):
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
