"""A message as one frame of bytes: wire version 1.

A frame is a msgpack array ``[version, payloads, scalars]``: ``payloads`` maps a name to
``[kind, *fields]`` (see ``payload_codecs``), ``scalars`` maps a name to a float64. Changed bytes
mean a new version. Bytes are hostile: a frame that is malformed, or that lost or gained a byte,
ends in ``WireError`` with the name of the field, and nothing is ever unpickled.
"""

import math
from typing import Any

import msgpack

from mlmc_ray.errors import WireError
from mlmc_ray.payloads import Message, Payload
from mlmc_ray.wire.payload_codecs import CODECS_BY_CLASS, CODECS_BY_KIND, quote

WIRE_VERSION = 1
_MAX_FIELDS = 16  # of an array; no payload has more
_MAX_NAMES = 64  # of payloads or scalars in a message
_MAX_NAME = 64  # letters


def encode(message: Message) -> bytes:
    """Return the frame of a message; tensors are copied to the CPU, floats become float32."""
    packer = msgpack.Packer()
    parts = [packer.pack_array_header(3), packer.pack(WIRE_VERSION)]
    parts.append(packer.pack_map_header(len(message.payloads)))
    for name, payload in message.payloads.items():
        codec = CODECS_BY_CLASS[type(payload)]
        fields = [codec.kind, *codec.pack(payload)]
        parts += [packer.pack(name), packer.pack_array_header(len(fields))]
        for field in fields:
            parts += _binary_parts(field) if isinstance(field, memoryview) else [packer.pack(field)]
    parts.append(packer.pack({name: float(value) for name, value in message.scalars.items()}))
    return b"".join(parts)


def decode(frame: bytes | memoryview) -> Message:
    """Return the message of a frame.

    Raises:
        WireError: the frame is malformed or of another version; the text names the field.
    """
    try:
        fields = msgpack.unpackb(
            frame,
            strict_map_key=True,
            object_pairs_hook=_distinct,
            ext_hook=_refuse_extension,
            max_array_len=_MAX_FIELDS,
            max_map_len=_MAX_NAMES,
        )
    except (ValueError, RecursionError, msgpack.UnpackException) as error:
        reason = str(error) or type(error).__name__
        raise WireError(f"frame: not one complete msgpack value: {reason}") from error
    if not isinstance(fields, list) or not fields:
        raise WireError(f"frame: expected an array that starts with a version, got {quote(fields)}")
    version = fields[0]
    if type(version) is not int or version != WIRE_VERSION:
        raise WireError(
            f"version: expected wire version {WIRE_VERSION}, got {quote(version)}; sender and "
            "receiver must run the same version of mlmc_ray"
        )
    if len(fields) != 3:
        raise WireError(f"frame: expected 3 fields, got {len(fields)}")
    payloads = _named("payloads", fields[1])
    scalars = _named("scalars", fields[2])
    return Message(
        {name: _unpack(name, value) for name, value in payloads.items()},
        {name: _scalar(name, value) for name, value in scalars.items()},
    )


def _binary_parts(field: memoryview) -> list[bytes | memoryview]:
    """Return a field as msgpack's binary data; what is large is left to be joined, uncopied."""
    if len(field) <= 0xFFFF:
        return [msgpack.packb(field)]
    return [b"\xc6" + len(field).to_bytes(4, "big"), field]  # bin 32


def _unpack(name: str, value: object) -> Payload:
    if not isinstance(value, list) or not value:
        raise WireError(f"{name}: expected an array that starts with a kind, got {quote(value)}")
    kind, *fields = value
    codec = CODECS_BY_KIND.get(kind) if type(kind) is int else None
    if codec is None:
        raise WireError(f"{name}.kind: got {quote(kind)}; known are {sorted(CODECS_BY_KIND)}")
    if len(fields) != codec.num_fields:
        raise WireError(f"{name}: kind {kind} has {codec.num_fields} fields, got {len(fields)}")
    return codec.unpack(name, *fields)


def _named(field: str, value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise WireError(f"{field}: expected a map from names, got {quote(value)}")
    for name in value:
        if not isinstance(name, str) or len(name) > _MAX_NAME or not name.isprintable():
            raise WireError(f"{field}: expected a name, got {quote(name)}")
    return value


def _scalar(name: str, value: object) -> float:
    if not isinstance(value, float) or not math.isfinite(value):
        raise WireError(f"{name}: expected a finite float, got {quote(value)}")
    return value


def _distinct(pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        raise ValueError("a name is given twice in one map")
    return values


def _refuse_extension(code: int, data: bytes) -> None:
    raise ValueError(f"extension type {code} is not part of the format")
