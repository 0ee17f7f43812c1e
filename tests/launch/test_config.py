"""Reading configurations: files, overrides, variants, and what can be wrong with them."""

import dataclasses
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from launch.configuration.run_config import RunConfig, load_config, load_variants
from mlmc_ray.compressors import TopK
from mlmc_ray.errors import ConfigError, ProblemError
from mlmc_ray.estimator import MLMC, AdaptiveLaw
from mlmc_ray.ladders import FixedPointLadder
from mlmc_ray.methods import EF21SGDM, CompressedSGD, DataParallelSGD
from mlmc_ray.optimizers import SGD, Adam
from mlmc_ray.problems import Digits, ProblemSource, Quadratic

BASE: dict[str, Any] = {
    "problem": {"kind": "quadratic", "dim": 8},
    "method": "sgd",
    "optimizer": {"kind": "sgd", "step_size": 0.125},
}


def written(path: Path, content: Any) -> Path:
    text = content if isinstance(content, str) else yaml.safe_dump(content)
    path.write_text(text)
    return path


# What is read.


def test_a_file_a_mapping_and_a_config_read_alike(tmp_path: Path) -> None:
    mapping = {**BASE, "name": "mine", "rounds": 7, "batch_size": "full", "actors": 3}
    config = load_config(mapping)
    assert config == RunConfig(
        problem=ProblemSource(
            "mlmc_ray.problems.quadratic.Quadratic", {"dim": 8}
        ),
        method=DataParallelSGD(),
        optimizer=SGD(step_size=0.125),
        name="mine",
        rounds=7,
        batch_size="full",
        actors=3,
    )  # fmt: skip
    assert load_config(written(tmp_path / "mine.yaml", mapping)) == config
    assert load_config(str(tmp_path / "mine.yaml")) == config
    assert load_config(config) == config
    assert load_config(config.to_mapping()) == config


def test_a_config_made_in_python_is_checked_too() -> None:
    config = load_config(BASE)
    wrong = RunConfig(
        problem=config.problem, method=config.method, optimizer=config.optimizer, rounds=0
    )
    with pytest.raises(ConfigError, match="rounds: got 0"):
        load_config(wrong)


def test_the_mapping_of_a_config_names_every_key(tmp_path: Path) -> None:
    mapping = load_config(BASE).to_mapping()
    assert set(mapping) == set(RunConfig.__dataclass_fields__)
    assert mapping["method"] == {"kind": "sgd"}
    assert yaml.safe_load(yaml.safe_dump(mapping)) == mapping


def test_numbers_in_yaml_spelling(tmp_path: Path) -> None:
    text = """
        problem: quadratic
        method: {kind: compressed-sgd, compressor: {kind: top-k, k: 1e-2}}
        optimizer: {kind: sgd, step_size: 1e-3}
        round_timeout_s: 10
    """  # YAML 1.1 takes 1e-2 for text
    config = load_config(written(tmp_path / "x.yaml", text))
    assert config.method == CompressedSGD(compressor=TopK(k=0.01))
    assert config.optimizer == SGD(step_size=0.001)
    assert config.round_timeout_s == 10.0


def test_the_file_that_comes_along_is_valid() -> None:
    quickstart = Path(__file__).parents[2] / "configs" / "quickstart.yaml"
    runs = load_variants(quickstart)
    assert len({run.name for run in runs}) == len(runs) >= 2
    assert isinstance(load_config(quickstart).problem.load(), Digits)
    assert any(
        isinstance(run.method, CompressedSGD)
        and isinstance(run.method.compressor, MLMC)
        and isinstance(run.method.compressor.ladder, FixedPointLadder)
        for run in runs
    )


# Overrides.


def test_overrides_win_over_the_file() -> None:
    settings = ["rounds=3", "optimizer.step_size=1e-2", "name=a b", "problem.noise=0.5"]
    config = load_config({**BASE, "rounds": 9}, settings)
    assert (config.rounds, config.name) == (3, "a b")
    assert config.optimizer == SGD(step_size=0.01)
    assert config.problem.load() == Quadratic(dim=8, noise=0.5)


