"""The randomised Hadamard transform, a rotation that spreads every entry over all of them.

A rotation is known by its seed, and a receiver undoes it by the seed alone. So the signs are the
raw 64-bit output of Philox, as in ``kernels/subset.py``, lowest bit first, and every sum is taken
in one fixed order: two machines get the same bits.
"""

import math

import numpy as np
import numpy.typing as npt

from mlmc_ray.kernels.compiled import compiled

_Floats = npt.NDArray[np.float32]
Words = npt.NDArray[np.uint64]

_WORD = 64  # signs a word
BLOCK = 1 << 13  # entries transformed at once: 32 KiB, within the first-level cache
_COLUMNS = 256  # columns of the matrix of blocks transformed at once


def rotate(vector: _Floats, seed: int) -> _Floats:
    """Return the vector multiplied by an orthogonal matrix that the seed names.

    For d a power of two that matrix is d^-1/2 H S, with H the Hadamard matrix in Sylvester's order
    and S a diagonal of random signs. For other d, with P the largest power of two below, the first
    P entries are transformed in this way, and then the last P, with signs of their own. The two
    ranges overlap, so no entry is left out; each step is orthogonal, hence the whole is, and
    nothing is padded. The first d - P results mix the first P entries alone.

    Args:
        vector: shape (d,), float32, finite; not modified.
        seed: 0 to 2**64 - 1.

    Returns:
        shape (d,), float32, a new array.

    References:
        Ailon and Chazelle, 2009, The fast Johnson-Lindenstrauss transform, section 2.
    """
    result = np.array(vector, dtype=np.float32, order="C")
    for start, words in steps_of(len(result), seed):
        part = result[start : start + span(len(result))]
        _transform_blocks(part, words, np.float32(1 / math.sqrt(len(part))), True)
        _transform_columns(part)
    return result


def unrotate(rotated: _Floats, seed: int) -> _Floats:
    """Undo ``rotate``, but for rounding: the same steps in reverse order, S H instead of H S.

    Args:
        rotated: shape (d,), float32, finite; not modified.
        seed: that of ``rotate``.

    Returns:
        shape (d,), float32, a new array.
    """
    result = np.array(rotated, dtype=np.float32, order="C")
    for start, words in reversed(steps_of(len(result), seed)):
        part = result[start : start + span(len(result))]
        _transform_columns(part)
        _transform_blocks(part, words, np.float32(1 / math.sqrt(len(part))), False)
    return result


def span(dim: int) -> int:
    """Return the largest power of two up to ``dim``."""
    return 1 << (dim.bit_length() - 1)


def steps_of(dim: int, seed: int) -> list[tuple[int, Words]]:
    """Return where each transform starts, and its signs."""
    if dim == 0:
        return []
    starts = sorted({0, dim - span(dim)})
    words = -(-span(dim) // _WORD)
    stream = np.random.Philox(key=seed)
    return [(start, stream.random_raw(words)) for start in starts]


@compiled
def _transform_blocks(values: _Floats, words: Words, scale: np.float32, signs_first: bool) -> None:
    """Transform blocks of consecutive entries, scaled, signed before or after, in place."""
    size = min(BLOCK, values.size)
    for start in range(0, values.size, size):
        block = values[start : start + size]
        signs = words[start // _WORD : (start + size + _WORD - 1) // _WORD]
        if signs_first:
            _sign(block, signs, scale)
        if size >= 8:
            _transform_eights(block)
            _transform(block, 8)
        else:
            _transform(block, 1)
        if not signs_first:
            _sign(block, signs, scale)


@compiled
def _transform_columns(values: _Floats) -> None:
    """Transform the columns of the matrix whose rows are the blocks, in place.

    Its rows are a large power of two apart, where the cache keeps few of them at a time: so some
    columns are copied together, transformed, and copied back.
    """
    rows = values.size // BLOCK
    if rows < 2:
        return
    buffer = np.empty(rows * _COLUMNS, np.float32)
    for first in range(0, BLOCK, _COLUMNS):
        for r in range(rows):
            start = r * BLOCK + first
            buffer[r * _COLUMNS : (r + 1) * _COLUMNS] = values[start : start + _COLUMNS]
        _transform(buffer, _COLUMNS)
        for r in range(rows):
            start = r * BLOCK + first
            values[start : start + _COLUMNS] = buffer[r * _COLUMNS : (r + 1) * _COLUMNS]


@compiled
def _sign(values: _Floats, words: Words, scale: np.float32) -> None:
    for w in range(words.size):
        part = values[w * _WORD : (w + 1) * _WORD]
        word = words[w]
        for j in range(part.size):
            negative = np.int32((word >> np.uint64(j)) & np.uint64(1))
            part[j] *= scale * np.float32(1 - 2 * negative)


@compiled
def _transform_eights(values: _Floats) -> None:
    """Transform every eight consecutive entries, in registers."""
    for start in range(0, values.size, 8):
        x = values[start : start + 8]
        a, b, c, d, e, f, g, h = x[0], x[1], x[2], x[3], x[4], x[5], x[6], x[7]
        a, b, c, d, e, f, g, h = a + b, a - b, c + d, c - d, e + f, e - f, g + h, g - h
        a, b, c, d, e, f, g, h = a + c, b + d, a - c, b - d, e + g, f + h, e - g, f - h
        x[0], x[1], x[2], x[3] = a + e, b + f, c + g, d + h
        x[4], x[5], x[6], x[7] = a - e, b - f, c - g, d - h


@compiled
def _transform(values: _Floats, stride: int) -> None:
    """Add and subtract entries ``stride`` apart, then 2 ``stride``, up to half the length.

    Two of these steps at a time, which halves the traffic; slices, because LLVM does not vectorise
    loops over computed indices, which NumPy lets be negative.
    """
    while 4 * stride <= values.size:
        for start in range(0, values.size, 4 * stride):
            x = values[start : start + 4 * stride]
            a, b = x[:stride], x[stride : 2 * stride]
            c, d = x[2 * stride : 3 * stride], x[3 * stride :]
            for j in range(stride):
                p, q, r, s = a[j] + b[j], a[j] - b[j], c[j] + d[j], c[j] - d[j]
                a[j], b[j], c[j], d[j] = p + r, q + s, p - r, q - s
        stride *= 4
    if 2 * stride <= values.size:
        a, b = values[:stride], values[stride:]
        for j in range(stride):
            a[j], b[j] = a[j] + b[j], a[j] - b[j]
