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
    13    SharedRoundingPayload   dim, seed, step, form, layers, counts, directions

``values`` are little-endian, float32 (format 0), float16 (1) or bfloat16 (2); ``scales``, ``left``
and ``right`` are float32. ``indices`` and ``segments`` are index sets (``kernels.index_coding``),
``codes`` less ``low`` are symbols of an alphabet (``kernels.symbol_coding``), or take a fixed
number of bits each where the alphabet is larger than 65,535. ``codebook`` is 0 (grid),
``[0, offset]`` (grid with an offset), ``[1, base]`` (powers) or ``[2, entries]`` (table).
``parts`` is an array of payloads, ``inner`` is one, each ``[kind, *fields]``. Integers are
msgpack's.

This module holds the payloads made of others; the other codecs are in ``plain_codecs``,
``codes`` and ``shared_rounding``.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from mlmc_ray.errors import NonFiniteError, WireError
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
    SharedRoundingPayload,
    SparsePayload,
    SumPayload,
    ZeroPayload,
    reach,
)
from mlmc_ray.wire import plain_codecs as plain
from mlmc_ray.wire.codes import pack_codes, unpack_codes
from mlmc_ray.wire.fields import (
    MAX_DEPTH,
    MAX_DIM,
    Limits,
    check_count,
    check_reach,
    index_bytes,
    quote,
    read_dim,
    read_indices,
    read_integer,
    read_seed,
)
from mlmc_ray.wire.shared_rounding import pack_shared, unpack_shared


@dataclass(frozen=True, slots=True)
class Codec:
    """How one payload class is written and read.

    ``pack`` takes the payload's name in the message, for errors, the payload, and in how many
    others it lies where it may hold any; ``unpack`` takes the name, what is refused, and
    ``num_fields`` fields.
    """

    kind: int
    payload_class: type[Payload]
    num_fields: int
    pack: Callable[..., list[Any]]
    unpack: Callable[..., Payload]


def pack(name: str, payload: Payload, depth: int = 0) -> list[Any]:
    """Return ``[kind, *fields]``; a field is a number, bytes, a memoryview of bytes, or a list.

    Args:
        name: of the payload, for errors.
        payload: one of the classes above.
        depth: in how many other payloads it lies.

    Raises:
        WireError: it is no payload, or one that a reader would refuse; names the field.
        NonFiniteError: an entry may be larger than float32 holds.
    """
    codec = CODECS_BY_CLASS.get(type(payload))
    if codec is None:
        known = ", ".join(known.__name__ for known in CODECS_BY_CLASS)
        raise WireError(f"{name}: got a {type(payload).__name__}; the wire carries {known}")
    _check_depth(name, depth)
    inside = (depth + 1,) if codec.payload_class in _NESTED else ()
    fields = codec.pack(name, payload, *inside)
    read_integer(f"{name}.dim", payload.dim, 0 if isinstance(payload, DensePayload) else 1, MAX_DIM)
    return [codec.kind, *fields]


def unpack(name: str, value: object, limits: Limits) -> Payload:
    """Return the payload that ``pack`` made ``value`` of.

    Args:
        name: of the payload, for errors.
        value: hostile.
        limits: what is refused.

    Raises:
        WireError: names the field.
    """
    _check_depth(name, limits.depth)
    if not isinstance(value, list) or not value:
        raise WireError(f"{name}: expected an array that starts with a kind, got {quote(value)}")
    kind, *fields = value
    codec = CODECS_BY_KIND.get(kind) if type(kind) is int else None
    if codec is None:
        raise WireError(f"{name}.kind: got {quote(kind)}; known are {sorted(CODECS_BY_KIND)}")
    if len(fields) != codec.num_fields:
        raise WireError(f"{name}: kind {kind} has {codec.num_fields} fields, got {len(fields)}")
    return codec.unpack(name, limits, *fields)