def test_overrides_reach_through_short_forms_and_change_kinds() -> None:
    config = load_config(
        BASE,
        [
            "method.kind=compressed-sgd",
            "method.compressor=mlmc",
            "method.compressor.ladder=fixed-point",
            "optimizer={kind: adam}",
        ],
    )
    assert config.method == CompressedSGD(
        compressor=MLMC(ladder=FixedPointLadder(), law=AdaptiveLaw())
    )
    assert config.optimizer == Adam()


@pytest.mark.parametrize("override", ["rounds", "=3", "a..b=3", ".a=3", "a.=3", ""])
def test_an_override_without_a_key_is_refused(override: str) -> None:
    with pytest.raises(ConfigError, match=r"^--set .*: expected key=value, such as"):
        load_config(BASE, [override])


@pytest.mark.parametrize(
    "override", ["rounds=[1", "name={", 'name="', "rounds=\x00", "a=!!python/x 1"]
)
def test_an_override_that_is_not_yaml_is_refused(override: str) -> None:
    with pytest.raises(ConfigError, match=r"--set .*: the value is not YAML"):
        load_config(BASE, [override])


def test_an_override_of_an_unknown_key_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"unknown keys \['round'\] \(did you mean 'rounds'\?\)"):
        load_config(BASE, ["round=3"])
    with pytest.raises(ConfigError, match=r"optimizer: unknown keys \['lr'\] .*'step_size'\?"):
        load_config(BASE, ["optimizer.lr=3"])
    with pytest.raises(ConfigError, match=r"rounds: got \{'x': 3\}"):
        load_config(BASE, ["rounds.x=3"])


# Variants.


def test_variants_are_merged_into_the_rest() -> None:
    compressed = {"kind": "compressed-sgd", "compressor": {"kind": "top-k", "k": 3}}
    base = {**BASE, "method": compressed, "rounds": 5}
    runs = load_variants(
        {
            **base,
            "compare": [
                {"name": "as it is"},
                {"name": "other k", "method": {"compressor": {"k": 4}}},
                {"name": "none", "method": "sgd", "rounds": 6},
                {"name": "ef21", "method": {"kind": "ef21-sgdm", "compressor": "identity"}},
                {"name": "adam", "optimizer": {"kind": "adam"}},
                {"name": "step", "optimizer": {"step_size": 1}},
            ],
        }
    )
    assert [run.name for run in runs] == ["as it is", "other k", "none", "ef21", "adam", "step"]
    assert [run.rounds for run in runs] == [5, 5, 6, 5, 5, 5]
    assert runs[0].method == CompressedSGD(compressor=TopK(k=3))
    assert runs[1].method == CompressedSGD(compressor=TopK(k=4))
    assert runs[2].method == DataParallelSGD()
    assert isinstance(runs[3].method, EF21SGDM)
    assert runs[4].optimizer == Adam()  # another kind: nothing is left of the first
    assert runs[5].optimizer == SGD(step_size=1.0)


def test_overrides_win_over_variants() -> None:
    runs = load_variants({**BASE, "compare": [{"rounds": 3}, {}]}, ["rounds=2"])
    assert [run.rounds for run in runs] == [2, 2]


def test_without_variants_the_file_stands_for_itself() -> None:
    assert load_variants({**BASE, "compare": []}) == [load_config(BASE)]
    assert load_variants({**BASE, "compare": None}) == [load_config(BASE)]
    assert load_config({**BASE, "compare": [{"rounds": "bad"}]}) == load_config(BASE)


@pytest.mark.parametrize("key", ["problem", "method"])
def test_a_file_of_variants_alone_names_the_command_for_it(tmp_path: Path, key: str) -> None:
    values = {name: value for name, value in BASE.items() if name != key}
    path = written(tmp_path / "x.yaml", {**values, "compare": [{key: BASE[key]}]})
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert str(caught.value) == (
        f"{path}: missing keys ['{key}']: its runs are those of its compare list; to run them all: "
        f"mlmc-ray compare {path}"
    )
    (run,) = load_variants(path)
    assert run == load_config(path, [f"{key}={yaml.safe_dump(BASE[key], default_flow_style=True)}"])


