"""The name of a run whose file was changed by overrides."""

import hashlib
from collections.abc import Sequence

from launch.configuration.yaml_text import load_yaml

_LONGEST = 60  # characters


def changed_name(name: str, overrides: Sequence[str]) -> str:
    """Return a name with the overrides of what it may speak of.

    That is the problem, the method, the optimizer and the schedule.

    Where they are long they are told in brief: a key is its last word, a mapping its kind, and what
    does not fit is left out; a mark follows, which is another for other overrides.

    Args:
        name: in the file.
        overrides: ``a.b=c``, the value in YAML.
    """
    told = [o for o in overrides if o.startswith(("problem", "method", "optimizer", "schedule"))]
    whole = ", ".join(told)
    if len(whole) <= _LONGEST:
        return ", ".join([name, *told])
    brief = ", ".join(map(_in_brief, told))
    if len(brief) > _LONGEST:
        brief = f"{brief[:_LONGEST]}..."
    return f"{name}, {brief}, #{hashlib.sha256(whole.encode()).hexdigest()[:4]}"


def _in_brief(override: str) -> str:
    key, _, text = override.partition("=")
    value = load_yaml(text)
    shown = value.get("kind", "...") if isinstance(value, dict) else text
    return f"{key.rpartition('.')[2]}={shown}"
