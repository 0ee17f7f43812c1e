"""The loops of ``threshold_coding``: the same one writes and reads, so that both learn the same."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from mlmc_ray.kernels.adaptive_bits import (
    Coder,
    State,
    Words,
    decode_bit,
    encode_bit,
    keep,
    resumed,
)
from mlmc_ray.kernels.compiled import compiled
from mlmc_ray.kernels.logistic import Weights, correction, learn, probability_of, rates

Ints = npt.NDArray[np.int64]
Counts = npt.NDArray[np.uint32]
Bytes = npt.NDArray[np.uint8]

MAX_UNARY = 16
"""The largest count that is in unary."""
SLOPE_BITS = 8
_EVEN = 1 << 15
_WORDS_OF_COUNT = MAX_UNARY // 2 + 3  # and 2 * 32 + 1 bits of gamma code
_BIN_RATES = rates(0.02, 0.02, 1)
_BLOCK_RATES = rates(0.3, 0.1, 10)
_PLACE_RATES = rates(0.4, 0.03, 40)
_TAIL_RATES = rates(0.5, 0.02, 5)


class Model(NamedTuple):
    """What is learned of a layer, and changed while it is coded.

    Attributes:
        blocks: of every bin, for whether a block has a count above 0.
        bins: of every bin, for whether a count is above 0.
        rows: of every row of the layer's matrix, or of none.
        columns: of every column, or of none.
        tail: for whether a count above 0 is above 1, above 2, ...
        slopes: shape (bins,): how much the weights of rows and columns count, in units of 1/256.
    """

    blocks: Weights
    bins: Weights
    rows: Weights
    columns: Weights
    tail: Weights
    slopes: Ints


class Layout(NamedTuple):
    """Where the groups of a layer are, as ``threshold_coding.Blocks`` says.

    Attributes:
        order: shape (num_blocks,): the blocks as they are coded.
        bins: shape (num_blocks,): of the thresholds.
        block_size: groups of a block.
        interleaved: whether a block's groups are ``len(order)`` apart, or else next to each other.
        columns: of the layer's matrix, in groups.
    """

    order: Ints
    bins: Bytes
    block_size: int
    interleaved: bool
    columns: int


def words_needed(counts: Counts, block_size: int) -> int:
    """Return a bound on the words that a layer's counts take; a bit takes half a word at most."""
    bits = len(counts) + len(counts) // block_size + 1
    return bits // 2 + 1 + _WORDS_OF_COUNT * int(np.count_nonzero(counts))


@compiled
def mark_positive(counts: Counts, block_size: int, interleaved: bool, marks: Bytes) -> None:
    """Set bit i of row b of ``marks`` where group i of block b has a count above 0.

    One pass through the counts in order: blocks that are interleaved are then not read in strides.
    """
    blocks = len(marks)
    block = 0
    place = 0
    for count in counts:
        if count > 0:
            marks[block, place >> 3] |= np.uint8(1 << (place & 7))
        if interleaved:
            block += 1
            if block == blocks:
                block = 0
                place += 1
        else:
            place += 1
            if place == block_size:
                place = 0
                block += 1


@compiled
def code_blocks(
    state: State,
    words: Words,
    writing: bool,
    counts: Counts,
    marks: Bytes,
    layout: Layout,
    model: Model,
) -> bool:
    """Write the counts of a layer, or read them.

    Args:
        state: of a writer or a reader; changed.
        words: those of the coder; for a writer with room for ``words_needed`` more.
        writing: whether to write.
        counts: shape (num_groups,): read, or zeros, which are written.
        marks: of ``mark_positive``; if reading, of any length.
        layout: of the groups.
        model: changed on the way.

    Returns:
        Whether all counts are below 2**32.
    """
    coder = resumed(state)
    fits, filled = True, 1
    for block in layout.order:
        threshold = layout.bins[block]
        if layout.block_size > 1:
            probability = probability_of(model.blocks[threshold, 0])
            if writing:
                filled = _any_marked(marks, block)
            coder, filled = _code(coder, words, writing, filled, probability)
            learn(model.blocks, threshold, correction(filled, probability), _BLOCK_RATES)
        if filled:
            coder, good = _code_block(coder, words, writing, counts, marks, block, layout, model)
            fits = fits and good
    keep(coder, state)
    return fits


@compiled
def _any_marked(marks: Bytes, block: int) -> int:
    for byte in range(marks.shape[1]):
        if marks[block, byte]:
            return 1
    return 0


@compiled
def _code_block(
    coder: Coder,
    words: Words,
    writing: bool,
    counts: Counts,
    marks: Bytes,
    block: int,
    layout: Layout,
    model: Model,
) -> tuple[Coder, bool]:
    """Write or read the counts of a block that has some above 0, or of one group."""
    size, width = layout.block_size, layout.columns
    step = len(layout.order) if layout.interleaved else 1
    group = block if layout.interleaved else block * size
    end = len(counts) if layout.interleaved else min(group + size, len(counts))
    step_row, step_column = step // width, step % width
    row, column = group // width, group % width
    threshold = layout.bins[block]
    bins, rows, columns, tail = model.bins, model.rows, model.columns, model.tail
    slope = model.slopes[threshold]
    told = len(rows) > 0
    place, bit, fits = 0, 0, True
    some_left = size > 1  # the last count of a block is above 0 if no other is
    while group < end:
        if some_left and group + step >= end:
            bit = 1
        else:
            if writing:
                bit = marks[block, place >> 3] >> (place & 7) & 1
            weight = bins[threshold, 0]
            if told:
                weight += (rows[row, 0] + columns[column, 0]) * slope >> SLOPE_BITS
            probability = probability_of(weight)
            coder, bit = _code(coder, words, writing, bit, probability)
            error = correction(bit, probability)
            learn(bins, threshold, error, _BIN_RATES)
            if told:
                learn(rows, row, error * slope >> SLOPE_BITS, _PLACE_RATES)
                learn(columns, column, error * slope >> SLOPE_BITS, _PLACE_RATES)
        if bit:
            coder, count = _code_count(coder, words, writing, counts[group], tail)
            some_left = False
            fits = fits and count >> 32 == 0
            counts[group] = count & 0xFFFFFFFF
        place += 1
        group += step
        row += step_row
        column += step_column
        if column >= width:
            column -= width
            row += 1
    return coder, fits


@compiled
def _code_count(
    coder: Coder, words: Words, writing: bool, count: int, tail: Weights
) -> tuple[Coder, int]:
    """Write or read a count above 0, and return it; what is read is below 2**33 + 16."""
    for least in range(1, MAX_UNARY + 1):
        probability = probability_of(tail[least - 1, 0])
        coder, more = _code(coder, words, writing, int(count > least), probability)
        learn(tail, least - 1, correction(more, probability), _TAIL_RATES)
        if not more:
            return coder, least
    value = int(count) - MAX_UNARY
    length = -1
    last = 0
    while length < 32 and not last:
        length += 1
        coder, last = _code(coder, words, writing, int(value >> (length + 1) == 0), _EVEN)
    result = 1
    for place in range(length - 1, -1, -1):
        coder, bit = _code(coder, words, writing, value >> place & 1, _EVEN)
        result = result << 1 | bit
    return coder, result + MAX_UNARY


@compiled
def _code(
    coder: Coder, words: Words, writing: bool, bit: int, probability: int
) -> tuple[Coder, int]:
    """Write or read a bit, and return it."""
    if writing:
        return encode_bit(coder, words, bit, probability), bit
    return decode_bit(coder, words, probability)
