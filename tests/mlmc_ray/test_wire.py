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
from hypothesis import example, given
from hypothesis import strategies as st
from torch import Tensor

from mlmc_ray.errors import WireError
from mlmc_ray.payloads import (
    CodesPayload,
    DensePayload,
    Message,
    Payload,
    SeededSparsePayload,
    SegmentsPayload,
    SparsePayload,
    ZeroPayload,
)
from mlmc_ray.wire import WIRE_VERSION, decode, encode
from mlmc_ray.wire.payload_codecs import CODECS_BY_CLASS, CODECS_BY_KIND
from tests.mlmc_ray.golden_frames import MESSAGES, golden

NAMES = sorted(MESSAGES)
HUGE = (1 << 40) - 1  # the largest dim


def same(left: object, right: object) -> bool:
    """Whether two messages, payloads or fields say the same, to the bit."""
    if isinstance(left, Tensor) and isinstance(right, Tensor):
        return left.shape == right.shape and left.numpy().tobytes() == right.numpy().tobytes()
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
    return left == right


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
    empty = SegmentsPayload(dim, size, segments, torch.empty(0))
    return SegmentsPayload(dim, size, segments, draw(vectors(len(empty.indices()))))


@st.composite
def codes_payloads(draw: st.DrawFn) -> CodesPayload:
    bound = draw(st.integers(1, 4) | st.integers(1, (1 << 31) - 1))
    codes = draw(st.lists(st.integers(-bound, bound), min_size=1, max_size=40))
    dtype = torch.int8 if bound <= 127 else torch.int32
    return CodesPayload(bound, draw(float32s), torch.tensor(codes, dtype=dtype))


WORDS = st.text(st.characters(exclude_categories=["C", "Z"]), max_size=5)
PAYLOADS: dict[type[Payload], st.SearchStrategy[Any]] = {
    ZeroPayload: dims.map(ZeroPayload),
    DensePayload: vectors().map(DensePayload),
    SparsePayload: sparse_payloads(),
    SeededSparsePayload: seeded_payloads(),
    SegmentsPayload: segments_payloads(),
    CodesPayload: codes_payloads(),
}


def test_every_payload_class_is_drawn() -> None:
    assert set(PAYLOADS) == set(CODECS_BY_CLASS)


@pytest.mark.parametrize("payload_class", PAYLOADS)
@given(data=st.data())
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


@pytest.mark.parametrize("version", [0, 2, 9, 255, -1, "1", 1.0, True, None, [1], {}])
def test_another_version_is_refused_and_named(version: object) -> None:
    with pytest.raises(WireError, match="version: expected wire version 1, got") as caught:
        decode(msgpack.packb([version, {}, {}]))
    if not isinstance(version, list | dict):
        assert f"got {version!r};" in str(caught.value)


def test_a_newer_version_may_have_other_fields() -> None:
    with pytest.raises(WireError, match="expected wire version 1, got 2; sender and receiver must"):
        decode(msgpack.packb([2, {}, {}, {}, "something new"]))


ENVELOPES: dict[str, list[Any]] = {
    "frame: expected an array": [{}, [], 1, "text", None],
    "frame: expected 3 fields, got": [[1], [1, {}], [1, {}, {}, {}]],
    "payloads: expected a map": [[1, [], {}], [1, None, {}], [1, b"", {}]],
    "payloads: expected a name, got b'x'": [[1, {b"x": [0, 1]}, {}]],
    "scalars: expected a map": [[1, {}, []], [1, {}, 0.0]],
    "scalars: expected a name": [[1, {}, {b"x": 1.0}]],
    "x: expected an array that starts with a kind": [
        *([1, {"x": 0}, {}], [1, {"x": {}}, {}], [1, {"x": []}, {}], [1, {"x": b""}, {}])
    ],
    "x.kind: got": [[1, {"x": [kind, 1]}, {}] for kind in (6, -1, "0", 0.0, True, None, [0])],
    "x: kind 0 has 1 fields, got": [[1, {"x": [0]}, {}], [1, {"x": [0, 1, 1]}, {}]],
    "x: kind 5 has 4 fields, got 3": [[1, {"x": [5, 1, 1, f4(1)]}, {}]],
    "x: expected a finite float": [
        [1, {}, {"x": value}] for value in (1, True, "1", None, math.nan, math.inf, -math.inf)
    ],
}


