"""Payloads that hold no others on the wire: their fields, written and read from hostile bytes.

Every ``pack_`` function takes the payload's name, for errors, and returns its fields. Every
``unpack_`` function takes the name, the limits, and the fields. What a reader would refuse,
``pack_`` refuses as well. Quantised vectors are in ``codes``.
"""

from typing import Any

import torch

from mlmc_ray.errors import NonFiniteError, WireError
from mlmc_ray.kernels.partition import block_size
from mlmc_ray.payloads import (
    DensePayload,
    LowRankPayload,
    PermutedBlockPayload,
    SeededSparsePayload,
    SegmentsPayload,
    SparsePayload,
    ZeroPayload,
    reach,
)
from mlmc_ray.wire.fields import (
    Limits,
    check_count,
    check_reach,
    float_bytes,
    index_bytes,
    read_dim,
    read_floats,
    read_indices,
    read_integer,
    read_seed,
    read_values,
    value_fields,
)


def pack_zero(name: str, payload: ZeroPayload) -> list[Any]:
    """Return dim."""
    return [payload.dim]


def unpack_zero(name: str, limits: Limits, dim: object) -> ZeroPayload:
    """Undo ``pack_zero``."""
    return ZeroPayload(read_dim(name, dim, limits))


def pack_dense(name: str, payload: DensePayload) -> list[Any]:
    """Return format, values."""
    return value_fields(name, payload.values)


def unpack_dense(name: str, limits: Limits, form: object, values: object) -> DensePayload:
    """Undo ``pack_dense``."""
    entries = read_values(name, form, values)
    if entries.numel() > limits.max_dim:
        raise WireError(f"{name}.values: expected {limits.max_dim} at most, got {entries.numel()}")
    return DensePayload(entries)


def pack_sparse(name: str, payload: SparsePayload) -> list[Any]:
    """Return dim, indices, format, values."""
    check_count(f"{name}.values", payload.indices.numel(), payload.values.numel())
    indices = index_bytes(f"{name}.indices", payload.indices, payload.dim)
    return [payload.dim, indices, *value_fields(name, payload.values)]


def unpack_sparse(
    name: str, limits: Limits, dim: object, indices: object, form: object, values: object
) -> SparsePayload:
    """Undo ``pack_sparse``."""
    size = read_dim(name, dim, limits)
    entries = read_values(name, form, values)
    places = read_indices(f"{name}.indices", indices, entries.numel(), size)
    return SparsePayload(size, torch.from_numpy(places), entries)


def pack_seeded(name: str, payload: SeededSparsePayload) -> list[Any]:
    """Return dim, seed, format, values."""
    _check_seeded(name, payload)
    return [payload.dim, read_seed(name, payload.seed), *value_fields(name, payload.values)]


def unpack_seeded(
    name: str, limits: Limits, dim: object, seed: object, form: object, values: object
) -> SeededSparsePayload:
    """Undo ``pack_seeded``."""
    size, key = read_dim(name, dim, limits), read_seed(name, seed)
    payload = SeededSparsePayload(size, key, read_values(name, form, values))
    _check_seeded(name, payload)
    return payload


def _check_seeded(name: str, payload: SeededSparsePayload) -> None:
    number = payload.values.numel()
    if number > payload.dim:
        raise WireError(f"{name}.values: {number} values for a vector of {payload.dim} entries")


