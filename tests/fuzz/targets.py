"""What is given mutated inputs: each target returns, or raises an error of its own kind."""

import atexit
import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import msgpack
import torch

from launch.checkpoints import frame as checkpoint
from launch.checkpoints.shelf import Shelf
from launch.configuration.run_config import load_config, load_variants
from launch.configuration.yaml_text import load_yaml
from mlmc_ray.compressors import TopK
from mlmc_ray.downlinks import FULL, CompressedDownlink, DeltaDownlink, HalfDownlink, RelayDownlink
from mlmc_ray.errors import CheckpointError, ConfigError, ProblemError, RoundError, WireError
from mlmc_ray.kernels.finite import all_finite
from mlmc_ray.methods import EF21SGDM
from mlmc_ray.optimizers import Adam
from mlmc_ray.payloads import Message, SparsePayload
from mlmc_ray.payloads.plain import sum_payloads
from mlmc_ray.replica import Replica
from mlmc_ray.wire import decode, encode
from mlmc_ray.wire.bundles import decode_bundle, is_bundle
from tests.fuzz import seeds
from tests.fuzz.bounds import changing_nothing
from tests.fuzz.mutations import PACKED, PLAIN, changed_bytes, changed_value
from tests.mlmc_ray.downlinks.replicas import replica_of
from tests.mlmc_ray.test_methods import run_of