@pytest.mark.parametrize(
    ("text", "fields"), [(text, fields) for text, many in ENVELOPES.items() for fields in many]
)
def test_a_malformed_envelope_is_refused_by_name(text: str, fields: Any) -> None:
    with pytest.raises(WireError, match=rf"^{text}"):
        decode(msgpack.packb(fields))


# By field, payloads that are malformed there and nowhere else.
MALFORMED: dict[str, list[tuple[Any, ...]]] = {
    "x.dim: expected an integer from 1": [
        *[(0, dim) for dim in (0, -1, "3", 3.0, True, None, b"\x03", [3], HUGE + 1)],
        (2, 0, b"\x00", f4(1)),
        (3, HUGE + 1, 1, f4(1)),
        (4, "7", 3, b"\x00", f4(1, 2, 3)),
        (5, 0, 1, f4(1), b""),
    ],
    "x.values: expected binary data": [
        (1, "text"),
        (1, [1.0]),
        (2, 5, b"\x01", None),
        (3, 5, 1, 1.0),
        (4, 7, 3, b"\x00", {}),
    ],
    "x.values: 5 bytes are not whole float32 values": [(1, b"12345"), (3, 9, 1, b"12345")],
    "x.values: 1 of 2 values are NaN or infinite": [
        *[(1, f4(1, bad)) for bad in (math.nan, math.inf, -math.inf)],
        (2, 5, b"\x21", f4(math.nan, 1)),
        (3, 5, 1, f4(1, math.inf)),
        (4, 7, 2, b"\x00", f4(1, math.nan)),
    ],
    "x.values: 3 values for a vector of 2 entries": [(3, 2, 1, f4(1, 2, 3))],
    "x.values: its 2 segments hold 4 values, got 5": [(4, 7, 3, b"\x08", f4(1, 2, 3, 4, 5))],
    "x.values: its 1 segments hold 3 values, got 2": [(4, 7, 3, b"\x00", f4(1, 2))],
    "x.indices: expected binary data": [(2, 5, [1], f4(1)), (2, 5, "1", f4(1))],
    "x.indices: expected 1 bytes, got": [(2, 5, b"", f4(1)), (2, 5, b"\x01\x00", f4(1))],
    "x.indices: expected 0 bytes, got 1": [(2, 5, b"\x00", b"")],
    "x.indices: the unused bits": [(2, 5, b"\x09", f4(1)), (2, 5, b"\x80", f4(1))],
    "x.indices: not strictly ascending below 5": [
        (2, 5, b"\x0c", f4(1, 2)),  # 4, 1
        (2, 5, b"\x24", f4(1, 2)),  # 4, 4
        (2, 5, b"\x05", f4(1)),  # 5
        (2, 5, b"\x3c", f4(1, 2)),  # 4, 7
    ],
    "x.seed: expected an integer from 0": [
        (3, 5, seed, f4(1)) for seed in (-1, 1.0, "1", None, True)
    ],
    "x.segment_size: expected an integer from 1 to 7": [
        (4, 7, size, b"\x00", f4(1)) for size in (0, 8, -1, "3", None)
    ],
    "x.segments: expected binary data": [(4, 7, 3, [0], f4(1, 2, 3))],
    "x.segments: expected 1 bytes, got 2": [(4, 7, 3, b"\x00\x00", f4(1, 2, 3))],
    "x.segments: the unused bits": [(4, 7, 3, b"\x04", f4(1, 2, 3))],
    "x.segments: not strictly ascending below 3": [
        (4, 7, 3, b"\x03", f4(1, 2, 3)),  # 3
        (4, 7, 3, b"\x01", f4(1, 2, 3, 4, 5, 6)),  # 1, 0
        (4, 7, 3, b"\x05", f4(1, 2, 3, 4, 5, 6)),  # 1, 1
    ],
    "x.bound: expected an integer from 1": [
        (5, 5, bound, f4(1), b"\x00") for bound in (0, -1, 1 << 31, "1", True)
    ],
    "x.scale: expected 1 value, got": [(5, 5, 1, b"", b"\x00"), (5, 5, 1, f4(1, 2), b"\x00")],
    "x.scale: expected binary data": [(5, 5, 1, 0.5, b"\x00")],
    "x.scale: 1 of 1 values are NaN": [(5, 5, 1, f4(math.nan), b"\x00")],
    "x.codes: expected binary data": [(5, 5, 1, f4(1), "text")],
    "x.codes: expected 1 bytes, got": [(5, 5, 1, f4(1), b""), (5, 5, 1, f4(1), b"\x00\x00")],
    "x.codes: a byte is above 242": [(5, 5, 1, f4(1), b"\xf3"), (5, 5, 1, f4(1), b"\xff")],
    "x.codes: the unused digits": [(5, 4, 1, f4(1), b"\x51")],
    "x.codes: a code is above the bound 2": [(5, 1, 2, f4(1), b"\x05"), (5, 1, 2, f4(1), b"\x07")],
    "x.scale: 3e.38 times a code is not": [
        (5, 1, 2, f4(3e38), b"\x04"),
        (5, 1, 2, f4(3e38), b"\x00"),
    ],
    "x.codes: the unused bits": [(5, 1, 2, f4(1), b"\x08")],
}


