"""One codec per payload class: its fields on the wire.

    kind  class                   fields
    0     ZeroPayload             dim
    1     DensePayload            format, values
    2     SparsePayload           dim, indices, format, values
    3     SeededSparsePayload     dim, seed, format, values
    4     SegmentsPayload         dim, segment_size, segments, format, values
    5     CodesPayload            dim, bucket_size, scales, codebook, low, alphabet, codes
    6     ConcatPayload           parts
    7     SumPayload              parts
    8     ScatteredPayload        dim, indices, inner
    9     SeededScatteredPayload  dim, seed, inner
    10    RotatedPayload          seed, inner
    11    LowRankPayload          rows, columns, left, right
    12    PermutedBlockPayload    dim, seed, num_blocks, block, format, values

``values`` are little-endian, float32 (format 0), float16 (1) or bfloat16 (2); ``scales``, ``left``
and ``right`` are float32. ``indices`` and ``segments`` are index sets (``kernels.index_coding``),
``codes`` less ``low`` are symbols of an alphabet (``kernels.symbol_coding``), or take a fixed
number of bits each where the alphabet is larger than 65,535. ``codebook`` is 0 (grid),
``[0, offset]`` (grid with an offset), ``[1, base]`` (powers) or ``[2, entries]`` (table).
``parts`` is an array of payloads, ``inner`` is one, each ``[kind, *fields]``. Integers are
msgpack's.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from mlmc_ray.errors import WireError
from mlmc_ray.kernels.partition import block_size
from mlmc_ray.payloads import (
    CodesPayload,
    ConcatPayload,
    DensePayload,
    LowRankPayload,
    Payload,
    PermutedBlockPayload,
    RotatedPayload,
    ScatteredPayload,
    SeededScatteredPayload,
    SeededSparsePayload,
    SegmentsPayload,
    SparsePayload,
    SumPayload,
    ZeroPayload,
)
from mlmc_ray.wire.codes import pack_codes, unpack_codes
from mlmc_ray.wire.fields import (
    MAX_DEPTH,
    Limits,
    float_bytes,
    index_bytes,
    quote,
    read_dim,
    read_floats,
    read_indices,
    read_integer,
    read_seed,
    read_values,
    value_fields,
)


@dataclass(frozen=True, slots=True)
class Codec:
    """How one payload class is written and read.

    ``unpack`` takes the payload's name in the message, for errors, how deep it lies in others, and
    ``num_fields`` fields.
    """

    kind: int
    payload_class: type[Payload]
    num_fields: int
    pack: Callable[[Any], list[Any]]
    unpack: Callable[..., Payload]


def pack(payload: Payload) -> list[Any]:
    """Return ``[kind, *fields]``; a field is a number, bytes, a memoryview of bytes, or a list."""
    codec = CODECS_BY_CLASS[type(payload)]
    return [codec.kind, *codec.pack(payload)]


def unpack(name: str, value: object, limits: Limits) -> Payload:
    """Return the payload that ``pack`` made ``value`` of.

    Args:
        name: of the payload, for errors.
        value: hostile.
        limits: what is refused.

    Raises:
        WireError: names the field.
    """
    if limits.depth > MAX_DEPTH:
        raise WireError(f"{name}: payloads are nested more than {MAX_DEPTH} deep")
    if not isinstance(value, list) or not value:
        raise WireError(f"{name}: expected an array that starts with a kind, got {quote(value)}")
    kind, *fields = value
    codec = CODECS_BY_KIND.get(kind) if type(kind) is int else None
    if codec is None:
        raise WireError(f"{name}.kind: got {quote(kind)}; known are {sorted(CODECS_BY_KIND)}")
    if len(fields) != codec.num_fields:
        raise WireError(f"{name}: kind {kind} has {codec.num_fields} fields, got {len(fields)}")
    return codec.unpack(name, limits, *fields)


def _pack_zero(payload: ZeroPayload) -> list[Any]:
    return [payload.dim]


def _unpack_zero(name: str, limits: Limits, dim: object) -> ZeroPayload:
    return ZeroPayload(read_dim(name, dim, limits))


def _pack_dense(payload: DensePayload) -> list[Any]:
    return value_fields(payload.values)


def _unpack_dense(name: str, limits: Limits, form: object, values: object) -> DensePayload:
    return DensePayload(read_values(name, form, values))


def _pack_sparse(payload: SparsePayload) -> list[Any]:
    indices = index_bytes(payload.indices, payload.dim)
    return [payload.dim, indices, *value_fields(payload.values)]


def _unpack_sparse(
    name: str, limits: Limits, dim: object, indices: object, form: object, values: object
) -> SparsePayload:
    size = read_dim(name, dim, limits)
    entries = read_values(name, form, values)
    places = read_indices(f"{name}.indices", indices, entries.numel(), size)
    return SparsePayload(size, torch.from_numpy(places), entries)


def _pack_seeded(payload: SeededSparsePayload) -> list[Any]:
    return [payload.dim, payload.seed, *value_fields(payload.values)]


def _unpack_seeded(
    name: str, limits: Limits, dim: object, seed: object, form: object, values: object
) -> SeededSparsePayload:
    size = read_dim(name, dim, limits)
    key = read_seed(name, seed)
    entries = read_values(name, form, values)
    if entries.numel() > size:
        raise WireError(f"{name}.values: {entries.numel()} values for a vector of {size} entries")
    return SeededSparsePayload(size, key, entries)


def _pack_segments(payload: SegmentsPayload) -> list[Any]:
    num_segments = -(-payload.dim // payload.segment_size)
    segments = index_bytes(payload.segments, num_segments)
    return [payload.dim, payload.segment_size, segments, *value_fields(payload.values)]


def _unpack_segments(
    name: str,
    limits: Limits,
    dim: object,
    segment_size: object,
    segments: object,
    form: object,
    values: object,
) -> SegmentsPayload:
    length = read_dim(name, dim, limits)
    size = read_integer(f"{name}.segment_size", segment_size, 1, length)
    entries = read_values(name, form, values)
    count = -(-entries.numel() // size)
    places = read_indices(f"{name}.segments", segments, count, -(-length // size))
    holds_last = count > 0 and places[-1] == -(-length // size) - 1
    expected = count * size - (-length % size if holds_last else 0)
    if entries.numel() != expected:
        raise WireError(
            f"{name}.values: its {count} segments hold {expected} values, got {entries.numel()}"
        )
    return SegmentsPayload(length, size, torch.from_numpy(places), entries)


def _pack_parts(payload: ConcatPayload | SumPayload) -> list[Any]:
    return [[pack(part) for part in payload.parts]]


def _unpack_parts(name: str, limits: Limits, parts: object) -> tuple[Payload, ...]:
    if not isinstance(parts, list) or not parts:
        raise WireError(f"{name}.parts: expected an array of payloads, got {quote(parts)}")
    return tuple(unpack(f"{name}[{i}]", part, limits.deeper()) for i, part in enumerate(parts))


def _unpack_concat(name: str, limits: Limits, parts: object) -> ConcatPayload:
    return ConcatPayload(_unpack_parts(name, limits, parts))


def _unpack_sum(name: str, limits: Limits, parts: object) -> SumPayload:
    terms = _unpack_parts(name, limits, parts)
    dims = [term.dim for term in terms]
    if min(dims) < max(dims):
        raise WireError(f"{name}.parts: terms of a sum have different dimensions, {dims[:8]}")
    return SumPayload(terms)


def _pack_scattered(payload: ScatteredPayload) -> list[Any]:
    return [payload.dim, index_bytes(payload.indices, payload.dim), pack(payload.inner)]


def _unpack_scattered(
    name: str, limits: Limits, dim: object, indices: object, inner: object
) -> ScatteredPayload:
    size = read_dim(name, dim, limits)
    part = _inner(name, limits, inner, size)
    places = read_indices(f"{name}.indices", indices, part.dim, size)
    return ScatteredPayload(size, torch.from_numpy(places), part)


def _pack_seeded_scattered(payload: SeededScatteredPayload) -> list[Any]:
    return [payload.dim, payload.seed, pack(payload.inner)]


def _unpack_seeded_scattered(
    name: str, limits: Limits, dim: object, seed: object, inner: object
) -> SeededScatteredPayload:
    size = read_dim(name, dim, limits)
    return SeededScatteredPayload(size, read_seed(name, seed), _inner(name, limits, inner, size))


def _pack_rotated(payload: RotatedPayload) -> list[Any]:
    return [payload.seed, pack(payload.inner)]


def _unpack_rotated(name: str, limits: Limits, seed: object, inner: object) -> RotatedPayload:
    return RotatedPayload(read_seed(name, seed), _inner(name, limits, inner, limits.max_dim))


def _pack_low_rank(payload: LowRankPayload) -> list[Any]:
    left, right = payload.left, payload.right
    return [len(left), len(right), float_bytes(left.reshape(-1)), float_bytes(right.reshape(-1))]


def _unpack_low_rank(
    name: str, limits: Limits, rows: object, columns: object, left: object, right: object
) -> LowRankPayload:
    num_rows = read_integer(f"{name}.rows", rows, 1, limits.max_dim)
    num_columns = read_integer(f"{name}.columns", columns, 1, limits.max_dim)
    tall, wide = read_floats(f"{name}.left", left), read_floats(f"{name}.right", right)
    rank = tall.numel() // num_rows
    if rank < 1 or tall.numel() != rank * num_rows or wide.numel() != rank * num_columns:
        raise WireError(
            f"{name}.left: {tall.numel()} and {wide.numel()} values are no factors of a matrix of "
            f"{num_rows} x {num_columns}"
        )
    return LowRankPayload(tall.view(num_rows, rank), wide.view(num_columns, rank))


def _pack_permuted(payload: PermutedBlockPayload) -> list[Any]:
    place = [payload.dim, payload.seed, payload.num_blocks, payload.block]
    return [*place, *value_fields(payload.values)]


def _unpack_permuted(
    name: str,
    limits: Limits,
    dim: object,
    seed: object,
    num_blocks: object,
    block: object,
    form: object,
    values: object,
) -> PermutedBlockPayload:
    size = read_dim(name, dim, limits)
    key = read_seed(name, seed)
    number = read_integer(f"{name}.num_blocks", num_blocks, 1, size)
    place = read_integer(f"{name}.block", block, 0, number - 1)
    entries = read_values(name, form, values)
    expected = block_size(size, number, place)
    if entries.numel() != expected:
        raise WireError(f"{name}.values: expected {expected} values, got {entries.numel()}")
    return PermutedBlockPayload(size, key, number, place, entries)


def _inner(name: str, limits: Limits, value: object, largest: int) -> Payload:
    inner = unpack(f"{name}.inner", value, limits.deeper())
    if inner.dim > largest:
        raise WireError(f"{name}.inner: {inner.dim} entries in a vector of {largest}")
    return inner


_CODECS = (
    Codec(0, ZeroPayload, 1, _pack_zero, _unpack_zero),
    Codec(1, DensePayload, 2, _pack_dense, _unpack_dense),
    Codec(2, SparsePayload, 4, _pack_sparse, _unpack_sparse),
    Codec(3, SeededSparsePayload, 4, _pack_seeded, _unpack_seeded),
    Codec(4, SegmentsPayload, 5, _pack_segments, _unpack_segments),
    Codec(5, CodesPayload, 7, pack_codes, unpack_codes),
    Codec(6, ConcatPayload, 1, _pack_parts, _unpack_concat),
    Codec(7, SumPayload, 1, _pack_parts, _unpack_sum),
    Codec(8, ScatteredPayload, 3, _pack_scattered, _unpack_scattered),
    Codec(9, SeededScatteredPayload, 3, _pack_seeded_scattered, _unpack_seeded_scattered),
    Codec(10, RotatedPayload, 2, _pack_rotated, _unpack_rotated),
    Codec(11, LowRankPayload, 4, _pack_low_rank, _unpack_low_rank),
    Codec(12, PermutedBlockPayload, 6, _pack_permuted, _unpack_permuted),
)
CODECS_BY_KIND = {codec.kind: codec for codec in _CODECS}
CODECS_BY_CLASS = {codec.payload_class: codec for codec in _CODECS}
