"""What errors say in Python's names, in those of a configuration."""

import ast
import re
from typing import Any

from launch.configuration.catalogue import KINDS
from launch.configuration.fields import default_of, settings
from mlmc_ray.methods import Method

_CLASSES = {cls.__name__: (kind, cls) for kinds in KINDS.values() for kind, cls in kinds.items()}


def _pattern(names: list[str], after: str) -> re.Pattern[str]:
    """Return what finds whole names that are no part of a path, a string or a longer name."""
    return re.compile(rf"(?<![\w./'\"-])({'|'.join(names)}){after}")


_CALL = _pattern(list(_CLASSES), r"\(")
_METHOD = _pattern([cls.__name__ for cls in KINDS[Method].values()], r"(?![\w/'\"(-]|\.\w)")


def kind_of(value: Any) -> str:
    """Return the kind of an object as in a configuration; of others the name of the class."""
    kind, cls = _CLASSES.get(type(value).__name__, ("", None))
    return kind if cls is type(value) else type(value).__qualname__


def in_words(text: str) -> str:
    """Return an error's text with the kinds of a configuration for classes of the catalogue.

    ``TopK(k=6)`` becomes ``{kind: top-k, k: 6}``, settings with their defaults being left out, and
    ``MARINA`` alone ``marina``.
    """
    parts, position = [], 0
    for match in _CALL.finditer(text):
        if match.start() < position or not (end := _end_of_call(text, match.start())):
            continue
        called = ast.parse(text[match.start() : end], mode="eval").body
        parts += [text[position : match.start()], _yaml(called)]
        position = end
    return _METHOD.sub(lambda match: _CLASSES[match[1]][0], "".join([*parts, text[position:]]))


def _end_of_call(text: str, start: int) -> int:
    """Return where a call that begins there ends; 0 if what begins there is none."""
    for match in re.compile(r"\)").finditer(text, start):
        try:
            ast.parse(text[start : match.end()], mode="eval")
        except SyntaxError:
            continue
        return match.end()
    return 0


def _yaml(node: ast.expr) -> str:
    """Return a value that was written in Python in YAML's flow style."""
    if isinstance(node, ast.Constant) and (node.value is None or isinstance(node.value, bool)):
        return {None: "null", True: "true", False: "false"}[node.value]
    if isinstance(node, ast.Tuple):
        return f"[{', '.join(_yaml(item) for item in node.elts)}]"
    called = node.func.id if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) else ""
    if not isinstance(node, ast.Call) or called not in _CLASSES:
        return ast.unparse(node)
    kind, cls = _CLASSES[called]
    defaults = {field.name: repr(default_of(field)) for field in settings(cls)}
    given = [
        f"{keyword.arg}: {_yaml(keyword.value)}"
        for keyword in node.keywords
        if keyword.arg in defaults and ast.unparse(keyword.value) != defaults[keyword.arg]
    ]
    return f"{{{', '.join([f'kind: {kind}', *given])}}}" if given else kind