def _check_depth(name: str, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise WireError(
            f"{name}: payloads are nested more than {MAX_DEPTH} deep; wrap fewer compressors in "
            "each other"
        )


def _pack_parts(name: str, payload: ConcatPayload | SumPayload, depth: int) -> list[Any]:
    if not payload.parts:
        raise WireError(f"{name}.parts: expected at least one payload, got none")
    return [[pack(f"{name}[{i}]", part, depth) for i, part in enumerate(payload.parts)]]


def _pack_sum(name: str, payload: SumPayload, depth: int) -> list[Any]:
    fields = _pack_parts(name, payload, depth)
    _check_dims(name, payload)
    check_reach(name, reach(payload), NonFiniteError)
    return fields


def _unpack_parts(name: str, limits: Limits, parts: object) -> tuple[Payload, ...]:
    if not isinstance(parts, list) or not parts:
        raise WireError(f"{name}.parts: expected an array of payloads, got {quote(parts)}")
    return tuple(unpack(f"{name}[{i}]", part, limits.deeper()) for i, part in enumerate(parts))


def _unpack_concat(name: str, limits: Limits, parts: object) -> ConcatPayload:
    payload = ConcatPayload(_unpack_parts(name, limits, parts))
    if payload.dim > limits.max_dim:
        raise WireError(f"{name}.parts: {payload.dim} entries in all, at most {limits.max_dim}")
    return payload


def _unpack_sum(name: str, limits: Limits, parts: object) -> SumPayload:
    payload = SumPayload(_unpack_parts(name, limits, parts))
    _check_dims(name, payload)
    check_reach(name, reach(payload), WireError)
    return payload


def _check_dims(name: str, payload: SumPayload) -> None:
    dims = [term.dim for term in payload.parts]
    if min(dims) < max(dims):
        raise WireError(f"{name}.parts: terms of a sum have different dimensions, {dims[:8]}")


def _pack_scattered(name: str, payload: ScatteredPayload, depth: int) -> list[Any]:
    inner = pack(f"{name}.inner", payload.inner, depth)
    check_count(f"{name}.inner", payload.indices.numel(), payload.inner.dim)
    return [payload.dim, index_bytes(f"{name}.indices", payload.indices, payload.dim), inner]


def _unpack_scattered(
    name: str, limits: Limits, dim: object, indices: object, inner: object
) -> ScatteredPayload:
    size = read_dim(name, dim, limits)
    part = _inner(name, limits, inner, size)
    places = read_indices(f"{name}.indices", indices, part.dim, size)
    return ScatteredPayload(size, torch.from_numpy(places), part)


def _pack_seeded_scattered(name: str, payload: SeededScatteredPayload, depth: int) -> list[Any]:
    inner = pack(f"{name}.inner", payload.inner, depth)
    _check_fits(name, payload.inner, payload.dim)
    return [payload.dim, read_seed(name, payload.seed), inner]


def _unpack_seeded_scattered(
    name: str, limits: Limits, dim: object, seed: object, inner: object
) -> SeededScatteredPayload:
    size = read_dim(name, dim, limits)
    return SeededScatteredPayload(size, read_seed(name, seed), _inner(name, limits, inner, size))


def _pack_rotated(name: str, payload: RotatedPayload, depth: int) -> list[Any]:
    inner = pack(f"{name}.inner", payload.inner, depth)
    check_reach(name, reach(payload), NonFiniteError)
    return [read_seed(name, payload.seed), inner]


def _unpack_rotated(name: str, limits: Limits, seed: object, inner: object) -> RotatedPayload:
    key = read_seed(name, seed)
    payload = RotatedPayload(key, _inner(name, limits, inner, limits.max_dim))
    check_reach(name, reach(payload), WireError)
    return payload


def _inner(name: str, limits: Limits, value: object, largest: int) -> Payload:
    inner = unpack(f"{name}.inner", value, limits.deeper())
    _check_fits(name, inner, largest)
    return inner


def _check_fits(name: str, inner: Payload, largest: int) -> None:
    if inner.dim > largest:
        raise WireError(f"{name}.inner: {inner.dim} entries in a vector of {largest}")


_NESTED = (
    ConcatPayload,
    SumPayload,
    ScatteredPayload,
    SeededScatteredPayload,
    RotatedPayload,
)
_CODECS = (
    Codec(0, ZeroPayload, 1, plain.pack_zero, plain.unpack_zero),
    Codec(1, DensePayload, 2, plain.pack_dense, plain.unpack_dense),
    Codec(2, SparsePayload, 4, plain.pack_sparse, plain.unpack_sparse),
    Codec(3, SeededSparsePayload, 4, plain.pack_seeded, plain.unpack_seeded),
    Codec(4, SegmentsPayload, 5, plain.pack_segments, plain.unpack_segments),
    Codec(5, CodesPayload, 7, pack_codes, unpack_codes),
    Codec(6, ConcatPayload, 1, _pack_parts, _unpack_concat),
    Codec(7, SumPayload, 1, _pack_sum, _unpack_sum),
    Codec(8, ScatteredPayload, 3, _pack_scattered, _unpack_scattered),
    Codec(9, SeededScatteredPayload, 3, _pack_seeded_scattered, _unpack_seeded_scattered),
    Codec(10, RotatedPayload, 2, _pack_rotated, _unpack_rotated),
    Codec(11, LowRankPayload, 4, plain.pack_low_rank, plain.unpack_low_rank),
    Codec(12, PermutedBlockPayload, 6, plain.pack_permuted, plain.unpack_permuted),
    Codec(13, SharedRoundingPayload, 7, pack_shared, unpack_shared),
)
CODECS_BY_KIND = {codec.kind: codec for codec in _CODECS}
CODECS_BY_CLASS = {codec.payload_class: codec for codec in _CODECS}
