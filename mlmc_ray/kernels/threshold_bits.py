"""The loop of ``threshold_coding``: the same one writes and reads, so that both learn the same."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from mlmc_ray.kernels.adaptive_bits import (
    Coder,
    State,
    Words,
    carry,
    code_bit,
    has_carried,
    is_one,
    is_short,
    keep,
    lengthened,
    narrowed,
    resumed,
    share_of,
)
from mlmc_ray.kernels.compiled import compiled
from mlmc_ray.kernels.logistic import Weights, correction, learn, probability_of, rates

Ints = npt.NDArray[np.int64]
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
        num_groups: of all blocks.
        block_size: groups of a block.
        interleaved: whether a block's groups are ``len(order)`` apart, or else next to each other.
        columns: of the layer's matrix, in groups.
    """

    order: Ints
    bins: Bytes
    num_groups: int
    block_size: int
    interleaved: bool
    columns: int


def words_needed(num_groups: int, block_size: int, num_sent: int) -> int:
    """Return a bound on the words that a layer's counts take; a bit takes half a word at most."""
    bits = num_groups + num_groups // block_size + 1
    return bits // 2 + 1 + _WORDS_OF_COUNT * num_sent


@compiled
def code_layer(
    state: State,
    words: Words,
    writing: bool,
    groups: Ints,
    counts: Ints,
    layout: Layout,
    model: Model,
) -> tuple[int, bool]:
    """Write the counts of a layer that are above 0, or read them.

    A decision has a level: -1 is whether a block has any count above 0, 0 whether a count is, and
    k > 0 whether it is above k. All are made in one place, for the sake of speed: see ``code_bit``.

    Args:
        state: of a writer or a reader; changed.
        words: those of the coder; for a writer with room for ``words_needed`` more.
        writing: whether to write.
        groups: which counts are above 0, in the order of the blocks and ascending in each; for a
            writer with one number more, which is no group, and for a reader to be written, with
            room for ``num_groups``.
        counts: of these groups, likewise.
        layout: of the groups.
        model: changed on the way.

    Returns:
        How many counts were written or read, and whether all are below 2**32. A writer that finds
        groups in another order returns fewer than there are.
    """
    order, thresholds, num_groups, size, interleaved, width = layout
    blocks, bins, rows, columns, tail, slopes = model
    coder = resumed(state)
    number, fits, told, bit = 0, True, len(rows) > 0, 0
    step = len(order) if interleaved else 1
    step_row, step_column = step // width, step % width
    for block in order:
        group = block if interleaved else block * size
        end = num_groups if interleaved else min(group + size, num_groups)
        threshold = thresholds[block]
        slope = slopes[threshold]
        row, column = (group // width, group % width) if told else (0, 0)
        only_zeros = size > 1  # the last count of a block is above 0 if no other is
        level = -1 if size > 1 else 0
        while group < end:
            if level == 0 and only_zeros and group + step >= end:
                bit = 1
            else:
                if level > 0:
                    weight = tail[level - 1, 0]
                elif level < 0:
                    weight = blocks[threshold, 0]
                else:
                    weight = bins[threshold, 0]
                    if told:
                        weight += (rows[row, 0] + columns[column, 0]) * slope >> SLOPE_BITS
                probability = probability_of(weight)
                share = share_of(coder, probability)
                if not writing:
                    bit = int(is_one(coder, share))
                elif level > 0:
                    bit = int(counts[number] > level)
                elif level < 0:
                    sent = groups[number]
                    bit = int(group <= sent < end and (sent - group) % step == 0)
                else:
                    bit = int(groups[number] == group)
                coder = narrowed(coder, bit, share)
                if writing and has_carried(coder, bit, share):
                    carry(coder, words)
                if is_short(coder):
                    coder = lengthened(coder, words, writing)
                error = correction(bit, probability)
                if level > 0:
                    learn(tail, level - 1, error, _TAIL_RATES)
                elif level < 0:
                    learn(blocks, threshold, error, _BLOCK_RATES)
                else:
                    learn(bins, threshold, error, _BIN_RATES)
                    if told:
                        learn(rows, row, error * slope >> SLOPE_BITS, _PLACE_RATES)
                        learn(columns, column, error * slope >> SLOPE_BITS, _PLACE_RATES)
            if level < 0 and not bit:
                break
            if level < 0 or (bit and level < MAX_UNARY):
                level += 1
                continue
            if level > 0:
                count = level
                if bit:
                    coder, above = _code_gamma(coder, words, writing, counts[number] - MAX_UNARY)
                    count = MAX_UNARY + above
                fits = fits and count >> 32 == 0
                groups[number], counts[number] = group, count
                number += 1
                only_zeros = False
                level = 0
            group += step
            if told:
                row += step_row
                column += step_column
                if column >= width:
                    column -= width
                    row += 1
    keep(coder, state)
    return number, fits


@compiled
def _code_gamma(coder: Coder, words: Words, writing: bool, value: int) -> tuple[Coder, int]:
    """Write or read a number above 0, and return it; what is read is below 2**33."""
    length, last = -1, 0
    while length < 32 and not last:
        length += 1
        coder, last = code_bit(coder, words, writing, int(value >> (length + 1) == 0), _EVEN)
    result = 1
    for place in range(length - 1, -1, -1):
        coder, bit = code_bit(coder, words, writing, value >> place & 1, _EVEN)
        result = result << 1 | bit
    return coder, result
