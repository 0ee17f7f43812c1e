"""Rounds that are relayed: the reports of one or several rounds as one frame.

Such a frame is a msgpack array ``[version, since, rounds, digest]``: ``rounds`` has for every round
from ``since`` on an array ``[worker_id, report, worker_id, report, ...]`` with the report frames as
they came, in worker order, and ``digest`` is that of the parameters after them, or nil.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgpack
from torch import Tensor

from mlmc_ray.errors import WireError
from mlmc_ray.wire.fields import float_bytes, quote, read_binary, read_integer
from mlmc_ray.wire.frames import WIRE_VERSION

_LARGEST = (1 << 31) - 1
_DIGEST_BYTES = 8
_FIRST_BYTE = 0x94  # of an array of four; messages are arrays of three
_LEAST_REPORT = 4  # bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class Bundle:
    """The reports of some rounds.

    Attributes:
        since: the first of the rounds.
        rounds: the report frames of each, by worker.
        digest: of the parameters after the last of them; None if it is not said.
    """

    since: int
    rounds: Sequence[Mapping[int, bytes]]
    digest: bytes | None


def digest_of(parameters: Tensor) -> bytes:
    """Return 8 bytes that differ wherever parameters, shape (d,), differ, but for 1 in 2^64."""
    data = float_bytes("parameters", parameters)
    return hashlib.blake2b(data, digest_size=_DIGEST_BYTES).digest()


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

    Raises:
        WireError: the frame is malformed or of another version; the text names the field.
    """
    try:
        fields = msgpack.unpackb(
            frame,
            max_map_len=0,
            max_ext_len=0,
            max_str_len=0,
            max_array_len=max(4, memoryview(frame).nbytes // _LEAST_REPORT),
        )
    except (ValueError, RecursionError, msgpack.UnpackException) as error:
        reason = str(error) or type(error).__name__
        raise WireError(f"frame: not one complete msgpack value: {reason}") from error
    if not isinstance(fields, list) or len(fields) != 4:
        raise WireError(f"frame: expected an array of 4 fields, got {quote(fields)}")
    version, since, rounds, digest = fields
    read_integer("version", version, WIRE_VERSION, WIRE_VERSION)
    if not isinstance(rounds, list) or not rounds:
        raise WireError(f"rounds: expected an array of rounds, got {quote(rounds)}")
    if digest is not None and len(read_binary("digest", digest)) != _DIGEST_BYTES:
        raise WireError(f"digest: expected {_DIGEST_BYTES} bytes, got {quote(digest)}")
    return Bundle(
        since=read_integer("since", since, 0, _LARGEST),
        rounds=tuple(map(_reports, rounds)),
        digest=digest,
    )


def _reports(fields: object) -> dict[int, bytes]:
    if not isinstance(fields, list) or len(fields) % 2:
        raise WireError(f"rounds: expected an array of workers and reports, got {quote(fields)}")
    reports = {
        read_integer("worker_id", worker_id, 0, _LARGEST): read_binary("report", report)
        for worker_id, report in zip(fields[::2], fields[1::2], strict=True)
    }
    if len(reports) < len(fields) // 2:
        raise WireError("rounds: a worker has two reports in one round")
    return reports
