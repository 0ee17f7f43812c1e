"""Distributed methods: each is a worker half and a server half that meet in messages."""

from mlmc_ray.methods.base import SERVER, Method, Oracle, Progress, ServerHalf, WorkerHalf
from mlmc_ray.methods.compressed_sgd import CompressedSGD, DataParallelSGD
from mlmc_ray.methods.ef21 import EF21SGDM
from mlmc_ray.methods.learned import LearnedCompression
from mlmc_ray.methods.power_sgd import PowerSGDMethod

__all__ = [
    "EF21SGDM",
    "SERVER",
    "CompressedSGD",
    "DataParallelSGD",
    "LearnedCompression",
    "Method",
    "Oracle",
    "PowerSGDMethod",
    "Progress",
    "ServerHalf",
    "WorkerHalf",
]
