"""Counts of groups of entries, in blocks of groups that share a threshold, as adaptive bits.

A count is 0 unless the magnitude of its group is above the threshold of its block, and the receiver
knows the thresholds: that is what makes the zeros cheap. Layers follow one another in one code, the
blocks of a layer in the order that the caller says, best by rising thresholds. A block of more than
one group begins with whether any of its counts is above 0; if so, every group has a bit for whether
its count is. The weight of such a bit is that of the bin of the threshold, and those of the group's
row and column in the layer's matrix times the slope of the bin; all are learned bit by bit. A count
above 0 is in unary up to 16, with adaptive bits, and what is above in Elias's gamma code.

References:
    Elias, "Universal codeword sets and representations of the integers", 1975.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal, localcontext
from typing import Any

import numpy as np
import numpy.typing as npt

from mlmc_ray.kernels.adaptive_bits import check_end, finished, reader, writer
from mlmc_ray.kernels.block_order import ascending_order, coding_order
from mlmc_ray.kernels.logistic import EXACT, WEIGHT_BITS, Weights, new_weights, weight_of_tail
from mlmc_ray.kernels.threshold_bits import (
    MAX_UNARY,
    SLOPE_BITS,
    Bytes,
    Ints,
    Layout,
    Model,
    code_layer,
    words_needed,
)

NUM_BINS = 64
"""How many bins thresholds have: four for every doubling."""
_FIRST = -10  # bin 0 begins at 2**-10 of the typical magnitude
_BIN_BITS = 2
_MANTISSA_BITS = 52
_EXPONENT_BIAS = 1023


def bins_of(ratios: npt.NDArray[np.float64]) -> Bytes:
    """Return the bins of thresholds, given in units of a magnitude that is typical for the layer.

    Bin b holds 2**(b / 4 - 10) to the next one's limit, linearly within a doubling; the first and
    the last hold all that is beyond.

    Args:
        ratios: shape (num_blocks,), finite, 0 or more; not modified.
    """
    keys = np.ascontiguousarray(ratios, dtype=np.float64).view(np.int64)
    first = (_EXPONENT_BIAS + _FIRST) << _BIN_BITS
    keys = (keys >> (_MANTISSA_BITS - _BIN_BITS)) - first
    return keys.clip(0, NUM_BINS - 1).astype(np.uint8)


def _tables() -> tuple[Ints, Ints]:
    """Return the weight and the slope of every bin, for magnitudes of a Laplace law with mean 1.

    A magnitude is above the threshold t with probability exp(-t), whose weight moves by
    t / (1 - exp(-t)) when the logarithm of the scale moves by 1. Tails are heavier than that law's
    as a rule: the slope is the root of it, 4 at most, and the probability is 2**-10 at least.
    """
    weights, slopes = [], []
    with localcontext(EXACT):
        for place in range(NUM_BINS):
            doublings, quarters = divmod(place, 4)
            middle = Decimal(2 * (4 + quarters) + 1) / 8 * Decimal(2) ** (_FIRST + doublings)
            slope = (middle / (1 - (-middle).exp())).sqrt()
            weights.append(weight_of_tail(middle))
            slopes.append(min(round(slope * (1 << SLOPE_BITS)), 4 << SLOPE_BITS))
    least = -10 * _DOUBLED
    return np.maximum(np.array(weights, dtype=np.int64), least), np.array(slopes, dtype=np.int64)


_DOUBLED = 45426  # the weight of 2
_WEIGHTS, _SLOPES = _tables()
_LARGEST = 16 << WEIGHT_BITS


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Blocks:
    """What both sides know of a layer whose counts are coded.

    Attributes:
        num_groups: how many counts there are, 1 or more.
        block_size: groups that share a threshold, 1 or more.
        interleaved: whether block b has the groups b, b + num_blocks, ...; if not, it has
            b * block_size and those that follow.
        order: shape (num_blocks,), int64: the blocks, each once, as they are coded.
        bins: shape (num_blocks,), uint8: of the blocks' thresholds, as ``bins_of`` says.
        columns: of the layer's matrix, counted in groups: group g lies in row g // columns and
            column g % columns. At ``num_groups`` or more there is one row, and neither rows nor
            columns are told apart.
    """

    num_groups: int
    block_size: int
    interleaved: bool
    order: Ints
    bins: Bytes
    columns: int

    def __post_init__(self) -> None:
        if min(self.num_groups, self.block_size, self.columns) < 1:
            raise ValueError(
                f"num_groups={self.num_groups}, block_size={self.block_size} and "
                f"columns={self.columns}: each must be 1 or more"
            )
        blocks = num_blocks(self.num_groups, self.block_size)
        if self.bins.shape != (blocks,) or self.bins.dtype != np.uint8:
            raise ValueError(f"bins: expected {blocks} of uint8, got {_said(self.bins)}")
        if blocks and self.bins.max() >= NUM_BINS:
            raise ValueError(f"bins: expected 0 to {NUM_BINS - 1}, got {self.bins.max()}")
        if self.order.shape != (blocks,) or self.order.dtype != np.int64:
            raise ValueError(f"order: expected {blocks} of int64, got {_said(self.order)}")
        found = np.zeros(blocks, dtype=np.bool_)
        found[self.order[(self.order >= 0) & (self.order < blocks)]] = True
        if not found.all():
            raise ValueError(f"order: block {int(found.argmin())} of {blocks} is missing")


def num_blocks(num_groups: int, block_size: int) -> int:
    """Return how many blocks ``num_groups`` groups make, the last of them perhaps shorter."""
    return -(-num_groups // block_size)


def encode_places(
    places: Sequence[Ints], counts: Sequence[Ints], layers: Sequence[Blocks]
) -> bytes:
    """Return the code of the counts of some layers, of which those above 0 are given.

    Args:
        places: of every layer the groups whose counts are above 0, ascending; not modified.
        counts: of these groups, 1 to 2**32 - 1; not modified.
        layers: what the receiver knows of them.

    Raises:
        ValueError: places are not those of groups, not ascending, or a count is out of range.
    """
    room = 1
    for layer, sent, numbers in zip(layers, places, counts, strict=True):
        _check_sent(layer, sent, numbers)
        room += words_needed(layer.num_groups, layer.block_size, len(sent))
    state, words, tail = writer(), np.empty(room, dtype=np.uint32), _new_tail()
    for layer, sent, numbers in zip(layers, places, counts, strict=True):
        order = coding_order(sent, layer.order, layer.block_size, layer.interleaved)
        groups, steps = np.append(sent[order], -1), np.append(numbers[order], 0)
        layout, model = _layout(layer), _model(layer, tail)
        number, _ = code_layer(state, words, True, groups, steps, layout, model)
        if number != len(sent):
            raise ValueError("places: sort them, and give each once")
    return finished(state, words)


def decode_places(data: bytes, layers: Sequence[Blocks]) -> list[tuple[Ints, Ints]]:
    """Undo ``encode_places``: of every layer the groups whose counts are above 0, and the counts.

    It takes the time and the memory that ``layers`` say, whatever ``data`` is.

    Raises:
        ValueError: ``data`` is not what such counts give.
    """
    state, words = reader(data)
    tail = _new_tail()
    result: list[tuple[Ints, Ints]] = []
    for layer in layers:
        groups = np.empty(layer.num_groups, dtype=np.int64)  # memory is taken where it is written
        counts = np.empty(layer.num_groups, dtype=np.int64)
        layout, model = _layout(layer), _model(layer, tail)
        number, fits = code_layer(state, words, False, groups, counts, layout, model)
        if not fits:
            raise ValueError(f"layer {len(result)}: a count is not below 2**32")
        found = groups[:number]
        order = ascending_order(found, len(layer.order), layer.block_size, layer.interleaved)
        result.append((found[order], counts[:number][order]))
    check_end(state, data)
    return result


def _check_sent(layer: Blocks, places: Ints, counts: Ints) -> None:
    if places.shape != counts.shape or {places.dtype, counts.dtype} != {np.dtype(np.int64)}:
        raise ValueError(f"expected places and counts, got {_said(places)} and {_said(counts)}")
    if len(places) and not 0 <= places.min() <= places.max() < layer.num_groups:
        raise ValueError(
            f"places: expected 0 to {layer.num_groups - 1}, got {places.min()} to {places.max()}"
        )
    if len(counts) and not 0 < counts.min() <= counts.max() < 1 << 32:
        raise ValueError(f"counts: expected 1 to 2**32 - 1, got {counts.min()} to {counts.max()}")


def _layout(layer: Blocks) -> Layout:
    return Layout(
        layer.order,
        layer.bins,
        layer.num_groups,
        layer.block_size,
        layer.interleaved,
        layer.columns,
    )


def _model(layer: Blocks, tail: Weights) -> Model:
    """Return what is assumed of a layer at first; the tail is common to all."""
    rows = -(-layer.num_groups // layer.columns)
    columns = layer.columns if rows > 1 else 0
    size = min(layer.block_size, layer.num_groups)
    blocks = (_WEIGHTS + size.bit_length() * _DOUBLED).clip(-_LARGEST, _LARGEST)
    return Model(
        new_weights(blocks),
        new_weights(_WEIGHTS),
        new_weights(np.zeros(rows if rows > 1 else 0, dtype=np.int64)),
        new_weights(np.zeros(columns, dtype=np.int64)),
        tail,
        _SLOPES,
    )


def _new_tail() -> Weights:
    return new_weights(np.full(MAX_UNARY, -1 << WEIGHT_BITS, dtype=np.int64))


def _said(array: npt.NDArray[Any]) -> str:
    return f"shape {array.shape} of {array.dtype}"
