"""The metrics of a round: a dict of plain numbers, one line of ``metrics.jsonl``."""

from collections.abc import Mapping, Sequence
from typing import Any

from mlmc_ray.errors import ConfigError

_SHOWN_FIRST = ("gap", "accuracy")  # to a known minimum: it says more than a rate

Metrics = dict[str, Any]
"""round, seconds, train_loss, uplink_bytes, downlink_bytes, and test_* where evaluated."""


def measure_names(metrics: Metrics) -> list[str]:
    """Return the names of the problem's own measures in a round's metrics; maybe none."""
    return [name.removeprefix("test_") for name in metrics if name.startswith("test_")]


def main_measure(names: Mapping[str, Sequence[str]]) -> str:
    """Return the measure that tables and figures show: gap, else accuracy, else the first.

    Only measures that all runs have count.

    Args:
        names: of the measures, by run; at least one run.

    Raises:
        ConfigError: the runs have none in common.
    """
    first, *others = names.values()
    common = [name for name in first if all(name in other for other in others)]
    if not common:
        measured = "; ".join(f"{run!r} measures {list(own)}" for run, own in names.items())
        raise ConfigError(f"compare: no measure is common to the runs: {measured}")
    return next((name for name in _SHOWN_FIRST if name in common), common[0])


def format_measure(name: str, value: float) -> str:
    """Return a measure in few characters: an accuracy, which is a fraction, in per cent."""
    return f"{value:.1%}" if name == "accuracy" else f"{value:.4g}"
