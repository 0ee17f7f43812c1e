"""Checks of settings, and of numbers in messages, that several methods share."""

from collections.abc import Mapping

from mlmc_ray.compressors.base import Compressor, Context, bound
from mlmc_ray.seeding import generator_for

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
        scalars: of the news, by name.
        name: which.
        low: the least that is allowed.
        high: the largest.

    Raises:
        ValueError: it is missing or another number; names it and quotes the value.
    """
    value = scalars.get(name)
    if value is None or not (low <= value <= high and value == int(value)):
        raise ValueError(
            f"the server's news: {name} is {value!r}, expected a whole number from {low} to "
            f"{high}; server and workers must run the same method"
        )
    return int(value)


def require_unbiased(name: str, compressor: Compressor, key: str = "compressor") -> None:
    """Refuse a biased compressor.

    Args:
        name: of the method.
        compressor: as configured.
        key: of the setting that holds it.

    Raises:
        ValueError: names the method and the setting, quotes the compressor, says how to wrap it.
    """
    if not compressor.unbiased:
        raise ValueError(
            f"{name} needs an unbiased {key}, and {compressor} is biased; wrap it: {key}: {{kind: "
            "mlmc, ladder: {kind: refinement, compressor: ...}}"
        )


def require_contractive(name: str, compressor: Compressor, key: str = "compressor") -> None:
    """Refuse a compressor that is not contractive among several workers, as PermK is alone only.

    Args:
        name: of the method.
        compressor: as configured.
        key: of the setting that holds it.

    Raises:
        ValueError: names the method and the setting, quotes the compressor, says what would do.
    """
    if bound(compressor, Context(generator_for(0), num_workers=2)).alpha(2) is None:
        others = "marina-p" if key == "downlink" else "compressed-sgd or diana"
        raise ValueError(
            f"{key} is {compressor}: {name} needs a contractive compressor, such as top-k; an "
            f"unbiased one belongs into {others}"
        )