@pytest.mark.parametrize(
    ("text", "fields"), [(text, fields) for text, many in MALFORMED.items() for fields in many]
)
def test_a_malformed_field_is_refused_by_name(text: str, fields: tuple[Any, ...]) -> None:
    with pytest.raises(WireError, match=rf"^{text}"):
        decode(frame_of(*fields))


def test_every_field_of_every_kind_has_a_malformed_example() -> None:
    named = {
        (fields[0], text.partition(":")[0]) for text, many in MALFORMED.items() for fields in many
    }
    dims_of = {0, 2, 3, 4, 5}
    assert named >= {(kind, "x.dim") for kind in dims_of}
    assert named >= {(kind, "x.values") for kind in (1, 2, 3, 4)}
    assert {field for _, field in named} == {
        f"x.{field}"
        for field in (
            *("dim", "values", "indices", "seed", "segment_size", "segments"),
            *("bound", "scale", "codes"),
        )
    }


EXTENSIONS = [
    b"\xd4\x05a",  # an application's type
    b"\xd6\xff\x00\x00\x00\x00",  # a timestamp
    b"\xc7\x05\xff\x00\x00\x00\x00\x00",  # a timestamp of the wrong length
    b"\xd7\xff" + b"\xff" * 8,  # a timestamp with too many nanoseconds
]


@pytest.mark.parametrize("extension", EXTENSIONS)
@pytest.mark.parametrize("around", [(b"", b""), (b"\x93\x01\x80", b""), (b"\x93\x01", b"\x80"),
                                    (b"\x93\x01\x81\xa1x\x92\x00", b"\x80")])  # fmt: skip
def test_extension_types_are_refused(extension: bytes, around: tuple[bytes, bytes]) -> None:
    with pytest.raises(WireError):
        decode(around[0] + extension + around[1])


def test_a_name_given_twice_is_refused() -> None:
    with pytest.raises(WireError, match="a name is given twice"):
        decode(b"\x93\x01\x82" + 2 * b"\xa1x\x92\x00\x05" + b"\x80")


@pytest.mark.parametrize("depth", [100, 999, 1023, 1024, 100_000])
@pytest.mark.parametrize("step", [b"\x91", b"\x81\xa1x"])
@pytest.mark.parametrize("start", [b"", b"\x93\x01", b"\x93\x01\x81\xa1x\x92\x00", b"\x93\x01\x80"])
def test_deep_nesting_is_refused(start: bytes, step: bytes, depth: int) -> None:
    with pytest.raises(WireError):
        decode(start + step * depth + b"\xc0" + b"\x80" * 2)


HUGE_CLAIMS = [
    b"\xdd\xff\xff\xff\xff",  # array of 2**32 - 1
    b"\xdf\xff\xff\xff\xff",  # map of as many
    b"\x93\x01\x81\xa1x\x92\x01\xc6\xff\xff\xff\xff",  # binary of as many bytes
    b"\xdb\xff\xff\xff\xff",  # text
    frame_of(2, HUGE, b"\x00", f4(1)),
    frame_of(4, HUGE, 1, b"\x00", f4(1)),
    frame_of(4, HUGE, HUGE, b"\x00", f4(1)),
    frame_of(5, HUGE, 1, f4(1), b"\x00"),
    frame_of(5, HUGE, (1 << 31) - 1, f4(1), b"\x00"),
]


@pytest.mark.parametrize("frame", HUGE_CLAIMS)
def test_a_huge_claim_allocates_nothing(frame: bytes) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(WireError):
            decode(frame)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1 << 20


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
