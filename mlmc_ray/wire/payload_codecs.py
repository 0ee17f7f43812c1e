"""One codec per payload class: its fields on the wire.

    kind  class                fields
    0     ZeroPayload          dim
    1     DensePayload         values
    2     SparsePayload        dim, indices, values
    3     SeededSparsePayload  dim, seed, values
    4     SegmentsPayload      dim, segment_size, segments, values
    5     CodesPayload         dim, bound, scale, codes

``values`` and ``scale`` are little-endian float32. ``indices`` and ``segments`` are strictly
ascending, ceil(log2(range)) bits each, low bit first. ``codes`` are shifted by ``bound`` to be
non-negative: with bound 1 five ternary digits fill a byte, else each takes
ceil(log2(2 bound + 1)) bits. Unused bits are zero. Integers are msgpack's.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mlmc_ray.errors import WireError
from mlmc_ray.kernels.finite import all_finite
from mlmc_ray.kernels.packing import (
    pack_bits,
    pack_ternary,
    unpack_bits,
    unpack_ternary,
    width_of,
)
from mlmc_ray.payloads import (
    CodesPayload,
    DensePayload,
    Payload,
    SeededSparsePayload,
    SegmentsPayload,
    SparsePayload,
    ZeroPayload,
)

_MAX_DIM = (1 << 40) - 1
_MAX_BOUND = (1 << 31) - 1
_LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True, slots=True)
class Codec:
    """How one payload class is written and read.

    ``unpack`` takes the payload's name in the message, for errors, and ``num_fields`` fields.
    """

    kind: int
    payload_class: type[Payload]
    num_fields: int
    pack: Callable[[Any], list[Any]]
    unpack: Callable[..., Payload]


def quote(value: object) -> str:
    """Return what was found in place of a field, in few characters, however deep or long it is."""
    if isinstance(value, list | dict):
        return f"{'an array' if isinstance(value, list) else 'a map'} of {len(value)}"
    if isinstance(value, str | bytes):
        return f"{value[:40]!r}"
    return f"{value!r:.40}"


def _pack_zero(payload: ZeroPayload) -> list[Any]:
    return [payload.dim]


def _unpack_zero(name: str, dim: object) -> ZeroPayload:
    return ZeroPayload(_integer(f"{name}.dim", dim, 1, _MAX_DIM))


def _pack_dense(payload: DensePayload) -> list[Any]:
    return [_float_bytes(payload.values)]


def _unpack_dense(name: str, values: object) -> DensePayload:
    return DensePayload(_floats(f"{name}.values", values))


def _pack_sparse(payload: SparsePayload) -> list[Any]:
    indices = _index_bytes(payload.indices, payload.dim)
    return [payload.dim, indices, _float_bytes(payload.values)]


def _unpack_sparse(name: str, dim: object, indices: object, values: object) -> SparsePayload:
    size = _integer(f"{name}.dim", dim, 1, _MAX_DIM)
    entries = _floats(f"{name}.values", values)
    places = _indices(f"{name}.indices", indices, entries.numel(), size)
    return SparsePayload(size, torch.from_numpy(places), entries)


def _pack_seeded(payload: SeededSparsePayload) -> list[Any]:
    return [payload.dim, payload.seed, _float_bytes(payload.values)]


def _unpack_seeded(name: str, dim: object, seed: object, values: object) -> SeededSparsePayload:
    size = _integer(f"{name}.dim", dim, 1, _MAX_DIM)
    key = _integer(f"{name}.seed", seed, 0, (1 << 64) - 1)
    entries = _floats(f"{name}.values", values)
    if entries.numel() > size:
        raise WireError(f"{name}.values: {entries.numel()} values for a vector of {size} entries")
    return SeededSparsePayload(size, key, entries)


def _pack_segments(payload: SegmentsPayload) -> list[Any]:
    num_segments = -(-payload.dim // payload.segment_size)
    segments = _index_bytes(payload.segments, num_segments)
    return [payload.dim, payload.segment_size, segments, _float_bytes(payload.values)]


def _unpack_segments(
    name: str, dim: object, segment_size: object, segments: object, values: object
) -> SegmentsPayload:
    length = _integer(f"{name}.dim", dim, 1, _MAX_DIM)
    size = _integer(f"{name}.segment_size", segment_size, 1, length)
    entries = _floats(f"{name}.values", values)
    count = -(-entries.numel() // size)
    places = _indices(f"{name}.segments", segments, count, -(-length // size))
    holds_last = count > 0 and places[-1] == -(-length // size) - 1
    expected = count * size - (-length % size if holds_last else 0)
    if entries.numel() != expected:
        raise WireError(
            f"{name}.values: its {count} segments hold {expected} values, got {entries.numel()}"
        )
    return SegmentsPayload(length, size, torch.from_numpy(places), entries)


def _pack_codes(payload: CodesPayload) -> list[Any]:
    shifted = payload.codes.cpu().numpy().astype(np.int64) + payload.bound
    packed = (
        pack_ternary(shifted.astype(np.uint8))
        if payload.bound == 1
        else pack_bits(shifted, width_of(2 * payload.bound + 1))
    )
    scale = np.array([payload.scale], dtype="<f4").tobytes()
    return [payload.dim, payload.bound, scale, packed]


def _unpack_codes(
    name: str, dim: object, bound: object, scale: object, codes: object
) -> CodesPayload:
    length = _integer(f"{name}.dim", dim, 1, _MAX_DIM)
    limit = _integer(f"{name}.bound", bound, 1, _MAX_BOUND)
    unit = _floats(f"{name}.scale", scale)
    if unit.numel() != 1:
        raise WireError(f"{name}.scale: expected 1 value, got {unit.numel()}")
    data = _binary(f"{name}.codes", codes)
    try:
        shifted = (
            unpack_ternary(data, length).astype(np.int64)
            if limit == 1
            else unpack_bits(data, length, width_of(2 * limit + 1))
        )
    except ValueError as error:
        raise WireError(f"{name}.codes: {error}") from error
    if shifted.max() > 2 * limit:
        raise WireError(f"{name}.codes: a code is above the bound {limit}")
    shifted -= limit
    if not np.abs(shifted).max() * abs(unit.item()) <= _LARGEST:
        raise WireError(f"{name}.scale: {unit.item():g} times a code is not a finite float32")
    dtype = np.int8 if limit <= 127 else np.int32
    return CodesPayload(limit, unit.item(), torch.from_numpy(shifted.astype(dtype)))


_CODECS = (
    Codec(0, ZeroPayload, 1, _pack_zero, _unpack_zero),
    Codec(1, DensePayload, 1, _pack_dense, _unpack_dense),
    Codec(2, SparsePayload, 3, _pack_sparse, _unpack_sparse),
    Codec(3, SeededSparsePayload, 3, _pack_seeded, _unpack_seeded),
    Codec(4, SegmentsPayload, 4, _pack_segments, _unpack_segments),
    Codec(5, CodesPayload, 4, _pack_codes, _unpack_codes),
)
CODECS_BY_KIND = {codec.kind: codec for codec in _CODECS}
CODECS_BY_CLASS = {codec.payload_class: codec for codec in _CODECS}


def _float_bytes(values: Tensor) -> memoryview:
    array = values.detach().cpu().numpy().astype("<f4", copy=False)
    return np.ascontiguousarray(array).view(np.uint8).data


def _index_bytes(indices: Tensor, size: int) -> bytes:
    return pack_bits(indices.cpu().numpy(), width_of(size))


def _integer(field: str, value: object, low: int, high: int) -> int:
    if type(value) is not int or not low <= value <= high:
        raise WireError(f"{field}: expected an integer from {low} to {high}, got {quote(value)}")
    return value


def _binary(field: str, value: object) -> bytes:
    if not isinstance(value, bytes):
        raise WireError(f"{field}: expected binary data, got {quote(value)}")
    return value


def _floats(field: str, value: object) -> Tensor:
    data = _binary(field, value)
    if len(data) % 4:
        raise WireError(f"{field}: {len(data)} bytes are not whole float32 values")
    values = torch.from_numpy(np.frombuffer(data, dtype="<f4").astype(np.float32))
    if not all_finite(values):
        bad = int((~torch.isfinite(values)).sum())
        raise WireError(f"{field}: {bad} of {len(values)} values are NaN or infinite")
    return values


def _indices(field: str, value: object, count: int, size: int) -> npt.NDArray[np.int64]:
    data = _binary(field, value)
    try:
        indices = unpack_bits(data, count, width_of(size))
    except ValueError as error:
        raise WireError(f"{field}: {error}") from error
    if count and (indices[-1] >= size or (np.diff(indices) <= 0).any()):
        raise WireError(f"{field}: not strictly ascending below {size}")
    return indices
