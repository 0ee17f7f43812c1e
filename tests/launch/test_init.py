"""The starter project: it runs as it is, and nothing is written over."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer
import yaml
from jsonschema import Draft202012Validator
from typer.testing import CliRunner, Result

from launch.commands.init import init
from launch.configuration.run_config import RunConfig, load_config, load_variants
from launch.configuration.yaml_text import load_yaml
from launch.starter import start

FILES = [
    *(".gitignore", "README.md", "compare.yaml", "config.yaml", "configuration.schema.json"),
    *("data.csv", "task.py", "test_task.py"),
]
ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _as_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, forgetting: None) -> None:
    """Work in an empty directory; give back Python's path, and forget the project's task."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))


def run(*arguments: str) -> Result:
    app = typer.Typer()
    app.command()(init)
    return CliRunner().invoke(app, list(arguments))


def test_it_says_what_was_made_and_what_to_run_next() -> None:
    result = run("my demo")
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines() == [
        f"made my demo: {', '.join(FILES)}",
        "next:",
        "    cd 'my demo'",
        "    mlmc-ray train config.yaml",
        "    mlmc-ray compare compare.yaml",
        "    mlmc-ray report runs/*",
        "    pip install pytest && python -m pytest",
    ]
    assert sorted(path.name for path in Path("my demo").iterdir()) == FILES
    assert not [path for path in Path("my demo").iterdir() if "@NAME@" in path.read_text()]


def test_the_configuration_explains_every_key(tmp_path: Path) -> None:
    start(tmp_path / "x")
    text = (tmp_path / "x" / "config.yaml").read_text()
    assert list(load_yaml(text).keys() ^ RunConfig.__dataclass_fields__.keys()) == []
    lines = text.splitlines()
    for key in load_yaml(text):
        (number,) = [i for i, line in enumerate(lines) if line.startswith(f"{key}:")]
        assert "#" in lines[number] or lines[number - 1].startswith("#"), key


def test_the_configurations_fit_the_schema_that_they_name(tmp_path: Path) -> None:
    start(tmp_path / "x")
    schema = json.loads((tmp_path / "x" / "configuration.schema.json").read_text())
    for name in ("config.yaml", "compare.yaml"):
        text = (tmp_path / "x" / name).read_text()
        assert text.startswith("# yaml-language-server: $schema=configuration.schema.json\n")
        Draft202012Validator(schema).validate(load_yaml(text))


NAMES = ["größe 数", "a \"b\" 'c' \\d", "${HOME} $$", "3", "null", "a: b # c", "- [x"]


@pytest.mark.parametrize("name", NAMES)
def test_a_name_may_have_any_letters(tmp_path: Path, name: str) -> None:
    start(tmp_path / "x", name)
    changes = ["problem=quadratic"]  # every project calls its module "task"
    assert load_config(tmp_path / "x" / "config.yaml", changes).name.startswith(name)
    assert len(load_variants(tmp_path / "x" / "compare.yaml", changes)) == 3
    assert (tmp_path / "x" / "README.md").read_text().startswith(f"# {name}\n")


def test_the_name_is_that_of_the_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here we are").mkdir()
    monkeypatch.chdir(tmp_path / "here we are")
    start(Path())
    assert yaml.safe_load(Path("config.yaml").read_text())["name"] == "here we are"


@pytest.mark.parametrize("name", ["", " ", "a\nb", "\x00", "\udcff"])
def test_a_name_that_is_none_is_refused(tmp_path: Path, name: str) -> None:
    result = run("x", "--name", name)
    assert result.exit_code == 2
    assert result.stderr == f"error: --name {name!r}: give printable letters, at least one\n"
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_written_over(tmp_path: Path) -> None:
    for name in "abcdefg":
        (tmp_path / "full" / name).mkdir(parents=True)
    result = run("full")
    assert result.exit_code == 2
    assert result.stderr == (
        "error: full already holds ['a', 'b', 'c', 'd', 'e'] and 2 more: give a directory that is "
        "new or empty\n"
    )
    assert len(list((tmp_path / "full").iterdir())) == 7
    (tmp_path / "file").touch()
    assert run("file").stderr == "error: file: cannot be written: Not a directory\n"


def test_the_project_trains_and_its_tests_pass(tmp_path: Path) -> None:
    start(tmp_path / "demo")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    for command in (
        ["pytest", "-q"],
        ["launch", "train", "config.yaml", "--engine", "inline", "--set", "rounds=40"],
    ):
        done = subprocess.run(
            [sys.executable, "-m", *command],
            cwd=tmp_path / "demo",
            env=environment,
            capture_output=True,
            text=True,
            timeout=200,
        )
        assert done.returncode == 0, done.stdout + done.stderr
    (metrics,) = (tmp_path / "demo" / "runs").glob("*/metrics.jsonl")
    last = json.loads(metrics.read_text().splitlines()[-1])
    assert last["test_accuracy"] > 0.85


def rows(*labels: object) -> str:
    return "".join(f"{number},1,{label}\n" for number, label in enumerate(labels))


TABLES = {
    "line 13, column 3: 'nan' is no number": rows(*[0] * 11, "nan"),
    "line 3, column 3: 'red' is no number": rows(0, "red", *[1] * 10),
    "line 2, column 1: '' is no number": f",1,0\n{rows(*[0] * 10)}",
    "it holds [1.0, 2.0]": rows(*[1, 2] * 6),
    "it holds [-1.0, 1.0]": rows(*[-1, 1] * 6),
    "it holds [0.0, 2.0]": rows(*[0, 2] * 6),
    "it holds [0.5, 1.0]": rows(*[0.5, 1] * 6),
    "commas in line 15: 1, in line 2: 2": f"{rows(*[0] * 11)}\n{rows(0)}1,2\n",
    "line 14, column 3: 'red' is no number": f"{rows(*[0] * 10)}\n{rows(0, 'red')}",
    "line 3, column 1: '#1' is no number": f"{rows(0)}#1,1,1\n{rows(*[0] * 10)}",
    "line 3, column 3: '1#0' is no number": f"{rows(0)}1,1,1#0\n{rows(*[0] * 10)}",
    "give headings, then 10 or more lines": rows(0, 1),
}


@pytest.mark.parametrize("text", TABLES)
def test_data_that_cannot_be_trained_on_say_why(tmp_path: Path, text: str) -> None:
    start(tmp_path / "x")
    (tmp_path / "x" / "data.csv").write_text(f"first,second,label\n{TABLES[text]}")
    task = load_config(tmp_path / "x" / "config.yaml").problem.load()
    with pytest.raises(ValueError, match=re.escape(text)):
        task.model()


def test_the_classes_are_those_of_the_last_column(tmp_path: Path) -> None:
    start(tmp_path / "x")
    (tmp_path / "x" / "data.csv").write_text(f"first,second,label\n\n{rows(*range(12))}")
    task = load_config(tmp_path / "x" / "config.yaml").problem.load()
    assert [tuple(p.shape) for p in task.model().parameters()] == [(32, 2), (32,), (12, 32), (12,)]


@pytest.mark.ray
@pytest.mark.usefixtures("cluster")
@pytest.mark.slow
def test_the_project_trains_on_ray(tmp_path: Path) -> None:
    from launch import Session

    start(tmp_path / "demo")
    config = load_config(tmp_path / "demo" / "config.yaml", ["rounds=10", "actors=2"])
    with Session(config) as session:
        session.run()
        first, last = session.metrics[0], session.metrics[-1]
    assert last["test_loss"] < first["test_loss"]
