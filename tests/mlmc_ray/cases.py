"""What there is to test: every compressor, ladder and law, in one list each.

A new one takes one line here; tests of the lists compare them with the names that a configuration
can use.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from mlmc_ray.compressors import (
    DRIVE,
    ECUQ,
    EDEN,
    QSGD,
    RTN,
    AdaptiveRandom,
    Bernoulli,
    BiasedRounding,
    Compressor,
    ExponentialDithering,
    FixedPoint,
    FloatingPoint,
    HalfPrecision,
    Identity,
    ImportanceSampled,
    Induced,
    Lazy,
    Natural,
    OneBit,
    OptimalSparse,
    PerBucket,
    PerLayer,
    PermK,
    PowerSGD,
    RandK,
    RandomSparse,
    ScaledSign,
    SegmentedTopK,
    SharedDirections,
    SharedThresholds,
    SparseDithering,
    StandardDithering,
    TernGrad,
    TopK,
    TopKDithering,
    TopRand,
    UnbiasedRounding,
)
from mlmc_ray.estimator import MLMC
from mlmc_ray.ladders import (
    ECUQLadder,
    FixedPointLadder,
    FloatingPointLadder,
    GeometricLadder,
    Ladder,
    RankLadder,
    RefinementLadder,
    RTNLadder,
    SegmentedTopKLadder,
    ThresholdLadder,
    TopKLadder,
)
from mlmc_ray.laws import AdaptiveLaw, CostAwareLaw, GivenLaw, LevelLaw, OwnLaw
from mlmc_ray.payloads import Message, Payload
from mlmc_ray.truncation import RandomTruncation
from mlmc_ray.wire import decode, encode

GOLDEN = torch.tensor([3, -4, 0, 1, -2, 0.5, 0, -1])
"""A vector whose errors and variances are known by hand: |v|^2 = 31.25, |v|_1 = 11.5."""

ALL_COMPRESSORS: list[Compressor] = [
    Identity(),
    TopK(k=1),
    TopK(k=3),
    TopK(k=0.3),
    TopK(k=100),
    SegmentedTopK(k=2, segment_size=2),
    SegmentedTopK(k=1, segment_size=3, contiguous=True),
    SegmentedTopK(k=2, segment_size=0.25, contiguous=True),
    SegmentedTopK(k=100, segment_size=100, contiguous=True),
    RandK(k=2),
    RandK(k=0.7),
    RandK(k=100),
    RandK(k=2, scaled=False),
    TopRand(k=3),
    TopRand(k=0.05, top_share=0.3),
    TopRand(k=100),
    FixedPoint(planes=1),
    FixedPoint(planes=7),
    FixedPoint(planes=8),
    FixedPoint(planes=31),
    MLMC(ladder=TopKLadder()),
    MLMC(ladder=SegmentedTopKLadder(segment_size=2)),
    MLMC(ladder=SegmentedTopKLadder(segment_size=3, contiguous=True)),
    MLMC(ladder=FixedPointLadder()),
    MLMC(ladder=FixedPointLadder(), law=OwnLaw()),
    MLMC(ladder=FloatingPointLadder(), law=OwnLaw()),
    MLMC(ladder=RTNLadder(bits=3, construction="unbiased")),
    MLMC(ladder=RTNLadder(bits=2, construction="nested-unbiased"), draws=2),
    MLMC(ladder=SegmentedTopKLadder(segment_size=2), draws=2, base=TopK(k=1)),
    MLMC(ladder=GeometricLadder(first=1), inclusion=True, expected_levels=1.5),
    MLMC(ladder=RefinementLadder(compressor=ScaledSign(), steps=2)),
    MLMC(ladder=ThresholdLadder(steps=20)),
    MLMC(ladder=ThresholdLadder(steps=8, rms=0.5), law=CostAwareLaw()),
    RandomTruncation(ladder=GeometricLadder(first=1)),
    HalfPrecision(),
    Bernoulli(p=0.3),
    RandomSparse(p=0.3),
    AdaptiveRandom(),
    ImportanceSampled(draws=2),
    OptimalSparse(k=2),
    OptimalSparse(k=0.4, systematic=True),
    PermK(),
    PermK(worker_id=1, num_workers=3, seed=5),
    FloatingPoint(mantissa_bits=3),
    FloatingPoint(mantissa_bits=12),
    RTN(bits=4),
    RTN(bits=4, nested=True),
    ECUQ(bits=2),
    Natural(),
    UnbiasedRounding(base=3.0),
    UnbiasedRounding(base=3),
    BiasedRounding(base=2.0),
    ExponentialDithering(levels=4),
    ExponentialDithering(levels=4, base=3),
    TopKDithering(k=2, levels=3),
    StandardDithering(levels=3, bucket_size=2),
    QSGD(levels=3, bucket_size=4),
    TernGrad(),
    SparseDithering(nu=0.5),
    SparseDithering(nu=0.5, unbiased=False),
    ScaledSign(),
    OneBit(),
    DRIVE(),
    DRIVE(unbiased=False),
    EDEN(bits=2),
    EDEN(bits=0.5),
    SharedThresholds(rms=3.0),
    SharedThresholds(rms=0.5, block=2, layout="contiguous"),
    SharedDirections(rms=5.0),
    SharedDirections(rms=4.0, group_size=2, bits=4),
    SharedDirections(rms=9.0, group_size=4, bits=5, layout="contiguous"),
    PowerSGD(rank=1),
    Induced(contractive=TopK(k=1), correction=RandK(k=1)),
    Lazy(compressor=TernGrad(), p=0.5),
    PerLayer(compressor=TopK(k=1)),
    PerBucket(compressor=TopK(k=1), bucket_size=3),
]

EXACT_LADDERS: list[Ladder] = [
    TopKLadder(),
    SegmentedTopKLadder(segment_size=2),
    SegmentedTopKLadder(segment_size=100),
    SegmentedTopKLadder(segment_size=0.3),
    SegmentedTopKLadder(segment_size=3, contiguous=True),
    SegmentedTopKLadder(segment_size=0.3, contiguous=True),
    GeometricLadder(first=1),
    GeometricLadder(first=2, tail_segment=2),
    FixedPointLadder(),
]
"""Without a base, and with increments that float32 holds exactly."""

ROUNDED_LADDERS: list[Ladder] = [
    FloatingPointLadder(),
    RTNLadder(bits=3),
    RankLadder(rows=1),
    ECUQLadder(budgets=(1, 2)),
    RefinementLadder(compressor=TopK(k=1), steps=2),
    ThresholdLadder(steps=16),
    ThresholdLadder(steps=8, rms=0.7),
]
"""With a base, a random top, or increments that are exact up to their float32 scales."""

ALL_LADDERS = [*EXACT_LADDERS, *ROUNDED_LADDERS]


def uneven_law(num_levels: int) -> GivenLaw:
    """Return a given law with one probability more than there are levels."""
    weights = [1 + level % 3 for level in range(num_levels + 1)]
    return GivenLaw(tuple(weight / sum(weights) for weight in weights))


ALL_LAWS: dict[str, Callable[[int], LevelLaw]] = {
    "own": lambda num_levels: OwnLaw(),
    "adaptive": lambda num_levels: AdaptiveLaw(),
    "cost-aware": lambda num_levels: CostAwareLaw(),
    "given": uneven_law,
}
"""From the number of levels to a law, by the name of the law."""

LADDERS_AND_LAWS: list[tuple[Ladder, str]] = [
    (ladder, law)
    for ladder in EXACT_LADDERS
    for law in ALL_LAWS
    if law != "own" or ladder.has_own_law
]


def received(payload: Payload) -> Payload:
    """Return what the server decodes from the bytes of a payload."""
    return decode(encode(Message({"vector": payload}))).payloads["vector"]


def dense(payload: Payload) -> Tensor:
    """Return the vector of a payload in float64, shape (d,)."""
    accumulator = torch.zeros(payload.dim, dtype=torch.float64)
    payload.add_to(accumulator)
    return accumulator
