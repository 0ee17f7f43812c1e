"""A message as one frame of bytes: wire version 2.

A frame is a msgpack array ``[version, payloads, scalars]``: ``payloads`` maps a name to
``[kind, *fields]`` (see ``payload_codecs``), ``scalars`` maps a name to a float64. Changed bytes
mean a new version. Bytes are hostile: a frame that is malformed, or that lost or gained a byte,
ends in ``WireError`` with the name of the field, and nothing is ever unpickled.
"""

import math
from collections.abc import Mapping
from typing import Any

import msgpack

from mlmc_ray.errors import WireError
from mlmc_ray.payloads import Message
from mlmc_ray.wire.claims import check_claims
from mlmc_ray.wire.fields import MAX_DIM, Limits, quote
from mlmc_ray.wire.payload_codecs import pack, unpack

WIRE_VERSION = 2
_MAX_FIELDS = 8  # of an array that does not hold payloads
_LEAST_PAYLOAD = 3  # bytes
_MAX_NAMES = 64  # of payloads or scalars in a message
_MAX_NAME = 64  # letters


def encode(message: Message) -> bytes:
    """Return the frame of a message; tensors are copied to the CPU, floats become float32.

    Raises:
        WireError: a reader would refuse the message, or it holds what is no payload; the text
            names the field.
        NonFiniteError: an entry may be larger than float32 holds.
    """
    payloads = {
        name: pack(name, payload) for name, payload in _named("payloads", message.payloads).items()
    }
    scalars = {
        name: _scalar(name, float(value))
        for name, value in _named("scalars", message.scalars).items()
    }
    packer = msgpack.Packer()
    parts = [packer.pack_array_header(3), packer.pack(WIRE_VERSION)]
    parts.append(packer.pack_map_header(len(payloads)))
    for name, fields in payloads.items():
        parts += [packer.pack(name), *_parts(packer, fields)]
    parts.append(packer.pack(scalars))
    frame = b"".join(parts)
    longest = max((payload.dim for payload in message.payloads.values()), default=0)
    check_claims(payloads, longest, len(frame))
    return frame


def decode(frame: bytes | memoryview, *, max_dim: int = MAX_DIM) -> Message:
    """Return the message of a frame.

    Args:
        frame: hostile bytes.
        max_dim: refuse payloads of more entries; a few bytes may say a long vector.

    Raises:
        WireError: the frame is malformed or of another version; the text names the field.
    """
    try:
        fields = msgpack.unpackb(
            frame,
            strict_map_key=True,
            object_pairs_hook=_distinct,
            ext_hook=_refuse_extension,
            max_array_len=max(_MAX_FIELDS, memoryview(frame).nbytes // _LEAST_PAYLOAD),
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
    check_claims(payloads, max_dim, memoryview(frame).nbytes)
    return Message(
        {name: unpack(name, value, Limits(max_dim)) for name, value in payloads.items()},
        {name: _scalar(name, value) for name, value in scalars.items()},
    )


def _parts(packer: msgpack.Packer, value: Any) -> list[bytes | memoryview]:
    """Return a field as msgpack; large binary data is left to be joined, uncopied."""
    if isinstance(value, list):
        inner = (part for item in value for part in _parts(packer, item))
        return [packer.pack_array_header(len(value)), *inner]
    if isinstance(value, memoryview) and len(value) > 0xFFFF:
        return [b"\xc6" + len(value).to_bytes(4, "big"), value]  # bin 32
    return [packer.pack(value)]


def _named(field: str, value: object) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise WireError(f"{field}: expected a map from names, got {quote(value)}")
    if len(value) > _MAX_NAMES:
        raise WireError(f"{field}: expected {_MAX_NAMES} names at most, got {len(value)}")
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
