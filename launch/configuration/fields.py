"""The fields of the dataclasses that a configuration describes, and values on one line."""

import dataclasses
from typing import Any, get_type_hints

from launch.configuration.catalogue import KINDS
from mlmc_ray.compressors.base import RUN_TIME


def type_hints(cls: type[Any]) -> dict[str, Any]:
    """Return the types of a class's fields; ``Any`` where they are known to type checkers only."""
    try:
        return get_type_hints(cls, include_extras=True)
    except NameError:  # in a user's own class: a type that was imported for checkers only
        return {field.name: Any for field in dataclasses.fields(cls)}


def settings(cls: type[Any]) -> list[dataclasses.Field[Any]]:
    """Return the fields that a configuration may give: not those filled in at run time."""
    hints = type_hints(cls)
    return [
        field
        for field in dataclasses.fields(cls)
        if field.init and RUN_TIME not in getattr(hints[field.name], "__metadata__", ())
    ]


def default_of(field: dataclasses.Field[Any]) -> Any:
    """Return the default of a field, made where there is a factory; ``MISSING`` without one."""
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default


def settings_of(cls: type[Any]) -> str:
    """Return the settings of a class with their defaults, in a line."""
    shown = []
    for field in settings(cls):
        default = default_of(field)
        has_default = default is not dataclasses.MISSING
        shown.append(f"{field.name}={name_of(default)}" if has_default else field.name)
    return ", ".join(shown)


def name_of(value: Any) -> str:
    """Return a compressor on one line, its kind as in a configuration and what is not default."""
    if not dataclasses.is_dataclass(value) or isinstance(value, type):
        return str(value)
    kinds = {cls: kind for shape in KINDS.values() for kind, cls in shape.items()}
    given = [
        f"{field.name}={name_of(getattr(value, field.name))}"
        for field in settings(type(value))
        if getattr(value, field.name) != default_of(field)
    ]
    kind = kinds.get(type(value), type(value).__qualname__)
    return f"{kind}({', '.join(given)})" if given else kind