MAX_DIM = 4096
"""The largest vector that frames may speak of."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """What reads some kind of input.

    Attributes:
        seeds: makes well-formed inputs.
        mutated: makes an input out of those.
        read: is given an input.
        errors: what it may raise.
    """

    seeds: Callable[[], Sequence[bytes]]
    mutated: Callable[[Random], bytes]
    read: Callable[[bytes], None]
    errors: tuple[type[Exception], ...]


# Frames.


def _mutated_frame(random: Random) -> bytes:
    frames = _frames()
    return _mutated(random.choice(frames), random.choice(frames), random)


@cache
def _frames() -> tuple[bytes, ...]:
    return (*seeds.frames(), *seeds.bundles())


def _mutated(frame: bytes, other: bytes, random: Random) -> bytes:
    """Return a frame with bytes changed, or with other fields that are well packed."""
    if random.random() < 0.4:
        return changed_bytes(frame, other, random)
    return _packed(_changed(_unpacked(frame), PACKED, random), frame)


@cache
def _unpacked(frame: bytes) -> Any:
    return msgpack.unpackb(frame)


def _changed(value: Any, odd: Sequence[Any], random: Random) -> Any:
    """Return a value with one to a few changes."""
    while True:
        value = changed_value(value, odd, random)
        if random.random() < 0.7:
            return value


def _packed(fields: Any, otherwise: bytes) -> bytes:
    try:
        return bytes(msgpack.packb(fields))
    except (OverflowError, ValueError):  # what msgpack has no way to say
        return otherwise


def _read_frame(data: bytes) -> None:
    """Decode a frame, and add what it says to vectors as a server does."""
    if is_bundle(data):
        decode_bundle(data)
        return
    for payload in decode(data, max_dim=MAX_DIM).payloads.values():
        vector = torch.zeros(payload.dim)
        sum_payloads(vector, [payload], 0.5)
        if isinstance(payload, SparsePayload):  # sums of these are made in another way
            payload.add_to(vector, weight=0.25)
        if not all_finite(vector):
            raise AssertionError("what was decoded is not finite")


# News, as workers receive them: a byte says by which downlink, the frame follows.

_DOWNLINKS = (
    FULL,
    HalfDownlink(),
    DeltaDownlink(),
    CompressedDownlink(compressor=TopK(k=2)),
    RelayDownlink(),
)
_METHOD = EF21SGDM(compressor=TopK(k=2))
_NEWS_DIM = 24


def _replica() -> Replica:
    return replica_of(_NEWS_DIM - 1, method=_METHOD, optimizer=Adam(step_size=0.1))


@cache
def _news() -> tuple[bytes, ...]:
    """Frames of every downlink, of two rounds."""
    found = []
    for index, downlink in enumerate(_DOWNLINKS):
        replica, run = _replica(), run_of(_METHOD)
        sender = downlink.sender(replica)
        for round_index in range(2):
            sender.open(round_index, replica.context(round_index, 0, role="downlink"))
            news = replica.news(round_index, 0)
            assert isinstance(news, Message)
            for since, confirmed in ((None, True), (0, True), (0, False)):
                frame = sender.frame(news, round_index, since, confirmed=confirmed)
                found.append(bytes([index]) + frame)
            run.round()
            frames = {i: encode(run.reports[i]) for i in range(3)}
            replica.estimate({i: decode(frame) for i, frame in frames.items()}, round_index, 0)
            replica.step(0.0, round_index)
            sender.close(round_index, frames)
    return tuple(dict.fromkeys(found))


def _mutated_news(random: Random) -> bytes:
    news = random.choice(_news())
    index = news[:1] if random.random() < 0.8 else bytes([int(random.random() * 5)])
    return index + _mutated(news[1:], random.choice(_news())[1:], random)


def _read_news(data: bytes) -> None:
    downlink = _DOWNLINKS[data[0] % len(_DOWNLINKS)] if data else FULL
    downlink.receiver(_replica, _NEWS_DIM).take(1, 0, data[1:], (0, 1))


# Checkpoints.

_HEAD = checkpoint._HEAD
_DIGEST_BYTES = 32


def _mutated_checkpoint(random: Random) -> bytes:
    """Return files of a checkpoint, one of them changed; most with checksums that fit again."""
    files = dict(_unpacked(random.choice(seeds.checkpoints())))
    name = random.choice(list(files))
    data = files[name]
    if random.random() < 0.1:
        files[name] = changed_bytes(data, files[random.choice(list(files))], random)
        return bytes(msgpack.packb(files))
    magic, version, size = _HEAD.unpack_from(data)
    start = _HEAD.size + size
    header, memories = data[_HEAD.size : start], data[start:-_DIGEST_BYTES]
    kind = random.random()
    if kind < 0.7:
        header = json.dumps(_changed(json.loads(header), PLAIN, random)).encode()
    elif kind < 0.85:
        header = changed_bytes(header, memories, random)
    else:
        memories = changed_bytes(memories, header, random)
    size = len(header) if random.random() < 0.98 else random.choice((0, size, 1 << 40, 1 << 63))
    body = _HEAD.pack(magic, version, size) + header + memories
    files[name] = body + checkpoint._digest([body])
    return bytes(msgpack.packb(_named_anew(files, name, checkpoint.digest_of([data[-32:]]))))


def _named_anew(files: dict[str, bytes], name: str, digest: str) -> dict[str, bytes]:
    """Return files whose snapshot names a part by what it holds now, as a forger would do."""
    if digest not in name:
        return files
    own = checkpoint.digest_of([files[name][-32:]])
    renamed = {}
    for other, data in files.items():
        if other != name and digest.encode() in data:
            body = data[:-_DIGEST_BYTES].replace(digest.encode(), own.encode())
            data = body + checkpoint._digest([body])
        renamed[other.replace(digest, own)] = data
    return renamed


def _read_checkpoint(data: bytes) -> None:
    """Go on from the newest checkpoint of a store that holds these files."""
    Shelf(seeds.Memory(_files_in(data))).newest()


def _files_in(data: bytes) -> dict[str, bytes]:
    """Return the files of a msgpack map from names to bytes; none, if it is something else."""
    try:
        found = msgpack.unpackb(data)
    except (ValueError, RecursionError, msgpack.UnpackException):
        return {}
    pairs = found.items() if isinstance(found, dict) else ()
    return {name: file for name, file in pairs if type(name) is str and type(file) is bytes}


# Configurations.


def _mutated_configuration(random: Random) -> bytes:
    """Return a text with bytes or lines changed, or a mapping, as JSON, with values changed."""
    text = random.choice(seeds.configurations())
    kind = random.random()
    if kind < 0.25:
        return changed_bytes(text, random.choice(seeds.configurations()), random)
    if kind < 0.5:
        lines = text.split(b"\n")
        for _ in range(int(random.random() * 3) + 1):
            other = random.choice(seeds.configurations()).split(b"\n")
            place, source = random.choice(range(len(lines))), random.choice(other)
            lines[place : place + int(random.random() * 2)] = [source]
        return b"\n".join(lines)
    return json.dumps(_changed(_mapping(text), PLAIN, random)).encode()


@cache
def _mapping(text: bytes) -> Any:
    return load_yaml(text.decode())


def _read_configuration(data: bytes) -> None:
    """Read a file of this text, or the mapping that it is as JSON."""
    mapping = _as_mapping(data)
    if mapping is not None:
        with changing_nothing():
            load_config(mapping)
        return
    path = _directory() / "configuration.yaml"
    path.write_bytes(data)
    with changing_nothing():
        load_variants(path)


def _as_mapping(data: bytes) -> dict[str, Any] | None:
    if not data.startswith(b"{"):
        return None
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


@cache
def _directory() -> Path:
    directory = tempfile.TemporaryDirectory(prefix="configurations-")
    atexit.register(directory.cleanup)
    return Path(directory.name)


TARGETS: dict[str, Target] = {
    "frames": Target(
        seeds=_frames,
        mutated=_mutated_frame,
        read=_read_frame,
        errors=(WireError,),
    ),
    "news": Target(
        seeds=_news,
        mutated=_mutated_news,
        read=_read_news,
        errors=(WireError, RoundError),
    ),
    "checkpoints": Target(
        seeds=seeds.checkpoints,
        mutated=_mutated_checkpoint,
        read=_read_checkpoint,
        errors=(CheckpointError,),
    ),
    "configurations": Target(
        seeds=seeds.configurations,
        mutated=_mutated_configuration,
        read=_read_configuration,
        errors=(ConfigError, ProblemError),
    ),
}
