"""Rounds that are relayed: the reports of one or several rounds as one frame.

Such a frame is a msgpack array ``[version, since, rounds, digest]``: ``rounds`` has for every round
from ``since`` on an array ``[worker_id, report, worker_id, report, ...]`` with the report frames as
they came, in worker order, and ``digest`` is that of parameters and running statistics
after them, or nil.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgpack
from torch import Tensor

from mlmc_ray.errors import WireError
from mlmc_ray.wire.fields import float_bytes, read_binary, read_integer
from mlmc_ray.wire.frames import WIRE_VERSION

_LARGEST = (1 << 31) - 1
_DIGEST_BYTES = 8
_FIELDS = 4
_FIRST_BYTE = 0x94  # of an array of four; messages are arrays of three


@dataclass(frozen=True, kw_only=True, slots=True)
class Bundle:
    """The reports of some rounds.

    Attributes:
        since: the first of the rounds.
        rounds: the report frames of each, by worker; none only where there is a digest.
        digest: of parameters and running statistics after the last; None if it is not said.
    """

    since: int
    rounds: Sequence[Mapping[int, bytes]]
    digest: bytes | None


def digest_of(*vectors: Tensor) -> bytes:
    """Return 8 bytes that differ wherever vectors of certain lengths do, but for 1 in 2^64."""
    digest = hashlib.blake2b(digest_size=_DIGEST_BYTES)
    for vector in vectors:
        digest.update(float_bytes("digest", vector))
    return digest.digest()


def is_bundle(frame: bytes | memoryview) -> bool:
    """Return whether a frame, if it is well formed, is a bundle."""
    return memoryview(frame).nbytes > 0 and frame[0] == _FIRST_BYTE


def encode_bundle(bundle: Bundle) -> bytes:
    """Return the frame of relayed rounds."""
    rounds = [
        [field for worker_id in sorted(reports) for field in (worker_id, reports[worker_id])]
        for reports in bundle.rounds
    ]
    packed: bytes = msgpack.packb([WIRE_VERSION, bundle.since, rounds, bundle.digest])
    return packed


def decode_bundle(frame: bytes | memoryview) -> Bundle:
    """Return the relayed rounds of a frame; the reports in it are not looked at.

    It is read value by value, so that no length in it is believed before its values have come.

    Raises:
        WireError: the frame is malformed or of another version; the text names the field.
    """
    num_bytes = memoryview(frame).nbytes
    reader = msgpack.Unpacker(
        max_buffer_size=max(1, num_bytes),
        max_array_len=0,
        max_map_len=0,
        max_ext_len=0,
        max_str_len=0,
    )
    reader.feed(frame)
    try:
        bundle = _read(reader)
    except msgpack.OutOfData as error:
        raise WireError("frame: not one complete msgpack value: incomplete input") from error
    if surplus := num_bytes - reader.tell():
        raise WireError(f"frame: {surplus} bytes are left behind the digest")
    return bundle


def _read(reader: msgpack.Unpacker) -> Bundle:
    if (number := _length(reader, "frame")) != _FIELDS:
        raise WireError(f"frame: expected {_FIELDS} fields, got {number}")
    read_integer("version", _value(reader, "version"), WIRE_VERSION, WIRE_VERSION)
    since = read_integer("since", _value(reader, "since"), 0, _LARGEST)
    rounds = tuple(_read_reports(reader) for _ in range(_length(reader, "rounds")))
    digest = _digest(_value(reader, "digest"))
    if not rounds and digest is None:
        raise WireError("rounds: expected at least one where there is no digest, got none")
    return Bundle(since=since, rounds=rounds, digest=digest)


def _digest(value: object) -> bytes | None:
    if value is None:
        return None
    if len(digest := read_binary("digest", value)) != _DIGEST_BYTES:
        raise WireError(f"digest: expected {_DIGEST_BYTES} bytes, got {len(digest)}")
    return digest


def _read_reports(reader: msgpack.Unpacker) -> dict[int, bytes]:
    number = _length(reader, "reports")
    if number % 2:
        raise WireError(f"reports: expected each with its worker, got {number} values")
    reports: dict[int, bytes] = {}
    for _ in range(number // 2):
        least = next(reversed(reports), -1) + 1  # ascending, so that none comes twice
        worker_id = read_integer("worker_id", _value(reader, "worker_id"), least, _LARGEST)
        reports[worker_id] = read_binary("report", _value(reader, "report"))
    return reports


def _length(reader: msgpack.Unpacker, field: str) -> int:
    """Return the length of the array that begins here."""
    try:
        return int(reader.read_array_header())
    except ValueError as error:
        raise WireError(f"{field}: expected an array: {error}") from error


def _value(reader: msgpack.Unpacker, field: str) -> object:
    """Return the next value, of those that are neither array nor map, text or extension."""
    try:
        return reader.unpack()
    except ValueError as error:
        raise WireError(f"{field}: {error}") from error
