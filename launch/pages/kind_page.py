"""The section on one kind: docstring, settings, what else there is to say, and an example."""

import dataclasses
import inspect
import re
from collections.abc import Sequence
from typing import Any

from launch.configuration.fields import default_of, name_of, settings
from launch.pages.docstrings import meaning_of
from launch.pages.in_words import in_words


def section(kind: str, cls: type[Any], facts: Sequence[str], example: str) -> str:
    """Return a section in Markdown.

    Args:
        kind: the heading.
        cls: the class, whose docstring says what the kind is and what its settings mean.
        facts: the lines of a list.
        example: YAML.
    """
    items = [f"- {fact}" for fact in facts]
    if given := _settings(cls):
        items = ["- settings:", *given, *items]
    block = ["```yaml", example.rstrip(), "```"]
    return "\n".join([f"## `{kind}`", "", _paragraphs(cls), "", *items, "", *block, ""])


def summary_of(documented: Any) -> str:
    """Return the first paragraph of a docstring, on one line."""
    first = (inspect.getdoc(documented) or "").partition("\n\n")[0]
    return " ".join(_in_markdown(first).split())


def _settings(cls: type[Any]) -> list[str]:
    """Return a line for each setting: its name, its default, what it means."""
    lines = []
    for field in settings(cls):
        default = default_of(field)
        required = default is dataclasses.MISSING
        shown = f"`{field.name}`" if required else f"`{field.name}: {_in_yaml(default)}`"
        meaning = _in_markdown(meaning_of(cls, field.name))
        lines.append(f"  - {shown}: {meaning}" if meaning else f"  - {shown}")
    return lines


def _in_yaml(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return name_of(value)


def _paragraphs(cls: type[Any]) -> str:
    """Return a docstring up to its list of arguments or sources."""
    kept = []
    for line in (inspect.getdoc(cls) or "").splitlines():
        if line in ("Args:", "Attributes:", "References:"):
            break
        kept.append(line)
    return _in_markdown("\n".join(kept).rstrip())


def _in_markdown(text: str) -> str:
    """Return a docstring's text with code in single backticks, and kinds for names of classes."""
    return re.sub(r"``(.+?)``", lambda code: f"`{in_words(code[1])}`", text)
