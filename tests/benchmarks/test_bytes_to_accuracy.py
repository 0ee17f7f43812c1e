"""Bytes to accuracy: cells that run once, and what is read from them."""

import dataclasses
import io
import math
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from benchmarks.bytes_to_accuracy.__main__ import app
from benchmarks.bytes_to_accuracy.cells import Outcome, best_step, read, write
from benchmarks.bytes_to_accuracy.figure import draw
from benchmarks.bytes_to_accuracy.plan import CONTENDERS, SEEDS, SETTINGS, Cell, Contender, Setting
from benchmarks.bytes_to_accuracy.report import page
from benchmarks.bytes_to_accuracy.running import run_setting
from launch.configuration.run_config import load_config
from launch.many.progress import RunsProgress

SETTING = Setting(
    name="digits",
    problem="digits",
    workers=2,
    rounds=4,
    batch_size=8,
    evaluate_every=2,
    steps=(0.01, 0.02, 1e30),
    target=0.05,
)
SGD = Contender(name="SGD", method="sgd")


def _run(setting: Setting, contender: Contender, out: Path) -> list[str]:
    told = io.StringIO()
    with RunsProgress(Console(file=told, width=400)) as progress:
        run_setting(setting, [contender], out, progress)
    return told.getvalue().splitlines()


def _outcome(*accuracies: float, diverged: str | None = None) -> Outcome:
    sent = tuple(1000.0 * at for at in range(len(accuracies)))
    return Outcome(sent=sent, accuracies=accuracies, diverged=diverged, seconds=1.0)


def _keep(out: Path, step: float, *outcomes: Outcome) -> None:
    """Write the cells of a step size, one a seed."""
    for seed, outcome in zip(SEEDS, outcomes, strict=False):
        cell = Cell(setting=SETTING, contender=SGD, step_size=step, seed=seed)
        write(cell, outcome, out)


def test_cells_run_once_and_are_read_by_the_report(tmp_path: Path) -> None:
    lines = _run(SETTING, SGD, tmp_path)
    assert len(lines) == 3 + 2  # all steps with the first seed, the best with two others
    assert "lower the step size" in lines[2]
    assert _run(SETTING, SGD, tmp_path) == []
    found = read(Cell(setting=SETTING, contender=SGD, step_size=0.01, seed=SEEDS[0]), tmp_path)
    assert found is not None
    assert len(found.accuracies) == 3
    dense = 4 * 38_282  # bytes of float32; a frame has a header beside them
    assert dense < found.sent[1] / 2 < 1.001 * dense
    row = page([SETTING], [SGD], tmp_path).splitlines()[-1]
    assert row.startswith("| SGD | ")
    assert "e+30" not in row
    assert len(draw([SETTING], [SGD], tmp_path).axes[0].lines) == 2  # and the target


def test_a_raised_version_or_another_plan_is_another_cell() -> None:
    cell = Cell(setting=SETTING, contender=SGD, step_size=0.1, seed=0)
    raised = dataclasses.replace(cell, contender=dataclasses.replace(SGD, version=2))
    longer = dataclasses.replace(cell, setting=dataclasses.replace(SETTING, rounds=6))
    other_target = dataclasses.replace(cell, setting=dataclasses.replace(SETTING, target=0.5))
    paths = [some.path(Path()) for some in (cell, raised, longer)]
    assert len(set(paths)) == 3
    assert other_target.path(Path()) == paths[0]  # which needs no new run


def test_every_cell_of_the_plan_has_a_configuration_and_a_file_of_its_own() -> None:
    cells = [
        Cell(setting=setting, contender=contender, step_size=step, seed=seed)
        for setting in SETTINGS
        for contender in CONTENDERS
        for step in setting.steps
        for seed in SEEDS
    ]
    assert len({cell.path(Path()) for cell in cells}) == len(cells)
    for cell in cells[:: len(SEEDS)]:
        load_config(cell.config())


