"""The command line: what it writes, and one line for everything that can be wrong."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from typer.testing import CliRunner, Result

from launch import Session
from launch.callbacks import Callback
from launch.cli import app
from launch.configuration.catalogue import KINDS
from launch.configuration.run_config import load_config
from mlmc_ray.compressors import Compressor
from mlmc_ray.downlinks import Downlink
from mlmc_ray.estimator import LevelLaw
from mlmc_ray.ladders import Ladder
from mlmc_ray.methods import Method
from mlmc_ray.optimizers import Optimizer
from mlmc_ray.schedules import Schedule

MLMC = {"kind": "mlmc", "ladder": {"kind": "s-top-k", "segment_size": 3}}
CONFIG: dict[str, Any] = {
    "name": "Small run",
    "problem": {"kind": "quadratic", "num_functions": 2, "dim": 8},
    "method": {"kind": "compressed-sgd", "compressor": MLMC},
    "optimizer": {"kind": "sgd", "step_size": 0.03125},
    "workers": 2,
    "rounds": 3,
    "engine": "inline",
}
SGD: dict[str, Any] = {"kind": "sgd", "step_size": "theory"}
TASK = """
from mlmc_ray.problems import Quadratic

class Task(Quadratic):
    def __init__(self):
        super().__init__(num_functions=2, dim=8)
