"""What was seen in an observed round, as a plain mapping: one line of ``observed.jsonl``."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from mlmc_ray.methods import SERVER
from mlmc_ray.observing import Compression
from mlmc_ray.rounds import RoundResult


def relative_error(result: RoundResult) -> float | None:
    """Return sum |C(v) - v|^2 / sum |v|^2 over all that the workers of a round compressed.

    None if nobody looked, or all of it was zero.
    """
    seen = [
        compression
        for worker_id, compressions in sorted(result.compressions.items())
        for compression in compressions
        if worker_id != SERVER
    ]
    norm = sum(compression.squared_norm for compression in seen)
    return sum(compression.squared_error for compression in seen) / norm if norm else None


def observation_of(
    round_index: int, result: RoundResult, layers: Sequence[str]
) -> dict[str, Any] | None:
    """Return what was seen in a round; None if nobody looked.

    Args:
        round_index: the number of rounds done.
        result: of the round.
        layers: their names.

    Returns:
        ``round``; ``workers``, by worker ("-1" is the server) a list of compressions (see
        ``Compression``); ``parts``, bytes by direction, name and kind of payload; ``layers``, bytes
        by direction and layer, shared out by the entries that a payload says.
    """
    if result.traffic is None:
        return None
    return {
        "round": round_index,
        "workers": {
            str(worker_id): [_plain(compression) for compression in compressions]
            for worker_id, compressions in sorted(result.compressions.items())
        },
        "parts": [
            {"direction": direction, "name": name, "kind": kind, "bytes": num_bytes}
            for (direction, name, kind), num_bytes in result.traffic.parts.items()
        ],
        "layers": {
            direction: {
                layer: round(num_bytes, 1)
                for layer, num_bytes in zip(layers, by_layer.tolist(), strict=True)
            }
            for direction, by_layer in result.traffic.layers.items()
        },
    }


def levels_in(observations: Iterable[Mapping[str, Any]]) -> Counter[int]:
    """Return how often the workers drew each level, from 1, in the rounds that were observed.

    Args:
        observations: see ``observation_of``.
    """
    return Counter(
        level
        for observation in observations
        for worker, compressions in observation["workers"].items()
        if worker != str(SERVER)
        for compression in compressions
        for level in compression.get("levels", ())
    )


def mean_level(levels: Mapping[int, int]) -> float | None:
    """Return the mean of levels that were drawn so often; None if none was."""
    draws = sum(levels.values())
    return sum(level * number for level, number in levels.items()) / draws if draws else None


def _plain(compression: Compression) -> dict[str, Any]:
    return {**asdict(compression), "levels": list(compression.levels)}
