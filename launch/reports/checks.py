"""What lines of a run directory must look like to be shown; see ``launch.run_directory``."""

import math
from collections.abc import Mapping
from typing import Any

_WHOLE = ("round", "uplink_bytes", "downlink_bytes", "gradients")
_MOST = 2**63  # what an array of 64-bit numbers holds is below


def is_whole(value: Any) -> bool:
    """Say whether a value counts something: 0 to 2^63 - 1."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _MOST


def is_number(value: Any) -> bool:
    """Say whether a value is a finite number, within 64 bits if it is whole."""
    if isinstance(value, int):
        return not isinstance(value, bool) and -_MOST <= value < _MOST
    return isinstance(value, float) and math.isfinite(value)


def whole(text: str) -> int:
    """Return a number of a CSV file.

    Raises:
        ValueError: it is none from 0 to 2^63 - 1.
    """
    value = int(text)
    if not is_whole(value):
        raise ValueError(f"{text} is not from 0 to 2^63 - 1")
    return value


def is_metrics(line: Mapping[str, Any]) -> bool:
    """Say whether all values are numbers; None stands for one that was not finite."""
    return (
        "round" in line
        and all(is_whole(line[name]) for name in _WHOLE if name in line)
        and is_number(line.get("seconds", 0))
        and all(_is_number_or_none(value) for value in line.values())
    )


def is_observation(line: Mapping[str, Any]) -> bool:
    """Say whether workers, parts and layers, as far as they are there, are what panels expect."""
    workers, layers, parts = line.get("workers", {}), line.get("layers", {}), line.get("parts", [])
    return (
        is_whole(line.get("round"))
        and isinstance(workers, dict)
        and all(_all_in(own, _is_compression) for own in workers.values())
        and isinstance(layers, dict)
        and all(
            isinstance(own, dict) and all(map(is_number, own.values())) for own in layers.values()
        )
        and _all_in(parts, _is_part)
    )


def is_change(line: Mapping[str, Any]) -> bool:
    """Say whether a line tells what was changed, and when."""
    return is_whole(line.get("round")) and isinstance(line.get("changes"), dict)


def is_summary(row: Any) -> bool:
    """Say whether the row that a run wrote at its end has the numbers that reports need."""
    return (
        isinstance(row, dict)
        and is_whole(row.get("rounds"))
        and is_whole(row.get("uplink_bytes"))
        and _is_number_or_none(row.get("bits_per_value"))
        and isinstance(row.get("ended"), str | None)
        and isinstance(row.get("diverged", False), bool)
    )


def _all_in(values: Any, right: Any) -> bool:
    return isinstance(values, list) and all(isinstance(one, dict) and right(one) for one in values)


def _is_compression(one: Mapping[str, Any]) -> bool:
    levels = one.get("levels", [])
    norms = (one.get("squared_norm"), one.get("squared_error"))
    return (
        isinstance(levels, list)
        and all(map(is_whole, levels))
        and all(map(_is_number_or_none, norms))
    )


def _is_part(one: Mapping[str, Any]) -> bool:
    words = (one.get("direction"), one.get("name"), one.get("kind"))
    return all(isinstance(word, str | None) for word in words) and is_number(one.get("bytes"))


def _is_number_or_none(value: Any) -> bool:
    return value is None or is_number(value)
