"""A configuration from several files, with variables of the environment in its values.

``extends`` names the files that a file is based on, relative to its own place. Keys are merged as
``--set`` does it: a mapping into a mapping, and one whose ``kind`` is another replaces it; anything
else, lists included, replaces what was there.

In strings ``${NAME}`` stands for a variable of the environment, ``${NAME:-text}`` for one that may
be unset or empty, and ``$${`` for the two characters themselves.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from launch.configuration.build import describe
from launch.configuration.nesting import MOST_LEVELS, too_deep
from launch.configuration.yaml_text import load_yaml, why_not_yaml
from mlmc_ray.errors import ConfigError

_VARIABLE = re.compile(
    r"\$\$\{"  # an escape
    r"|\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?P<given>:-(?P<default>[^${}]*))?\}"
    r"|\$\{"  # anything else that looks like a variable
)


_TOO_DEEP = (
    f"contains itself, or lists and mappings in more than {MOST_LEVELS} levels: write out what an "
    "alias such as *a stands for"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Composed:
    """A file with all that it extends.

    Attributes:
        values: its keys and theirs; variables stand as they are written.
        directories: of the file, and of those that it extends, in the order of precedence.
    """

    values: dict[str, Any]
    directories: tuple[str, ...]


def compose(path: Path) -> Composed:
    """Read a file, and the files that it extends.

    Raises:
        ConfigError: a file cannot be read, holds no mapping, or extends itself; says by which
            chain of files it was reached.
    """
    return _compose(path, [str(path)], (), {})


def _compose(
    path: Path, chain: list[str], above: tuple[Path, ...], known: dict[Path, Composed]
) -> Composed:
    """Read a file.

    Args:
        path: of the file.
        chain: how the files that lead here, and the file itself, are written.
        above: the files that lead here.
        known: the files that were read before, by their place; this one is added.
    """
    label = " -> ".join(chain)
    values = _mapping_in(path, label)
    place = path.resolve()
    if place in above:
        raise ConfigError(f"{label}: extends itself: leave one extends out")
    if place in known:
        return known[place]
    directories = [str(place.parent)]
    merged_values: dict[str, Any] = {}
    for name in _extended(values, label):
        base = _compose(place.parent / name, [*chain, name], (*above, place), known)
        merged_values = merged(merged_values, _with_absolute_paths(base))
        directories[1:1] = base.directories  # the later, the more it says
    values = {key: value for key, value in values.items() if key != "extends"}
    known[place] = Composed(
        values=merged(merged_values, values), directories=tuple(dict.fromkeys(directories))
    )
    return known[place]


def _mapping_in(path: Path, label: str) -> dict[str, Any]:
    text = ""
    try:
        text = path.read_text(encoding="utf-8")
        loaded = load_yaml(text)
    except OSError as error:
        raise ConfigError(f"{label}: cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(why_not_yaml(text, label, error)) from error
    if not isinstance(loaded, dict):
        raise ConfigError(f"{label}: expected a mapping of keys to values, got {loaded!r:.40}")
    for key, value in loaded.items():
        if too_deep(value):
            raise ConfigError(f"{label}: {key}: {_TOO_DEEP}")
    return loaded


def _extended(values: Mapping[str, Any], label: str) -> list[str]:
    """Return the names of the files that a file extends, as they are written there."""
    given = expanded(values.get("extends", []), label, "extends")
    names = [given] if isinstance(given, str) else given
    if not isinstance(names, list) or not all(isinstance(name, str) and name for name in names):
        raise ConfigError(f"{label}: extends: expected a file or a list of files, got {given!r}")
    return names


def _with_absolute_paths(base: Composed) -> dict[str, Any]:
    """Return the values of a file as they read in another directory."""
    paths = base.values.get("search_paths")
    if not isinstance(paths, list) or not all(isinstance(path, str) for path in paths):
        return base.values
    absolute = [os.path.join(base.directories[0], path) for path in paths]
    return {**base.values, "search_paths": absolute}


def merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return a mapping with changes; mappings of one kind are merged, all else is replaced.

    Args:
        base: may hold methods, compressors ... instead of their descriptions; not modified.
        changes: plain values; not modified.
    """
    result = dict(base)
    for name, change in changes.items():
        old = result.get(name)
        if isinstance(change, dict):
            old = describe(old)  # an object, or the short form of a mapping:
            old = {"kind": old} if isinstance(old, str) else old
        result[name] = change
        if isinstance(old, dict) and isinstance(change, dict):
            kind = old.get("kind")
            if change.get("kind", kind) == kind:
                result[name] = merged(old, change)
    return result


def expanded(value: Any, label: str, place: str = "") -> Any:
    """Return a value with the variables of the environment put in; keys stay as they are.

    A string that is nothing but one variable becomes what its text says in YAML, such as a number;
    other strings stay strings.

    Args:
        value: plain values, or objects, which stay as they are.
        label: of the file, for errors.
        place: of the value in it, for errors; "" at the top.

    Raises:
        ConfigError: names the key and the variable, which is not set or not rightly written.
    """
    if isinstance(value, str) and "${" in value:
        return _expanded_text(value, f"{label}: {place}")
    if isinstance(value, dict):
        prefix = f"{place}." if place else ""
        return {key: expanded(item, label, f"{prefix}{key}") for key, item in value.items()}
    if isinstance(value, list):
        return [expanded(item, label, f"{place}[{i}]") for i, item in enumerate(value)]
    return value


def _expanded_text(text: str, place: str) -> Any:
    whole = _VARIABLE.fullmatch(text)
    result = _VARIABLE.sub(lambda found: _put_in(found, text, place), text)
    if whole is None or whole["name"] is None:
        return result
    try:
        value = load_yaml(result)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(
            f"{place}: the value of the variable {whole['name']} is not YAML"
        ) from error
    if too_deep(value):
        raise ConfigError(f"{place}: the value of the variable {whole['name']}: {_TOO_DEEP}")
    return value


def _put_in(found: re.Match[str], text: str, place: str) -> str:
    name = found["name"]
    if name is None:
        if found[0] == "$${":
            return "${"
        raise ConfigError(
            f"{place}: got {text!r:.200}: write ${{NAME}} or ${{NAME:-default}}, whose default has "
            "none of $ { }, or $${ for the two characters"
        )
    value = os.environ.get(name, "")
    if value or (name in os.environ and not found["given"]):
        return value
    if found["given"]:
        return found["default"]
    raise ConfigError(
        f"{place}: the variable {name} is not set: set it, or write ${{{name}:-default}}"
    )
