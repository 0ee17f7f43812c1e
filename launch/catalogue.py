"""The names by which a configuration calls things."""

from typing import Any

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
    SparseDithering,
    StandardDithering,
    TernGrad,
    TopK,
    TopKDithering,
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
    TopKLadder,
)
from mlmc_ray.laws import AdaptiveLaw, CostAwareLaw, GivenLaw, LevelLaw, OwnLaw
from mlmc_ray.methods import EF21SGDM, CompressedSGD, DataParallelSGD, Method
from mlmc_ray.truncation import RandomTruncation
from server.optimizers import SGD, Adam, AdamW, Optimizer

KINDS: dict[Any, dict[str, type[Any]]] = {
    Method: {
        "sgd": DataParallelSGD,
        "compressed-sgd": CompressedSGD,
        "ef21-sgdm": EF21SGDM,
    },
    Compressor: {
        "identity": Identity,
        "half": HalfPrecision,
        "top-k": TopK,
        "s-top-k": SegmentedTopK,
        "rand-k": RandK,
        "bernoulli": Bernoulli,
        "random-sparse": RandomSparse,
        "adaptive-random": AdaptiveRandom,
        "importance": ImportanceSampled,
        "optimal-sparse": OptimalSparse,
        "perm-k": PermK,
        "fixed-point": FixedPoint,
        "floating-point": FloatingPoint,
        "rtn": RTN,
        "ecuq": ECUQ,
        "natural": Natural,
        "unbiased-rounding": UnbiasedRounding,
        "biased-rounding": BiasedRounding,
        "exponential-dithering": ExponentialDithering,
        "top-k-dithering": TopKDithering,
        "standard-dithering": StandardDithering,
        "qsgd": QSGD,
        "terngrad": TernGrad,
        "sparse-dithering": SparseDithering,
        "scaled-sign": ScaledSign,
        "one-bit": OneBit,
        "drive": DRIVE,
        "eden": EDEN,
        "power-sgd": PowerSGD,
        "induced": Induced,
        "lazy": Lazy,
        "per-layer": PerLayer,
        "per-bucket": PerBucket,
        "mlmc": MLMC,
        "random-truncation": RandomTruncation,
    },
    Ladder: {
        "top-k": TopKLadder,
        "s-top-k": SegmentedTopKLadder,
        "geometric": GeometricLadder,
        "fixed-point": FixedPointLadder,
        "floating-point": FloatingPointLadder,
        "rtn": RTNLadder,
        "ecuq": ECUQLadder,
        "rank": RankLadder,
        "refinement": RefinementLadder,
    },
    LevelLaw: {
        "own": OwnLaw,
        "adaptive": AdaptiveLaw,
        "cost-aware": CostAwareLaw,
        "given": GivenLaw,
    },
    Optimizer: {
        "sgd": SGD,
        "adam": Adam,
        "adamw": AdamW,
    },
}
"""For every shape, its kinds: the ``kind`` in a configuration, and the class it stands for."""

PROBLEMS = {
    "digits": "mlmc_ray.problems.digits.Digits",
    "quadratic": "mlmc_ray.problems.quadratic.Quadratic",
}
"""Problems that come with mlmc_ray; any other ``kind`` is a dotted path."""
