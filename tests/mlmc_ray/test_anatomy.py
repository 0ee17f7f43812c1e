"""What frames are made of: every byte is accounted for, and every layer gets its own."""

import msgpack
import numpy as np
import pytest
import torch

from mlmc_ray.compressors import Compressor, Context, TopK, bound
from mlmc_ray.compressors.wrappers import PerLayer
from mlmc_ray.errors import WireError
from mlmc_ray.payloads import (
    CodesPayload,
    ConcatPayload,
    DensePayload,
    Grid,
    Message,
    Payload,
    PermutedBlockPayload,
    SeededScatteredPayload,
    SeededSparsePayload,
    SegmentsPayload,
    SparsePayload,
    SumPayload,
    ZeroPayload,
)
from mlmc_ray.seeding import generator_for
from mlmc_ray.wire import decode, encode
from mlmc_ray.wire.anatomy import ENVELOPE, Part, anatomy
from mlmc_ray.wire.bundles import Bundle, encode_bundle
from tests.mlmc_ray.cases import ALL_COMPRESSORS

SIZES = (5, 1, 14)
CODES = (torch.arange(20) % 3, torch.ones(1))


def parts_of(payload: Payload) -> list[Part]:
    frame = encode(Message({"gradient": payload}, {"loss": 1.0}))
    *parts, envelope = anatomy(frame, SIZES)
    assert (envelope.name, envelope.kind) == ("", ENVELOPE)
    assert sum(part.num_bytes for part in [*parts, envelope]) == len(frame)
    assert envelope.num_bytes > len("gradient") + len("loss") + 8
    return parts


@pytest.mark.parametrize("compressor", ALL_COMPRESSORS, ids=str)
def test_all_bytes_are_counted(compressor: Compressor) -> None:
    context = Context(generator_for(1), layer_sizes=SIZES, layer_shapes=((5,), (1,), (2, 7)))
    vector = torch.randn(20, generator=generator_for(0))
    parts = parts_of(bound(compressor, context).compress(vector, generator=context.generator))
    for part in parts:
        assert part.name == "gradient"
        assert part.layer_bytes is not None
        assert float(part.layer_bytes.sum()) == pytest.approx(part.num_bytes)


def test_layers_get_their_entries() -> None:
    sparse = SparsePayload(20, torch.tensor([0, 4, 5, 19]), torch.ones(4))
    (part,) = parts_of(sparse)
    assert part.kind == "sparse"
    assert part.layer_bytes is not None
    assert (part.layer_bytes / part.num_bytes).tolist() == [0.5, 0.25, 0.25]
    (part,) = parts_of(DensePayload(torch.ones(20)))
    assert part.layer_bytes is not None
    assert (part.layer_bytes / part.num_bytes).tolist() == [0.25, 0.05, 0.7]


@pytest.mark.parametrize(
    "payload",
    [
        PermutedBlockPayload(20, 3, 4, 1, torch.ones(5)),
        SeededSparsePayload(20, 7, torch.ones(4)),
        SeededScatteredPayload(20, 7, DensePayload(torch.ones(3))),
        SegmentsPayload(20, 3, torch.tensor([1, 6]), torch.ones(5)),
    ],
    ids=lambda payload: type(payload).__name__,
)
def test_entries_that_are_not_sent_one_by_one_are_found(payload: Payload) -> None:
    (part,) = parts_of(payload)
    said = payload.to_dense().nonzero().flatten()
    expected = [int(((said >= a) & (said < b)).sum()) for a, b in ((0, 5), (5, 6), (6, 20))]
    assert part.layer_bytes is not None
    assert (part.layer_bytes / part.num_bytes * len(said)).tolist() == pytest.approx(expected)


def test_lengths_are_those_in_the_frame() -> None:
    """A reader accepts a half as long number where the encoder writes a double."""
    offset = msgpack.packb(0.5)
    frame = encode(Message({"gradient": CodesPayload(*CODES, codebook=Grid(0.5))}))
    assert frame.count(offset) == 1
    shorter = frame.replace(offset, msgpack.packb(0.5, use_single_float=True))
    assert decode(shorter).payloads
    assert sum(part.num_bytes for part in anatomy(shorter, SIZES)) == len(shorter)
    assert all(part.num_bytes > 0 for part in anatomy(shorter, SIZES))


