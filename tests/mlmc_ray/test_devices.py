"""Vectors on other devices: tensor operations take the place of the compiled loops.

A GPU is used where there is one. Without one the tensor operations run on CPU tensors, and on a
device that stands in for a GPU.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields, is_dataclass

import pytest
import torch
from torch import Tensor

from mlmc_ray.compressors import (
    Compressor,
    Context,
    PerBucket,
    StandardDithering,
    TernGrad,
    bound,
)
from mlmc_ray.kernels import device as devices
from mlmc_ray.kernels.magnitudes import magnitude_histogram
from mlmc_ray.kernels.sums import segment_energies, segment_magnitudes
from mlmc_ray.ladders import GeometricLadder, Ladder, SegmentedTopKLadder
from mlmc_ray.ladders.base import bound_ladder
from mlmc_ray.payloads import DensePayload, Message, Payload, SparsePayload
from mlmc_ray.payloads.base import device_of
from mlmc_ray.seeding import generator_for
from mlmc_ray.wire import encode
from tests.mlmc_ray.cases import ALL_COMPRESSORS, ALL_LADDERS
from tests.mlmc_ray.other_device import OTHER, OtherDevice, OtherTensor

GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no CUDA device")
ROUNDED = ("PowerSGD", "RankLadder", "norm=3.0", "clip=2.5")
"""On a GPU: its products, decompositions, powers and plain sums may be rounded otherwise."""
COMPRESSORS: list[Compressor] = [
    *ALL_COMPRESSORS,
    StandardDithering(levels=2, norm=3.0, bucket_size=7),
    TernGrad(clip=2.5),
]
LONG_LADDERS: list[Ladder] = [
    SegmentedTopKLadder(segment_size=1000),
    GeometricLadder(first=10),
    GeometricLadder(first=10, tail_segment=300),
]
MOST_LEVELS = 30

DRAWS = torch.Generator().manual_seed(5)
NORMAL = torch.randn(37, generator=DRAWS)
VECTORS = {
    "normal": NORMAL,
    "heavy": torch.randn(64, generator=DRAWS) ** 7,
    "some zeros": torch.randn(50, generator=DRAWS) * (torch.rand(50, generator=DRAWS) < 0.3),
    "subnormal": torch.cat([torch.arange(-9, 9) * 2.0**-149, 1e-38 * NORMAL]),
    "ties": torch.tensor([1.0, -1.0, 0.0, 1.0, 2.0, -2.0, -0.0, 1.0]),
    "one entry": torch.tensor([-0.3]),
    "half precision": torch.randn(45, generator=DRAWS).to(torch.float16),
    "double precision": torch.randn(45, generator=DRAWS, dtype=torch.float64),
    "strided": torch.randn(80, generator=DRAWS)[::2],
    "zero": torch.zeros(5),
}
LADDERED = {kind: vector for kind, vector in VECTORS.items() if kind != "zero"}
"""Ladders are not asked about zero."""
LONG = torch.randn(70_001, generator=DRAWS) ** 3
EVERY_COMPRESSOR = pytest.mark.parametrize("compressor", COMPRESSORS, ids=str)
EVERY_LADDER = pytest.mark.parametrize("ladder", ALL_LADDERS, ids=str)


@contextmanager
def tensor_operations() -> Iterator[None]:
    """Do without the compiled loops."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(devices, "_COMPILED", "no device")
        yield


def payload_of(compressor: Compressor, vector: Tensor) -> Payload:
    private = generator_for(3, "private")
    context = Context(private, shared_seed=7, worker_id=1, num_workers=3)
    return bound(compressor, context).compress(vector, generator=private)


def frame_of(payload: Payload) -> bytes:
    return encode(Message({"v": payload}))


def payloads_of(ladder: Ladder, vector: Tensor) -> tuple[Tensor, list[Payload]]:
    """Return the norms of the levels, and base and increments."""
    context = Context(generator_for(0), shared_seed=7)
    levels = bound_ladder(ladder, context).levels(vector, generator=generator_for(1))
    base = levels.base()
    payloads = [levels.increment(i) for i in range(1, min(MOST_LEVELS, len(levels)) + 1)]
    return levels.norms(), payloads if base is None else [base, *payloads]


