"""What the bytes of a frame are spent on: its payloads, and the layers that they speak of."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import msgpack
import torch
from torch import Tensor

from mlmc_ray.payloads import (
    ConcatPayload,
    Payload,
    RotatedPayload,
    ScatteredPayload,
    SeededScatteredPayload,
    SeededSparsePayload,
    SegmentsPayload,
    SparsePayload,
    SumPayload,
)
from mlmc_ray.wire.frames import decode

ENVELOPE = "envelope"
"""The kind of what belongs to no payload: version, names, lengths, scalars."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """Some bytes of a frame.

    Attributes:
        name: of the payload in the message; "" for the envelope.
        kind: what it is, such as "sparse" or "rotated codes"; terms of a sum, and the pieces of a
            vector that is sent in pieces, are parts of their own.
        num_bytes: in the frame.
        layer_bytes: shape (number of layers,): those bytes, shared out by the entries that are
            said something about; None for what is no vector of parameters.
    """

    name: str
    kind: str
    num_bytes: int
    layer_bytes: Tensor | None = None


def anatomy(
    frame: bytes | memoryview, layer_sizes: Sequence[int], max_dim: int | None = None
) -> list[Part]:
    """Return the parts of a frame; their bytes add up to its length.

    Args:
        frame: as ``encode`` made it; one that is malformed is refused as by ``decode``.
        layer_sizes: entries of every layer, in the order of the vector.
        max_dim: see ``decode``.

    Raises:
        WireError: see ``decode``.
    """
    message = decode(frame) if max_dim is None else decode(frame, max_dim=max_dim)
    payloads = msgpack.unpackb(frame, strict_map_key=True)[1]
    sizes = torch.tensor(layer_sizes, dtype=torch.int64)
    parts = [
        part
        for name, payload in message.payloads.items()
        for part in _parts(name, payload, payloads[name], 0, sizes)
    ]
    rest = memoryview(frame).nbytes - sum(part.num_bytes for part in parts)
    return [*parts, Part(name="", kind=ENVELOPE, num_bytes=rest)]


def _parts(
    name: str, payload: Payload, fields: Any, start: int, sizes: Tensor, whole: int | None = None
) -> Iterator[Part]:
    """Yield the parts of a payload that speaks of the entries from ``start`` on."""
    whole = payload.dim if whole is None else whole
    if isinstance(payload, SumPayload | ConcatPayload):
        place = start
        for inner, value in zip(payload.parts, fields[1], strict=True):
            yield from _parts(name, inner, value, place, sizes, whole)
            place += inner.dim if isinstance(payload, ConcatPayload) else 0
        return
    num_bytes = len(msgpack.packb(fields))
    layers = None
    if whole == int(sizes.sum()):
        layers = num_bytes * _shares(payload, start, sizes)
    yield Part(name=name, kind=_kind(payload), num_bytes=num_bytes, layer_bytes=layers)


def _shares(payload: Payload, start: int, sizes: Tensor) -> Tensor:
    """Return the share of the entries said that lies in every layer; they sum to 1."""
    ends = sizes.cumsum(0)
    indices = _indices(payload)
    if indices is None or not indices.numel():
        stops = ends.clamp(max=start + payload.dim)
        counts = (stops - (ends - sizes).clamp(min=start)).clamp(min=0)
    else:
        layer = torch.searchsorted(ends, indices.cpu() + start, right=True)
        counts = torch.bincount(layer, minlength=len(sizes))
    return counts.to(torch.float64) / int(counts.sum())


def _indices(payload: Payload) -> Tensor | None:
    """Return where the entries are that a payload says; None for all of them, or any."""
    match payload:
        case SparsePayload() | ScatteredPayload():
            return payload.indices
        case SeededSparsePayload() | SegmentsPayload():
            return payload.indices()
    return None


def _kind(payload: Payload) -> str:
    words = re.findall("[A-Z][a-z]*", type(payload).__name__.removesuffix("Payload"))
    own = " ".join(words).lower()
    if isinstance(payload, RotatedPayload | ScatteredPayload | SeededScatteredPayload):
        return f"{own} {_kind(payload.inner)}"
    return own
