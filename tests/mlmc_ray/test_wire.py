"""The wire: golden frames, round trips, and hostile bytes."""

import contextlib
import math
import pickle
import struct
import tracemalloc
from typing import Any

import msgpack
import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from mlmc_ray.errors import NonFiniteError, WireError
from mlmc_ray.kernels.index_coding import encode_indices
from mlmc_ray.kernels.symbol_coding import encode_symbols
from mlmc_ray.payloads import (
    Codebook,
    CodesPayload,
    ConcatPayload,
    DensePayload,
    Grid,
    Grouping,
    LowRankPayload,
    Message,
    Payload,
    PermutedBlockPayload,
    Powers,
    RotatedPayload,
    ScatteredPayload,
    SeededScatteredPayload,
    SeededSparsePayload,
    SegmentsPayload,
    SharedRoundingPayload,
    SparsePayload,
    SumPayload,
    Table,
    ZeroPayload,
)
from mlmc_ray.wire import WIRE_VERSION, decode, encode
from mlmc_ray.wire.payload_codecs import CODECS_BY_CLASS, CODECS_BY_KIND
from tests.mlmc_ray.golden_frames import MESSAGES, golden

NAMES = sorted(MESSAGES)
HUGE = (1 << 31) - 1  # the largest dim


def same(left: object, right: object) -> bool:
    """Whether two messages, payloads or fields say the same, to the bit."""
    if isinstance(left, Tensor) and isinstance(right, Tensor):
        if not left.is_floating_point():  # the width of whole numbers is nobody's business
            return torch.equal(left.long(), right.long())
        shapes = (left.dtype, left.shape) == (right.dtype, right.shape)
        return shapes and torch.equal(_bits(left), _bits(right))
    if isinstance(left, Message) and isinstance(right, Message):
        return left.scalars == right.scalars and all(
            name == other and same(payload, right.payloads[other])
            for name, (other, payload) in zip(right.payloads, left.payloads.items(), strict=True)
        )
    if isinstance(left, Payload):
        fields = left.__dataclass_fields__  # type: ignore[attr-defined]
        return type(left) is type(right) and all(
            same(getattr(left, name), getattr(right, name)) for name in fields
        )
    if isinstance(left, tuple) and isinstance(right, tuple):
        return len(left) == len(right) and all(map(same, left, right))
    return left == right


def _bits(tensor: Tensor) -> Tensor:
    return tensor.contiguous().reshape(-1).view(torch.uint8) if tensor.numel() else tensor


def frame_of(*fields: Any) -> bytes:
    """Pack a message with one payload, "x", of the given kind and fields, unchecked."""
    return bytes(msgpack.packb([WIRE_VERSION, {"x": list(fields)}, {}]))


def f4(*values: float) -> bytes:
    return struct.pack(f"<{len(values)}f", *values)


# Golden frames.


def test_there_is_a_golden_frame_of_every_payload_class() -> None:
    covered = {type(p) for message in MESSAGES.values() for p in message.payloads.values()}
    assert covered == set(CODECS_BY_CLASS)


@pytest.mark.parametrize("name", NAMES)
def test_encode_gives_the_golden_bytes(name: str) -> None:
    assert encode(MESSAGES[name]).hex(" ") == golden(name).hex(" ")


@pytest.mark.parametrize("name", NAMES)
def test_decode_gives_the_golden_message(name: str) -> None:
    assert same(decode(golden(name)), MESSAGES[name])


def test_the_indices_of_a_seeded_payload_are_part_of_the_format() -> None:
    payload = decode(golden("seeded_sparse")).payloads["gradient"]
    assert payload.to_dense().nonzero().flatten().tolist() == [23, 419]


@pytest.mark.parametrize("name", NAMES)
def test_a_frame_decodes_from_any_buffer(name: str) -> None:
    array = np.frombuffer(golden(name), np.uint8)
    assert same(decode(array.data), MESSAGES[name])
    assert same(decode(memoryview(bytearray(golden(name)))), MESSAGES[name])


@pytest.mark.parametrize("name", NAMES)
def test_every_truncation_is_refused(name: str) -> None:
    frame = golden(name)
    for length in range(len(frame)):
        with pytest.raises(WireError):
            decode(frame[:length])


@pytest.mark.parametrize("name", NAMES)
def test_every_added_byte_is_refused(name: str) -> None:
    for byte in range(256):
        with pytest.raises(WireError, match="frame: not one complete msgpack value"):
            decode(golden(name) + bytes([byte]))


