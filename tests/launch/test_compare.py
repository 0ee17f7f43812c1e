"""Comparisons: runs that fail alone, what an interruption leaves, and what the table says."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from matplotlib.figure import Figure
from rich.console import Console
from typer.testing import CliRunner, Result

from launch.cli import app
from launch.comparing.compare import check_ended, compare
from launch.comparing.target import Target
from launch.configuration.run_config import RunConfig, load_config
from launch.display.figures import draw
from launch.display.terminal import RunProgress
from launch.metrics import Metrics
from launch.session import Session
from launch.summary import Summary
from mlmc_ray.errors import ConfigError, RoundError
from mlmc_ray.rounds import RoundResult

CONFIG: dict[str, Any] = {
    "name": "run",
    "problem": {"kind": "quadratic", "num_functions": 2, "dim": 8},
    "method": "sgd",
    "optimizer": {"kind": "sgd", "step_size": 0.03125},
    "workers": 2,
    "rounds": 4,
    "evaluate_every": 1,
    "engine": "inline",
}
LARGE = {"kind": "sgd", "step_size": 1e30}
DIVERGING = {"name": "Diverging", "optimizer": LARGE, "rounds": 50}


def run(tmp_path: Path, entries: list[dict[str, Any]], *options: str) -> Result:
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump({**CONFIG, "compare": entries}))
    out = str(tmp_path / "out")
    return CliRunner().invoke(app, ["compare", str(path), "--out", out, *options])


def rows_of(tmp_path: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads((tmp_path / "out" / "summary.json").read_text())
    return rows


def line_of(result: Result, *words: str) -> str:
    """Return the only line that has all of the words."""
    (line,) = [line for line in result.stdout.splitlines() if all(word in line for word in words)]
    return line


# Runs that fail.


def test_a_run_that_diverges_ends_alone(tmp_path: Path) -> None:
    result = run(tmp_path, [{"name": "First"}, DIVERGING, {"name": "Third"}])
    assert result.exit_code == 1
    assert result.stderr == "error: compare: 1 of 3 runs failed: Diverging: see the lines above\n"
    line = line_of(result, "the run ends here")
    assert line.startswith("Diverging: round ")
    assert "lower the step size" in line
    first, failed, third = rows_of(tmp_path)
    assert (first["ended"], third["ended"]) == (None, None)
    assert (first["rounds"], third["rounds"]) == (4, 4)
    assert failed["ended"] in line
    assert "lower the step size" in failed["ended"]
    assert 0 < failed["rounds"] < 50
    assert failed["uplink_bytes"] > 0
    assert line_of(result, "Diverging", " diverged ")
    for name in ("first", "diverging", "third"):
        assert (tmp_path / "out" / name / "figure.png").exists()
        assert (tmp_path / "out" / name / "model.pt").exists() is (name != "diverging")
    assert f"results: {tmp_path / 'out'}" in result.stdout


FAILING = """
from mlmc_ray.problems import Quadratic

class Task(Quadratic):
    calls = 0

    def __init__(self):
        super().__init__(num_functions=2, dim=8)

    def loss(self, model, batch):
        Task.calls += 1
        if Task.calls > 5:
            raise RuntimeError("the disk is gone")
        return super().loss(model, batch)
