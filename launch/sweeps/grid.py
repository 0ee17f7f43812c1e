"""The settings of a sweep: keys of a configuration, and the values that each takes."""

import itertools
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import yaml

from launch.configuration.yaml_text import load_yaml
from mlmc_ray.errors import ConfigError, one_line

_ELSEWHERE = {
    "seed": "--seeds",
    "rounds": "--at-rounds",
    "seeds": "--seeds",
    "compare": "--entries",
}
_MOST_VALUES = 10_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Axis:
    """A key of the configuration, and its values.

    Args:
        key: such as ``method.compressor.k``.
        values: plain values, as YAML has them; no two alike.

    Raises:
        ConfigError: there is no value, one is given twice, or the key is set in another way.
    """

    key: str
    values: tuple[Any, ...]

    def __post_init__(self) -> None:
        place = f"--over {self.key}"
        if self.key in _ELSEWHERE:
            raise ConfigError(f"{place}: {self.key} is no key to sweep: see {_ELSEWHERE[self.key]}")
        if not self.values:
            raise ConfigError(f"{place}: no values: give some, such as 0.1,0.2")
        texts = [json.dumps(value) for value in self.values]
        if repeated := sorted({text for text in texts if texts.count(text) > 1}):
            raise ConfigError(f"{place}: {', '.join(repeated)} is given twice")

    @property
    def numeric(self) -> bool:
        """Whether all values are numbers."""
        return all(isinstance(v, int | float) and not isinstance(v, bool) for v in self.values)

    @property
    def logarithmic(self) -> bool:
        """Whether the values are positive numbers, spaced more evenly in ratio than in distance."""
        if not self.numeric or len(self.values) < 2 or min(self.values) <= 0:
            return False
        ordered = np.sort(np.array(self.values, dtype=np.float64))
        if len(ordered) == 2:
            return bool(ordered[1] >= 4 * ordered[0])
        return _unevenness(np.log(ordered)) < _unevenness(ordered)


def parse_axis(text: str) -> Axis:
    """Read ``key=values``.

    The values are a list in YAML, ``0.1,0.2`` or ``{kind: top-k, k: 9},{kind: rand-k, k: 9}``, or
    a range, ``log:1e-3..1:7`` or ``lin:0..1:5``: both ends, and as many in all.

    Raises:
        ConfigError: quotes the text and says what is expected.
    """
    key, equals, given = text.partition("=")
    if not equals or not all(key.split(".")):
        raise ConfigError(f"--over {text}: expected key=values, such as optimizer.step_size=0.1,1")
    if given.startswith(("log:", "lin:")):
        return Axis(key=key, values=_range(text, given))
    try:
        values = load_yaml(f"[{given}]")
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f"--over {text}: the values are not YAML: {one_line(error)}") from error
    return Axis(key=key, values=tuple(values))


def settings_of(axes: Sequence[Axis]) -> list[dict[str, Any]]:
    """Return every combination of the values, the last key's changing fastest.

    Raises:
        ConfigError: a key is given twice, there is none, or there are too many combinations.
    """
    keys = [axis.key for axis in axes]
    if not keys:
        raise ConfigError("nothing to sweep: give --over, such as --over optimizer.step_size=0.1,1")
    if repeated := sorted({key for key in keys if keys.count(key) > 1}):
        raise ConfigError(f"--over {repeated[0]} is given twice: put all its values into one")
    number = math.prod(len(axis.values) for axis in axes)
    if number > _MOST_VALUES:
        raise ConfigError(f"--over makes {number} settings: give at most {_MOST_VALUES}")
    return [
        dict(zip(keys, values, strict=True))
        for values in itertools.product(*(axis.values for axis in axes))
    ]


def parse_numbers(option: str, text: str) -> tuple[int, ...]:
    """Read whole numbers, ``1,2,4``, or ``1,2,4,...,64`` for those that go on in the same ratio.

    Args:
        option: name of the command's option, for errors.
        text: what was given.

    Raises:
        ConfigError: quotes the text and says what is expected.
    """
    words = [word.strip() for word in text.split(",")]
    numbers: list[int] = []
    try:
        for place, word in enumerate(words):
            if word == "...":
                numbers += _between(numbers[-2:], int(words[place + 1]))
            else:
                numbers.append(int(word))
    except (ValueError, IndexError, TypeError):
        raise ConfigError(
            f"{option} {text}: expected whole numbers, such as 1,2,4 or 1,2,...,64"
        ) from None
    return tuple(numbers)


def _between(start: Sequence[int], last: int) -> list[int]:
    """Return what comes after two numbers, and before the last, in their ratio.

    Raises:
        ValueError: there are no two; it is no whole number above 1, or does not lead to the last.
    """
    first, second = start
    found, ratio = [second], second // first if first > 0 else 0
    if ratio < 2 or ratio * first != second:
        raise ValueError("no ratio")
    while found[-1] < last:
        found.append(found[-1] * ratio)
    if found[-1] != last:
        raise ValueError("the last is missed")
    return found[1:-1]


def override(key: str, value: Any) -> str:
    """Return the setting in the form ``key=value`` in which a configuration is overridden."""
    return f"{key}={json.dumps(value)}"


def show(value: Any) -> str:
    """Return a value as short as YAML has it, for a table or an axis."""
    return value if isinstance(value, str) else json.dumps(value).replace('"', "")


def _range(text: str, given: str) -> tuple[float, ...]:
    scale, _, rest = given.partition(":")
    ends, _, count = rest.partition(":")
    try:
        first, last = (float(end) for end in ends.split(".."))
        number = int(count)
    except ValueError:
        raise ConfigError(
            f"--over {text}: expected {scale}:FIRST..LAST:COUNT, such as {scale}:1e-3..1:7"
        ) from None
    if not 2 <= number <= _MOST_VALUES or not (math.isfinite(first) and math.isfinite(last)):
        raise ConfigError(
            f"--over {text}: a range has finite ends and 2 to {_MOST_VALUES} values in all"
        )
    if scale == "log" and not (first > 0 and last > 0):
        raise ConfigError(f"--over {text}: the ends of a log range are above 0")
    spaced = (np.geomspace if scale == "log" else np.linspace)(first, last, number)
    values = [first, *(float(f"{value:.6g}") for value in spaced[1:-1]), last]
    whole = all(value == int(value) for value in values)  # such as a number of entries
    return tuple(int(value) for value in values) if whole else tuple(values)


def _unevenness(ordered: np.ndarray[Any, np.dtype[np.float64]]) -> float:
    gaps = np.diff(ordered)
    return float(gaps.std() / gaps.mean())