def test_a_piece_of_no_entries_has_no_layer() -> None:
    whole = [1, 0, np.ones(20, "<f4").tobytes()]
    frame = msgpack.packb([2, {"gradient": [6, [[1, 0, b""], whole]]}, {}])
    empty, dense, _ = anatomy(frame, SIZES)
    assert empty.layer_bytes is not None
    assert empty.layer_bytes.tolist() == [0, 0, 0]
    assert dense.layer_bytes is not None
    assert float(dense.layer_bytes.sum()) == pytest.approx(dense.num_bytes)


def test_names_that_are_no_parameters_have_no_layers() -> None:
    frame = encode(Message({"buffers": DensePayload(torch.ones(20))}))
    assert anatomy(frame, SIZES, without_layers=["buffers"])[0].layer_bytes is None


def test_pieces_and_terms_are_parts_of_their_own() -> None:
    pieces = ConcatPayload(
        (DensePayload(torch.ones(5)), ZeroPayload(1), DensePayload(torch.ones(14)))
    )
    first, none, last = parts_of(pieces)
    assert [first.kind, none.kind, last.kind] == ["dense", "zero", "dense"]
    for part, layer in ((first, 0), (none, 1), (last, 2)):
        assert part.layer_bytes is not None
        assert part.layer_bytes[layer] == part.num_bytes
    terms = SumPayload(
        (DensePayload(torch.ones(20)), SparsePayload(20, torch.tensor([7]), torch.ones(1)))
    )
    dense, sparse = parts_of(terms)
    assert (dense.kind, sparse.kind) == ("dense", "sparse")
    assert sparse.layer_bytes is not None
    assert sparse.layer_bytes.tolist() == [0, 0, sparse.num_bytes]


def test_kinds_are_named_in_words() -> None:
    context = Context(generator_for(1), layer_sizes=SIZES)
    compressor = bound(PerLayer(compressor=TopK(k=1)), context)
    payload = compressor.compress(torch.ones(20), generator=context.generator)
    assert {part.kind for part in parts_of(payload)} <= {"sparse", "dense"}


def test_other_vectors_have_no_layers() -> None:
    (part,) = parts_of(DensePayload(torch.ones(7)))
    assert part.layer_bytes is None


def test_a_malformed_frame_is_refused() -> None:
    with pytest.raises(WireError):
        anatomy(b"\xc1", SIZES)


# Relayed rounds.


def test_relayed_reports_are_told_by_their_parts() -> None:
    sparse = SparsePayload(20, torch.tensor([0, 4, 5, 19]), torch.ones(4))
    reports = {
        0: encode(Message({"gradient": sparse})),
        1: encode(Message({"gradient": sparse, "buffers": DensePayload(torch.ones(20))})),
        2: encode(Message({"gradient": SumPayload((sparse, ZeroPayload(20)))})),
    }
    frame = encode_bundle(Bundle(since=0, rounds=(reports, {1: reports[1]}), digest=bytes(8)))
    *parts, envelope = anatomy(frame, SIZES, without_layers=("buffers",))
    assert (envelope.name, envelope.kind) == ("", ENVELOPE)
    assert sum(part.num_bytes for part in [*parts, envelope]) == len(frame)
    first, bare, buffers, *rest = [(part.name, part.kind) for part in parts]
    assert first == bare == ("relayed gradient", "sparse")
    assert buffers == ("relayed buffers", "dense")
    assert rest == [first, ("relayed gradient", "zero"), first, buffers]
    assert parts[0].layer_bytes is not None
    assert (parts[0].layer_bytes / parts[0].num_bytes).tolist() == [0.5, 0.25, 0.25]
    assert parts[2].layer_bytes is None


def test_a_bundle_is_checked_as_its_reports_are() -> None:
    report = encode(Message({"gradient": DensePayload(torch.ones(20))}))
    frame = encode_bundle(Bundle(since=0, rounds=({0: report},), digest=None))
    with pytest.raises(WireError, match=r"gradient\.values: expected 19 at most, got 20"):
        anatomy(frame, SIZES, max_dim=19)
    with pytest.raises(WireError, match="incomplete input"):
        anatomy(frame[:-1], SIZES)
