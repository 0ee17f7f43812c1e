"""Rates, durations and numbers as people write them."""

import re

from mlmc_ray.errors import ConfigError

_PREFIXES = {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9, "t": 1e12}
_SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0}
_NUMBER = r"\s*(\d+(?:\.\d*)?|\.\d+)\s*"
_RATE = re.compile(_NUMBER + r"([kKmMgGtT]?)(bit|bps|b|B)(/s)?\s*")
_DURATION = re.compile(_NUMBER + r"(us|ms|s|min)\s*")
_NEARLY_RATE = re.compile(
    _NUMBER + r"([kmgt]?)i?(bits?|bytes?|bps|b|)\s*(/s|ps|)\s*", re.IGNORECASE
)
_NEARLY_DURATION = re.compile(_NUMBER + r"(us|ms|s|min|)(ecs?|econds?|utes?|)\s*", re.IGNORECASE)


def parse_rate(text: str, option: str = "") -> float:
    """Return bytes a second: of ``100Mbit``, ``1Gbit/s``, ``1Gbps`` or ``12.5MB/s``.

    Prefixes are decimal, and their case does not matter; that of ``b`` (bits) and ``B`` (bytes)
    does.

    Args:
        text: what was given.
        option: of the command line, such as ``--up``, for errors.

    Raises:
        ConfigError: it is no rate, or zero; says what was probably meant.
    """
    found = _RATE.fullmatch(text)
    value = float(found[1]) * _PREFIXES[found[2].lower()] if found else 0.0
    if found is None or not value or (found[3] in "bB" and not found[4]):
        raise ConfigError(
            f"{_quoted(option, text)} is no rate of a link{_nearest_rate(text)}: give one above 0, "
            "such as 100Mbit, 1Gbit/s or 12.5MB/s"
        )
    return value if found[3] == "B" else value / 8


def parse_seconds(text: str, option: str = "") -> float:
    """Return seconds: of ``5ms``, ``200us`` or ``0.1s``; ``0`` needs no unit.

    Args:
        text: what was given.
        option: of the command line, such as ``--latency``, for errors.

    Raises:
        ConfigError: it is no duration; says what was probably meant.
    """
    found = _DURATION.fullmatch(text)
    if found is None:
        if text.strip() == "0":
            return 0.0
        raise ConfigError(
            f"{_quoted(option, text)} is no duration{_nearest_duration(text)}: give one such as "
            "5ms, 200us or 0.1s"
        )
    return float(found[1]) * _SECONDS[found[2]]


def parse_counts(option: str, text: str) -> tuple[int, ...]:
    """Return the whole numbers of a list such as ``4,8,16``.

    Raises:
        ConfigError: one of them is none, or below 1.
    """
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise ConfigError(f"{option} {text}: expected whole numbers of at least 1, such as 4,8,16")
    return tuple(int(part) for part in parts)


def _quoted(option: str, text: str) -> str:
    return f"{option} {text}" if option else repr(text)


def _nearest_rate(text: str) -> str:
    """Return a guess at the rate that was meant, as " (did you mean ...?)", or nothing."""
    found = _NEARLY_RATE.fullmatch(text)
    if found is None or not float(found[1]) or not (found[2] or found[3]):
        return ""
    prefix = found[2].lower() if found[2] in "kK" else found[2].upper()
    in_bytes = (found[3].startswith("B") and "it" not in found[3]) or "yte" in found[3].lower()
    return f" (did you mean {found[1]}{prefix}{'B/s' if in_bytes else 'bit'}?)"


def _nearest_duration(text: str) -> str:
    """Return a guess at the duration that was meant; milliseconds where there is no unit."""
    found = _NEARLY_DURATION.fullmatch(text)
    return f" (did you mean {found[1]}{found[2].lower() or 'ms'}?)" if found else ""
