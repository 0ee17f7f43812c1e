"""Compressors: a vector in, a payload out."""

from mlmc_ray.compressors.base import Compressor, EntryCount, PaperCost, SegmentCount
from mlmc_ray.compressors.fixed_point import FixedPoint
from mlmc_ray.compressors.identity import Identity
from mlmc_ray.compressors.randk import RandK
from mlmc_ray.compressors.topk import SegmentedTopK, TopK

__all__ = [
    "Compressor",
    "EntryCount",
    "FixedPoint",
    "Identity",
    "PaperCost",
    "RandK",
    "SegmentCount",
    "SegmentedTopK",
    "TopK",
]