"""


@pytest.fixture(autouse=True)
def _as_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Run in an empty directory; give back the signal handler and Python's path."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    handler = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, handler)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return write(tmp_path / "config.yaml", CONFIG)


def write(path: Path, content: Any) -> Path:
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return path


def run(*arguments: "str | Path") -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def assert_one_error_line(result: Result, text: str, code: int = 2) -> None:
    assert isinstance(result.exception, SystemExit), result.exception
    assert result.exit_code == code
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    assert text in result.stderr
    assert "Traceback" not in result.output


# What it does.


def test_train_writes_a_run(config: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = run("train", config, "--out", out)
    assert result.exit_code == 0, result.output
    assert {path.name for path in out.iterdir()} == {
        *("config.yaml", "versions.json", "metrics.jsonl", "ledger.csv"),
        *("timeline.csv", "observed.jsonl", "model.pt", "figure.png", "summary.json"),
    }
    assert "Small run" in result.stdout
    assert f"results: {out}" in result.stdout
    (summary,) = json.loads((out / "summary.json").read_text())
    with Session(config) as session:
        session.run()
    assert summary["rounds"] == 3
    assert summary["uplink_bytes"] == session.ledger.frame_bytes("uplink")
    assert summary["downlink_bytes"] == session.ledger.frame_bytes("downlink")
    assert summary["bits_per_value"] == 8 * summary["uplink_bytes"] / (3 * 2 * 8)
    assert summary["paper_bits_per_value"] == 64 * 3 / 8
    assert (out / "figure.png").read_bytes().startswith(b"\x89PNG")


def test_train_makes_a_directory_of_its_own_each_time(config: Path) -> None:
    for _ in range(2):
        assert run("train", config).exit_code == 0
    made = sorted(Path("runs").iterdir())
    assert len(made) == 2
    assert all(path.name.startswith("small-run-") for path in made)


def test_a_run_directory_can_be_run_again(config: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    assert run("train", config, "--set", "seed=4", "--out", first).exit_code == 0
    assert run("train", first / "config.yaml", "--out", second).exit_code == 0
    for name in ("config.yaml", "ledger.csv"):
        assert (first / name).read_bytes() == (second / name).read_bytes()
    models = [torch.load(path / "model.pt", weights_only=True) for path in (first, second)]
    assert torch.equal(models[0]["x"], models[1]["x"])


def test_options_win_over_settings_and_the_file(config: Path, tmp_path: Path) -> None:
    result = run(
        *("train", write(config, {**CONFIG, "engine": "ray"}), "--out", tmp_path / "out"),
        *("--set", "rounds=2", "--set", "workers=3", "--set", "problem.num_functions=4"),
        *("--workers", "4", "--engine", "inline"),
    )
    assert result.exit_code == 0, result.output
    written = load_config(tmp_path / "out" / "config.yaml")
    assert (written.rounds, written.workers, written.engine) == (2, 4, "inline")


def test_compare_sets_runs_side_by_side(config: Path, tmp_path: Path) -> None:
    write(config, {**CONFIG, "compare": [{"name": "As it is"}, {"name": "Dense", "method": "sgd"}]})
    other = write(tmp_path / "other.yaml", {**CONFIG, "name": "Other"})
    out = tmp_path / "out"
    result = run("compare", config, other, "--set", "rounds=2", "--out", out)
    assert result.exit_code == 0, result.output
    names = {"As it is": "as-it-is", "Dense": "dense", "Other": "other"}
    rows = json.loads((out / "summary.json").read_text())
    assert [row["name"] for row in rows] == list(names)
    assert (out / "compare.png").read_bytes().startswith(b"\x89PNG")
    for name, folder in names.items():
        assert name in result.stdout
        assert load_config(out / folder / "config.yaml").name == name
    assert rows[1]["uplink_bytes"] == 2 * 2 * (2 + 1 + 9 + (3 + 2 + 32) + 1)


def test_a_comparison_tells_the_bytes_up_to_a_target(config: Path, tmp_path: Path) -> None:
    write(config, {**CONFIG, "evaluate_every": 1, "rounds": 30, "method": "sgd", "optimizer": SGD})
    result = run("compare", config, "--target", "0.5", "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    (row,) = json.loads((tmp_path / "out" / "summary.json").read_text())
    lines = (tmp_path / "out" / "small-run" / "metrics.jsonl").read_text().splitlines()
    first = next(m for m in map(json.loads, lines) if m["test_gap"] <= 0.5)
    assert 0 < first["round"] < 30
    assert row["target"] == {"measure": "gap", "value": 0.5}
    assert row["bytes_to_target"] == first["uplink_bytes"]
    assert "gap 0.5" not in " ".join(run("train", config).stdout.split())
    assert "0.5" in result.stdout


def test_a_task_of_ones_own_lies_beside_its_configuration(tmp_path: Path) -> None:
    module = f"{tmp_path.name}_task"
    (tmp_path / f"{module}.py").write_text(TASK)
    path = write(tmp_path / "own.yaml", {**CONFIG, "problem": f"{module}.Task"})
    result = run("train", path, "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    again = run("train", tmp_path / "out" / "config.yaml", "--out", tmp_path / "again")
    assert again.exit_code == 0, again.output


def test_help_names_the_commands() -> None:
    assert run().exit_code == 2
    result = run("--help")
    assert result.exit_code == 0
    assert "train" in result.stdout
    assert "compare" in result.stdout
    assert "--set" in run("train", "--help").stdout


def test_examples_need_no_files_but_those_that_init_makes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    for command in ("train", "compare"):
        text = run(command, "--help").stdout
        assert text.index("mlmc-ray init demo") < text.index(f"mlmc-ray {command} demo/")
        assert "configs/" not in text


def test_the_versions_are_those_that_are_installed() -> None:
    result = run("--version")
    assert result.exit_code == 0
    names = ["mlmc-ray", "Python", "torch", "Ray"]
    assert [line.split()[0] for line in result.stdout.splitlines()] == names
    assert f"torch {torch.__version__}" in result.stdout


def test_a_run_that_never_compresses_says_so(config: Path, tmp_path: Path) -> None:
    method = "method={kind: learned, k: 2, edge_layers: 0, dense_rounds: 1, training_rounds: 2}"
    told = "Small run: nothing will be compressed: rounds is 3, and the first 3 are dense (1)"
    for rounds, tells in ((3, True), (4, False)):
        out = tmp_path / str(rounds)
        more = ("--set", "name=Small run", "--set", f"rounds={rounds}")
        result = run("train", config, "--set", method, *more, "--out", out)
        assert result.exit_code == 0, result.output
        assert (told in " ".join(result.stdout.split())) is tells


# What can be wrong.

SETTINGS = {
    "unknown keys ['round'] (did you mean 'rounds'?); known are [": "round=3",
    "optimizer: unknown keys ['lr'] (did you mean 'step_size'?); known are [": "optimizer.lr=3",
    "method.compressor.ladder: unknown keys ['s']; known are [": "method.compressor.ladder.s=3",
    "rounds: got 'many'": "rounds=many",
    "rounds: got 0": "rounds=0",
    "optimizer.step_size: got 'small'": "optimizer.step_size=small",
    "optimizer.step_size is 'theory' and optimizer.kind is 'adam': theory knows plain steps only: "
    "give kind: sgd, or a number": "optimizer={kind: adam, step_size: theory}",
    "optimizer: step_size is -1.0": "optimizer.step_size=-1",
    "batch_size: got 'half'": "batch_size=half",
    "--set rounds: expected key=value": "rounds",
    "--set rounds=[1: the value is not YAML": "rounds=[1",
    "method: missing keys ['compressor']": "method={kind: ef21-sgdm}",
    "method.compressor: missing keys ['k']": "method.compressor=top-k",
    "method.compressor.k is 9, and the model has 8 parameters": (
        "method.compressor={kind: top-k, k: 9}"
    ),
    "law 'own': this ladder has no fixed law of its own": "method.compressor.law=own",
    "problem: cannot import 'no_such_task'": "problem=no_such_task.Task",
    "problem: module 'mlmc_ray.problems' has no 'Nothing'": "problem=mlmc_ray.problems.Nothing",
    "num_functions is 3 and there are 2 workers": "problem.num_functions=3",
}


@pytest.mark.parametrize("text", SETTINGS)
def test_a_wrong_setting_is_one_line(config: Path, text: str) -> None:
    result = run("train", config, "--set", SETTINGS[text])
    assert_one_error_line(result, text)
    assert not Path("runs").exists()


PLACES: dict[Any, str] = {
    Method: "method",
    Compressor: "method.compressor",
    Ladder: "method.compressor.ladder",
    LevelLaw: "method.compressor.law",
    Optimizer: "optimizer",
    Schedule: "schedule",
    Downlink: "downlink",
    Callback: "callbacks",
}


def test_every_shape_has_a_place() -> None:
    assert set(PLACES) == set(KINDS)


@pytest.mark.parametrize("shape", PLACES)
@pytest.mark.parametrize("command", ["train", "compare"])
def test_an_unknown_kind_is_one_line_with_those_that_are_known(
    config: Path, shape: Any, command: str
) -> None:
    place = PLACES[shape]
    result = run(command, config, "--set", f"{place}=unheard-of")
    assert_one_error_line(result, f"{place}.kind: unknown 'unheard-of'")
    assert f"known are {sorted(KINDS[shape])}" in result.stderr


def test_an_unknown_problem_is_one_line(config: Path) -> None:
    result = run("train", config, "--set", "problem=digitz")
    assert_one_error_line(result, "problem.kind: unknown 'digitz' (did you mean 'digits'?)")


def test_a_wrong_option_is_one_line(config: Path) -> None:
    assert_one_error_line(run("train", config, "--engine", "spark"), "engine: got 'spark'")
    assert_one_error_line(run("train", config, "--workers", "0"), "workers: got 0")


FILES = {
    "cannot be read: No such file or directory": None,
    "line 1: 'rounds: [1': expected ',' or ']'": "rounds: [1",
    "expected a mapping of keys to values, got None": "",
    "missing keys ['problem', 'method']": "rounds: 3",
    "compare: expected a list of mappings": "compare: 3",
}


@pytest.mark.parametrize("command", ["train", "compare"])
@pytest.mark.parametrize("text", FILES)
def test_a_wrong_file_is_one_line(tmp_path: Path, text: str, command: str) -> None:
    path = tmp_path / "wrong.yaml"
    if (content := FILES[text]) is not None:
        write(path, content)
    result = run(command, path)
    assert_one_error_line(result, text)
    assert str(path) in result.stderr


def test_a_file_of_variants_alone_is_one_line(tmp_path: Path) -> None:
    path = write(tmp_path / "list.yaml", {"compare": [{**CONFIG, "name": "A"}]})
    assert_one_error_line(run("train", path), f"to run them all: mlmc-ray compare {path}")
    assert run("compare", path, "--out", tmp_path / "out").exit_code == 0


MEASURING = """
from mlmc_ray.problems import Quadratic