@pytest.mark.parametrize("name", NAMES)
def test_every_changed_byte_is_refused_or_is_another_message(name: str) -> None:
    frame = golden(name)
    for place in range(len(frame)):
        for byte in range(256):
            decodes_or_is_refused(frame[:place] + bytes([byte]) + frame[place + 1 :])


# Round trips.

float32s = st.floats(width=32, allow_nan=False, allow_infinity=False)


def vectors(size: int | None = None) -> st.SearchStrategy[Tensor]:
    low, high = (0, 40) if size is None else (size, size)
    lists = st.lists(float32s, min_size=low, max_size=high)
    return lists.map(lambda values: torch.tensor(values, dtype=torch.float32))


def subsets(size: int) -> st.SearchStrategy[Tensor]:
    chosen = st.sets(st.integers(0, size - 1), max_size=40)
    return chosen.map(lambda members: torch.tensor(sorted(members), dtype=torch.int64))


dims = st.integers(1, 60) | st.integers(1, HUGE)


@st.composite
def sparse_payloads(draw: st.DrawFn) -> SparsePayload:
    dim = draw(dims)
    indices = draw(subsets(dim))
    return SparsePayload(dim, indices, draw(vectors(len(indices))))


@st.composite
def seeded_payloads(draw: st.DrawFn) -> SeededSparsePayload:
    values = draw(vectors())
    dim = draw(st.integers(max(1, len(values)), HUGE))
    return SeededSparsePayload(dim, draw(st.integers(0, (1 << 64) - 1)), values)


