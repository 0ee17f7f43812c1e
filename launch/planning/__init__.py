"""Predicting rounds on a cluster that one does not have yet, from a run that one has.

>>> from launch.planning import Cluster, Links, measure, predict
>>> measured = measure(Path("runs/here"))
>>> predict(measured, Cluster(workers=16, nodes=16), Links(up=12.5e6, down=125e6)).seconds
"""

from launch.planning.cluster import Cluster, Links
from launch.planning.measured import Frames, Measured, measure
from launch.planning.model import ASSUMPTIONS, Prediction, predict
from launch.planning.quantities import parse_rate, parse_seconds
from launch.planning.targets import check_target, rounds_to_target, scaled_rounds

__all__ = [
    "ASSUMPTIONS",
    "Cluster",
    "Frames",
    "Links",
    "Measured",
    "Prediction",
    "check_target",
    "measure",
    "parse_rate",
    "parse_seconds",
    "predict",
    "rounds_to_target",
    "scaled_rounds",
]