class Task(Quadratic):
    def __init__(self):
        super().__init__(num_functions=2, dim=8)

    def evaluate(self, model):
        return {"bleu": 3.0}
"""


def test_a_target_of_an_unknown_measure_is_one_line(tmp_path: Path) -> None:
    module = f"{tmp_path.name}_measuring"
    (tmp_path / f"{module}.py").write_text(MEASURING)
    path = write(tmp_path / "own.yaml", {**CONFIG, "problem": f"{module}.Task"})
    result = run("compare", path, "--target", "3", "--out", tmp_path / "out")
    assert_one_error_line(result, "--target 3: the measure is 'bleu', of which it is not known")
    assert run("compare", path, "--out", tmp_path / "again").exit_code == 0


def test_a_used_directory_is_one_line(config: Path, tmp_path: Path) -> None:
    assert run("train", config, "--out", tmp_path / "out").exit_code == 0
    result = run("train", config, "--out", tmp_path / "out")
    assert_one_error_line(result, "already holds a run: give another --out")
    assert result.stdout == ""


def test_a_place_that_cannot_be_written_is_one_line(config: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for command in ("train", "compare"):
        for place in ("file", "file/below"):
            result = run(command, config, "--out", tmp_path / place)
            assert_one_error_line(result, f"{tmp_path / place}: cannot be written")
            assert result.stdout == ""


def test_a_run_that_failed_in_its_first_round_can_be_repeated(config: Path, tmp_path: Path) -> None:
    module = f"{tmp_path.name}_broken"
    (tmp_path / f"{module}.py").write_text(FAILING)
    out = tmp_path / "out"
    result = run("train", config, "--set", f"problem={module}.Task", "--out", out)
    assert result.exit_code == 2
    assert f"kept: {out}, no round done\n" in result.stdout
    assert "results:" not in result.stdout
    assert (out / "metrics.jsonl").read_text().count("\n") == 1
    result = run("train", config, "--out", out)
    assert result.exit_code == 0, result.output
    assert (out / "metrics.jsonl").read_text().count("\n") == 4
    assert module not in (out / "config.yaml").read_text()


def test_a_used_directory_of_a_comparison_is_one_line(config: Path, tmp_path: Path) -> None:
    assert run("compare", config, "--out", tmp_path / "out").exit_code == 0
    result = run("compare", config, "--out", tmp_path / "out", "--set", "rounds=2")
    assert_one_error_line(result, "already holds another run (rounds ")


def test_runs_of_one_name_are_one_line(config: Path) -> None:
    write(config, {**CONFIG, "compare": [{"name": "A b"}, {"name": "a-B"}]})
    assert_one_error_line(run("compare", config), "['A b', 'a-B'] would share the directory 'a-b'")
    assert not Path("runs").exists()


def test_a_run_that_fails_is_one_line_and_leaves_what_was_done(
    config: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    settings = ("--set", "optimizer.step_size=1e30", "--set", "rounds=50")
    result = run("train", config, "--out", out, *settings)
    assert_one_error_line(result, "lower the step size", code=1)
    assert f"results: {out}" in result.stdout
    assert (out / "metrics.jsonl").read_text().endswith("}\n")


FAILING = """
from mlmc_ray.problems import Quadratic

