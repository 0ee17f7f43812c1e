"""Golomb codes of gaps: their bits, and the choice of the parameter of every block of 64 gaps.

A gap g is sent as a prefix code of ``g >> shift`` and the ``shift`` low bits of g. The parameters
0, 1, 2, ... stand for the Golomb divisors 1, 2, 3, 4, 6, 8, 12, ...; a divisor 2**shift has unary
prefixes, a divisor 3 * 2**shift the Golomb code of 3. A prefix of 24 ones announces the whole gap
instead, as many bits as ``dim - 1`` takes.

References:
    Golomb, Run-length encodings, 1966. Gallager and Van Voorhis, Optimal source codes for
    geometrically distributed integer alphabets, 1975.
"""

import numpy as np
import numpy.typing as npt

from mlmc_ray.kernels.compiled import compiled

Ints = npt.NDArray[np.int64]

LAST_PARAMETER = 112
BLOCK = 64
"""How many gaps share a parameter."""
ESCAPE = 24
"""How many ones announce a whole gap."""
WINDOW = 10
"""How many bits most prefixes fit."""

# Prefix codes of 0, 1, 2, ... for divisors 1 and 3: their bits, the first lowest, and lengths.
_QUOTIENTS = np.arange(3 * ESCAPE) // 3
_DIGITS = np.arange(3 * ESCAPE) % 3
CODES = np.zeros((2, 3 * ESCAPE), dtype=np.uint64)
CODES[0, :ESCAPE] = (1 << np.arange(ESCAPE)) - 1
CODES[1] = ((1 << _QUOTIENTS) - 1) | (np.array([0, 1, 3])[_DIGITS] << (_QUOTIENTS + 1))
LENGTHS = np.zeros((2, 3 * ESCAPE), dtype=np.uint64)
LENGTHS[0, :ESCAPE] = np.arange(ESCAPE) + 1
LENGTHS[1] = _QUOTIENTS + np.array([2, 3, 3])[_DIGITS]


def _prefix_table() -> npt.NDArray[np.uint64]:
    """Return what the next ten bits start with: 32 * value + length, or 0 for a longer prefix."""
    table = np.zeros((2, 1 << WINDOW), dtype=np.uint64)
    for kind, value in np.argwhere((LENGTHS > 0) & (LENGTHS <= WINDOW)):
        length = int(LENGTHS[kind, value])
        table[kind, int(CODES[kind, value]) :: 1 << length] = 32 * value + length
    return table


PREFIXES = _prefix_table()


@compiled
def kind_of(parameter: int | np.int64) -> int:
    """Return 1 for a divisor 3 * 2**shift, 0 for 2**shift."""
    return 1 if parameter > 0 and parameter % 2 == 0 else 0


@compiled
def shift_of(parameter: int | np.int64) -> int | np.int64:
    """Return the low bits of a gap that are sent as they are."""
    return (parameter >> 1) - 1 if kind_of(parameter) else (parameter + 1) >> 1


@compiled
def plan_gaps(indices: Ints, width: int, parameters: Ints) -> int:
    """Choose the parameter of every block; return the bits of the whole, or -1 if out of order."""
    gaps = np.empty(BLOCK, dtype=np.int64)
    total = 0
    last = -1
    signs = 0
    for block in range(len(parameters)):
        start = block * BLOCK
        number = min(BLOCK, len(indices) - start)
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
        while best < LAST_PARAMETER and (3 if kind_of(best) else 1) << shift_of(best) < divisor:
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
def _cost(gaps: Ints, number: int, parameter: int, width: int) -> int:
    """Return the bits that the first ``number`` gaps take."""
    shift = shift_of(parameter)
    total = 0
    if kind_of(parameter):
        for i in range(number):
            prefix = min(gaps[i] >> shift, 3 * ESCAPE)
            third = ((prefix + 2) * 171) >> 9  # (prefix + 2) // 3, exact below 512
            total += third + 2 + shift if prefix < 3 * ESCAPE else ESCAPE + width
    else:
        for i in range(number):
            prefix = gaps[i] >> shift
            total += prefix + 1 + shift if prefix < ESCAPE else ESCAPE + width
    return total
