"""A message as one frame of bytes: wire version 1.

A frame is a msgpack array ``[version, payloads, scalars]``: ``payloads`` maps a name to
``[kind, *fields]`` (see ``payload_codecs``), ``scalars`` maps a name to a float64. Changed bytes
mean a new version. Bytes are hostile: a frame that this module did not write, or that lost or
gained a byte, ends in ``WireError`` with the name of the field, and nothing is ever unpickled.
"""

import math
from typing import Any

import msgpack

from mlmc_ray.errors import WireError
from mlmc_ray.payloads import Message, Payload
from mlmc_ray.wire.payload_codecs import CODECS_BY_CLASS, CODECS_BY_KIND

WIRE_VERSION = 1


def encode(message: Message) -> bytes:
    """Return the frame of a message; tensors are copied to the CPU, floats become float32."""
    payloads = {name: _pack(payload) for name, payload in message.payloads.items()}
    scalars = {name: float(value) for name, value in message.scalars.items()}
    return bytes(msgpack.packb([WIRE_VERSION, payloads, scalars]))


def decode(frame: bytes | memoryview) -> Message:
    """Return the message of a frame.

    Raises:
        WireError: the frame is malformed or of another version; the text names the field.
    """
    try:
        fields = msgpack.unpackb(frame, strict_map_key=True, ext_hook=_refuse_extension)
    except (ValueError, RecursionError, msgpack.UnpackException) as error:
        raise WireError(f"frame: not one complete msgpack value: {error or type(error)}") from error
    if not isinstance(fields, list) or not fields:
        raise WireError(f"frame: expected an array that starts with a version, got {fields!r:.40}")
    version = fields[0]
    if version != WIRE_VERSION or isinstance(version, bool):
        raise WireError(
            f"version: expected wire version {WIRE_VERSION}, got {version!r:.40}; sender and "
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


def _pack(payload: Payload) -> list[Any]:
    codec = CODECS_BY_CLASS[type(payload)]
    return [codec.kind, *codec.pack(payload)]


def _unpack(name: str, value: object) -> Payload:
    if not isinstance(value, list) or not value:
        raise WireError(f"{name}: expected an array that starts with a kind, got {value!r:.40}")
    kind, *fields = value
    codec = CODECS_BY_KIND.get(kind) if type(kind) is int else None
    if codec is None:
        raise WireError(f"{name}.kind: got {kind!r:.40}; known are {sorted(CODECS_BY_KIND)}")
    if len(fields) != codec.num_fields:
        raise WireError(f"{name}: kind {kind} has {codec.num_fields} fields, got {len(fields)}")
    return codec.unpack(name, *fields)


def _named(field: str, value: object) -> dict[str, Any]:
    if not isinstance(value, dict) or not all(isinstance(name, str) for name in value):
        raise WireError(f"{field}: expected a map from names, got {value!r:.40}")
    return value


def _scalar(name: str, value: object) -> float:
    if not isinstance(value, float) or not math.isfinite(value):
        raise WireError(f"{name}: expected a finite float, got {value!r:.40}")
    return value


def _refuse_extension(code: int, data: bytes) -> None:
    raise ValueError(f"extension type {code} is not part of the format")