class Task(Quadratic):
    def __init__(self):
        super().__init__(num_functions=2, dim=8)

    def loss(self, model, batch):
        raise RuntimeError("sizes do not match:" + chr(10) + "  3 and 4")
"""


def test_an_error_in_a_task_is_one_line_with_its_place(tmp_path: Path) -> None:
    module = f"{tmp_path.name}_failing"
    (tmp_path / f"{module}.py").write_text(FAILING)
    path = write(tmp_path / "own.yaml", {**CONFIG, "problem": f"{module}.Task"})
    text = "RuntimeError while computing the loss: sizes do not match: 3 and 4"
    result = run("train", path)
    assert_one_error_line(result, f"error: round 0: worker 0: problem: {text}")
    assert f"{module}.py, line 9, in loss" in result.stderr


def test_the_traceback_is_there_for_who_asks(config: Path) -> None:
    result = run("train", config, "--traceback", "--set", "rounds=0")
    assert result.exit_code == 2
    assert "Traceback" in result.stdout
    assert result.stderr.startswith("error: ")


@pytest.mark.parametrize("package", ["server", "launch", "workers", "mlmc_ray"])
@pytest.mark.parametrize("where", ["config", "current", "package"])
def test_a_file_with_the_name_of_a_package_is_one_line(
    config: Path, tmp_path: Path, package: str, where: str
) -> None:
    directory = Path.cwd() if where == "current" else tmp_path
    file = directory / f"{package}.py"
    if where == "package":
        file = directory / package / "__init__.py"
        file.parent.mkdir()
    file.write_text("")
    module = f"{tmp_path.name}_beside"
    (tmp_path / f"{module}.py").write_text(TASK)
    write(config, {**CONFIG, "problem": f"{module}.Task"})
    result = run("train", config, "--engine", "ray")
    assert_one_error_line(result, f"{file} has the name of mlmc_ray's package {package!r}")


# The two ways of calling it.


def call(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


SCRIPT = str(Path(sys.executable).parent / "mlmc-ray")


def test_python_m_launch_is_the_same(config: Path, tmp_path: Path) -> None:
    ledgers = []
    for number, command in enumerate([[SCRIPT], [sys.executable, "-m", "launch"]]):
        done = call(*command, "train", str(config), "--out", str(tmp_path / str(number)))
        assert (done.returncode, done.stderr) == (0, "")
        ledgers.append((tmp_path / str(number) / "ledger.csv").read_text())
    assert ledgers[0] == ledgers[1]
    wrong = call(sys.executable, "-m", "launch", "train", f"{tmp_path}/missing.yaml")
    assert wrong.returncode == 2
    assert wrong.stdout == ""
    assert wrong.stderr.startswith(f"error: {tmp_path}/missing.yaml: cannot be read")
    assert wrong.stderr.count("\n") == 1


@pytest.mark.parametrize("name", ["server.py", "mlmc_ray.py"])
def test_python_m_launch_is_not_taken_in_by_files_beside_it(name: str) -> None:
    Path(name).write_text("raise RuntimeError('the wrong module')")
    done = call(sys.executable, "-m", "launch", "--help")
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {Path.cwd() / name} has the name of mlmc_ray's package")
    assert done.stderr.count("\n") == 1