"""


def test_a_task_that_fails_in_a_round_ends_its_run_alone(tmp_path: Path) -> None:
    module = f"{tmp_path.name}_failing"
    (tmp_path / f"{module}.py").write_text(FAILING)
    result = run(tmp_path, [{"name": "Broken", "problem": f"{module}.Task"}, {"name": "Whole"}])
    assert result.exit_code == 1
    assert "1 of 2 runs failed: Broken" in result.stderr
    broken, whole = rows_of(tmp_path)
    assert "the disk is gone" in broken["ended"]
    assert (broken["diverged"], whole["ended"], whole["rounds"]) == (False, None, 4)
    assert line_of(result, "Broken", f"failed after {broken['rounds']} rounds")


def test_the_rounds_of_a_failed_run_are_in_the_figure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[dict[str, int]] = []

    def note(runs: dict[str, list[Metrics]], title: str) -> Figure:
        drawn.append({name: len(rounds) - 1 for name, rounds in runs.items()})
        return draw(runs, title)

    monkeypatch.setattr("launch.comparing.results.draw", note)
    rows = compare(
        [load_config({**CONFIG, "name": "a"}), load_config({**CONFIG, **DIVERGING})],
        tmp_path / "out",
        Console(quiet=True),
    )
    assert drawn == [{"a": 4, "Diverging": rows[1].rounds}]  # once, as it may take long


def test_a_comparison_whose_every_run_failed_says_so(tmp_path: Path) -> None:
    result = run(tmp_path, [DIVERGING, {**DIVERGING, "name": "Too"}])
    assert result.exit_code == 1
    assert result.stderr.startswith("error: compare: every run failed: Diverging; Too: ")
    assert [row["diverged"] for row in rows_of(tmp_path)] == [True, True]


def test_only_runs_that_failed_are_refused() -> None:
    good = Summary("good", 4, {"gap": 1.0}, 8, 8, 1.0, None, None, 4, 1.0)
    check_ended([good])
    bad = Summary("bad", 4, {"gap": 1.0}, 8, 8, 1.0, None, None, 4, 1.0, ended="round 4: x")
    with pytest.raises(RoundError, match="1 of 2 runs failed: bad:"):
        check_ended([good, bad])
    seeds = [replace(bad, name=f"bad, seed {seed}") for seed in (1, 2)]
    with pytest.raises(RoundError, match="2 of 3 runs failed: bad, seed 1; bad, seed 2:"):
        check_ended([good, *seeds])


# Comparisons that end early.


def interrupting(monkeypatch: pytest.MonkeyPatch, name: str, after: int, error: Any) -> None:
    """Let an error end everything after so many rounds of a run."""

    def on_round(
        progress: RunProgress, session: Session, metrics: Metrics, result: RoundResult
    ) -> None:
        if (session.config.name, metrics["round"]) == (name, after):
            raise error

    monkeypatch.setattr(RunProgress, "on_round", on_round)


NAMES = [{"name": name} for name in ("SGD", "MARINA, MLMC", "EF21", "CSGD")]


def test_an_interrupted_comparison_names_the_runs_that_are_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupting(monkeypatch, "MARINA, MLMC", 3, KeyboardInterrupt())
    result = run(tmp_path, NAMES)
    assert result.exit_code == 130
    *_, missing, command, going_on, place = result.stdout.splitlines()
    assert missing == ("not in the table: MARINA, MLMC: 3 of 4 rounds; EF21, CSGD: not begun")
    assert command == f"to see all rounds so far: mlmc-ray report {tmp_path / 'out'}"
    assert going_on == f"to go on: the same command with --out {tmp_path / 'out'}"
    assert place == f"results: {tmp_path / 'out'}"
    assert [row["name"] for row in rows_of(tmp_path)] == ["SGD"]
    assert (tmp_path / "out" / "compare.png").is_file()
    report = str(tmp_path / "report.html")
    told = CliRunner().invoke(app, ["report", str(tmp_path / "out"), "--out", report])
    assert told.exit_code == 0, told.output


def test_an_interruption_in_the_first_run_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupting(monkeypatch, "SGD", 1, KeyboardInterrupt())
    result = run(tmp_path, NAMES[:2])
    assert "not in the table: SGD: 1 of 4 rounds; MARINA, MLMC: not begun" in result.stdout


def test_a_comparison_that_could_not_begin_names_nothing(tmp_path: Path) -> None:
    result = run(tmp_path, [{"name": "A b"}, {"name": "a-B"}])
    assert "not in the table" not in result.output


def test_a_wrong_option_of_a_problem_is_refused_before_anything_starts(tmp_path: Path) -> None:
    path = tmp_path / "wrong.yaml"
    path.write_text(yaml.safe_dump({**CONFIG, "problem": {"kind": "quadratic", "dim": -8}}))
    result = CliRunner().invoke(app, ["train", str(path), "--out", str(tmp_path / "out")])
    assert result.exit_code == 2
    assert result.stderr.startswith(f"error: {path}: problem: ")
    assert "dim is -8" in result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize("command", ["train", "compare", "sweep"])
def test_seeds_are_an_option(tmp_path: Path, command: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(CONFIG))
    over = ["--over", "workers=1,2"] if command == "sweep" else []
    result = CliRunner().invoke(app, [command, str(path), "--set", "seeds=3", *over])
    assert result.exit_code == 2
    assert "--set seeds=3: seeds is no key of a run: give --seeds to" in result.stderr


def test_a_failed_run_is_an_error_where_it_is_the_only_one(tmp_path: Path) -> None:
    path = tmp_path / "alone.yaml"
    path.write_text(yaml.safe_dump({**CONFIG, **DIVERGING}))
    result = CliRunner().invoke(app, ["train", str(path), "--out", str(tmp_path / "out")])
    assert result.exit_code == 1
    assert result.stderr.startswith("error: round ")
    assert not (tmp_path / "out" / "summary.json").exists()


# Targets and names.


def test_a_target_names_its_measure_and_gets_a_note(tmp_path: Path) -> None:
    result = run(tmp_path, [{"name": "A"}], "--target", "gap=1.5")
    assert result.exit_code == 0, result.output
    assert rows_of(tmp_path)[0]["target"] == {"measure": "gap", "value": 1.5}
    assert line_of(result, "bytes up to gap 1.5: sent until the first evaluation at or below it")
    assert "not comparable" not in result.stdout
    assert "before the first round" not in result.stdout


def test_runs_that_are_evaluated_at_other_times_are_remarked_on(tmp_path: Path) -> None:
    entries: list[dict[str, Any]] = [{"name": "A"}, {"name": "B", "evaluate_every": 4}]
    result = run(tmp_path, entries, "--target", "1.5")
    assert line_of(result, "bytes up to gap 1.5 are not comparable: evaluated every 1, 4 rounds")


def test_a_target_that_the_start_fulfils_is_remarked_on(tmp_path: Path) -> None:
    result = run(tmp_path, [{"name": "A"}], "--target", "gap=1000")
    assert result.exit_code == 0, result.output
    assert line_of(result, "A: gap 1000 is reached before the first round")


@pytest.mark.parametrize(
    ("target", "text"),
    [
        ("gap=-2", "it is never negative"),
        ("many", "expected measure=value, such as accuracy=0.9 or gap=1e-3"),
        ("accuracy=0.5", "'A' has no 'accuracy'"),
    ],
)
def test_a_target_that_makes_no_sense_is_one_line(tmp_path: Path, target: str, text: str) -> None:
    result = run(tmp_path, [{"name": "A"}], "--target", target)
    assert result.exit_code == 2
    assert text in result.stderr
    assert result.stderr.count("\n") == 1
    assert "to go on" not in result.stdout
    assert not (tmp_path / "out" / "summary.json").exists()


def test_a_target_that_does_not_fit_runs_that_have_ended_is_no_advice_to_go_on(
    tmp_path: Path,
) -> None:
    assert run(tmp_path, NAMES[:2]).exit_code == 0
    summary = (tmp_path / "out" / "summary.json").read_text()
    result = run(tmp_path, NAMES[:2], "--target", "accuracy=0.5")
    assert result.exit_code == 2
    assert result.stderr.startswith("error: --target accuracy=0.5: 'SGD' has no 'accuracy'")
    assert result.stdout == ""
    assert (tmp_path / "out" / "summary.json").read_text() == summary


def test_runs_of_one_directory_are_called_by_their_names(tmp_path: Path) -> None:
    configs: list[RunConfig] = [
        load_config({**CONFIG, "name": name}) for name in ("Good again", "other", "good AGAIN")
    ]
    with pytest.raises(ConfigError) as caught:
        compare(configs, tmp_path / "out", Console(quiet=True), Target(measure="gap", value=1.0))
    assert str(caught.value) == (
        "compare: runs ['Good again', 'good AGAIN'] would share the directory 'good-again': give "
        "each its own name"
    )