def test_an_error_in_a_variant_says_which() -> None:
    with pytest.raises(ConfigError, match=r"^configuration: compare\[1\]: rounds: got 'x'"):
        load_variants({**BASE, "compare": [{}, {"rounds": "x"}]})


@pytest.mark.parametrize("compare", [3, "all", {"name": "x"}, [3], [None]])
def test_compare_must_be_a_list_of_mappings(compare: Any) -> None:
    with pytest.raises(ConfigError, match=r"^configuration: compare: expected a list of mappings"):
        load_variants({**BASE, "compare": compare})


# What can be wrong.


def test_an_unknown_key_is_quoted_with_what_is_known() -> None:
    with pytest.raises(ConfigError) as caught:
        load_config({**BASE, "round": 3})
    assert str(caught.value) == (
        "configuration: unknown keys ['round'] (did you mean 'rounds'?); known are "
        f"{sorted(RunConfig.__dataclass_fields__)}"
    )


@pytest.mark.parametrize("key", ["problem", "method", "optimizer"])
def test_a_missing_key_is_named(key: str) -> None:
    values = {name: value for name, value in BASE.items() if name != key}
    with pytest.raises(ConfigError, match=rf"^configuration: missing keys \['{key}'\]"):
        load_config(values)


WRONG: list[tuple[str, Any]] = [
    *[("rounds", value) for value in (0, -1, "ten", 1.5, None, [3])],
    *[("workers", value) for value in (0, "four", 2.5)],
    *[("batch_size", value) for value in (0, "half", None, 1.5)],
    *[("seed", value) for value in (-1, "x", None)],
    *[("engine", value) for value in ("spark", None, 3)],
    *[("actors", value) for value in (0, "all")],
    *[("round_timeout_s", value) for value in (0, -1, "soon")],
    *[("placement_timeout_s", value) for value in (0, -1, "soon", None)],
    *[("device", value) for value in ("gpu", "cuda:1", None)],
    *[("gpus_per_actor", value) for value in (0, -1, "all", float("nan"))],
    *[("name", value) for value in (None, 3, ["x"])],
    *[
        ("threads", 0),
        ("threads", 10**12),
        ("rounds", "3"),
        ("seed", True),
        ("evaluate_every", 0),
        ("buffers_every", 0),
        ("address", 3),
    ],
    *[("search_paths", value) for value in ("here", [3], None)],
]


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        (
            {"gpus_per_actor": 1},
            "gpus_per_actor is 1, and device is 'cpu', which uses no GPU: give device: cuda, or "
            "leave gpus_per_actor out",
        ),
        (
            {"device": "cuda", "gpus_per_actor": 1.5},
            "gpus_per_actor is 1.5: above 1 give a whole number, since Ray shares out no parts of "
            "several GPUs",
        ),
    ],
)
def test_gpus_that_would_do_nothing_are_refused(settings: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config({**BASE, **settings})
    assert str(caught.value) == f"configuration: {text}"
    assert load_config({**BASE, "device": "cuda", "gpus_per_actor": 0.5}).gpus_per_actor == 0.5


def test_parts_of_a_gpu_that_ray_does_not_know_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"gpus_per_actor: got 1e-05: .* equal to 0\.0001$"):
        load_config({**BASE, "device": "cuda", "gpus_per_actor": 1e-5})
    assert load_config({**BASE, "device": "cuda", "gpus_per_actor": 1e-4}).gpus_per_actor == 1e-4


@pytest.mark.parametrize("kind", [["sgd"], {"kind": "sgd"}, 3, None])
def test_an_optimizer_whose_kind_is_no_word_is_refused(kind: Any) -> None:
    with pytest.raises(ConfigError, match="optimizer: expected a mapping with a key 'kind', got"):
        load_config({**BASE, "optimizer": {"kind": kind, "step_size": "theory"}})


