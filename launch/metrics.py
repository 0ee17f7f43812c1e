"""The metrics of a round: a dict of plain numbers, one line of ``metrics.jsonl``."""

from collections.abc import Sequence
from typing import Any

Metrics = dict[str, Any]
"""round, seconds, train_loss, uplink_bytes, downlink_bytes, and test_* where evaluated."""


def measure_names(metrics: Metrics) -> list[str]:
    """Return the names of the problem's own measures in a round's metrics; maybe none."""
    return [name.removeprefix("test_") for name in metrics if name.startswith("test_")]


def main_measure(names: Sequence[str]) -> str:
    """Return the measure that tables and figures show first: accuracy, else the first."""
    return "accuracy" if "accuracy" in names else names[0]
