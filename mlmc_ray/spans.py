"""Cutting the flat vector into spans, of which each has a server of its own."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from mlmc_ray.flat import Layer

_MOST_UNEVEN = 0.05  # of an even span, that a cut may be moved to fall between layers or rows


@dataclass(frozen=True, kw_only=True, slots=True)
class Span:
    """A part of the flat vector: entries ``start`` to ``stop`` - 1.

    Attributes:
        index: which, from 0.
        start: its first entry.
        stop: the entry after its last.
        layer_sizes: entries of every layer, or part of a layer, in it.
        layer_shapes: their shapes; of a part that is no number of whole rows, its entries.
        first_layer: which layer of the model the first of them belongs to.
    """

    index: int
    start: int
    stop: int
    layer_sizes: tuple[int, ...]
    layer_shapes: tuple[tuple[int, ...], ...]
    first_layer: int

    @property
    def dim(self) -> int:
        """How many entries it has."""
        return self.stop - self.start

    @property
    def entries(self) -> slice:
        """Where they are in the flat vector."""
        return slice(self.start, self.stop)


def spans_of(layers: Sequence[Layer], number: int) -> tuple[Span, ...]:
    """Cut a vector into spans of nearly the same size.

    A cut falls between layers, or else between rows of one, where that moves it by at most a
    twentieth of a span.

    Args:
        layers: in the order of the vector, without gaps.
        number: of spans.

    Raises:
        ValueError: there are fewer entries than spans.
    """
    dim = layers[-1].stop
    if not 1 <= number <= dim:
        raise ValueError(f"servers is {number}, and the model has {dim} parameters: give fewer")
    cuts = [0, *(_cut(layers, k * dim / number, dim / number) for k in range(1, number)), dim]
    return tuple(
        _span(layers, index, start, stop) for index, (start, stop) in enumerate(pairwise(cuts))
    )


def _cut(layers: Sequence[Layer], ideal: float, size: float) -> int:
    """Return where to cut near an entry: between layers, between rows, or there."""
    reach = _MOST_UNEVEN * size
    boundary = min((layer.start for layer in layers), key=lambda start: abs(start - ideal))
    if abs(boundary - ideal) <= reach:
        return boundary
    layer = next(layer for layer in layers if layer.start <= ideal < layer.stop)
    row = math.prod(layer.shape[1:])
    between = layer.start + row * round((ideal - layer.start) / row)
    return between if abs(between - ideal) <= reach else round(ideal)


def _span(layers: Sequence[Layer], index: int, start: int, stop: int) -> Span:
    inside = [n for n, layer in enumerate(layers) if layer.start < stop and layer.stop > start]
    shapes = [_shape(layers[n], start, stop) for n in inside]
    return Span(
        index=index,
        start=start,
        stop=stop,
        layer_sizes=tuple(map(math.prod, shapes)),
        layer_shapes=tuple(shapes),
        first_layer=inside[0],
    )


def _shape(layer: Layer, start: int, stop: int) -> tuple[int, ...]:
    """Return the shape of what lies in a span."""
    if start <= layer.start and layer.stop <= stop:
        return layer.shape
    first, last = max(start, layer.start) - layer.start, min(stop, layer.stop) - layer.start
    row = math.prod(layer.shape[1:])
    if first % row or last % row:
        return (last - first,)
    return ((last - first) // row, *layer.shape[1:])


def span_names(span: Span, num_spans: int) -> tuple[int | str, ...]:
    """Return what tells the draws for a span from those for others; nothing if it is alone."""
    return ("span", span.index) if num_spans > 1 else ()
