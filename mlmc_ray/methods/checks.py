"""Checks of settings, and of numbers in messages, that several methods share."""

from collections.abc import Mapping

LARGEST_COUNT = 1 << 53
"""Up to here a scalar of a message, a float64, holds every whole number."""


def check_share(name: str, value: float | None, *, least: str = "above 0") -> None:
    """Refuse a share that is not in (0, 1], or in [0, 1] where ``least`` is "at least 0".

    Raises:
        ValueError: names the field and quotes the value.
    """
    if value is None or 0 < value <= 1 or (value == 0 and least == "at least 0"):
        return
    raise ValueError(
        f"{name} is {value!r}: give a number {least} and at most 1, or leave it out for the one of "
        "theory"
    )


def check_at_least_1(name: str, number: int | None, unit: str) -> None:
    """Refuse a number below 1; None is fine.

    Raises:
        ValueError: names the field and quotes the value.
    """
    if number is not None and number < 1:
        raise ValueError(f"{name} is {number!r}: give at least 1 {unit}")


def whole(scalars: Mapping[str, float], name: str, low: int, high: int = LARGEST_COUNT) -> int:
    """Return a scalar of the server's news that is to be a whole number.

    Args:
        scalars: of the news, by name; ``name`` is among them.
        name: which.
        low: the least that is allowed.
        high: the largest.

    Raises:
        ValueError: it is another number; names it and quotes the value.
    """
    value = scalars[name]
    if not (low <= value <= high and value == int(value)):
        raise ValueError(
            f"the server's news: {name} is {value!r}, expected a whole number from {low} to "
            f"{high}; server and workers must run the same method"
        )
    return int(value)
