"""The JSON Schema of a configuration file, for editors that complete and check YAML.

It is made from the dataclasses: their fields, types, defaults and docstrings. A file that extends
another, and an entry of ``compare``, are changes: in them no key is required, and a mapping may
leave out its ``kind``.
"""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any, get_args

from pydantic import PydanticUserError, TypeAdapter

from launch.configuration.build import describe
from launch.configuration.catalogue import KINDS, PROBLEMS
from launch.configuration.fields import default_of, settings, type_hints
from launch.configuration.run_config import WITHOUT_KIND, RunConfig
from launch.pages.docstrings import meaning_of
from launch.pages.kind_page import summary_of
from mlmc_ray.importing import import_object
from mlmc_ray.problems import ProblemSource

DIALECT = "https://json-schema.org/draft/2020-12/schema"

Schema = dict[str, Any]

_WORDS: dict[Any, str] = {RunConfig: "run", **{cls: key for key, cls in WITHOUT_KIND.items()}}
"""What is described by a mapping without a kind."""

_OWN: dict[str, Schema] = {
    "path": {
        "type": "string",
        "pattern": r"^[^.\s]+(\.[^.\s]+)+$",
        "description": "The dotted path of your own, such as my_module.MyClass.",
    },
    "variable": {
        "type": "string",
        "pattern": r"\$\{[A-Za-z_][A-Za-z0-9_]*(:-[^${}]*)?\}",
        "description": "A variable of the environment: ${NAME}, or ${NAME:-default}.",
    },
}
_FILE: dict[str, Schema] = {
    "extends": {
        "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}],
        "description": "Files that this one is based on, relative to its directory. Its own keys "
        "win; of several files the later.",
    },
    "compare": {
        "anyOf": [{"type": "array", "items": {"$ref": "#/$defs/changes.run"}}, {"type": "null"}],
        "description": "The runs of mlmc-ray compare, each merged into the rest of the file.",
    },
    "seeds": {
        "anyOf": [
            {"type": "integer", "minimum": 1},
            {"type": "null"},
            {"$ref": "#/$defs/variable"},
        ],
        "description": "With how many seeds mlmc-ray compare runs every entry: the configured one "
        "and those that follow it.",
    },
}
"""Keys that only a file has."""


def config_schema() -> Schema:
    """Return the JSON Schema, draft 2020-12, of a configuration file."""
    whole, changes = _Writer(required=True), _Writer(required=False)
    definitions = {**_OWN, **whole.definitions(), **changes.definitions()}
    return {
        "$schema": DIALECT,
        "title": "mlmc-ray configuration",
        "description": summary_of(RunConfig),
        "type": "object",
        "if": {"required": ["extends"]},
        "then": _file(definitions, "changes.run"),
        "else": {
            **_file(definitions, "run"),
            "if": {"not": {"required": ["compare"]}},
            "then": {"required": definitions["run"]["required"]},
        },
        "$defs": definitions,
    }


