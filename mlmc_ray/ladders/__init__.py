"""Ladders: multilevel compressors, from nothing to the whole vector in steps."""

from mlmc_ray.ladders.base import Ladder, Levels
from mlmc_ray.ladders.fixed_point import FixedPointLadder
from mlmc_ray.ladders.topk import SegmentedTopKLadder, TopKLadder

__all__ = ["FixedPointLadder", "Ladder", "Levels", "SegmentedTopKLadder", "TopKLadder"]
