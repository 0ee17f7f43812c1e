"""The metrics of a round: a dict of plain numbers, one line of ``metrics.jsonl``."""

from collections.abc import Mapping, Sequence
from typing import Any

from mlmc_ray.errors import ConfigError

LESS_IS_BETTER = ("gap", "squared_distance", "gradient_norm", "loss")
MORE_IS_BETTER = ("accuracy",)

_SHOWN_FIRST = ("gap", "accuracy")  # to a known minimum: it says more than a rate
_FEW = 8  # characters
_LOSS = 6
_IN_WORDS = {
    "gap": "gap to the optimum",
    "squared_distance": "squared distance to the optimum",
    "gradient_norm": "gradient norm",
}
"""Measures of the function that is trained, which have nothing to do with test data."""

Metrics = dict[str, Any]
"""round, seconds, train_loss, uplink_bytes, downlink_bytes, and test_* where evaluated.

The train_loss is the mean over the workers that computed a loss in the round, each counted once.
Each one's is the mean over the batches that it drew, of the loss on the batch at the first point at
which the method asked for its gradient, before the round's step of the server. Mostly that is one
batch, at the parameters in the news; with local steps the worker's own parameters count. Of a
worker that computes in several exchanges of a round the last one counts.
"""


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


def measure_in_words(name: str) -> str:
    """Return what tables and figures call a measure, such as "test accuracy"."""
    return _IN_WORDS.get(name, f"test {name.replace('_', ' ')}")


def format_measure(name: str, value: float) -> str:
    """Return a measure in few characters: an accuracy, which is a fraction, in per cent."""
    if name == "accuracy":
        return f"{value:.1%}"
    shown = f"{value:.4g}"
    return shown if len(shown) <= _FEW else f"{value:.3g}"


def format_loss(value: float) -> str:
    """Return a loss in few characters, however large: 2.303, -1071, 1.2e38."""
    for shown in (f"{value:.3f}", f"{value:.4g}"):
        if len(shown) <= _LOSS:
            return shown
    return f"{value:.1e}".replace("e+0", "e").replace("e+", "e")