@st.composite
def segments_payloads(draw: st.DrawFn) -> SegmentsPayload:
    size = draw(st.integers(1, 9))
    dim = draw(st.integers(size, 60) | st.integers(size, HUGE))
    segments = draw(subsets(-(-dim // size)))
    number = sum(min(size, dim - start) for start in (segments * size).tolist())
    return SegmentsPayload(dim, size, segments, draw(vectors(number)))


@st.composite
def codes_payloads(draw: st.DrawFn) -> CodesPayload:
    bound = draw(st.integers(1, 4) | st.integers(1, 200) | st.integers(1, (1 << 31) - 2))
    books: list[Codebook] = [Grid(), Grid(0.5), Powers(2.0), Table((0.0, 1.5, -2.0, 3.0))]
    book = draw(st.sampled_from(books))
    if isinstance(book, Table):
        low, high, dtype = 0, 3, torch.int8
    elif isinstance(book, Powers):
        low, high, dtype = -20, 20, torch.int8
    else:
        low, high, dtype = -bound, bound, torch.int8 if bound <= 127 else torch.int32
    codes = draw(st.lists(st.integers(low, high), min_size=1, max_size=40))
    bucket = draw(st.integers(1, len(codes)))
    moderate = st.floats(-(2.0**60), 2.0**60, width=32)
    scales = draw(st.lists(moderate, min_size=(n := -(-len(codes) // bucket)), max_size=n))
    return CodesPayload(torch.tensor(codes, dtype=dtype), torch.tensor(scales), bucket, book)


@st.composite
def shared_payloads(draw: st.DrawFn) -> SharedRoundingPayload:
    shapes = st.tuples(st.integers(1, 6), st.integers(4, 30))
    layers = st.tuples(shapes, st.sampled_from([1, 4, 8]))
    sides, groups = zip(*draw(st.lists(layers, min_size=1, max_size=4)), strict=True)
    num_workers = draw(st.integers(1, 9))
    grouping = Grouping(
        shapes=sides,
        group_sizes=groups,
        bits=4,
        block=draw(st.integers(1, 9)),
        interleaved_entries=draw(st.booleans()),
        interleaved_groups=draw(st.booleans()),
        worker_id=draw(st.integers(0, num_workers - 1)),
        num_workers=num_workers,
    )
    places = draw(subsets(grouping.num_groups))
    signs = torch.cat(
        [torch.full((layer.num_groups,), layer.group_size == 1) for layer in grouping.layers()]
    )[places]
    number, most = len(places), draw(st.sampled_from([1, 3, 70_000, (1 << 32) - 1]))
    steps = st.lists(st.integers(1, most), min_size=number, max_size=number)
    codes = st.lists(st.integers(0, 15), min_size=number, max_size=number)
    directions = torch.tensor(draw(codes), dtype=torch.int64)
    return SharedRoundingPayload(
        grouping,
        draw(st.integers(0, (1 << 64) - 1)),
        draw(st.floats(-(2.0**60), 2.0**60, width=32)),
        places,
        torch.tensor(draw(steps), dtype=torch.int64),
        torch.where(signs, directions & 1, directions),
    )


halves = st.floats(-60000, 60000, width=16).map(
    lambda value: DensePayload(torch.tensor([value, -value], dtype=torch.float16))
)


def scattered(inner: Payload) -> ScatteredPayload:
    return ScatteredPayload(3 * inner.dim + 1, 3 * torch.arange(inner.dim), inner)


def sums(inner: Payload) -> SumPayload:
    return SumPayload((inner, ZeroPayload(inner.dim), inner.scaled(0.5)))


WORDS = st.text(st.characters(exclude_categories=["C", "Z"]), max_size=5)
PAYLOADS: dict[type[Payload], st.SearchStrategy[Any]] = {
    ZeroPayload: dims.map(ZeroPayload),
    DensePayload: vectors().map(DensePayload) | halves,
    SparsePayload: sparse_payloads(),
    SeededSparsePayload: seeded_payloads(),
    SegmentsPayload: segments_payloads(),
    CodesPayload: codes_payloads(),
    ConcatPayload: codes_payloads().map(lambda p: ConcatPayload((p, ZeroPayload(7), p))),
    SumPayload: codes_payloads().map(sums),
    ScatteredPayload: codes_payloads().map(scattered),
    SeededScatteredPayload: codes_payloads().map(lambda p: SeededScatteredPayload(900, 3, p)),
    RotatedPayload: codes_payloads().map(lambda p: RotatedPayload(1 << 63, p)),
    SharedRoundingPayload: shared_payloads(),
    PermutedBlockPayload: vectors(3).map(lambda v: PermutedBlockPayload(7, 1 << 63, 2, 1, v)),
    LowRankPayload: st.tuples(vectors(6), vectors(4)).map(
        lambda ab: LowRankPayload(ab[0].view(3, 2) * 2.0**-70, ab[1].view(2, 2) * 2.0**-70)
    ),
}


def test_every_payload_class_is_drawn() -> None:
    assert set(PAYLOADS) == set(CODECS_BY_CLASS)


@pytest.mark.parametrize("payload_class", PAYLOADS)
@given(data=st.data())
@settings(max_examples=50)
def test_what_was_encoded_is_decoded(payload_class: type[Payload], data: st.DataObject) -> None:
    message = Message({"x": data.draw(PAYLOADS[payload_class])})
    assert same(decode(encode(message)), message)


@given(
    payloads=st.dictionaries(WORDS, st.one_of(*PAYLOADS.values()), max_size=3),
    scalars=st.dictionaries(WORDS, st.floats(allow_nan=False, allow_infinity=False), max_size=3),
)
def test_messages_survive(payloads: dict[str, Payload], scalars: dict[str, float]) -> None:
    message = Message(payloads, scalars)
    assert same(decode(encode(message)), message)


def test_float64_values_are_rounded_to_float32_and_strided_ones_are_packed() -> None:
    values = torch.tensor([0.1, 9.0, 0.2, 9.0], dtype=torch.float64)[::2]
    decoded = decode(encode(Message({"x": DensePayload(values)}))).payloads["x"]
    assert same(decoded, DensePayload(torch.tensor([0.1, 0.2], dtype=torch.float32)))


def test_a_decoded_payload_can_be_modified() -> None:
    payload = decode(golden("dense")).payloads["parameters"]
    payload.to_dense().add_(1.0)  # memory of its own: the frame is not writable
    assert same(decode(golden("dense")), MESSAGES["dense"])


# Hostile bytes.


def decodes_or_is_refused(frame: bytes) -> None:
    with contextlib.suppress(WireError):
        assert isinstance(decode(frame), Message)


@given(st.binary(max_size=200))
@example(b"")
def test_random_bytes_are_refused(frame: bytes) -> None:
    decodes_or_is_refused(frame)


msgpack_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(max_size=4)
    | st.binary(max_size=12),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=12,
)  # fmt: skip


@given(payload=st.lists(msgpack_values, max_size=5), kind=st.sampled_from(sorted(CODECS_BY_KIND)))
def test_random_fields_are_refused_or_decode(payload: list[Any], kind: int) -> None:
    decodes_or_is_refused(frame_of(kind, *payload))


@given(msgpack_values)
def test_random_msgpack_is_refused_or_decodes(value: Any) -> None:
    decodes_or_is_refused(msgpack.packb(value))
    decodes_or_is_refused(msgpack.packb([WIRE_VERSION, value, {}]))
    decodes_or_is_refused(msgpack.packb([WIRE_VERSION, {"x": value}, {}]))
    decodes_or_is_refused(msgpack.packb([WIRE_VERSION, {}, {"x": value}]))


@pytest.mark.parametrize("version", [0, 1, 9, 255, -1, "2", 2.0, True, None, [1], {}])
def test_another_version_is_refused_and_named(version: object) -> None:
    with pytest.raises(WireError, match="version: expected wire version 2, got") as caught:
        decode(msgpack.packb([version, {}, {}]))
    if not isinstance(version, list | dict):
        assert f"got {version!r};" in str(caught.value)


def test_a_newer_version_may_have_other_fields() -> None:
    with pytest.raises(WireError, match="expected wire version 2, got 3; sender and receiver must"):
        decode(msgpack.packb([3, {}, {}, {}, "something new"]))


ENVELOPES: dict[str, list[Any]] = {
    "frame: expected an array": [{}, [], 1, "text", None],
    "frame: expected 3 fields, got": [[2], [2, {}], [2, {}, {}, {}]],
    "payloads: expected a map": [[2, [], {}], [2, None, {}], [2, b"", {}]],
    "payloads: expected a name, got b'x'": [[2, {b"x": [0, 1]}, {}]],
    "payloads: expected a name, got": [[2, {"x" * 65: [0, 1]}, {}], [2, {"a\nb": [0, 1]}, {}]],
    "scalars: expected a map": [[2, {}, []], [2, {}, 0.0]],
    "scalars: expected a name": [[2, {}, {b"x": 1.0}]],
    "x: expected an array that starts with a kind": [
        *([2, {"x": 0}, {}], [2, {"x": {}}, {}], [2, {"x": []}, {}], [2, {"x": b""}, {}])
    ],
    "x.kind: got": [[2, {"x": [kind, 1]}, {}] for kind in (99, -1, "0", 0.0, True, None, [0])],
    "x: kind 0 has 1 fields, got": [[2, {"x": [0]}, {}], [2, {"x": [0, 1, 1]}, {}]],
    "x: kind 5 has 7 fields, got 3": [[2, {"x": [5, 1, 1, f4(1)]}, {}]],
    "x: expected a finite float": [
        [2, {}, {"x": value}] for value in (1, True, "1", None, math.nan, math.inf, -math.inf)
    ],
}


@pytest.mark.parametrize(
    ("text", "fields"), [(text, fields) for text, many in ENVELOPES.items() for fields in many]
)
def test_a_malformed_envelope_is_refused_by_name(text: str, fields: Any) -> None:
    with pytest.raises(WireError, match=rf"^{text}"):
        decode(msgpack.packb(fields))


def indices_of(*indices: int, dim: int) -> bytes:
    return encode_indices(np.array(indices, dtype=np.int64), dim)


def codes_of(**changes: Any) -> tuple[Any, ...]:
    """The fields of four ternary codes, some of them changed."""
    symbols = encode_symbols(np.array([0, 1, 2, 1], dtype=np.uint8), 3)
    fields = {"dim": 4, "bucket_size": 4, "scales": f4(1), "codebook": 0, "low": -1}
    return (5, *({**fields, "alphabet": 3, "codes": symbols} | changes).values())


def nested(depth: int) -> list[Any]:
    return [10, 1, nested(depth - 1)] if depth else ONE


ONE = [0, 1]  # a zero payload of dimension 1
# By field, payloads that are malformed there and nowhere else.
MALFORMED: dict[str, list[tuple[Any, ...]]] = {
    "x.dim: expected an integer from 1": [
        *[(0, dim) for dim in (0, -1, "3", 3.0, True, None, b"\x03", [3], HUGE + 1)],
        (2, 0, b"", 0, f4(1)),
        (3, HUGE + 1, 1, 0, f4(1)),
        (4, "7", 3, b"\x00", 0, f4(1, 2, 3)),
        codes_of(dim=0),
        (8, 0, b"", ONE),
        (9, -1, 1, ONE),
    ],
    "x.format: expected an integer from 0 to 2": [
        *[(1, form, f4(1)) for form in (3, -1, True, "0", None)],
        (2, 5, b"", 3, f4(1)),
        (3, 5, 1, 3, f4(1)),
        (4, 7, 3, b"", 3, f4(1)),
    ],
    "x.values: expected binary data": [
        (1, 0, "text"),
        (1, 1, [1.0]),
        (2, 5, b"", 0, None),
        (3, 5, 1, 0, 1.0),
        (4, 7, 3, b"", 0, {}),
    ],
    "x.values: 5 bytes are not whole float32 values": [(1, 0, b"12345"), (3, 9, 1, 0, b"12345")],
    "x.values: 5 bytes are not whole values of two bytes": [(1, 1, b"12345"), (1, 2, b"12345")],
    "x.values: 1 of 2 values are NaN or infinite": [
        *[(1, 0, f4(1, bad)) for bad in (math.nan, math.inf, -math.inf)],
        (1, 1, b"\x00\x3c\x00\x7c"),
        (1, 2, b"\x80\x3f\x80\x7f"),
        (3, 5, 1, 0, f4(1, math.inf)),
    ],
    "x.values: 3 values for a vector of 2 entries": [(3, 2, 1, 0, f4(1, 2, 3))],
    "x.values: its 1 segments hold 3 values, got 2": [(4, 7, 3, indices_of(0, dim=3), 0, f4(1, 2))],
    "x.indices: ": [
        *[(2, 5, bad, 0, f4(1)) for bad in ([1], "1", b"", b"\xff", 7)],
        (2, 5, indices_of(1, dim=5) + b"\x00", 0, f4(1)),
        (2, 5, indices_of(1, 2, 3, 4, dim=5), 0, f4(1)),
        (8, 5, indices_of(1, 2, 3, 4, dim=5), ONE),
    ],
    "x.seed: expected an integer from 0": [
        *[(3, 5, seed, 0, f4(1)) for seed in (-1, 1.0, "1", None, True)],
        (9, 5, -1, ONE),
        (10, None, ONE),
    ],
    "x.segment_size: expected an integer from 1 to 7": [
        (4, 7, size, b"\x00", 0, f4(1)) for size in (0, 8, -1, "3", None)
    ],
    "x.segments: ": [(4, 7, 3, [0], 0, f4(1, 2, 3)), (4, 7, 3, b"", 0, f4(1, 2, 3))],
    "x.bucket_size: expected an integer from 1 to 4": [
        codes_of(bucket_size=size) for size in (0, 5, -1, "4", True)
    ],
    "x.scales: ": [
        *[codes_of(scales=bad) for bad in (b"", f4(1, 2), f4(math.nan), f4(math.inf), 1.0, "1")],
        codes_of(scales=f4(3.4e38), codebook=[0, 1.0]),
        codes_of(scales=f4(3e38), codebook=[1, 2.0], low=-3),
        codes_of(scales=f4(10), codebook=[2, f4(0, 3e38, 1)], low=0),  # the largest is in between
        *[codes_of(scales=scale, codebook=[1, 1024.0], low=-999) for scale in (f4(1), f4(0))],
    ],
    "x.codebook": [
        *[
            codes_of(codebook=bad)
            for bad in (1, "0", True, [], [0], [3, 1.0], [0, 1], [0, math.nan])
        ],
        *[codes_of(codebook=[1, base]) for base in (1.0, 0.0, -2.0, 1e9, math.inf, "2")],
        *[codes_of(codebook=[2, bad], low=0) for bad in (b"", f4(1, 2), f4(1, 2, math.nan))],
        codes_of(codebook=[1, 1.0000001], alphabet=1 << 18, codes=bytes(9)),  # a table of 2^18
        codes_of(codebook=[2, f4(1, 2, 3)]),
    ],
    "x.low: expected an integer": [codes_of(low=low) for low in (1 << 31, -(1 << 31), 0.0, "0")],
    "x.alphabet: expected an integer": [codes_of(alphabet=bad) for bad in (0, 1 << 33, 1.0, "3")],
    "x.codes: ": [
        *[codes_of(codes=bad) for bad in (b"", "text", None, b"\xff")],
        codes_of(codes=encode_symbols(np.array([0, 1], dtype=np.uint8), 3) + b"\x00"),
        codes_of(alphabet=70_000, codes=b"\xff" * 9),
        codes_of(alphabet=70_000, codes=b""),
    ],
    "x.parts: expected an array of payloads": [(6, []), (7, 3), (6, {})],
    "x.parts: terms of a sum have different dim": [(7, [[0, 1], [0, 2]])],
    "x.parts: 4294967294 entries in all, at most 2147483647": [(6, [[0, HUGE], [0, HUGE]])],
    "x: its entries may reach": [
        (7, [[1, 0, f4(3e38)], [1, 0, f4(1, 3e38)[4:]]]),
        (10, 1, [1, 0, f4(3e38, 1)]),
        (11, 1, 1, f4(3e38), f4(2)),
        (11, 1, 1, f4(2e19, 2e19), f4(2e19, 2e19)),
    ],
    "x.inner: its entries may reach": [(9, 9, 1, [10, 1, [1, 0, f4(3e38, 1)]])],
    "x.1..kind: got 99": [(6, [ONE, [99, 1]]), (7, [ONE, [99, 1]])],
    "x.inner: expected an array": [(8, 5, b"", 3), (9, 5, 1, []), (10, 1, None)],
    "x.inner: 6 entries in a vector of 5": [(8, 5, b"", [0, 6]), (9, 5, 1, [0, 6])],
    "x.num_blocks: expected an integer from 1 to 5": [
        (12, 5, 1, number, 0, 0, f4(1)) for number in (0, 6, "2")
    ],
    "x.block: expected an integer from 0 to 1": [
        (12, 5, 1, 2, block, 0, f4(1)) for block in (-1, 2, None)
    ],
    "x.values: expected 2 values, got 1": [(12, 5, 1, 2, 1, 0, f4(1))],
    "x.rows: expected an integer": [(11, 0, 1, f4(1), f4(1))],
    "x.columns: expected an integer": [(11, 1, "1", f4(1), f4(1)), (11, HUGE, 2, f4(1), f4(1))],
    "x.left: ": [(11, 2, 2, f4(1), f4(1)), (11, 2, 2, f4(1, 2), f4(1)), (11, 1, 1, b"1", b"")],
    "x.right: expected binary data": [(11, 1, 1, f4(1), 1.0)],
    "x.*nested more than 6 deep": [tuple(nested(8))],
}


@pytest.mark.parametrize(
    ("text", "fields"), [(text, fields) for text, many in MALFORMED.items() for fields in many]
)
def test_a_malformed_field_is_refused_by_name(text: str, fields: tuple[Any, ...]) -> None:
    with pytest.raises(WireError, match=rf"^{text}"):
        decode(frame_of(*fields))


EXTENSIONS = [
    b"\xd4\x05a",  # an application's type
    b"\xd6\xff\x00\x00\x00\x00",  # a timestamp
    b"\xc7\x05\xff\x00\x00\x00\x00\x00",  # a timestamp of the wrong length
    b"\xd7\xff" + b"\xff" * 8,  # a timestamp with too many nanoseconds
]


@pytest.mark.parametrize("extension", EXTENSIONS)
@pytest.mark.parametrize("around", [(b"", b""), (b"\x93\x02\x80", b""), (b"\x93\x02", b"\x80"),
                                    (b"\x93\x02\x81\xa1x\x92\x00", b"\x80")])  # fmt: skip
def test_extension_types_are_refused(extension: bytes, around: tuple[bytes, bytes]) -> None:
    with pytest.raises(WireError):
        decode(around[0] + extension + around[1])


def test_a_name_given_twice_is_refused() -> None:
    with pytest.raises(WireError, match="a name is given twice"):
        decode(b"\x93\x02\x82" + 2 * b"\xa1x\x92\x00\x05" + b"\x80")


@pytest.mark.parametrize("depth", [100, 999, 1023, 1024, 100_000])
@pytest.mark.parametrize("step", [b"\x91", b"\x81\xa1x"])
@pytest.mark.parametrize("start", [b"", b"\x93\x02", b"\x93\x02\x81\xa1x\x92\x00", b"\x93\x02\x80"])
def test_deep_nesting_is_refused(start: bytes, step: bytes, depth: int) -> None:
    with pytest.raises(WireError):
        decode(start + step * depth + b"\xc0" + b"\x80" * 2)


HUGE_CLAIMS = [
    b"\xdd\xff\xff\xff\xff",  # array of 2**32 - 1
    b"\xdf\xff\xff\xff\xff",  # map of as many
    b"\x93\x02\x81\xa1x\x92\x01\xc6\xff\xff\xff\xff",  # binary of as many bytes
    b"\xdb\xff\xff\xff\xff",  # text
    bytes(msgpack.packb([2, {}, {"x": [[] for _ in range(100_000)]}])),
    bytes(msgpack.packb([2, {f"x{i}": [0, 1] for i in range(65)}, {}])),
    frame_of(2, HUGE, b"\x00", 0, f4(1)),
    frame_of(4, HUGE, 1, b"\x00", 0, f4(1)),
    frame_of(4, HUGE, HUGE, b"\x00", 0, f4(1)),
    frame_of(*codes_of(dim=HUGE, bucket_size=HUGE)),
    frame_of(*codes_of(dim=HUGE, bucket_size=1)),
    frame_of(10, 1, list(codes_of(dim=1001, bucket_size=1001))),
    frame_of(1, 0, bytes(4004)),
    frame_of(6, [[0, 1000], [0, 1]]),
    frame_of(11, 100, 100, bytes(400), bytes(400)),
]


@pytest.mark.parametrize("frame", HUGE_CLAIMS)
def test_a_huge_claim_allocates_nothing(frame: bytes) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(WireError):
            decode(frame, max_dim=1000)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1 << 20


def constant_codes(dim: int) -> list[Any]:
    """The fields of codes that are all 0: a few bytes, whatever ``dim`` is."""
    symbols = encode_symbols(np.zeros(dim, dtype=np.uint8), 3)
    return list(codes_of(dim=dim, bucket_size=dim, low=0, codes=symbols))


LONG = 1 << 18
# In each of these, many payloads of a few bytes make a long vector each.
MANY_LONG_VECTORS: dict[str, list[Any]] = {
    "codes": constant_codes(LONG),
    "concatenated codes": [6, [constant_codes(LONG)]],
    "a rotated zero": [10, 1, [0, LONG]],
    "a scattered zero": [8, LONG, b"", [0, LONG]],
    "a scattered entry": [9, LONG, 1, [2, LONG, indices_of(1, dim=LONG), 0, f4(1)]],
    "a block": [12, LONG, 1, LONG, 0, 0, f4(1)],
    "a product": [11, 512, 512, bytes(4 * 512), bytes(4 * 512)],
}


@pytest.mark.parametrize("part", MANY_LONG_VECTORS.values(), ids=MANY_LONG_VECTORS)
def test_few_bytes_cannot_ask_for_many_long_vectors(part: list[Any]) -> None:
    number = 1000 if part[0] == 11 else 20
    frame = frame_of(7, [part] * number)
    tracemalloc.start()
    try:
        with pytest.raises(WireError, match=r"x: up to here .* say fewer vectors in a message"):
            decode(frame, max_dim=LONG)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4 * len(frame) + (1 << 18)
    assert decode(frame_of(7, [part] * 16), max_dim=LONG).payloads["x"].dim == LONG


def test_long_vectors_are_counted_over_the_whole_message() -> None:
    few = [7, [constant_codes(LONG)] * 10]
    frame = msgpack.packb([WIRE_VERSION, {"x": few, "y": few}, {}])
    with pytest.raises(WireError, match="y: up to here"):
        decode(frame, max_dim=LONG)


def test_many_long_vectors_of_many_bytes_are_welcome() -> None:
    signs = torch.randint(0, 2, (10_000,), generator=torch.Generator().manual_seed(1))
    payload = RotatedPayload(1, CodesPayload.on_grid(2 * signs.to(torch.int8) - 1, 0.5))
    message = Message({"x": SumPayload((payload,) * 100)})
    assert same(decode(encode(message), max_dim=10_000), message)


# What a reader would refuse is not written.


@pytest.mark.parametrize("number", [4096, 4097, 20_000])
def test_a_message_may_have_as_many_parts_as_it_has_bytes_for(number: int) -> None:
    message = Message({"x": ConcatPayload((ZeroPayload(1),) * number)})
    assert same(decode(encode(message)), message)


def wrapped(depth: int) -> Payload:
    return RotatedPayload(1, wrapped(depth - 1)) if depth else ZeroPayload(3)


def test_deep_payloads_are_refused_by_the_writer_too() -> None:
    assert same(decode(encode(Message({"x": wrapped(6)}))), Message({"x": wrapped(6)}))
    with pytest.raises(WireError, match="nested more than 6 deep; wrap fewer compressors"):
        encode(Message({"x": wrapped(7)}))


def test_too_many_long_vectors_are_refused_by_the_writer_too() -> None:
    constant = CodesPayload.on_grid(torch.zeros(LONG, dtype=torch.int8), 1.0)
    with pytest.raises(WireError, match="say fewer vectors in a message"):
        encode(Message({"x": SumPayload((constant,) * 20)}))


class _OwnPayload(ZeroPayload):
    """What a user may have written."""


two, three = torch.ones(2), torch.ones(3)
THREES, TWO_CODES = DensePayload(three), torch.tensor([0, 9])
UNSORTED = torch.tensor([2, 1])
UNWRITABLE: list[tuple[str, Any]] = [
    ("x: got a Tensor; the wire carries ZeroPayload, DensePayload", three),
    ("x: got a NoneType", None),
    ("x: got a _OwnPayload", _OwnPayload(3)),
    (r"x\[1\]: got a Tensor", ConcatPayload((THREES, three))),  # type: ignore[arg-type]
    ("x.inner: got a NoneType", ScatteredPayload(3, UNSORTED, None)),  # type: ignore[arg-type]
    ("x.dim: expected an integer from 1", ZeroPayload(0)),
    ("x.dim: expected an integer from 1", ZeroPayload(HUGE + 1)),
    ("x.indices: the indices are not strictly ascending; sort", SparsePayload(9, UNSORTED, two)),
    ("x.indices: ", SparsePayload(2, torch.tensor([1, 2]), two)),
    ("x.values: expected 2 values, got 3", SparsePayload(9, torch.tensor([1, 2]), three)),
    ("x.segments: the indices are not", SegmentsPayload(9, 3, UNSORTED, torch.ones(6))),
    ("x.values: its 1 segments hold 3 values, got 2", SegmentsPayload(9, 3, UNSORTED[1:], two)),
    ("x.segment_size: expected", SegmentsPayload(9, 0, UNSORTED[1:], two)),
    ("x.values: 3 values for a vector of 2 entries", SeededSparsePayload(2, 1, three)),
    ("x.seed: expected an integer", SeededSparsePayload(9, -1, three)),
    ("x.block: expected an integer from 0 to 1", PermutedBlockPayload(5, 1, 2, 2, three)),
    ("x.values: expected 3 values, got 2", PermutedBlockPayload(5, 1, 2, 0, two)),
    ("x.codebook: 2 entries for", CodesPayload(TWO_CODES, two[:1], codebook=Table((1.0, 2.0)))),
    ("x.codes: expected an integer", CodesPayload(torch.tensor([1 << 31]), two[:1])),
    (
        "x.codebook: code 200000 .* use a larger base",
        CodesPayload(torch.tensor([200_000]), two[:1], codebook=Powers(1.0001)),
    ),
    ("x.parts: expected at least one payload", SumPayload(())),
    ("x.parts: terms of a sum have different", SumPayload((ZeroPayload(3), ZeroPayload(4)))),
    ("x.indices: the indices are not", ScatteredPayload(9, UNSORTED, DensePayload(two))),
    ("x.inner: expected 2 values, got 3", ScatteredPayload(9, UNSORTED, THREES)),
    ("x.inner: 3 entries in a vector of 2", SeededScatteredPayload(2, 1, THREES)),
    ("x.left: no factors", LowRankPayload(torch.ones(2, 1), torch.ones(3, 2))),
]


@pytest.mark.parametrize(("text", "payload"), UNWRITABLE)
def test_what_is_no_payload_of_the_wire_is_refused(text: str, payload: Any) -> None:
    with pytest.raises(WireError, match=f"^{text}"):
        encode(Message({"x": payload}))


HIGH = torch.full((4,), 3e38)
TOO_LARGE: list[Payload] = [
    RotatedPayload(3, DensePayload(HIGH)),
    SeededScatteredPayload(9, 3, RotatedPayload(3, DensePayload(HIGH))),
    SumPayload((DensePayload(HIGH), DensePayload(HIGH))),
    LowRankPayload(HIGH.view(2, 2), HIGH.view(2, 2)),
    CodesPayload(torch.tensor([0, 1, 2]), torch.tensor([10.0]), codebook=Table((0.0, 3e38, 1.0))),
    CodesPayload(torch.tensor([2]), torch.tensor([3e38])),
    DensePayload(HIGH.double() * 2),
]


@pytest.mark.parametrize("payload", TOO_LARGE)
def test_entries_that_may_be_infinite_are_refused_by_the_writer(payload: Payload) -> None:
    with pytest.raises(NonFiniteError, match=r"^x.*: its entries may reach .*; scale the vector"):
        encode(Message({"x": payload}))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "payloads: expected 64 names at most, got 65",
            Message({f"x{i}": THREES for i in range(65)}),
        ),
        ("payloads: expected a name, got", Message({"x" * 65: THREES})),
        ("scalars: expected a name, got", Message({}, {"a\nb": 1.0})),
        ("x: expected a finite float, got nan", Message({}, {"x": math.nan})),
    ],
)
def test_an_envelope_that_cannot_be_read_is_not_written(text: str, message: Message) -> None:
    with pytest.raises(WireError, match=f"^{text}"):
        encode(message)


def test_a_huge_dim_with_few_entries_is_kept_as_few() -> None:
    tracemalloc.start()
    try:
        message = Message({
            "x": SparsePayload(HUGE, torch.tensor([HUGE - 1]), torch.tensor([1.0])),
            "y": SeededSparsePayload(HUGE, 1, torch.tensor([1.0])),
            "z": ZeroPayload(HUGE),
        })  # fmt: skip
        assert same(decode(encode(message)), message)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1 << 20


class _Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return pytest.fail, ("a pickle was loaded",)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickles_are_never_loaded(protocol: int) -> None:
    bomb = pickle.dumps(_Bomb(), protocol)
    with pytest.raises(WireError):
        decode(bomb)
    for kind, codec in CODECS_BY_KIND.items():
        for place in range(codec.num_fields):
            fields: list[Any] = [1] * codec.num_fields
            fields[place] = bomb
            decodes_or_is_refused(frame_of(kind, *fields))