def test_a_target_is_reached_where_the_neighbours_hold_it() -> None:
    outcome = _outcome(0.1, 0.9, 0.1, 0.6, 0.6, 0.6, 0.6)
    assert outcome.bytes_to(0.45) == 2000  # (0.9 + 0.1 + 0.6) / 3
    assert outcome.bytes_to(0.55) == 4000
    assert outcome.bytes_to(0.7) is None  # a single evaluation does not count
    assert _outcome(0.1, 0.8, 0.8).bytes_to(0.4) == 1000  # not at the start, with nothing sent
    assert outcome.final is not None
    assert math.isclose(outcome.final, (0.1 + 4 * 0.6) / 5)


def test_a_run_that_diverged_is_not_the_best() -> None:
    outcomes = {0.1: _outcome(0.2), 0.2: _outcome(0.9, diverged="it did"), 0.4: _outcome(0.1)}
    assert best_step(outcomes) == 0.1
    assert best_step({0.2: outcomes[0.2]}) is None


def test_a_table_says_how_many_seeds_reached_it_and_where_the_grid_ends(tmp_path: Path) -> None:
    setting = dataclasses.replace(SETTING, target=0.5)
    _keep(tmp_path, 0.01, _outcome(0.0, 0.4, 0.6, 0.6), _outcome(0.0, 0.0), _outcome(0.5, 0.9, 0.9))
    _keep(tmp_path, 0.02, _outcome(0.0, 0.6, 0.6, 0.0))
    row = page([setting], [SGD], tmp_path).splitlines()[-1]
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[1] == "1.5 kB (2 of 3)"  # 2 kB and 1 kB
    assert cells[2] == "2 kB (0.01)"
    assert cells[3].startswith("38.9% ± ")
    assert cells[5] == "0.01 (end of the grid, 1 of 3 to come)"


def test_a_method_without_cells_has_no_row_and_no_line(tmp_path: Path) -> None:
    other = Contender(name="other", method="sgd", version=2)
    with pytest.raises(ValueError, match="has no cells of"):
        draw([SETTING], [SGD, other], tmp_path)
    _keep(tmp_path, 0.01, _outcome(0.0, 0.4, 0.6))
    assert "other" not in page([SETTING], [SGD, other], tmp_path)
    panels = draw([SETTINGS[0], SETTING], [SGD, other], tmp_path).axes
    assert [len(panel.lines) for panel in panels] == [2]  # one panel: the method, and the target


def test_the_report_is_written_for_what_is_asked(tmp_path: Path) -> None:
    asked = ["report", "--out", str(tmp_path), "--problem", "digits", "--workers", "8"]
    digits = next(s for s in SETTINGS if s.title == "digits, 8 workers")
    for contender in CONTENDERS[:2]:
        cell = Cell(setting=digits, contender=contender, step_size=digits.steps[1], seed=SEEDS[0])
        write(cell, _outcome(0.1, 0.95, 0.95), tmp_path)
    found = CliRunner().invoke(app, [*asked, "--only", CONTENDERS[1].name])
    assert found.exit_code == 0, found.output
    rows = (tmp_path / "report.md").read_text(encoding="utf-8").splitlines()
    assert [row.split("|")[1].strip() for row in rows if row.startswith("| ")] == [
        "method",
        "---",
        CONTENDERS[1].name,
    ]
    assert (tmp_path / "figure.png").stat().st_size > 0
    assert CliRunner().invoke(app, [*asked, "--only", "nothing"]).exit_code == 2
    assert CliRunner().invoke(app, [*asked, "--without", ""]).exit_code == 2


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"target": 81.0}, "target is 81.0: give a fraction"),
        ({"evaluate_every": 3}, "evaluate_every is 3: give a divisor of 4 rounds"),
        ({"steps": (0.2, 0.1)}, "give increasing step sizes"),
    ],
)
def test_a_setting_that_cannot_be_is_refused(changed: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        dataclasses.replace(SETTING, **changed)  # type: ignore[arg-type]
