"""Compressors: a vector in, a payload out."""

from mlmc_ray.compressors.base import (
    Bindable,
    Compressor,
    Context,
    EntryCount,
    PaperCost,
    SegmentCount,
    bound,
)
from mlmc_ray.compressors.dithering import (
    QSGD,
    ExponentialDithering,
    SparseDithering,
    StandardDithering,
    TernGrad,
    TopKDithering,
)
from mlmc_ray.compressors.fixed_point import FixedPoint
from mlmc_ray.compressors.identity import Identity
from mlmc_ray.compressors.importance import ImportanceSampled, OptimalSparse
from mlmc_ray.compressors.low_rank import PowerSGD
from mlmc_ray.compressors.permk import PermK
from mlmc_ray.compressors.quantization import ECUQ, RTN, FloatingPoint
from mlmc_ray.compressors.randk import RandK
from mlmc_ray.compressors.random_sparse import AdaptiveRandom, Bernoulli, RandomSparse
from mlmc_ray.compressors.rotation import DRIVE, EDEN
from mlmc_ray.compressors.rounding import BiasedRounding, Natural, UnbiasedRounding
from mlmc_ray.compressors.signs import OneBit, ScaledSign
from mlmc_ray.compressors.top_rand import TopRand
from mlmc_ray.compressors.topk import SegmentedTopK, TopK
from mlmc_ray.compressors.wrappers import HalfPrecision, Induced, Lazy, PerBucket, PerLayer

__all__ = [
    "DRIVE",
    "ECUQ",
    "EDEN",
    "QSGD",
    "RTN",
    "AdaptiveRandom",
    "Bernoulli",
    "BiasedRounding",
    "Bindable",
    "Compressor",
    "Context",
    "EntryCount",
    "ExponentialDithering",
    "FixedPoint",
    "FloatingPoint",
    "HalfPrecision",
    "Identity",
    "ImportanceSampled",
    "Induced",
    "Lazy",
    "Natural",
    "OneBit",
    "OptimalSparse",
    "PaperCost",
    "PerBucket",
    "PerLayer",
    "PermK",
    "PowerSGD",
    "RandK",
    "RandomSparse",
    "ScaledSign",
    "SegmentCount",
    "SegmentedTopK",
    "SparseDithering",
    "StandardDithering",
    "TernGrad",
    "TopK",
    "TopKDithering",
    "TopRand",
    "UnbiasedRounding",
    "bound",
]
