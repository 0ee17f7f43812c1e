"""The JSON Schema of configurations: it takes what can be read, and refuses what cannot."""

import json
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer
from jsonschema import Draft202012Validator
from typer.testing import CliRunner

from launch.checkpoints.settings import Checkpoints
from launch.commands.schema import schema
from launch.configuration.catalogue import KINDS, PROBLEMS
from launch.configuration.fields import settings
from launch.configuration.run_config import RunConfig, load_variants
from launch.configuration.schema import config_schema, schema_text
from launch.configuration.yaml_text import load_yaml
from launch.engines.clock import Clock
from launch.pages.docstrings import meaning_of
from launch.pages.example_settings import compressor_example, method_example
from mlmc_ray.compressors import Compressor
from mlmc_ray.importing import import_object
from mlmc_ray.ladders import Ladder
from mlmc_ray.laws import LevelLaw
from mlmc_ray.methods import Method

ROOT = Path(__file__).parents[2]
KEPT = ROOT / "docs" / "configuration.schema.json"
FILES = [
    *sorted((ROOT / "configs").glob("*.yaml")),
    *sorted((ROOT / "examples").glob("**/*.yaml")),
    ROOT / "launch" / "starter" / "project" / "compare.yaml",
]
BASE: dict[str, Any] = {
    "problem": "digits",
    "method": {"kind": "compressed-sgd", "compressor": {"kind": "top-k", "k": 0.01}},
    "optimizer": {"kind": "sgd", "step_size": 0.1},
}


@cache
def validator() -> Draft202012Validator:
    return Draft202012Validator(config_schema())


def fits(values: Any) -> bool:
    return bool(validator().is_valid(values))


def test_the_schema_is_one() -> None:
    Draft202012Validator.check_schema(config_schema())


def test_the_kept_copy_is_what_is_printed() -> None:
    assert KEPT.read_text(encoding="utf-8") == schema_text(), (
        "mlmc-ray schema --out docs/configuration.schema.json"
    )


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_file_that_comes_along_fits(path: Path) -> None:
    errors = [error.message[:300] for error in validator().iter_errors(load_yaml(path.read_text()))]
    assert errors == []


@pytest.mark.parametrize("path", FILES[:-1], ids=lambda path: path.name)
def test_every_run_fits_as_it_is_written_to_its_directory(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))  # finding a problem extends it
    for run in load_variants(path):
        assert fits(json.loads(json.dumps(run.to_mapping()))), run.name


def test_every_kind_fits_as_its_example_is_written() -> None:
    for kind, cls in KINDS[Method].items():
        assert fits({**BASE, **load_yaml(method_example(kind, cls))}), kind
    for shape in (Compressor, Ladder, LevelLaw):
        for kind, cls in KINDS[shape].items():
            given = load_yaml(compressor_example(shape, kind, cls))
            assert fits({**BASE, "method": {"kind": "compressed-sgd", **given}}), kind


