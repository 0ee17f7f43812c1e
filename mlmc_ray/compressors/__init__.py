"""Compressors: a vector in, a payload out."""

from mlmc_ray.compressors.base import (
    Bindable,
    Compressor,
    Context,
    DrawCount,
    EntryCount,
    PaperCost,
    RunTime,
    SegmentCount,
    bound,
)
from mlmc_ray.compressors.dithering import QSGD, StandardDithering
from mlmc_ray.compressors.exponential_dithering import ExponentialDithering, TopKDithering
from mlmc_ray.compressors.fixed_point import FixedPoint
from mlmc_ray.compressors.identity import Identity
from mlmc_ray.compressors.importance import ImportanceSampled, OptimalSparse
from mlmc_ray.compressors.low_rank import PowerSGD
from mlmc_ray.compressors.permk import PermK
from mlmc_ray.compressors.power_rounding import BiasedRounding, Natural, UnbiasedRounding
from mlmc_ray.compressors.quantization import ECUQ, RTN, FloatingPoint
from mlmc_ray.compressors.randk import RandK
from mlmc_ray.compressors.random_sparse import AdaptiveRandom, Bernoulli, RandomSparse
from mlmc_ray.compressors.rotation import DRIVE, EDEN
from mlmc_ray.compressors.shared_directions import SharedDirections
from mlmc_ray.compressors.shared_thresholds import SharedThresholds
from mlmc_ray.compressors.signs import OneBit, ScaledSign
from mlmc_ray.compressors.sparse_dithering import SparseDithering
from mlmc_ray.compressors.ternary import TernGrad
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
    "DrawCount",
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
    "RunTime",
    "ScaledSign",
    "SegmentCount",
    "SegmentedTopK",
    "SharedDirections",
    "SharedThresholds",
    "SparseDithering",
    "StandardDithering",
    "TernGrad",
    "TopK",
    "TopKDithering",
    "TopRand",
    "UnbiasedRounding",
    "bound",
]
