"""What there is to test: every compressor, ladder and law, in one list each.

A new one takes one line here; tests of the lists compare them with the names that a configuration
can use.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from mlmc_ray.compressors import Compressor, FixedPoint, Identity, RandK, SegmentedTopK, TopK
from mlmc_ray.estimator import MLMC, AdaptiveLaw, GivenLaw, LevelLaw, OwnLaw
from mlmc_ray.ladders import FixedPointLadder, Ladder, SegmentedTopKLadder, TopKLadder
from mlmc_ray.payloads import Message, Payload
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
    FixedPoint(planes=1),
    FixedPoint(planes=7),
    FixedPoint(planes=8),
    FixedPoint(planes=31),
    MLMC(ladder=TopKLadder()),
    MLMC(ladder=SegmentedTopKLadder(segment_size=2)),
    MLMC(ladder=SegmentedTopKLadder(segment_size=3, contiguous=True)),
    MLMC(ladder=FixedPointLadder()),
    MLMC(ladder=FixedPointLadder(), law=OwnLaw()),
]

ALL_LADDERS: list[Ladder] = [
    TopKLadder(),
    SegmentedTopKLadder(segment_size=2),
    SegmentedTopKLadder(segment_size=100),
    SegmentedTopKLadder(segment_size=0.3),
    SegmentedTopKLadder(segment_size=3, contiguous=True),
    SegmentedTopKLadder(segment_size=0.3, contiguous=True),
    FixedPointLadder(),
]


def uneven_law(num_levels: int) -> GivenLaw:
    """Return a given law with one probability more than there are levels."""
    weights = [1 + level % 3 for level in range(num_levels + 1)]
    return GivenLaw(tuple(weight / sum(weights) for weight in weights))


ALL_LAWS: dict[str, Callable[[int], LevelLaw]] = {
    "own": lambda num_levels: OwnLaw(),
    "adaptive": lambda num_levels: AdaptiveLaw(),
    "given": uneven_law,
}
"""From the number of levels to a law, by the name of the law."""

LADDERS_AND_LAWS: list[tuple[Ladder, str]] = [
    (ladder, law)
    for ladder in ALL_LADDERS
    for law in ALL_LAWS
    if law != "own" or ladder.levels(torch.ones(2)).own_law() is not None
]


def received(payload: Payload) -> Payload:
    """Return what the server decodes from the bytes of a payload."""
    return decode(encode(Message({"vector": payload}))).payloads["vector"]


def dense(payload: Payload) -> Tensor:
    """Return the vector of a payload in float64, shape (d,)."""
    accumulator = torch.zeros(payload.dim, dtype=torch.float64)
    payload.add_to(accumulator)
    return accumulator
