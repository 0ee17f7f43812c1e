"""Compressors made of others, and the plainest of all: half precision."""

from mlmc_ray.compressors.wrappers.half_precision import HalfPrecision
from mlmc_ray.compressors.wrappers.induced import Induced
from mlmc_ray.compressors.wrappers.lazy import Lazy
from mlmc_ray.compressors.wrappers.parts import PerBucket, PerLayer

__all__ = ["HalfPrecision", "Induced", "Lazy", "PerBucket", "PerLayer"]
