"""Numbers, words and lists in a configuration, checked against the types of fields."""

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import PydanticUserError, TypeAdapter, ValidationError

from mlmc_ray.errors import ConfigError


def plain_value(hint: Any, value: Any, place: str) -> Any:
    """Return the value, a list as a tuple where the type says so.

    Args:
        hint: the type that is asked for.
        value: as read from YAML.
        place: where it stands in the configuration, for errors.

    Raises:
        ConfigError: it is of another type.
    """
    try:
        result = TypeAdapter(hint).validate_python(value)
        expected = _mistaken(result, value)
        if expected:
            raise ConfigError(f"{place}: got {value!r:.200}: {expected} is expected")
        return result
    except PydanticUserError:  # a type that pydantic does not know: the problem's own to check
        return value
    except ValidationError as error:
        reasons = sorted({details["msg"].replace("tuple", "list") for details in error.errors()})
        raise ConfigError(f"{place}: got {value!r:.200}: {_joined(reasons)}") from error


_INSTANCE = "Input should be a dictionary or an instance of "
_MAPPING = "Input should be a mapping of its keys to values"


def _joined(reasons: Iterable[str]) -> str:
    """Return pydantic's reasons as one sentence; a number of any kind is one thing to ask for."""
    plain = [reason.partition(", unable to parse")[0] for reason in reasons]
    plain = [_MAPPING if reason.startswith(_INSTANCE) else reason for reason in plain]
    number, whole = "Input should be a valid number", "Input should be a valid integer"
    return "; or ".join(reason for reason in plain if not (reason == whole and number in plain))


def _mistaken(result: Any, value: Any) -> str:
    """Return what was expected where pydantic made one type of another, or nothing.

    In a configuration true is not 1, "3" is not 3 and "yes" is not true, also inside of lists.
    """
    if isinstance(result, bool):
        return "" if isinstance(value, bool) else "true or false"
    if isinstance(result, int | float):
        return "a number" if isinstance(value, bool | str) else ""
    pairs: Iterable[tuple[Any, Any]] = ()
    if isinstance(result, list | tuple) and isinstance(value, list | tuple):
        pairs = zip(result, value, strict=True)
    if isinstance(result, Mapping) and isinstance(value, Mapping):
        pairs = zip(result.values(), value.values(), strict=True)
    return next(filter(None, (_mistaken(*pair) for pair in pairs)), "")