def numbers_on_the_host(part: object) -> int:
    """Return the size of the largest tensor of a payload that is on the CPU."""
    if isinstance(part, Tensor):
        return part.numel() if part.device.type == "cpu" else 0
    if isinstance(part, tuple):
        return max(map(numbers_on_the_host, part), default=0)
    if isinstance(part, Payload) and is_dataclass(part):
        return numbers_on_the_host(tuple(getattr(part, field.name) for field in fields(part)))
    return 0


@EVERY_COMPRESSOR
def test_tensor_operations_make_the_same_frames(compressor: Compressor) -> None:
    for kind, vector in VECTORS.items():
        kept, frame = vector.clone(), frame_of(payload_of(compressor, vector))
        with tensor_operations():
            assert frame_of(payload_of(compressor, vector)) == frame, kind
        assert torch.equal(vector, kept), kind


@EVERY_COMPRESSOR
def test_tensor_operations_make_the_same_frames_of_long_vectors(compressor: Compressor) -> None:
    # Buckets are short however many there are.
    vector = LONG[:3000] if isinstance(compressor, PerBucket) else LONG
    payload = payload_of(compressor, vector)
    frame, added, again = frame_of(payload), torch.zeros(len(vector)), torch.zeros(len(vector))
    payload.add_to(added)
    with tensor_operations():
        assert frame_of(payload_of(compressor, vector)) == frame
        payload.add_to(again)
    assert torch.equal(added, again)


@EVERY_LADDER
def test_tensor_operations_make_the_same_levels(ladder: Ladder) -> None:
    for kind, vector in LADDERED.items():
        norms, payloads = payloads_of(ladder, vector)
        with tensor_operations():
            again, others = payloads_of(ladder, vector)
            assert torch.equal(norms, again), kind
            assert list(map(frame_of, payloads)) == list(map(frame_of, others)), kind


@pytest.mark.parametrize("ladder", LONG_LADDERS, ids=str)
def test_tensor_operations_make_the_same_levels_of_long_vectors(ladder: Ladder) -> None:
    norms, payloads = payloads_of(ladder, LONG)
    with tensor_operations():
        again, others = payloads_of(ladder, LONG)
    assert torch.equal(norms, again)
    assert list(map(frame_of, payloads)) == list(map(frame_of, others))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@EVERY_COMPRESSOR
def test_tensor_operations_add_the_same(compressor: Compressor, dtype: torch.dtype) -> None:
    payload = payload_of(compressor, NORMAL)
    start = torch.randn(len(NORMAL), generator=torch.Generator().manual_seed(8), dtype=dtype)
    sums = []
    for weight in (1.0, -0.3):
        added = start.clone()
        payload.add_to(added, weight)
        sums.append(added)
    with tensor_operations():
        for weight, expected in zip((1.0, -0.3), sums, strict=True):
            added = start.clone()
            payload.add_to(added, weight)
            assert torch.equal(added, expected)