def schema_text() -> str:
    """Return the schema as it is printed and kept in files."""
    return json.dumps(config_schema(), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _file(definitions: Mapping[str, Schema], name: str) -> Schema:
    """Return the schema of a file with the keys of a run, and those that only a file has."""
    keys = {key: _ref(name, key) for key in definitions[name]["properties"]}
    return {"properties": {**_FILE, **keys}, "additionalProperties": False}


def _ref(name: str, key: str | None = None) -> Schema:
    place = f"#/$defs/{name}"
    return {"$ref": place if key is None else f"{place}/properties/{key}"}


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class _Writer:
    """Writes schemas of whole descriptions, or of changes to some.

    Args:
        required: whether keys without a default have to be given.
    """

    required: bool

    def definitions(self) -> dict[str, Schema]:
        """Return the schemas of a run, what has no kind, every shape, and every kind."""
        shapes = {shape: dict(kinds) for shape, kinds in KINDS.items()}
        shapes[ProblemSource] = {
            kind: import_object(path, (), "problem") for kind, path in PROBLEMS.items()
        }
        found = {self._name(cls): self._mapping(cls, self._plain_name(cls)) for cls in _WORDS}
        for shape, kinds in shapes.items():
            found[self._name(shape)] = self._shape(shape, kinds)
            for kind, cls in kinds.items():
                name = f"{self._plain_name(shape)}.{kind}"
                found[self._name(shape, kind)] = self._mapping(cls, name, kind)
        return found

    def _mapping(self, cls: type[Any], name: str, kind: str | None = None) -> Schema:
        """Return the schema of a mapping of a class's fields, and of its kind if it has one.

        Args:
            cls: a dataclass.
            name: under which its whole description is defined.
            kind: as a configuration calls it.
        """
        fields = settings(cls)
        properties = {field.name: self._field(cls, field, name) for field in fields}
        needed = [field.name for field in fields if self.required and not _has_default(field)]
        if kind is not None:
            properties = {"kind": {"const": kind}, **properties}
            needed = ["kind", *needed]
        return {
            "type": "object",
            "description": summary_of(cls),
            "properties": properties,
            "required": needed,
            "additionalProperties": False,
        }

    def _shape(self, shape: Any, kinds: Mapping[str, type[Any]]) -> Schema:
        """Return the schema of a kind as a word, a mapping with a kind, or changes without one."""
        words = [kind for kind, cls in kinds.items() if all(map(_has_default, settings(cls)))]
        forms: list[Schema] = [
            {"enum": words if self.required else list(kinds)},
            _ref("path"),
            *(_ref(self._name(shape, kind)) for kind in kinds),
            {"type": "object", "properties": {"kind": _ref("path")}, "required": ["kind"]},
        ]
        return {"anyOf": forms if self.required else [*forms, self._without_kind(shape, kinds)]}

    def _without_kind(self, shape: Any, kinds: Mapping[str, type[Any]]) -> Schema:
        """Return the schema of changes to a mapping whose kind stays: keys of any of the kinds."""
        keys: dict[str, dict[str, Schema]] = {}
        for kind, cls in kinds.items():
            for field in settings(cls):
                forms = str(self._forms(type_hints(cls)[field.name]))
                same = keys.setdefault(field.name, {})
                same.setdefault(forms, _ref(self._name(shape, kind), field.name))
        schema: Schema = {
            "type": "object",
            "properties": {name: {"anyOf": list(refs.values())} for name, refs in keys.items()},
            "not": {"required": ["kind"]},
        }
        # The keys of a task of one's own are not known; other things of one's own are rare.
        return schema if shape is ProblemSource else {**schema, "additionalProperties": False}

    def _field(self, cls: type[Any], field: dataclasses.Field[Any], name: str) -> Schema:
        forms = self._forms(type_hints(cls)[field.name])
        if not self.required and forms == _Writer(required=True)._forms(
            type_hints(cls)[field.name]
        ):
            return _ref(name, field.name)
        schema: Schema = {"anyOf": forms}
        if meaning := meaning_of(cls, field.name):
            schema["description"] = meaning[0].upper() + meaning[1:].replace("``", "`") + "."
        if _has_default(field):
            schema["default"] = describe(default_of(field))
        return schema

    def _forms(self, hint: Any) -> list[Schema]:
        """Return the schemas of the ways to write a value of a type."""
        choices = get_args(hint)
        if type(None) in choices and (choices[0] in KINDS or choices[0] in _WORDS):
            return [*self._forms(choices[0]), {"type": "null"}]
        if choices[1:] == (Ellipsis,) and choices[0] in KINDS:
            forms = self._forms(choices[0])
            return [{"type": "array", "items": {"anyOf": forms}}, *forms]
        if hint in KINDS or hint is ProblemSource or hint in _WORDS:
            return [_ref(self._name(hint)), _ref("variable")]
        plain = _plain(hint)
        forms = plain["anyOf"] if list(plain) == ["anyOf"] else [plain]
        return [*forms, _ref("variable")]

    def _name(self, shape: Any, kind: str | None = None) -> str:
        words = [self._plain_name(shape), *([] if kind is None else [kind])]
        return ".".join(words if self.required else ["changes", *words])

    def _plain_name(self, shape: Any) -> str:
        return "problem" if shape is ProblemSource else _WORDS.get(shape, shape.__name__.lower())


def _has_default(field: dataclasses.Field[Any]) -> bool:
    return default_of(field) is not dataclasses.MISSING


def _plain(hint: Any) -> Schema:
    """Return the schema of numbers, words and lists; {} for a type that pydantic does not know."""
    try:
        return TypeAdapter(hint).json_schema()
    except PydanticUserError:
        return {}
