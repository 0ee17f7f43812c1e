"""Rounding groups of entries by thresholds that blocks of them share: the loops over the vector.

A layer of k entries is cut into ceil(k / n) groups of n, the last padded with zeros. Interleaved,
group g has the entries g, g + G, g + 2 G and so on, G being the number of groups; contiguous, it
has those from n g on.
"""

import numpy as np
import numpy.typing as npt

from mlmc_ray.kernels.compiled import compiled

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
_Singles = npt.NDArray[np.float32]
_ROUNDING = 2.0**-22  # more than rounding to float32, and than that of a quotient
_LEAST_SINGLE = np.float32(2.0**-149)  # more than rounding of subnormal numbers
_CHUNK = 4096  # entries that are flagged at once
_MOST_STEPS = 2.0**32
_STRIPE = 1024  # groups whose sums stay near at hand
_NEIGHBOURS = 64  # groups whose entries are read together


def sent_entries(
    values: npt.NDArray[np.floating], step: float, uniforms: Floats, block: int, interleaved: bool
) -> tuple[Ints, Ints, Ints]:
    """Return the entries with floor(|v| / step + u) above 0, that count, and whether v is negative.

    One pass flags the entries that may be sent, by thresholds in float32 that are rounded down; the
    others are hardly looked at.

    Args:
        values: shape (k,), one layer, finite; not modified.
        step: positive.
        uniforms: u of every block.
        block: entries a block, where blocks are contiguous.
        interleaved: entry j is in block j modulo the number of blocks, not in block j // block.

    Returns:
        Shape (sent,) each: the places, ascending; the counts, 2**32 standing for all that is more;
        the signs, 1 where an entry is negative.
    """
    sample = np.abs(values[:: max(1, len(values) // _CHUNK)]).clip(max=step)
    room = int(1.2 * float(sample.mean(dtype=np.float64)) / step * len(values)) + 2 * _CHUNK
    size = 1 if interleaved else block
    return _sent(values, step, uniforms, _limits(uniforms, step), size, room)


@compiled
def _limits(uniforms: Floats, step: float) -> _Singles:
    """Return numbers that are not above the least magnitudes that are sent."""
    limits = np.empty(len(uniforms), dtype=np.float32)
    for b in range(len(uniforms)):
        below = np.float32((1 - uniforms[b]) * step * (1 - _ROUNDING)) - _LEAST_SINGLE
        limits[b] = max(below, np.float32(0))
    return limits


@compiled
def _sent(
    values: npt.NDArray[np.floating],
    step: float,
    uniforms: Floats,
    limits: _Singles,
    size: int,
    room: int,
) -> tuple[Ints, Ints, Ints]:
    """Return places, counts and signs; ``room`` is a guess of how many there are."""
    sent = np.empty((3, room), dtype=np.int64)
    flags, row = np.empty(_CHUNK + 8, dtype=np.uint8), np.empty(_CHUNK, dtype=np.float32)
    number, period = 0, size * len(limits)
    for start in range(0, len(values), period):
        end = min(start + period, len(values))
        for first in range(start, end, _CHUNK):
            last = min(first + _CHUNK, end)
            if number + _CHUNK > sent.shape[1]:
                sent = _longer(sent, number)
            if size > 1:
                _repeat(limits, size, first - start, row[: last - first])
                _flag(values[first:last], row, flags)
            else:
                _flag(values[first:last], limits[first - start :], flags)
            top = _gather(flags, first, last - first, sent[0], number)
            number = _round(values, step, uniforms, start, size, sent, number, top)
    return sent[0, :number], sent[1, :number], sent[2, :number]


@compiled
def _longer(sent: npt.NDArray[np.int64], number: int) -> npt.NDArray[np.int64]:
    longer = np.empty((3, 2 * sent.shape[1]), dtype=np.int64)
    longer[:, :number] = sent[:, :number]
    return longer


@compiled
def _repeat(limits: _Singles, size: int, first: int, row: _Singles) -> None:
    """Write the limits of the entries from ``first`` on to ``row``."""
    place = 0
    while place < len(row):
        b = (first + place) // size
        after = min((b + 1) * size - first, len(row))
        row[place:after] = limits[b]
        place = after


@compiled
def _flag(values: npt.NDArray[np.floating], limits: _Singles, flags: npt.NDArray[np.uint8]) -> None:
    for j in range(len(values)):
        flags[j] = abs(values[j]) >= limits[j]


@compiled
def _gather(flags: npt.NDArray[np.uint8], first: int, count: int, places: Ints, number: int) -> int:
    """Append the places of the flags that are 1; eight that are 0 are passed over at once."""
    flags[count : count + 8] = 0
    eights = flags.view(np.uint64)
    for i in range((count + 7) // 8):
        if eights[i]:
            for j in range(8 * i, 8 * i + 8):
                places[number] = first + j
                number += flags[j]
    return number


@compiled
def _round(
    values: npt.NDArray[np.floating],
    step: float,
    uniforms: Floats,
    start: int,
    size: int,
    sent: npt.NDArray[np.int64],
    number: int,
    top: int,
) -> int:
    """Keep those places from ``number`` to ``top`` that have a count; write it and the sign."""
    for i in range(number, top):
        place = sent[0, i]
        b = (place - start) // size if size > 1 else place - start
        value = np.float64(values[place])
        count = np.floor(abs(value) / step + uniforms[b])
        sent[0, number] = place
        sent[1, number] = np.int64(min(count, _MOST_STEPS))
        sent[2, number] = value < 0
        number += count > 0
    return number


@compiled
def group_squares(
    values: npt.NDArray[np.floating], size: int, num_groups: int, interleaved: bool
) -> Floats:
    """Return the sum of squares of every group, from its first entry on; shape (num_groups,)."""
    squares = np.zeros(num_groups)
    if not interleaved:
        for g in range(num_groups):
            square = 0.0
            for j in range(g * size, min((g + 1) * size, len(values))):
                square += np.float64(values[j]) ** 2
            squares[g] = square
        return squares
    for first in range(0, num_groups, _STRIPE):
        some = squares[first : first + _STRIPE]
        for start in range(first, len(values), num_groups):
            part = values[start : start + len(some)]
            for i in range(len(part)):
                some[i] += np.float64(part[i]) ** 2
    return squares


@compiled
def group_entries(
    values: npt.NDArray[np.floating], groups: Ints, size: int, num_groups: int, interleaved: bool
) -> Floats:
    """Return the entries of some groups, shape (number of groups, size).

    Where groups are interleaved it is as fast as they are near to those before them.
    """
    entries = np.zeros((len(groups), size))
    if not interleaved:
        for i in range(len(groups)):
            part = values[groups[i] * size : (groups[i] + 1) * size]
            for j in range(len(part)):
                entries[i, j] = part[j]
        return entries
    for first in range(0, len(groups), _NEIGHBOURS):
        for j in range(size):
            for i in range(first, min(first + _NEIGHBOURS, len(groups))):
                place = groups[i] + j * num_groups
                if place < len(values):
                    entries[i, j] = values[place]
    return entries
