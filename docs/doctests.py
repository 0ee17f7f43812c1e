"""Examples in the text of docstrings, as blocks of code on the site."""

import re
from typing import Any

import griffe

_EXAMPLE = re.compile(r"^(?:(?:>>>|\.\.\.) ?.*\n?)+", flags=re.MULTILINE)
_PROMPT = re.compile(r"^(?:>>>|\.\.\.) ?", flags=re.MULTILINE)


class Doctests(griffe.Extension):
    """Fences the lines that begin with a prompt, which Markdown takes for a quotation."""

    def on_object(self, *, obj: griffe.Object, loader: griffe.GriffeLoader, **kwargs: Any) -> None:
        """Change the docstring of an object once it is known."""
        if obj.docstring:
            obj.docstring.value = _EXAMPLE.sub(_fenced, obj.docstring.value)


def _fenced(example: re.Match[str]) -> str:
    return f"```python\n{_PROMPT.sub('', example[0]).rstrip()}\n```\n"
