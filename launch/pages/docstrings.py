"""What a class's docstring says of its fields."""

import inspect
import re
from typing import Any


def meaning_of(cls: type[Any], name: str) -> str:
    """Return what a docstring says of a field under Args or Attributes; "" where it says nothing.

    Args:
        cls: a class with a docstring in Google's style.
        name: of the field.
    """
    doc = inspect.getdoc(cls) if cls.__doc__ else None
    found = re.search(rf"^    {re.escape(name)}: (.*(?:\n {{5,}}.*)*)", doc or "", re.MULTILINE)
    return " ".join(found[1].split()).rstrip(".") if found else ""
