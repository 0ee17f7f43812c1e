"""What the bytes of a frame are spent on: its payloads, and the layers that they speak of."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import msgpack
import torch
from torch import Tensor

from mlmc_ray.payloads import (
    ConcatPayload,
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
)
from mlmc_ray.wire.bundles import decode_bundle, is_bundle
from mlmc_ray.wire.fields import MAX_DIM
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
    frame: bytes | memoryview,
    layer_sizes: Sequence[int],
    *,
    max_dim: int = MAX_DIM,
    without_layers: Sequence[str] = (),
) -> list[Part]:
    """Return the parts of a frame; their bytes add up to its length.

    Of relayed rounds they are the parts of all reports, by name, such as "relayed gradient".

    Args:
        frame: as ``encode`` or ``encode_bundle`` made it; one that is malformed is refused as by
            ``decode``.
        layer_sizes: entries of every layer, in the order of the vector.
        max_dim: see ``decode``.
        without_layers: names of payloads that say nothing of parameters, whatever their length.

    Raises:
        WireError: see ``decode``.
    """
    sizes = torch.tensor(layer_sizes, dtype=torch.int64)
    if is_bundle(frame):
        parts = [
            replace(part, name=f"relayed {part.name}")
            for reports in decode_bundle(frame).rounds
            for report in reports.values()
            for part in _of_message(report, sizes, max_dim, without_layers)
        ]
    else:
        parts = _of_message(frame, sizes, max_dim, without_layers)
    rest = memoryview(frame).nbytes - sum(part.num_bytes for part in parts)
    return [*parts, Part(name="", kind=ENVELOPE, num_bytes=rest)]


def _of_message(
    frame: bytes | memoryview, sizes: Tensor, max_dim: int, without_layers: Sequence[str]
) -> list[Part]:
    """Return the parts of a message but for its envelope."""
    message = decode(frame, max_dim=max_dim)
    none = torch.tensor([], dtype=torch.int64)
    reader = msgpack.Unpacker(max_buffer_size=0)
    reader.feed(frame)
    reader.read_array_header()
    reader.skip()  # the version
    parts: list[Part] = []
    for _ in range(reader.read_map_header()):
        name = reader.unpack()
        payload = message.payloads[name]
        layers = sizes if payload.dim == int(sizes.sum()) and name not in without_layers else none
        parts += _parts(name, payload, reader, 0, layers)
    return parts


def _parts(
    name: str, payload: Payload, reader: msgpack.Unpacker, start: int, sizes: Tensor
) -> Iterator[Part]:
    """Read a payload that speaks of the entries from ``start`` on, and yield its parts.

    Args:
        name: of the payload in the message.
        payload: what the reader's next value says.
        reader: at that value; behind it in the end.
        start: where the payload begins in the vector.
        sizes: entries of every layer; none if they are not to be told.
    """
    if isinstance(payload, SumPayload | ConcatPayload):
        reader.read_array_header()
        reader.skip()  # the kind
        reader.read_array_header()
        place = start
        for inner in payload.parts:
            yield from _parts(name, inner, reader, place, sizes)
            place += inner.dim if isinstance(payload, ConcatPayload) else 0
        return
    begin = reader.tell()
    reader.skip()
    num_bytes = reader.tell() - begin
    layers = num_bytes * _shares(payload, start, sizes) if len(sizes) else None
    yield Part(name=name, kind=_kind(payload), num_bytes=num_bytes, layer_bytes=layers)


def _shares(payload: Payload, start: int, sizes: Tensor) -> Tensor:
    """Return the share of the entries said that lies in every layer.

    They sum to 1; where no entry is said, those that could have been count.
    """
    ends = sizes.cumsum(0)
    indices = _indices(payload)
    if indices is None or not indices.numel():
        stops = ends.clamp(max=start + payload.dim)
        counts = (stops - (ends - sizes).clamp(min=start)).clamp(min=0)
    else:
        layer = torch.searchsorted(ends, indices.cpu() + start, right=True)
        counts = torch.bincount(layer, minlength=len(sizes))
    return counts.to(torch.float64) / max(1, int(counts.sum()))


def _indices(payload: Payload) -> Tensor | None:
    """Return where the entries are that a payload says; None for all of them, or any.

    Of a group of entries that are said together, it is the first.
    """
    match payload:
        case SparsePayload() | ScatteredPayload():
            return payload.indices
        case (
            SeededSparsePayload()
            | SegmentsPayload()
            | SeededScatteredPayload()
            | PermutedBlockPayload()
        ):
            return payload.indices()
        case SharedRoundingPayload():
            return payload.first_entries()
    return None


def _kind(payload: Payload) -> str:
    words = re.findall("[A-Z][a-z]*", type(payload).__name__.removesuffix("Payload"))
    own = " ".join(words).lower()
    if isinstance(payload, RotatedPayload | ScatteredPayload | SeededScatteredPayload):
        return f"{own} {_kind(payload.inner)}"
    return own
