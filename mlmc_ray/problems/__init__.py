"""What is trained: a model, a loss, data in shards, a way to evaluate."""

from mlmc_ray.problems.base import Problem, Shard, TensorShard, split_by_label, split_evenly
from mlmc_ray.problems.digits import Digits
from mlmc_ray.problems.logistic import LogisticRegression
from mlmc_ray.problems.quadratic import Quadratic
from mlmc_ray.problems.source import ProblemSource, explaining, initial_model
from mlmc_ray.problems.text import MovieReviews
from mlmc_ray.problems.three_workers import ThreeWorkers
from mlmc_ray.problems.vision import CIFAR10, CIFAR100, FashionMNIST

__all__ = [
    "CIFAR10",
    "CIFAR100",
    "Digits",
    "FashionMNIST",
    "LogisticRegression",
    "MovieReviews",
    "Problem",
    "ProblemSource",
    "Quadratic",
    "Shard",
    "TensorShard",
    "ThreeWorkers",
    "explaining",
    "initial_model",
    "split_by_label",
    "split_evenly",
]
