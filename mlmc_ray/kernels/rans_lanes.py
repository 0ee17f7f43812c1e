"""The states of rANS: pushing symbols on to them, popping symbols off, in one lane or four."""

import numpy as np
import numpy.typing as npt

from mlmc_ray.kernels.compiled import compiled
from mlmc_ray.kernels.histograms import Symbols

_Words = npt.NDArray[np.uint16]
_States = npt.NDArray[np.uint64]

LOWEST_STATE = 1 << 16
"""The state at the start and at the end."""


@compiled
def write_states(
    symbols: Symbols,
    frequencies: _States,
    starts: _States,
    precision: int,
    states: _States,
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
    inverses = _inverses(frequencies, bits)
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
def read_states(
    words: _Words,
    slots: Symbols,
    frequencies: _States,
    starts: _States,
    precision: int,
    states: _States,
    symbols: Symbols,
) -> bool:
    """Undo ``write_states``; return whether all words are used and the states are as at first."""
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
        good = good and states[lane] == np.uint64(LOWEST_STATE)
    return bool(good)


@compiled
def _inverses(frequencies: _States, precision: np.uint64) -> _States:
    """Return 2**(32 + precision) / frequency, rounded up, for those that are not 0."""
    inverses = np.zeros(len(frequencies), dtype=np.uint64)
    scaled = (np.uint64(1) << (np.uint64(32) + precision)) - np.uint64(1)
    for i in range(len(frequencies)):
        if frequencies[i] > 0:
            inverses[i] = scaled // frequencies[i] + np.uint64(1)
    return inverses


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
    low = np.uint64(state < np.uint64(LOWEST_STATE))
    state = (state << (low << np.uint64(4))) | (word * low)
    return state, at + np.int64(low)