@pytest.mark.parametrize(("key", "value"), WRONG)
def test_a_wrong_value_is_quoted_with_its_key(key: str, value: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config({**BASE, key: value})
    assert str(caught.value).startswith(f"configuration: {key}: got {value!r}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", ["", "3", "- a\n- b", "just words"])
def test_a_file_must_hold_a_mapping(tmp_path: Path, content: str) -> None:
    path = written(tmp_path / "x.yaml", content)
    with pytest.raises(ConfigError, match=r"x\.yaml: expected a mapping of keys to values, got"):
        load_config(path)


BROKEN = {
    "rounds: 3\nworkers 4\nseed: 1": "line 2: 'workers 4': could not find expected ':'",
    "a: 1\nb: 'never\nclosed: 1": 'line 2: "b: \'never": found unexpected end of stream',
    "a: [1": "line 1: 'a: [1': expected ',' or ']', but got '<stream end>'",
    "a: b: c": "line 1: 'a: b: c': mapping values are not allowed here",
    "a: 1\n\tx: 1": "line 2: 'x: 1': found character '\\t' that cannot start any token",
    "a: !!python/object:os.x {}": "line 1: 'a: !!python/object:os.x {}': could not determine a "
    "constructor for the tag 'tag:yaml.org,2002:python/object:os.x'",
    "a: 1\nb: \a": "line 2: 'b: \\x07': the character '\\x07': special characters are not allowed",
    "a: 1\r\nb: [1}\r\n": "line 2: 'b: [1}': expected ',' or ']', but got '}'",
}


@pytest.mark.parametrize("content", BROKEN)
def test_a_file_that_is_not_yaml_is_refused_with_its_line(tmp_path: Path, content: str) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(content, newline="")
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert str(caught.value) == f"{path}, {BROKEN[content]}"


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"missing\.yaml: cannot be read: No such file"):
        load_config(tmp_path / "missing.yaml")
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        load_config(tmp_path)
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(ConfigError, match=r"binary\.yaml: is not YAML"):
        load_config(tmp_path / "binary.yaml")


TWICE = {
    "rounds": "rounds: 3\nname: x\nrounds: 4",
    "step_size": "optimizer: {step_size: 1, kind: sgd, step_size: 2}",
}


@pytest.mark.parametrize("key", TWICE)
def test_a_key_given_twice_is_refused(tmp_path: Path, key: str) -> None:
    path = written(tmp_path / "x.yaml", TWICE[key])
    with pytest.raises(ConfigError, match=rf"line \d: .*: key '{key}' is given twice$"):
        load_config(path)
    with pytest.raises(ConfigError, match=r"--set x=.*: the value is not YAML"):
        load_config(BASE, ["x={a: 1, a: 2}"])


def test_yaml_aliases_and_merges_are_no_repetitions(tmp_path: Path) -> None:
    text = """
        problem: quadratic
        method: sgd
        optimizer: &optimizer {kind: sgd, step_size: 0.1}
        compare:
          - {name: a, optimizer: *optimizer}
          - {name: b, optimizer: &second {<<: *optimizer, step_size: 0.2}}
          - {name: c, optimizer: {<<: *second, momentum: 0.5}}
    """
    first, second, third = load_variants(written(tmp_path / "x.yaml", text))
    assert (first.optimizer, second.optimizer) == (SGD(step_size=0.1), SGD(step_size=0.2))
    assert third.optimizer == SGD(step_size=0.2, momentum=0.5)


@pytest.mark.parametrize("value", ["!!binary AAAA", "!!set {a, b}", "!!python/name:os.x"])
def test_values_that_are_not_plain_are_refused(tmp_path: Path, value: str) -> None:
    with pytest.raises(ConfigError, match=r"x\.yaml, line 1: .problem: "):
        load_config(written(tmp_path / "x.yaml", f"problem: {{kind: digits, x: {value}}}"))


def test_a_date_is_text(tmp_path: Path) -> None:
    config = load_config({**BASE, "name": "x"}, ["name=2026-01-02"])
    assert config.name == "2026-01-02"


def test_the_name_of_a_changed_run_says_so() -> None:
    named = {**BASE, "name": "SGD"}
    assert load_config(named, ["rounds=3"]).name == "SGD"
    changed = load_config(named, ["rounds=3", "optimizer.step_size=0.2", "method=sgd"])
    assert changed.name == "SGD, optimizer.step_size=0.2, method=sgd"
    assert load_config(named, ["optimizer.step_size=0.2", "name=mine"]).name == "mine"
    variants = load_variants({**named, "compare": [{}]}, ["optimizer.step_size=0.2"])
    assert [run.name for run in variants] == ["SGD"]


