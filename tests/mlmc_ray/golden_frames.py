"""Golden frames: messages and bundles, and the bytes that they are, in commented hex.

The bytes lie in ``golden/``, one file a frame. They are rewritten only by

    python -m tests.mlmc_ray.golden_frames

which is right only together with a new wire version.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import msgpack
import torch

from mlmc_ray.payloads import (
    CodesPayload,
    ConcatPayload,
    DensePayload,
    Grouping,
    LowRankPayload,
    Message,
    PermutedBlockPayload,
    Powers,
    RotatedPayload,
    ScatteredPayload,
    SeededScatteredPayload,
    SeededSparsePayload,
    SegmentsPayload,
    SharedRoundingPayload,
    SparsePayload,
    SumPayload,
    Table,
    ZeroPayload,
)
from mlmc_ray.wire import encode
from mlmc_ray.wire.bundles import Bundle, encode_bundle
from mlmc_ray.wire.payload_codecs import CODECS_BY_CLASS

_FOLDER = Path(__file__).parent / "golden"

MESSAGES = {
    "zero": Message({"change": ZeroPayload(38282)}),
    "dense": Message({"parameters": DensePayload(torch.tensor([1.0, -2.5, 0.0]))}),
    "sparse": Message(
        {"gradient": SparsePayload(5, torch.tensor([1, 4]), torch.tensor([0.5, -8.0]))}
    ),
    "seeded_sparse": Message(
        {"gradient": SeededSparsePayload(1000, 2**62 + 1, torch.tensor([3.0, -0.125]))}
    ),
    "segments": Message(  # the last segment of the vector has one entry
        {
            "gradient": SegmentsPayload(
                7, 3, torch.tensor([0, 2]), torch.tensor([1.0, 2.0, 3.0, 4.0])
            )
        }
    ),
    "codes_ternary": Message(
        {"gradient": CodesPayload.on_grid(torch.tensor([1, 0, -1, 1, 1, 0], dtype=torch.int8), 0.5)}
    ),
    "codes_multibit": Message(
        {"gradient": CodesPayload.on_grid(torch.tensor([-7, 0, 7, 3, -1], dtype=torch.int8), 0.25)}
    ),
    "half": Message({"gradient": DensePayload(torch.tensor([1.0, -2.5], dtype=torch.bfloat16))}),
    "concat": Message({"gradient": ConcatPayload((ZeroPayload(2), DensePayload(torch.ones(1))))}),
    "sum": Message(
        {
            "gradient": SumPayload(
                (ZeroPayload(3), SparsePayload(3, torch.tensor([2]), torch.tensor([1.0])))
            )
        }
    ),
    "scattered": Message(
        {
            "gradient": ScatteredPayload(
                9,
                torch.tensor([0, 8]),
                CodesPayload(
                    torch.tensor([1, 0], dtype=torch.int8),
                    torch.tensor([2.0]),
                    codebook=Table((0.5, -1.0)),
                ),
            )
        }
    ),
    "seeded_scattered": Message(
        {
            "gradient": SeededScatteredPayload(
                9,
                5,
                CodesPayload(
                    torch.tensor([3, -1], dtype=torch.int8), torch.ones(1), codebook=Powers(2.0)
                ),
            )
        }
    ),
    "rotated": Message({"gradient": RotatedPayload(7, DensePayload(torch.tensor([1.0, 2.0])))}),
    "low_rank": Message(
        {"gradient": LowRankPayload(torch.tensor([[1.0], [2.0]]), torch.tensor([[3.0], [4.0]]))}
    ),
    "permuted_block": Message(
        {"gradient": PermutedBlockPayload(5, 11, 2, 1, torch.tensor([1.0, -2.0]))}
    ),
    "shared_rounding": Message(  # three groups of four entries, then five entries
        {
            "gradient": SharedRoundingPayload(
                Grouping(
                    shapes=((2, 5), (1, 5)),
                    group_sizes=(4, 1),
                    bits=4,
                    block=2,
                    interleaved_entries=True,
                    interleaved_groups=False,
                    worker_id=1,
                    num_workers=3,
                ),
                2**62 + 1,
                0.25,
                torch.tensor([0, 2, 4]),
                torch.tensor([1, 2, 1]),
                torch.tensor([13, 6, 1]),
            )
        }
    ),
    "several": Message(
        {
            "gradient": SparsePayload(2, torch.tensor([1]), torch.tensor([1.0])),
            "buffers": DensePayload(torch.tensor([0.5])),
        },
        {"momentum": 0.1},
    ),
}

BUNDLES = {
    "bundle": Bundle(
        since=3,
        rounds=(
            {0: encode(MESSAGES["sparse"]), 2: encode(Message({}))},
            {1: encode(MESSAGES["zero"])},
        ),
        digest=bytes.fromhex("0123456789abcdef"),
    )
}

_VALUES = ["format", "values"]
_FIELDS = {
    ZeroPayload: ["dim"],
    DensePayload: _VALUES,
    SparsePayload: ["dim", "indices", *_VALUES],
    SeededSparsePayload: ["dim", "seed", *_VALUES],
    SegmentsPayload: ["dim", "segment_size", "segments", *_VALUES],
    CodesPayload: ["dim", "bucket_size", "scales", "codebook", "low", "alphabet", "codes"],
    ConcatPayload: ["parts"],
    SumPayload: ["parts"],
    ScatteredPayload: ["dim", "indices", "inner"],
    SeededScatteredPayload: ["dim", "seed", "inner"],
    RotatedPayload: ["seed", "inner"],
    LowRankPayload: ["rows", "columns", "left", "right"],
    PermutedBlockPayload: ["dim", "seed", "num_blocks", "block", *_VALUES],
    SharedRoundingPayload: ["dim", "seed", "step", "form", "layers", "counts", "directions"],
}
assert set(_FIELDS) == set(CODECS_BY_CLASS)


def golden(name: str) -> bytes:
    """Return the stored bytes of a message, or of a bundle."""
    lines = (_FOLDER / f"{name}.hex").read_text().splitlines()
    return bytes.fromhex("".join(line.partition("#")[0] for line in lines))


def rewrite() -> None:
    """Rewrite every golden frame."""
    for name, message in MESSAGES.items():
        _write(name, _parts(encode(message), message))
    for name, bundle in BUNDLES.items():
        _write(name, _parts_of_bundle(encode_bundle(bundle)))


def _write(name: str, parts: Iterator[tuple[bytes, str]]) -> None:
    lines = [f"{part.hex(' '):<55} # {meaning}\n" for part, meaning in parts]
    (_FOLDER / f"{name}.hex").write_text("".join(lines))


def _cutter(frame: bytes) -> tuple[msgpack.Unpacker, Callable[[], bytes]]:
    """Return a reader of a frame, and what cuts off the bytes that it has read."""
    unpacker = msgpack.Unpacker()
    unpacker.feed(frame)
    start = 0

    def cut() -> bytes:
        nonlocal start
        part, start = frame[start : unpacker.tell()], unpacker.tell()
        return part

    return unpacker, cut


def _parts_of_bundle(frame: bytes) -> Iterator[tuple[bytes, str]]:
    """Cut a bundle into its fields, and say what each is."""
    unpacker, cut = _cutter(frame)
    unpacker.read_array_header()
    yield cut(), "a bundle: array of 4"
    version = unpacker.unpack()
    yield cut(), f"wire version {version}"
    since = unpacker.unpack()
    yield cut(), f"since: {since}"
    rounds = unpacker.read_array_header()
    yield cut(), f"rounds: array of {rounds}"
    for _ in range(rounds):
        values = unpacker.read_array_header()
        yield cut(), f"a round: array of {values}"
        for _ in range(values // 2):
            worker_id = unpacker.unpack()
            yield cut(), f"worker_id: {worker_id}"
            report = unpacker.unpack()
            yield cut(), f"report: {len(report)} bytes"
    digest = unpacker.unpack()
    yield cut(), f"digest: {len(digest)} bytes"


def _parts(frame: bytes, message: Message) -> Iterator[tuple[bytes, str]]:
    """Cut a frame into its fields, and say what each is."""
    unpacker, cut = _cutter(frame)
    unpacker.read_array_header()
    yield cut(), "a message: array of 3"
    version = unpacker.unpack()
    yield cut(), f"wire version {version}"
    unpacker.read_map_header()
    yield cut(), f"payloads: map of {len(message.payloads)}"
    for name, payload in message.payloads.items():
        unpacker.unpack()
        yield cut(), f'"{name}"'
        length = unpacker.read_array_header()
        yield cut(), f"array of {length}"
        kind = unpacker.unpack()
        yield cut(), f"kind {kind}: {type(payload).__name__}"
        for field in _FIELDS[type(payload)]:
            value = unpacker.unpack()
            shown = f"{len(value)} bytes" if isinstance(value, bytes) else value
            value = getattr(payload, field, None)
            shown = value.tolist() if isinstance(value, torch.Tensor) else shown
            yield cut(), f"{field}: {shown}"
    unpacker.read_map_header()
    yield cut(), f"scalars: map of {len(message.scalars)}"
    for name, scalar in message.scalars.items():
        unpacker.unpack()
        yield cut(), f'"{name}"'
        unpacker.unpack()
        yield cut(), f"{scalar}"


if __name__ == "__main__":
    rewrite()