@EVERY_COMPRESSOR
def test_what_is_elsewhere_stays_there(compressor: Compressor) -> None:
    """Nothing is mixed with tensors of the CPU, and payloads are where the vectors are."""
    for kind, vector in VECTORS.items():
        frame = frame_of(payload_of(compressor, vector))
        with OtherDevice():
            payload = payload_of(compressor, OtherTensor(vector.clone()))
            assert frame_of(payload) == frame, kind
            if device_of(payload) == OTHER:  # not so for the zero payload
                assert numbers_on_the_host(payload) <= max(1, -(-len(vector) // 2)), kind
                accumulator = OtherTensor(torch.zeros(len(vector), dtype=torch.float64))
                payload.add_to(accumulator)
                expected = torch.zeros(len(vector), dtype=torch.float64)
                payload_of(compressor, vector).add_to(expected)
                assert torch.equal(accumulator.held, expected), kind
                assert payload.to_dense().device == OTHER, kind


@EVERY_LADDER
def test_levels_of_what_is_elsewhere_are_there(ladder: Ladder) -> None:
    for kind, vector in LADDERED.items():
        norms, payloads = payloads_of(ladder, vector)
        with OtherDevice():
            again, others = payloads_of(ladder, OtherTensor(vector.clone()))
            assert torch.equal(norms, again), kind
            assert list(map(frame_of, payloads)) == list(map(frame_of, others)), kind


def test_a_payload_of_the_host_is_added_elsewhere() -> None:
    parts: list[Payload] = [
        DensePayload(NORMAL),
        SparsePayload(37, torch.tensor([3, 5]), torch.tensor([1.0, 2.0])),
        *(payload_of(compressor, NORMAL) for compressor in COMPRESSORS),
    ]
    for payload in parts:
        expected = torch.zeros(37)
        payload.add_to(expected, 0.5)
        with OtherDevice():
            accumulator = OtherTensor(torch.zeros(37))
            payload.add_to(accumulator, 0.5)
            assert torch.equal(accumulator.held, expected)


@pytest.mark.parametrize("dim", [0, 1, 2, 3, 1023, 1024, 1025, 5000, 1_100_000])
def test_sums_have_one_order(dim: int) -> None:
    vector = torch.randn(dim, generator=torch.Generator().manual_seed(dim)) ** 5
    for size in (1, 3, 1000, 1024, 4096, 2_000_000):
        found = segment_energies(vector, size), segment_magnitudes(vector, size)
        with tensor_operations():
            assert torch.equal(segment_energies(vector, size), found[0])
            assert torch.equal(segment_magnitudes(vector, size), found[1])
        terms = vector.double().square()
        for start, total in zip(range(0, dim, size), found[0][:20].tolist(), strict=False):
            assert total == pytest.approx(float(terms[start : start + size].sum()), rel=1e-12)


def test_histograms_do_not_depend_on_the_order_nor_on_the_device() -> None:
    counts = magnitude_histogram(LONG)
    shuffled = LONG[torch.randperm(len(LONG), generator=torch.Generator().manual_seed(1))]
    for again in (shuffled, LONG):
        with tensor_operations():
            assert (magnitude_histogram(again) == counts).all()
        assert (magnitude_histogram(again) == counts).all()
    odd = torch.tensor([math.nan, -math.inf, 0.0, -0.0, 2.0**-149, 3.4e38, -1.0])
    with tensor_operations():
        counts = magnitude_histogram(odd)
    assert counts.sum() == len(odd)
    assert (magnitude_histogram(odd) == counts).all()


@GPU
@EVERY_COMPRESSOR
def test_a_gpu_makes_the_same_frames(compressor: Compressor) -> None:
    for kind, vector in VECTORS.items():
        expected = payload_of(compressor, vector)
        payload = payload_of(compressor, vector.to("cuda"))
        if device_of(payload).type == "cuda":
            assert numbers_on_the_host(payload) <= max(1, -(-len(vector) // 2)), kind
        if any(name in str(compressor) for name in ROUNDED):
            assert_close(payload, expected)
        else:
            assert frame_of(payload) == frame_of(expected), kind
        added, there = torch.zeros(len(vector)), torch.zeros(len(vector), device="cuda")
        expected.add_to(added, 0.3)
        payload.add_to(there, 0.3)
        torch.testing.assert_close(there.cpu(), added, rtol=1e-4, atol=1e-5)


@GPU
@EVERY_LADDER
def test_a_gpu_makes_the_same_levels(ladder: Ladder) -> None:
    for kind, vector in LADDERED.items():
        norms, payloads = payloads_of(ladder, vector)
        again, others = payloads_of(ladder, vector.to("cuda"))
        torch.testing.assert_close(norms, again, rtol=1e-10, atol=0)
        for payload, other in zip(payloads, others, strict=True):
            if "RankLadder" in str(ladder):
                assert_close(other, payload)
            else:
                assert frame_of(other) == frame_of(payload), kind


def assert_close(payload: Payload, expected: Payload) -> None:
    dense = payload.to_dense().cpu()
    torch.testing.assert_close(dense, expected.to_dense(), rtol=1e-4, atol=1e-5)
