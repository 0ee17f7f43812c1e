"""Configurations of several files, and variables of the environment in them."""

import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from launch.configuration.composition import compose, expanded, merged
from launch.configuration.run_config import load_config, load_variants
from launch.configuration.yaml_text import escaped
from mlmc_ray.compressors import RandK, TopK
from mlmc_ray.errors import ConfigError
from mlmc_ray.methods import CompressedSGD, DataParallelSGD
from mlmc_ray.optimizers import SGD, Adam

BASE = """
name: base
problem: {kind: quadratic, dim: 8}
method: {kind: compressed-sgd, compressor: {kind: top-k, k: 3}}
optimizer: {kind: sgd, step_size: 0.125}
rounds: 5
"""


def written(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def child_of(tmp_path: Path, text: str, base: str = BASE) -> Path:
    written(tmp_path / "base.yaml", base)
    return written(tmp_path / "child.yaml", f"extends: base.yaml\n{text}")


# Files.


def test_a_file_has_what_it_extends_and_wins_over_it(tmp_path: Path) -> None:
    config = load_config(child_of(tmp_path, "rounds: 7\nmethod: {compressor: {k: 4}}"))
    base = load_config(tmp_path / "base.yaml")
    assert (base.rounds, config.rounds) == (5, 7)
    assert config.method == CompressedSGD(compressor=TopK(k=4))
    assert (config.name, config.problem, config.optimizer) == ("base", base.problem, base.optimizer)


def test_another_kind_replaces_the_whole_mapping(tmp_path: Path) -> None:
    text = "method: {compressor: {kind: rand-k, k: 1}}\noptimizer: {kind: adam}"
    config = load_config(child_of(tmp_path, text))
    assert config.method == CompressedSGD(compressor=RandK(k=1))
    assert config.optimizer == Adam()
    assert load_config(child_of(tmp_path, "method: sgd")).method == DataParallelSGD()


def test_overrides_win_over_all_files(tmp_path: Path) -> None:
    assert load_config(child_of(tmp_path, "rounds: 7"), ["rounds=9"]).rounds == 9


def test_of_several_files_the_later_wins(tmp_path: Path) -> None:
    written(tmp_path / "base.yaml", BASE)
    written(tmp_path / "one.yaml", "rounds: 1\nworkers: 1\noptimizer: {momentum: 0.5}")
    written(tmp_path / "two.yaml", "rounds: 2")
    path = written(tmp_path / "x.yaml", "extends: [base.yaml, one.yaml, two.yaml]")
    config = load_config(path)
    assert (config.rounds, config.workers) == (2, 1)
    assert config.optimizer == SGD(step_size=0.125, momentum=0.5)


def test_paths_are_relative_to_the_file_that_names_them(tmp_path: Path) -> None:
    written(tmp_path / "a" / "base.yaml", f"{BASE}search_paths: [tasks]")
    written(tmp_path / "b" / "middle.yaml", "extends: ../a/base.yaml")
    path = written(tmp_path / "c" / "x.yaml", f"extends: {tmp_path}/b/middle.yaml\nmethod: sgd")
    assert load_config(path).rounds == 5
    own = f"{tmp_path.name}_own"
    written(tmp_path / "a" / "tasks" / f"{own}.py", "from mlmc_ray.problems import Quadratic")
    changed = load_config(path, [f"problem={{kind: {own}.Quadratic, dim: 8}}"])
    places = [str(tmp_path / name) for name in ("a/tasks", "c", "b", "a")]
    assert list(changed.problem.search_paths) == [*places, str(Path.cwd())]


@pytest.fixture(autouse=True)
def _python_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give every test a path of its own; finding a problem extends it."""
    monkeypatch.setattr(sys, "path", list(sys.path))


def test_one_file_may_be_reached_twice(tmp_path: Path) -> None:
    written(tmp_path / "base.yaml", BASE)
    written(tmp_path / "one.yaml", "extends: base.yaml\nrounds: 1")
    written(tmp_path / "two.yaml", "extends: base.yaml")
    path = written(tmp_path / "x.yaml", "extends: [one.yaml, two.yaml]")
    assert load_config(path).rounds == 5


def test_a_file_that_is_extended_often_is_merged_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    levels, merges = 10, 0

    def counted(base: Any, changes: Any) -> dict[str, Any]:
        nonlocal merges
        merges += 1
        return merged(base, changes)

    written(tmp_path / "0.yaml", BASE)
    for level in range(1, levels + 1):
        before = f"{level - 1}.yaml"
        written(tmp_path / f"{level}.yaml", f"extends: [{before}, {before}]\nworkers: {level}")
    monkeypatch.setattr("launch.configuration.composition.merged", counted)
    assert compose(tmp_path / f"{levels}.yaml").values["workers"] == levels
    assert merges < 10 * levels  # with those inside, and not 2 to the power of the levels


def test_a_compare_list_is_inherited_by_a_file_without_one(tmp_path: Path) -> None:
    base = f"{BASE}compare: [{{name: a}}, {{name: b}}]"
    names = {
        "rounds: 7": ["a", "b"],
        "compare: [{name: c}]": ["c"],
        "compare: []": ["base"],
        "compare: null": ["base"],
    }
    for text, expected in names.items():
        runs = load_variants(child_of(tmp_path, text, base))
        assert [run.name for run in runs] == expected
    assert {run.rounds for run in load_variants(child_of(tmp_path, "rounds: 7", base))} == {7}


def test_what_was_composed_is_written_whole(tmp_path: Path) -> None:
    mapping = load_config(child_of(tmp_path, "rounds: 7")).to_mapping()
    assert "extends" not in mapping
    assert load_config(mapping).rounds == 7


@pytest.mark.parametrize(
    ("files", "text"),
    [
        ({"a": "extends: a.yaml"}, "a.yaml -> a.yaml: extends itself"),
        (
            {"a": "extends: b.yaml", "b": "extends: [c.yaml]", "c": "extends: ./b.yaml"},
            "a.yaml -> b.yaml -> c.yaml -> ./b.yaml: extends itself",
        ),
        ({"a": "extends: b.yaml"}, "a.yaml -> b.yaml: cannot be read: No such file or directory"),
        ({"a": "extends: b.yaml", "b": "- 3"}, "a.yaml -> b.yaml: expected a mapping of keys"),
        ({"a": "extends: b.yaml", "b": "x: ["}, "a.yaml -> b.yaml, line 1: 'x: [': "),
        (
            {"a": "extends: b.yaml", "b": "problem: &a {x: *a}"},
            "a.yaml -> b.yaml: problem: contains itself, or lists and mappings in more than 100",
        ),
        ({"a": "extends: 3"}, "a.yaml: extends: expected a file or a list of files, got 3"),
        ({"a": "extends: null"}, "a.yaml: extends: expected a file or a list of files, got None"),
        ({"a": "extends: [b.yaml, {}]"}, "a.yaml: extends: expected a file or a list of files"),
    ],
)
def test_a_wrong_chain_is_shown(tmp_path: Path, files: dict[str, str], text: str) -> None:
    for name, content in files.items():
        written(tmp_path / f"{name}.yaml", content)
    with pytest.raises(ConfigError) as caught:
        load_config(tmp_path / "a.yaml")
    assert str(caught.value).startswith(f"{tmp_path}/{text}")
    assert "\n" not in str(caught.value)


# Variables.


@pytest.fixture(autouse=True)
def _variables(monkeypatch: pytest.MonkeyPatch) -> None:
    variables = {
        "WORKERS": "3",
        "RATE": "1e-3",
        "WORD": "cluster",
        "KIND": "{kind: adam}",
        "EMPTY": "",
        "BROKEN": "[1",
        "CYCLE": "&a [*a]",
        "INNER": "${MLMC_TEST_WORKERS}",
    }
    for name, value in variables.items():
        monkeypatch.setenv(f"MLMC_TEST_{name}", value)
    monkeypatch.delenv("MLMC_TEST_UNSET", raising=False)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("${MLMC_TEST_WORKERS}", 3),
        ("${MLMC_TEST_RATE}", 0.001),
        ("${MLMC_TEST_WORD}", "cluster"),
        ("${MLMC_TEST_KIND}", {"kind": "adam"}),
        ("${MLMC_TEST_EMPTY}", None),
        ("${MLMC_TEST_WORKERS:-4}", 3),
        ("${MLMC_TEST_UNSET:-4}", 4),
        ("${MLMC_TEST_EMPTY:-4}", 4),
        ("${MLMC_TEST_UNSET:-}", None),
        ("on ${MLMC_TEST_WORKERS}", "on 3"),
        ("${MLMC_TEST_WORKERS} ", "3 "),
        ("${MLMC_TEST_WORD}${MLMC_TEST_WORKERS}", "cluster3"),
        ("<${MLMC_TEST_UNSET:-a b:c}>", "<a b:c>"),
        ("$${MLMC_TEST_WORKERS}", "${MLMC_TEST_WORKERS}"),
        ("$$${MLMC_TEST_WORKERS}", "$${MLMC_TEST_WORKERS}"),
        ("${MLMC_TEST_INNER}", "${MLMC_TEST_WORKERS}"),
        ("$MLMC_TEST_WORKERS {x} $", "$MLMC_TEST_WORKERS {x} $"),
    ],
)
def test_a_variable_is_put_in(text: str, value: object) -> None:
    inside = {"a": ["x", {"b": text}], "${MLMC_TEST_WORKERS}": 1, "c": 2}
    expected = {"a": ["x", {"b": value}], "${MLMC_TEST_WORKERS}": 1, "c": 2}
    assert expanded(inside, "x.yaml") == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "${MLMC_TEST_UNSET}",
            "the variable MLMC_TEST_UNSET is not set: set it, or write ${MLMC_TEST_UNSET:-default}",
        ),
        ("a ${MLMC_TEST_UNSET}", "the variable MLMC_TEST_UNSET is not set"),
        ("${MLMC_TEST_BROKEN}", "the value of the variable MLMC_TEST_BROKEN is not YAML"),
        ("${MLMC_TEST_CYCLE}", "the value of the variable MLMC_TEST_CYCLE: contains itself"),
        ("${", "got '${': write ${NAME} or ${NAME:-default}"),
        ("${1}", "got '${1}': write"),
        ("${A-b}", "got '${A-b}': write"),
        ("${A:-${B}}", "got '${A:-${B}}': write"),
    ],
)
def test_a_wrong_variable_is_named_with_its_key(tmp_path: Path, text: str, message: str) -> None:
    path = written(tmp_path / "x.yaml", f"{BASE}search_paths: [a, '{text}']")
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert str(caught.value).startswith(f"{path}: search_paths[1]: {message}")


def test_files_with_variables_are_read_and_written_with_their_values(tmp_path: Path) -> None:
    text = (
        "workers: ${MLMC_TEST_WORKERS}\n"
        "name: ${MLMC_TEST_WORD} $${x}\n"
        "optimizer: {step_size: '${MLMC_TEST_RATE}'}"
    )
    config = load_config(child_of(tmp_path, text))
    assert (config.workers, config.name) == (3, "cluster ${x}")
    assert config.optimizer == SGD(step_size=0.001)
    mapping = config.to_mapping()
    assert (mapping["workers"], mapping["name"]) == (3, "cluster ${x}")
    again = written(tmp_path / "again.yaml", yaml.safe_dump(escaped(mapping)))
    assert load_config(again) == config


def test_a_value_that_is_replaced_needs_no_variable(tmp_path: Path) -> None:
    base = f"{BASE}workers: ${{MLMC_TEST_UNSET}}"
    assert load_config(child_of(tmp_path, "workers: 2", base)).workers == 2
    assert load_config(child_of(tmp_path, "", base), ["workers=2"]).workers == 2
    text = "workers: 2\ncompare: [{rounds: '${MLMC_TEST_UNSET}'}]"
    assert load_config(child_of(tmp_path, text, base)).workers == 2
    with pytest.raises(ConfigError, match=r"child.yaml: compare\[0\]: rounds: the variable MLMC"):
        load_variants(tmp_path / "child.yaml")


def test_variables_lead_to_files(tmp_path: Path) -> None:
    written(tmp_path / "cluster.yaml", BASE)
    path = written(tmp_path / "x.yaml", "extends: ['${MLMC_TEST_WORD}.yaml']")
    assert load_config(path).rounds == 5


def test_settings_and_mappings_are_taken_as_they_are(tmp_path: Path) -> None:
    path = written(tmp_path / "x.yaml", BASE)
    assert load_config(path, ["name=${MLMC_TEST_WORD}"]).name == "${MLMC_TEST_WORD}"
    values = {**yaml.safe_load(BASE), "name": "${MLMC_TEST_WORD}"}
    assert load_config(values).name == "${MLMC_TEST_WORD}"


PLAIN: Any = st.recursive(
    st.none() | st.integers() | st.text("${}$aA:-"),
    lambda inner: st.lists(inner) | st.dictionaries(st.text("${a}"), inner),
)


@given(value=PLAIN)
def test_what_is_escaped_comes_back(value: Any) -> None:
    assert expanded(escaped(value), "x") == value
