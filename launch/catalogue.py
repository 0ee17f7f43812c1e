"""The names by which a configuration calls things."""

from typing import Any

from mlmc_ray.compressors import Compressor, FixedPoint, Identity, RandK, SegmentedTopK, TopK
from mlmc_ray.estimator import MLMC, AdaptiveLaw, GivenLaw, LevelLaw, OwnLaw
from mlmc_ray.ladders import FixedPointLadder, Ladder, SegmentedTopKLadder, TopKLadder
from mlmc_ray.methods import EF21SGDM, CompressedSGD, DataParallelSGD, Method
from server.optimizers import SGD, Adam, AdamW, Optimizer

KINDS: dict[Any, dict[str, type[Any]]] = {
    Method: {
        "sgd": DataParallelSGD,
        "compressed-sgd": CompressedSGD,
        "ef21-sgdm": EF21SGDM,
    },
    Compressor: {
        "identity": Identity,
        "top-k": TopK,
        "s-top-k": SegmentedTopK,
        "rand-k": RandK,
        "fixed-point": FixedPoint,
        "mlmc": MLMC,
    },
    Ladder: {
        "top-k": TopKLadder,
        "s-top-k": SegmentedTopKLadder,
        "fixed-point": FixedPointLadder,
    },
    LevelLaw: {
        "own": OwnLaw,
        "adaptive": AdaptiveLaw,
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
