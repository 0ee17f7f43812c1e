"""YAML as configurations are written in it."""

import json
import re
from typing import Any

import yaml

from mlmc_ray.errors import one_line


class _Loader(yaml.SafeLoader):
    """YAML in which a key given twice is an error, 1e-3 is a number and a date is text."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node: yaml.MappingNode = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"key {key.value!r} is given twice", key.start_mark
                )
            seen.add(key.value if isinstance(key, yaml.ScalarNode) else None)
        return node


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"),
    list("-+0123456789"),
)


def _as_text(loader: _Loader, node: yaml.Node) -> Any:
    return node.value


def _refuse_tag(loader: _Loader, node: yaml.Node) -> Any:
    raise yaml.constructor.ConstructorError(
        None, None, f"{node.tag.rpartition(':')[2]} is no type of a configuration", node.start_mark
    )


_Loader.add_constructor("tag:yaml.org,2002:timestamp", _as_text)
for _tag in ("binary", "set", "omap", "pairs"):  # would not come back from a file as they are
    _Loader.add_constructor(f"tag:yaml.org,2002:{_tag}", _refuse_tag)


def plain(described: Any) -> Any:
    """Return a description with lists for tuples, as a file has it."""
    return json.loads(json.dumps(described))


def load_yaml(text: str) -> Any:
    """Read YAML text.

    Raises:
        yaml.YAMLError, ValueError, RecursionError: it is not YAML, or not of a configuration.
    """
    return yaml.load(text, Loader=_Loader)


def why_not_yaml(text: str, label: str, error: Exception) -> str:
    """Return what is wrong with YAML text, with the line where it is, on one line.

    Args:
        text: as it was read.
        label: of the file.
        error: what ``load_yaml`` raised.
    """
    if isinstance(error, yaml.reader.ReaderError):
        number, problem = text[: error.position].count("\n"), error.reason
        problem = f"the character {chr(error.character)!r}: {problem}"
    elif isinstance(error, yaml.MarkedYAMLError) and error.problem_mark:
        # A scanner notices at the next token, or the end, what is wrong with the one it began.
        scanning = (error.context or "").startswith("while scanning")
        mark = (scanning and error.context_mark) or error.problem_mark
        number, problem = mark.line, error.problem or error.context
    else:
        return f"{label}: is not YAML: {one_line(error)}"
    lines = text.split("\n")
    line = lines[min(number, len(lines) - 1)].strip()
    return f"{label}, line {number + 1}: {line!r:.80}: {problem}"


def escaped(value: Any) -> Any:
    """Return a value of which a file may be made: what looks like a variable is none in it."""
    if isinstance(value, str):
        return value.replace("${", "$${")
    if isinstance(value, dict):
        return {key: escaped(item) for key, item in value.items()}
    return [escaped(item) for item in value] if isinstance(value, list) else value
