"""Who is told of a run as it goes: trackers of experiments, metrics of a cluster, one's own.

A configuration names them below ``callbacks``; those of a program go to ``Session(callbacks=)``.
"""

from launch.callbacks.base import Callback, Callbacks, check_callbacks
from launch.callbacks.log import Log
from launch.callbacks.mlflow import MLflow
from launch.callbacks.ray_metrics import RayMetrics
from launch.callbacks.tensorboard import TensorBoard
from launch.callbacks.wandb import WandB

__all__ = [
    "Callback",
    "Callbacks",
    "Log",
    "MLflow",
    "RayMetrics",
    "TensorBoard",
    "WandB",
    "check_callbacks",
]
