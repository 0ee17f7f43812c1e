"""Ladders: multilevel compressors, from nothing to the whole vector in steps."""

from mlmc_ray.ladders.base import BindableLadder, Ladder, Levels
from mlmc_ray.ladders.ecuq import ECUQLadder
from mlmc_ray.ladders.fixed_point import FixedPointLadder
from mlmc_ray.ladders.floating_point import FloatingPointLadder
from mlmc_ray.ladders.geometric import GeometricLadder
from mlmc_ray.ladders.rank import RankLadder
from mlmc_ray.ladders.refinement import RefinementLadder
from mlmc_ray.ladders.rtn import RTNLadder
from mlmc_ray.ladders.thresholds import ThresholdLadder
from mlmc_ray.ladders.topk import SegmentedTopKLadder, TopKLadder

__all__ = [
    "BindableLadder",
    "ECUQLadder",
    "FixedPointLadder",
    "FloatingPointLadder",
    "GeometricLadder",
    "Ladder",
    "Levels",
    "RTNLadder",
    "RankLadder",
    "RefinementLadder",
    "SegmentedTopKLadder",
    "ThresholdLadder",
    "TopKLadder",
]
