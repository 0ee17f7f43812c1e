"""What frames are made of: every byte is accounted for, and every layer gets its own."""

import pytest
import torch

from mlmc_ray.compressors import Compressor, Context, TopK, bound
from mlmc_ray.compressors.wrappers import PerLayer
from mlmc_ray.errors import WireError
from mlmc_ray.payloads import (
    ConcatPayload,
    DensePayload,
    Message,
    Payload,
    SparsePayload,
    SumPayload,
    ZeroPayload,
)
from mlmc_ray.seeding import generator_for
from mlmc_ray.wire import encode
from mlmc_ray.wire.anatomy import ENVELOPE, Part, anatomy
from tests.mlmc_ray.cases import ALL_COMPRESSORS

SIZES = (5, 1, 14)


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
