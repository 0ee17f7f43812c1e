"""What ``mlmc-ray bench codecs`` measures: every compressor with settings in common use."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from launch.configuration.build import build, nearest
from launch.configuration.fields import name_of
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
    Context,
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
    bound,
)
from mlmc_ray.errors import ConfigError
from mlmc_ray.estimator import MLMC
from mlmc_ray.ladders import (
    ECUQLadder,
    FixedPointLadder,
    FloatingPointLadder,
    GeometricLadder,
    RankLadder,
    RefinementLadder,
    RTNLadder,
    SegmentedTopKLadder,
    ThresholdLadder,
    TopKLadder,
)
from mlmc_ray.laws import CostAwareLaw, OwnLaw
from mlmc_ray.seeding import generator_for
from mlmc_ray.truncation import RandomTruncation

Shapes = tuple[tuple[int, ...], ...]
"""Of the layers of a vector, in its order."""
_MOST_ROWS = 16  # of the rank ladder, whose time grows with their number

_BENCHED: list[Compressor] = [
    Identity(),
    HalfPrecision(),
    TopK(k=0.01),
    SegmentedTopK(k=1, segment_size=0.01),
    SegmentedTopK(k=1000, segment_size=100, contiguous=True),
    RandK(k=0.01),
    TopRand(k=0.01),
    Bernoulli(p=0.01),
    RandomSparse(p=0.01),
    AdaptiveRandom(),
    ImportanceSampled(draws=0.01),
    OptimalSparse(k=0.01),
    PermK(),
    FixedPoint(planes=1),
    FixedPoint(planes=4),
    FloatingPoint(mantissa_bits=0),
    RTN(bits=2),
    RTN(bits=4),
    ECUQ(bits=2),
    Natural(),
    UnbiasedRounding(),
    BiasedRounding(),
    ExponentialDithering(levels=8),
    TopKDithering(k=0.01, levels=8),
    StandardDithering(levels=4),
    QSGD(levels=4),
    QSGD(levels=1),
    TernGrad(),
    SparseDithering(nu=1.0),
    ScaledSign(),
    OneBit(),
    DRIVE(),
    EDEN(bits=1),
    EDEN(bits=2),
    EDEN(bits=0.1),
    SharedThresholds(rms=10.0),
    SharedDirections(rms=20.0),
    PowerSGD(rank=4),
    Induced(contractive=TopK(k=0.005), correction=RandK(k=0.005)),
    Lazy(compressor=TopK(k=0.01), p=0.5),
    PerBucket(compressor=TernGrad(), bucket_size=65536),
    PerLayer(compressor=TopK(k=0.01)),
    MLMC(ladder=TopKLadder()),
    MLMC(ladder=SegmentedTopKLadder(segment_size=0.01)),
    MLMC(ladder=SegmentedTopKLadder(segment_size=1000, contiguous=True)),
    MLMC(ladder=GeometricLadder(first=0.001)),
    MLMC(ladder=FixedPointLadder(), law=OwnLaw()),
    MLMC(ladder=FloatingPointLadder(), law=OwnLaw()),
    MLMC(ladder=RTNLadder(bits=4)),
    MLMC(ladder=RTNLadder(bits=4, construction="unbiased")),
    MLMC(ladder=RTNLadder(bits=4, construction="nested")),
    MLMC(ladder=RTNLadder(bits=4, construction="nested-unbiased")),
    MLMC(ladder=ECUQLadder()),
    MLMC(ladder=ECUQLadder(construction="unbiased")),
    MLMC(ladder=RefinementLadder(compressor=TopK(k=0.01), steps=3)),
    MLMC(ladder=ThresholdLadder(), law=CostAwareLaw()),
    RandomTruncation(ladder=GeometricLadder(first=0.001)),
]


def benched(layer_shapes: Shapes) -> list[Compressor]:
    """Return the compressors for a vector, bound as those of the second of eight workers are.

    Args:
        layer_shapes: of the vector.
    """
    dim = sum(math.prod(shape) for shape in layer_shapes)
    rows = max(rows for rows in range(1, _MOST_ROWS + 1) if dim % rows == 0)
    by_rank = MLMC(ladder=RankLadder(rows=rows))
    context = _second_worker(layer_shapes)
    return [bound(compressor, context) for compressor in [*_BENCHED, by_rank]]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Described:
    compressor: Compressor


def own(description: object, layer_shapes: Shapes, paths: tuple[str, ...]) -> Compressor:
    """Return the compressor that a configuration would describe like this, bound as the others.

    Args:
        description: a kind, or a mapping with one.
        layer_shapes: of the vector.
        paths: where a class of one's own is looked for.

    Raises:
        ConfigError: says what is wrong and what would do.
    """
    described = build(_Described, {"compressor": description}, "", paths)
    return bound(described.compressor, _second_worker(layer_shapes))


def chosen(compressors: Sequence[Compressor], only: Sequence[str]) -> list[Compressor]:
    """Return those of some kinds, or whose names begin in some way.

    Args:
        compressors: to choose from.
        only: kinds, or beginnings of names with a bracket; all compressors where there are none.

    Raises:
        ConfigError: one of them fits no compressor; lists the kinds.
    """
    names = [name_of(compressor) for compressor in compressors]
    kinds = list(dict.fromkeys(name.partition("(")[0] for name in names))
    for word in only:
        if not any(_fits(name, word) for name in names):
            raise ConfigError(
                f"--only {word}: no compressor is called that{nearest(word, kinds)}; give the "
                f"beginning of a name, with a bracket, or one of {kinds}"
            )
    return [
        compressor
        for compressor, name in zip(compressors, names, strict=True)
        if not only or any(_fits(name, word) for word in only)
    ]


def _fits(name: str, word: str) -> bool:
    return name.startswith(word) if "(" in word else name.partition("(")[0] == word


def _second_worker(layer_shapes: Shapes) -> Context:
    return Context(
        generator=generator_for(0, "bench", "bind"),
        worker_id=1,
        num_workers=8,
        layer_sizes=tuple(math.prod(shape) for shape in layer_shapes),
        layer_shapes=layer_shapes,
    )


def square_layers(dim: int) -> Shapes:
    """Return the layers of a vector that has none: a matrix, as square as can be, and the rest."""
    rows = math.isqrt(dim)
    columns, rest = divmod(dim, rows)
    return ((rows, columns), (rest,)) if rest else ((rows, columns),)
