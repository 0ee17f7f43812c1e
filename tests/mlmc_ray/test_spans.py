"""How the flat vector is cut for several servers."""

import math
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlmc_ray.flat import Layer
from mlmc_ray.spans import Span, span_names, spans_of

Shape = tuple[int, ...]
SHAPES = st.lists(
    st.lists(st.integers(1, 7), max_size=3).map(tuple[int, ...]), min_size=1, max_size=8
)


def layers_of(*shapes: Shape) -> list[Layer]:
    layers: list[Layer] = []
    for shape in shapes:
        start = layers[-1].stop if layers else 0
        layers.append(Layer(str(len(layers)), shape, start, start + math.prod(shape)))
    return layers


def cuts(spans: Sequence[Span]) -> list[tuple[int, int]]:
    return [(span.start, span.stop) for span in spans]


@given(shapes=SHAPES, number=st.integers(1, 12))
def test_spans_cover_the_vector_and_are_nearly_even(shapes: list[Shape], number: int) -> None:
    layers = layers_of(*shapes)
    dim = layers[-1].stop
    if number > dim:
        return
    spans = spans_of(layers, number)
    assert [span.index for span in spans] == list(range(number))
    assert (spans[0].start, spans[-1].stop) == (0, dim)
    assert all(a.stop == b.start for a, b in pairwise(spans))
    even = dim / number  # each end is moved by a twentieth of it, or rounded
    assert all(abs(span.dim - even) <= 2 * max(0.05 * even, 0.5) for span in spans)
    assert all(span.dim >= 1 for span in spans)


@given(shapes=SHAPES, number=st.integers(1, 12))
def test_a_span_has_an_entry_for_every_layer_that_it_touches(
    shapes: list[Shape], number: int
) -> None:
    layers = layers_of(*shapes)
    for span in spans_of(layers, min(number, layers[-1].stop)):
        assert sum(span.layer_sizes) == span.dim
        assert tuple(map(math.prod, span.layer_shapes)) == span.layer_sizes
        own = layers[span.first_layer : span.first_layer + len(span.layer_sizes)]
        inside = [min(one.stop, span.stop) - max(one.start, span.start) for one in own]
        assert tuple(inside) == span.layer_sizes
        assert min(inside) > 0


def test_as_many_spans_as_entries_have_one_each() -> None:
    spans = spans_of(layers_of((2, 3), (), (4,)), 11)
    assert cuts(spans) == [(i, i + 1) for i in range(11)]


def test_one_span_is_the_model() -> None:
    shapes: list[Shape] = [(2, 3), (), (4,), (5, 2, 2)]
    (span,) = spans_of(layers_of(*shapes), 1)
    assert span.layer_shapes == tuple(shapes)
    assert span.first_layer == 0
    assert span.entries == slice(0, 31)
    assert span_names(span, 1) == ()


def test_a_cut_falls_between_layers_where_one_is_near() -> None:
    spans = spans_of(layers_of((98,), (102,)), 2)
    assert cuts(spans) == [(0, 98), (98, 200)]  # 2 from the middle; at most 5
    assert [span.first_layer for span in spans] == [0, 1]
    assert [span_names(span, 2) for span in spans] == [("span", 0), ("span", 1)]
    assert cuts(spans_of(layers_of((94,), (106,)), 2)) == [(0, 100), (100, 200)]


def test_else_a_cut_falls_between_rows() -> None:
    first, second = spans_of(layers_of((20, 7), (60,)), 2)
    assert (first.stop, first.layer_shapes) == (98, ((14, 7),))  # rows of 7; even would be 100
    assert second.layer_shapes == ((6, 7), (60,))


def test_else_a_cut_falls_into_a_row() -> None:
    first, second = spans_of(layers_of((2, 90), (20,)), 2)
    assert (first.layer_shapes, second.layer_shapes) == (((100,),), ((80,), (20,)))


def test_layers_without_entries_belong_to_the_span_around_them() -> None:
    first, second = spans_of(layers_of((6,), (3, 0), (4,), (10,)), 2)
    assert first.layer_shapes == ((6,), (3, 0), (4,))
    assert (second.first_layer, second.layer_shapes) == (3, ((10,),))


def test_more_spans_than_entries_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^servers is 12, and the model has 11 parameters: give"):
        spans_of(layers_of((2, 3), (), (4,)), 12)