RIGHT: list[dict[str, Any]] = [
    {"method": "sgd"},
    {"batch_size": "full", "clock": {"compute_s": [1, 2.5]}, "observe_every": None},
    {"checkpoints": {"every": 5, "keep": 1, "storage": "s3://bucket/runs"}},
    {"workers": "${WORKERS}", "name": "${A}", "optimizer": {"kind": "sgd", "step_size": "${S:-1}"}},
    {"problem": {"kind": "my_task.Task", "anything": [1]}, "search_paths": ["here"]},
    {"problem": "my_task.Task", "method": "my.Own", "optimizer": {"kind": "a.b.C", "x": 1}},
    {"problem": {"kind": "replicated", "problem": {"kind": "quadratic", "dim": 3}}},
    {"callbacks": ["tensorboard", {"kind": "log", "path": "log.jsonl"}, {"kind": "my.Callback"}]},
    {"callbacks": "tensorboard"},
    {"seeds": 3, "panels": "Best", "compare": [{"panels": ["Best", "Worst"]}]},
    {"compare": [{}, {"method": {"compressor": {"k": 3}}}, {"optimizer": {"step_size": 1}}]},
    {"compare": [{"method": {"kind": "diana"}}, {"problem": {"hidden": 3}, "optimizer": None}]},
]
WRONG: list[tuple[dict[str, Any], str]] = [
    ({"round": 3}, "a misspelt key"),
    ({"rounds": "ten"}, "a word for a number"),
    ({"rounds": 0}, "out of range"),
    ({"rounds": True}, "true is no number"),
    ({"rounds": 1.5}, "no whole number"),
    ({"engine": "spark"}, "an unknown word"),
    ({"batch_size": "half"}, "an unknown word"),
    ({"method": "sdg"}, "an unknown kind"),
    ({"method": "compressed-sgd"}, "a short form that lacks its compressor"),
    ({"method": {"kind": "compressed-sgd"}}, "a missing key"),
    ({"method": {**BASE["method"], "shift_step": 1}}, "a key of another kind"),
    ({"optimizer": {"kind": "sgd", "stepsize": 1}}, "a misspelt key inside"),
    ({"optimizer": {"kind": "adam", "step_size": "theory"}}, "theory knows plain steps only"),
    ({"method": {"kind": "diana", "compressor": {"kind": "top-k", "k": "x"}}}, "a word inside"),
    ({"problem": {"kind": "digits", "batch_norm": 1}}, "1 is not true"),
    ({"clock": {}}, "a missing key"),
    ({"checkpoints": {"keep": 3}}, "a missing key"),
    ({"checkpoints": {"every": 0}}, "out of range"),
    ({"compare": [{"round": 3}]}, "a misspelt key of a change"),
    ({"compare": [{"optimizer": {"stepsize": 1}}]}, "a misspelt key inside of a change"),
    ({"compare": [{"compare": []}]}, "a comparison inside of a comparison"),
    ({"compare": [{"extends": "x.yaml"}]}, "a file inside of a comparison"),
    ({"compare": [{"problem": {"kind": "digts"}}]}, "an unknown kind in a change"),
    ({"compare": [{"seeds": 2}]}, "a key of the file inside of a comparison"),
    ({"seeds": 0}, "out of range"),
    ({"extends": 3}, "no file"),
    ({"extends": "x.yaml", "round": 3}, "a misspelt key of a file that extends another"),
]


@pytest.mark.parametrize("changes", RIGHT)
def test_what_can_be_read_fits(changes: dict[str, Any]) -> None:
    assert fits({**BASE, **changes})


@pytest.mark.parametrize(("changes", "why"), WRONG)
def test_what_cannot_be_read_does_not_fit(changes: dict[str, Any], why: str) -> None:
    assert fits(BASE)
    assert not fits({**BASE, **changes}), why


def test_keys_are_required_where_nothing_else_can_give_them() -> None:
    assert not fits({"rounds": 3})
    assert not fits({"problem": "digits"})
    assert fits({"rounds": 3, "extends": ["a.yaml", "b.yaml"], "method": {"compressor": {"k": 3}}})
    assert fits({"problem": "digits", "compare": [{"method": "sgd"}]})
    assert not fits({**BASE, "method": {"compressor": {"k": 3}}})


def test_every_key_has_its_meaning_and_its_default() -> None:
    shapes = {shape.__name__.lower(): kinds for shape, kinds in KINDS.items()}
    shapes["problem"] = {kind: import_object(path, (), "") for kind, path in PROBLEMS.items()}
    named = {
        f"{shape}.{kind}": cls for shape, kinds in shapes.items() for kind, cls in kinds.items()
    }
    definitions = config_schema()["$defs"]
    without_kind = {"run": RunConfig, "clock": Clock, "checkpoints": Checkpoints}
    for name, cls in {**named, **without_kind}.items():
        properties = definitions[name]["properties"]
        for field in settings(cls):
            assert meaning_of(cls, field.name), f"{cls.__module__}.{cls.__qualname__}.{field.name}"
            key = properties[field.name]
            assert key["description"]
            assert ("default" in key) == (field.name not in definitions[name]["required"])


def test_the_command_prints_it_or_writes_it(tmp_path: Path) -> None:
    app = typer.Typer()
    app.command()(schema)
    printed = CliRunner().invoke(app, [])
    assert printed.exit_code == 0
    assert json.loads(printed.stdout) == config_schema()
    path = tmp_path / "x.json"
    assert CliRunner().invoke(app, ["--out", str(path)]).stdout == f"{path}\n"
    assert path.read_text(encoding="utf-8") == printed.stdout
    refused = CliRunner().invoke(app, ["--out", str(tmp_path / "no" / "x.json")])
    assert refused.exit_code == 2
    assert "cannot be written: No such file or directory" in refused.stderr