LONG = "method={kind: compressed-sgd, compressor: {kind: top-k, k: 3}}"
OTHER = "method={kind: compressed-sgd, compressor: {kind: top-k, k: 4}}"


def test_the_name_of_a_changed_run_stays_readable_and_its_own() -> None:
    named = {**BASE, "name": "SGD"}
    names = [
        load_config(named, [change, "optimizer.step_size=0.2"]).name for change in (LONG, OTHER)
    ]
    assert names[0] != names[1]
    for name in names:
        assert re.fullmatch(r"SGD, method=compressed-sgd, step_size=0.2, #[0-9a-f]{4}", name)
    many = [f"optimizer={{kind: sgd, step_size: 0.{digit}}}" for digit in range(1, 10)]
    assert len(load_config(named, [LONG, *many]).name) < 80


def test_objects_may_stand_for_their_descriptions() -> None:
    method = CompressedSGD(compressor=TopK(k=3))
    config = load_config({**BASE, "method": method, "optimizer": SGD(step_size=0.5)})
    assert config.method is method
    assert config.optimizer == SGD(step_size=0.5)
    assert load_config(config) == config
    changed = load_config(config, ["method.compressor.k=5", "optimizer.momentum=0.9"])
    assert changed.method == CompressedSGD(compressor=TopK(k=5))
    assert changed.optimizer == SGD(step_size=0.5, momentum=0.9)


def test_a_configuration_is_checked_again_and_keeps_its_objects() -> None:
    config = load_config(BASE)
    assert load_config(config).problem is config.problem
    with pytest.raises(ConfigError, match="rounds: got 0"):
        load_config(dataclasses.replace(config, rounds=0))


# A task of one's own.


@pytest.fixture(autouse=True)
def _python_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give every test a path of its own; loading a problem extends it."""
    monkeypatch.setattr(sys, "path", list(sys.path))


TASK = """
from dataclasses import dataclass
from mlmc_ray.problems import Quadratic

@dataclass(frozen=True, kw_only=True)
class Task(Quadratic):
    dim: int = 5
