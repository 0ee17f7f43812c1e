"""From plain mappings to the dataclasses they describe, and back.

A dataclass is described by a mapping of its fields. Where a field has one of the shapes of the
catalogue (a method, a compressor ...), ``kind`` says which class, and a bare string is short for a
mapping with nothing but a kind.
"""

import dataclasses
import difflib
import inspect
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar, get_args

from pydantic_core import to_jsonable_python

from launch.configuration.catalogue import KINDS, PROBLEMS
from launch.configuration.fields import settings, type_hints
from launch.configuration.plain_values import plain_value
from launch.pages.docstrings import meaning_of
from mlmc_ray.compressors.base import RUN_TIME, Compressor
from mlmc_ray.errors import ConfigError
from mlmc_ray.importing import import_object
from mlmc_ray.ladders import Ladder
from mlmc_ray.problems import ProblemSource

T = TypeVar("T")

_OTHER_NAMES = {
    "lr": "step_size",
    "learning_rate": "step_size",
    "n_workers": "workers",
    "num_workers": "workers",
    "epochs": "rounds",
    "steps": "rounds",
}
"""What other programs call a key."""

_USED_IN: dict[Any, tuple[Any, str]] = {
    Compressor: (Ladder, "kind: mlmc, ladder: {{kind: {}, ...}}"),
    Ladder: (Compressor, "kind: refinement, compressor: {{kind: {}, ...}}"),
}
"""For a shape, the shape that is mistaken for it, and how that is used there."""


def build(cls: type[T], values: Mapping[str, Any], place: str, paths: tuple[str, ...] = ()) -> T:
    """Make a dataclass from a mapping.

    Args:
        cls: a dataclass.
        values: its fields.
        place: where the mapping stands in the configuration, for errors; "" at the top.
        paths: directories in which a user's own problem is looked for.

    Raises:
        ConfigError: names the place and the key, quotes the value, lists what is known.
    """
    arguments = _arguments(cls, values, place, paths)
    try:
        return cls(**arguments)
    except ValueError as error:
        raise ConfigError(f"{_colon(place)}{error}") from error


def describe(value: Any) -> Any:
    """Return the plain mapping from which ``build`` would make the value again."""
    if isinstance(value, ProblemSource):
        problems = {path: name for name, path in PROBLEMS.items()}
        options = {
            name: describe(option)
            if isinstance(option, ProblemSource)
            else to_jsonable_python(option, fallback=str)  # tuples, paths ...
            for name, option in value.options.items()
        }
        return {"kind": problems.get(value.path, value.path), **options}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: describe(getattr(value, f.name)) for f in settings(type(value))}
        classes = {cls: name for kinds in KINDS.values() for name, cls in kinds.items()}
        if value.__class__.__module__ in (
            "launch.engines.clock",
            "launch.checkpoints.settings",
            "launch.configuration.run_config",
        ):
            return fields
        own = f"{type(value).__module__}.{type(value).__qualname__}"
        return {"kind": classes.get(type(value), own), **fields}
    return [describe(item) for item in value] if isinstance(value, tuple) else value


def check_keys(keys: Iterable[Any], known: Iterable[str], place: str) -> None:
    """Refuse keys that are not known.

    Raises:
        ConfigError: quotes them, suggests the nearest known one, lists all.
    """
    names = sorted(known)
    unknown = [key for key in keys if key not in names]
    if unknown:
        raise ConfigError(
            f"{_colon(place)}unknown keys {unknown}{nearest(unknown[0], names)}; known are {names}"
        )


def nearest(word: object, known: Iterable[str]) -> str:
    """Return " (did you mean 'x'?)" for the known word nearest to ``word``, or nothing."""
    names = list(known)
    usual = _OTHER_NAMES.get(str(word))
    matches = [usual] if usual in names else difflib.get_close_matches(str(word), names, n=1)
    return f" (did you mean {matches[0]!r}?)" if matches else ""


def _colon(place: str) -> str:
    return f"{place}: " if place else ""


def _arguments(
    cls: type[Any], values: object, place: str, paths: tuple[str, ...]
) -> dict[str, Any]:
    if not isinstance(values, Mapping):
        raise ConfigError(f"{place}: expected a mapping of keys to values, got {values!r}")
    known = {field.name: field for field in settings(cls)}
    filled_in = {field.name for field in dataclasses.fields(cls) if field.init} - set(known)
    for name in values:
        if name in filled_in:
            raise ConfigError(f"{_colon(place)}{name} is {RUN_TIME}: leave it out")
    check_keys(values, known, place)
    missing = [
        name
        for name, field in known.items()
        if name not in values
        and field.default is dataclasses.MISSING
        and field.default_factory is dataclasses.MISSING
    ]
    if missing:
        meanings = [f"{name}: {text}" for name in missing if (text := meaning_of(cls, name))]
        told = f" ({'; '.join(meanings)})" if meanings else ""
        raise ConfigError(f"{_colon(place)}missing keys {missing}{told}")
    hints = type_hints(cls)
    prefix = f"{place}." if place else ""
    return {
        name: _value(hints[name], value, f"{prefix}{name}", paths) for name, value in values.items()
    }


