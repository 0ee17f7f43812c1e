"""What a configuration is read from, before it is checked: a file or a mapping, and settings."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from launch.configuration.composition import compose, expanded
from launch.configuration.yaml_text import escaped, load_yaml
from mlmc_ray.errors import ConfigError


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """A file or a mapping as it was read.

    Variables of the environment are still to be put in, so that settings can take their place.

    Attributes:
        base: keys and values, without ``compare`` and ``seeds``.
        variants: the entries of ``compare``.
        seeds: with how many seeds a comparison runs every entry; None if the file does not say.
        paths: where to look for problems of one's own, in this order.
        label: what to call it in errors.
    """

    base: dict[str, Any]
    variants: list[dict[str, Any]]
    seeds: int | None
    paths: tuple[str, ...]
    label: str


def read_source(source: str | Path | Mapping[str, Any]) -> Source:
    """Read a YAML file and those that it extends, or take a mapping.

    Raises:
        ConfigError: a file cannot be read, or it is no mapping.
    """
    paths = [str(Path.cwd())]
    label = "configuration"
    if isinstance(source, str | Path):
        label = str(source)
        composed = compose(Path(source))
        loaded = composed.values
        paths = [*composed.directories, *paths]
    elif isinstance(source, Mapping):
        loaded = escaped(dict(source))
    else:
        raise ConfigError(f"{label}: expected a mapping of keys to values, got {source!r:.40}")
    variants = loaded.pop("compare", None) or []
    if not isinstance(variants, list) or not all(isinstance(item, dict) for item in variants):
        raise ConfigError(f"{label}: compare: expected a list of mappings")
    seeds = _seeds(expanded(loaded.pop("seeds", None), label, "seeds"), label)
    found = tuple(dict.fromkeys(paths))
    return Source(base=loaded, variants=variants, seeds=seeds, paths=found, label=label)


def _seeds(value: Any, label: str) -> int | None:
    if value is None or (isinstance(value, int) and value is not True and value >= 1):
        return value
    raise ConfigError(f"{label}: seeds: expected a number of seeds from 1, got {value!r:.40}")


def check_stands_alone(source: Source, overrides: Sequence[str], remedy: str | None = None) -> None:
    """Refuse a file that holds no run but those of its ``compare`` list.

    Args:
        source: what was read.
        overrides: ``a.b=c`` settings that are added to it.
        remedy: what to do instead; by default the command that runs the list.

    Raises:
        ConfigError: names the keys and the remedy.
    """
    given = [*source.base, *(key for override in overrides for key in parsed(override))]
    missing = [key for key in ("problem", "method") if key not in given]
    if missing:
        remedy = remedy or f"to run them all: mlmc-ray compare {source.label}"
        raise ConfigError(
            f"{source.label}: missing keys {missing}: its runs are those of its compare list; "
            f"{remedy}"
        )


def parsed(override: str) -> dict[str, Any]:
    """Turn the setting ``a.b=c`` into ``{"a": {"b": c}}``.

    Raises:
        ConfigError: it is no such setting, or its value is no YAML.
    """
    key, equals, text = override.partition("=")
    if not equals or not all(key.split(".")):
        raise ConfigError(f"--set {override}: expected key=value, such as optimizer.step_size=0.1")
    if key == "seeds":
        raise ConfigError(
            f"--set {override}: seeds is no key of a run: give --seeds to compare or sweep, or set "
            "seed"
        )
    try:
        value = load_yaml(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f"--set {override}: the value is not YAML") from error
    for name in reversed(key.split(".")):
        value = {name: value}
    nested: dict[str, Any] = value
    return nested