"""


def test_a_task_is_found_in_the_directory_of_the_file(tmp_path: Path) -> None:
    module = f"{tmp_path.name}_here"
    (tmp_path / f"{module}.py").write_text(TASK)
    problem = {"kind": f"{module}.Task", "noise": 0.5}
    config = load_config(written(tmp_path / "x.yaml", {**BASE, "problem": problem}))
    assert config.problem.load().noise == 0.5  # type: ignore[attr-defined]
    assert str(tmp_path) in config.problem.search_paths
    with pytest.raises(ConfigError, match=r"problem: unknown keys \['size'\]; known are \['dim',"):
        load_config(tmp_path / "x.yaml", ["problem.size=3"])


def test_a_task_is_found_in_the_current_directory_and_in_search_paths(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "current").mkdir()
    (tmp_path / "configs").mkdir()
    (tmp_path / "tasks").mkdir()
    first, second = f"{tmp_path.name}_current", f"{tmp_path.name}_paths"
    (tmp_path / "current" / f"{first}.py").write_text(TASK)
    (tmp_path / "tasks" / f"{second}.py").write_text(TASK)
    monkeypatch.chdir(tmp_path / "current")
    path = tmp_path / "configs" / "x.yaml"
    config = load_config(written(path, {**BASE, "problem": f"{first}.Task"}))
    assert config.problem.load().dim == 5  # type: ignore[attr-defined]
    paths = {"problem": f"{second}.Task", "search_paths": ["../tasks"]}
    config = load_config(written(path, {**BASE, **paths}))
    assert config.problem.load().dim == 5  # type: ignore[attr-defined]


def test_the_mapping_of_a_config_finds_the_task_from_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = f"{tmp_path.name}_anywhere"
    (tmp_path / f"{module}.py").write_text(TASK)
    config = load_config(written(tmp_path / "x.yaml", {**BASE, "problem": f"{module}.Task"}))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p != str(tmp_path)])
    monkeypatch.delitem(sys.modules, module)
    again = load_config(written(tmp_path / "elsewhere" / "config.yaml", config.to_mapping()))
    assert again.problem.load().dim == 5  # type: ignore[attr-defined]
    assert str(tmp_path) in load_config(config).problem.search_paths


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("import no_such_package", "ModuleNotFoundError: No module named 'no_such_package'"),
        ("x = 1 / 0", "ZeroDivisionError: division by zero"),
        ("def f(:", "SyntaxError: "),
        ("pass", "has no 'Task'"),
        ("class Task:\n    def model(self): ...", r"lacks \['loss', 'shard', 'evaluate'\]"),
        ("Task = 3", "TypeError while making"),
        ("def Task():\n    raise OSError('disc')", "OSError while making .*: disc"),
    ],
)
def test_a_task_that_cannot_be_made_is_explained(tmp_path: Path, code: str, text: str) -> None:
    module = f"{tmp_path.name}_broken"
    (tmp_path / f"{module}.py").write_text(code)
    path = written(tmp_path / "x.yaml", {**BASE, "problem": f"{module}.Task"})
    with pytest.raises(ProblemError, match=f"^problem: .*{text}"):
        load_config(path).problem.load()


def test_a_task_that_is_nowhere_says_where_it_was_looked_for(tmp_path: Path) -> None:
    path = written(tmp_path / "x.yaml", {**BASE, "problem": "nowhere_at_all.Task"})
    with pytest.raises(ProblemError, match="cannot import 'nowhere_at_all'") as caught:
        load_config(path)
    assert f"looked in {tmp_path}, {Path.cwd()}" in str(caught.value)


HINTS = """
from __future__ import annotations
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
import torch
from mlmc_ray.problems import Quadratic
if TYPE_CHECKING:
    from somewhere import Colour

@dataclass(frozen=True)
class Unknown(Quadratic):
    device: torch.device | None = None
    {given}

@dataclass(frozen=True)
class Unresolved(Quadratic):
    colour: Colour | None = None
    {given}

class Plain(Quadratic):
    def __init__(self, colour):
        super().__init__(dim=len(colour))
"""


def test_types_that_cannot_be_checked_are_left_to_the_task(tmp_path: Path) -> None:
    module = f"{tmp_path.name}_hints"
    given = "count: int = field(init=False, default=3)"
    (tmp_path / f"{module}.py").write_text(HINTS.replace("{given}", given))
    path = tmp_path / "x.yaml"
    tasks: dict[str, dict[str, Any]] = {
        "Unknown": {"device": "cpu", "dim": 3},
        "Unresolved": {"colour": "red", "dim": 3},
        "Plain": {"colour": "red"},
    }
    for problem, options in tasks.items():
        written(path, {**BASE, "problem": {"kind": f"{module}.{problem}", **options}})
        assert load_config(path).problem.load().dim == 3  # type: ignore[attr-defined]
    written(path, {**BASE, "problem": {"kind": f"{module}.Unresolved", "count": 4}})
    with pytest.raises(ConfigError, match=r"problem: unknown keys \['count'\]"):
        load_config(path)


RICH = """
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from mlmc_ray.problems import Quadratic

class Mode(Enum):
    FAST = "fast"

@dataclass(frozen=True)
class Rich(Quadratic):
    sizes: tuple[int, ...] = ()
    data: Path | None = None
    mode: Mode | None = None
"""


def test_options_of_any_type_are_written_plainly_and_read_again(tmp_path: Path) -> None:
    module = f"{tmp_path.name}_rich"
    (tmp_path / f"{module}.py").write_text(RICH)
    problem = {"kind": f"{module}.Rich", "sizes": [3, 4], "data": "here/x", "mode": "fast"}
    config = load_config(written(tmp_path / "x.yaml", {**BASE, "problem": problem}))
    assert config.problem.options["data"] == Path("here/x")
    again = yaml.safe_load(yaml.safe_dump(config.to_mapping()))
    assert again["problem"] == problem
    assert load_config(again).problem == config.problem