def _value(hint: Any, value: Any, place: str, paths: tuple[str, ...]) -> Any:
    choices = get_args(hint)
    if type(None) in choices and choices[0] in KINDS:  # such as Compressor | None
        if value is None:
            return None
        hint = choices[0]
    if choices[1:] == (Ellipsis,) and choices[0] in KINDS:  # such as tuple[Callback, ...]
        if not isinstance(value, list | tuple):  # the short form of a list of one
            return (_value(choices[0], value, place, paths),)
        items = enumerate(value)
        return tuple(_value(choices[0], item, f"{place}[{i}]", paths) for i, item in items)
    if hint is ProblemSource:
        return value if isinstance(value, ProblemSource) else build_problem(value, place, paths)
    if hint in KINDS and dataclasses.is_dataclass(value):
        return _checked(hint, value, place)
    if hint in KINDS:
        kind, fields = _kind(value, place, KINDS[hint])
        cls = KINDS[hint].get(kind) or _own_class(hint, kind, place, paths)
        return _checked(hint, build(cls, fields, place, paths), place)
    return plain_value(hint, value, place)


def _own_class(hint: Any, kind: str, place: str, paths: tuple[str, ...]) -> type[Any]:
    """Import a user's own compressor, method ... by its dotted path."""
    known = sorted(KINDS[hint])
    other, use = _USED_IN.get(hint, (hint, ""))
    if kind in KINDS[other]:
        raise ConfigError(f"{place}.kind: {kind} is a {other.__name__.lower()}: {use.format(kind)}")
    if "." not in kind:
        raise ConfigError(
            f"{place}.kind: unknown {kind!r}{nearest(kind, known)}; known are {known}, or give the "
            "dotted path of your own, such as my_module.MyClass"
        )
    found = import_object(kind, paths, f"{place}.kind")
    if not (isinstance(found, type) and dataclasses.is_dataclass(found)):
        raise ConfigError(f"{place}.kind: {kind} is not a dataclass")
    return found


def _checked(hint: Any, value: Any, place: str) -> Any:
    """Refuse an object that lacks a method of its shape."""
    needed = [name for name in vars(hint) if not name.startswith("_")]
    lacking = [name for name in needed if not hasattr(value, name)]
    if lacking:
        raise ConfigError(
            f"{place}: {type(value).__qualname__} lacks {lacking}: a {hint.__name__.lower()} has "
            f"{needed}"
        )
    return value


def _kind(value: object, place: str, known: Iterable[str]) -> tuple[str, dict[str, Any]]:
    fields = {"kind": value} if isinstance(value, str) else value
    if not isinstance(fields, Mapping) or not isinstance(fields.get("kind"), str):
        raise ConfigError(
            f"{place}: expected a mapping with a key 'kind', got {value!r}; known kinds are "
            f"{sorted(known)}"
        )
    return fields["kind"], {name: given for name, given in fields.items() if name != "kind"}


def build_problem(value: object, place: str, paths: tuple[str, ...]) -> ProblemSource:
    """Make a problem's source from a kind, or a mapping with one; see ``build`` for the rest."""
    kind, options = _kind(value, place, PROBLEMS)
    if kind not in PROBLEMS and "." not in kind:
        raise ConfigError(
            f"{place}.kind: unknown {kind!r}{nearest(kind, PROBLEMS)}; known are "
            f"{sorted(PROBLEMS)}, or give the dotted path of your own, such as my_task.MyTask"
        )
    source = ProblemSource(PROBLEMS.get(kind, kind), options, () if kind in PROBLEMS else paths)
    factory = source.factory()
    if isinstance(factory, type) and "__dataclass_fields__" in vars(factory):
        options = _arguments(factory, options, place, paths)
    else:
        _check_parameters(factory, options, place)
    return dataclasses.replace(source, options=options)


def _check_parameters(factory: Any, options: Mapping[str, Any], place: str) -> None:
    """Refuse options that a task's own class or function does not take."""
    try:
        parameters = inspect.signature(factory).parameters.values()
    except (TypeError, ValueError):  # not callable, or written in C: making it will tell
        return
    if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        check_keys(options, [parameter.name for parameter in parameters], place)