def pack_segments(name: str, payload: SegmentsPayload) -> list[Any]:
    """Return dim, segment_size, segments, format, values."""
    size = read_integer(f"{name}.segment_size", payload.segment_size, 1, payload.dim)
    num_segments = -(-payload.dim // size)
    segments = index_bytes(f"{name}.segments", payload.segments, num_segments)
    _check_segments(name, payload)
    fields = value_fields(name, payload.values)
    return [payload.dim, size, segments, *fields]


def unpack_segments(
    name: str,
    limits: Limits,
    dim: object,
    segment_size: object,
    segments: object,
    form: object,
    values: object,
) -> SegmentsPayload:
    """Undo ``pack_segments``."""
    length = read_dim(name, dim, limits)
    size = read_integer(f"{name}.segment_size", segment_size, 1, length)
    entries = read_values(name, form, values)
    count = -(-entries.numel() // size)
    places = read_indices(f"{name}.segments", segments, count, -(-length // size))
    payload = SegmentsPayload(length, size, torch.from_numpy(places), entries)
    _check_segments(name, payload)
    return payload


def _check_segments(name: str, payload: SegmentsPayload) -> None:
    dim, size, count = payload.dim, payload.segment_size, payload.segments.numel()
    holds_last = count > 0 and int(payload.segments[-1]) == -(-dim // size) - 1
    expected = count * size - (-dim % size if holds_last else 0)
    if payload.values.numel() != expected:
        raise WireError(
            f"{name}.values: its {count} segments hold {expected} values, got "
            f"{payload.values.numel()}"
        )


def pack_permuted(name: str, payload: PermutedBlockPayload) -> list[Any]:
    """Return dim, seed, num_blocks, block, format, values."""
    number, block = _read_block(name, payload.dim, payload.num_blocks, payload.block)
    check_count(f"{name}.values", block_size(payload.dim, number, block), payload.values.numel())
    seed = read_seed(name, payload.seed)
    return [payload.dim, seed, number, block, *value_fields(name, payload.values)]


def unpack_permuted(
    name: str,
    limits: Limits,
    dim: object,
    seed: object,
    num_blocks: object,
    block: object,
    form: object,
    values: object,
) -> PermutedBlockPayload:
    """Undo ``pack_permuted``."""
    size, key = read_dim(name, dim, limits), read_seed(name, seed)
    number, place = _read_block(name, size, num_blocks, block)
    entries = read_values(name, form, values)
    check_count(f"{name}.values", block_size(size, number, place), entries.numel())
    return PermutedBlockPayload(size, key, number, place, entries)


def _read_block(name: str, dim: int, num_blocks: object, block: object) -> tuple[int, int]:
    number = read_integer(f"{name}.num_blocks", num_blocks, 1, dim)
    return number, read_integer(f"{name}.block", block, 0, number - 1)


def pack_low_rank(name: str, payload: LowRankPayload) -> list[Any]:
    """Return rows, columns, left, right."""
    left, right = payload.left, payload.right
    if not left.numel() or left.shape[1:] != right.shape[1:]:
        shapes = f"{tuple(left.shape)} and {tuple(right.shape)}"
        raise WireError(f"{name}.left: no factors of a matrix have the shapes {shapes}")
    check_reach(name, reach(payload), NonFiniteError)
    sides = {"left": left, "right": right}
    packed = [float_bytes(f"{name}.{side}", part.reshape(-1)) for side, part in sides.items()]
    return [len(left), len(right), *packed]


def unpack_low_rank(
    name: str, limits: Limits, rows: object, columns: object, left: object, right: object
) -> LowRankPayload:
    """Undo ``pack_low_rank``."""
    num_rows = read_integer(f"{name}.rows", rows, 1, limits.max_dim)
    num_columns = read_integer(f"{name}.columns", columns, 1, limits.max_dim // num_rows)
    tall, wide = read_floats(f"{name}.left", left), read_floats(f"{name}.right", right)
    rank = tall.numel() // num_rows
    if rank < 1 or tall.numel() != rank * num_rows or wide.numel() != rank * num_columns:
        raise WireError(
            f"{name}.left: {tall.numel()} and {wide.numel()} values are no factors of a matrix of "
            f"{num_rows} x {num_columns}"
        )
    payload = LowRankPayload(tall.view(num_rows, rank), wide.view(num_columns, rank))
    check_reach(name, reach(payload), WireError)
    return payload
