"""What trackers are told of a run, as flat names and numbers."""

import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from launch.metrics import Metrics
from mlmc_ray.methods import SERVER
from mlmc_ray.rounds import RoundResult

if TYPE_CHECKING:
    from launch.session import Session


def numbers_of(metrics: Metrics, before: Metrics | None) -> dict[str, float]:
    """Return the numbers of a round: those of ``metrics.jsonl``, and what follows from them.

    Args:
        metrics: of the round.
        before: of the round before, if there was one.

    Returns:
        By name, ``round`` left out, ``total_bytes`` and ``seconds_per_round`` added.
    """
    numbers = {name: float(value) for name, value in metrics.items() if name != "round"}
    numbers["total_bytes"] = numbers["uplink_bytes"] + numbers["downlink_bytes"]
    if before is not None:
        numbers["seconds_per_round"] = seconds_of(metrics, before)
    return numbers


def seconds_of(metrics: Metrics, before: Metrics) -> float:
    """Return how long a round took on the wall."""
    return float(metrics["seconds"] - before["seconds"])


def numbers_so_far(session: "Session") -> Iterator[tuple[int, dict[str, float]]]:
    """Yield round and numbers of all that a session remembers: a branch begins with a past."""
    before = None
    for metrics in session.metrics:
        yield metrics["round"], numbers_of(metrics, before)
        before = metrics


def levels_of(result: RoundResult) -> list[int]:
    """Return the levels that the workers drew in a round; none unless it was observed."""
    return [
        level
        for worker_id, compressions in result.compressions.items()
        if worker_id != SERVER
        for compression in compressions
        for level in compression.levels
    ]


def flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return a configuration with one dotted key a value, such as ``method.compressor.k``.

    Lists are in JSON; an empty mapping has no key.
    """
    values: dict[str, Any] = {}
    for name, value in config.items():
        if isinstance(value, Mapping):
            values |= flat(value, f"{prefix}{name}.")
        else:
            listed = isinstance(value, list | tuple)
            values[f"{prefix}{name}"] = json.dumps(value, default=str) if listed else value
    return values
