"""How deep plain values lie inside each other."""

from typing import Any

MOST_LEVELS = 100


def too_deep(value: Any) -> bool:
    """Say whether lists and mappings are nested more than ``MOST_LEVELS`` deep.

    A value that contains itself, as an alias in YAML can make it, is infinitely deep. Values that
    are in several places are looked at once a level, however often they are repeated.
    """
    level = [value]
    for _ in range(MOST_LEVELS):
        inner = {id(item): item for outer in level for item in _items(outer)}
        level = [item for item in inner.values() if isinstance(item, dict | list)]
        if not level:
            return False
    return True


def _items(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []
