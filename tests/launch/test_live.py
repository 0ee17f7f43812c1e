"""The live view in a terminal."""

import io
import itertools
import math
import time
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from launch import load_config
from launch.comparing.running import run_one
from launch.display.live import LiveProgress, histogram, sparkline
from launch.session import Session
from mlmc_ray.rounds import RoundResult

CONFIG: dict[str, Any] = {
    "name": "hello",
    "problem": "digits",
    "method": {
        "kind": "compressed-sgd",
        "compressor": {"kind": "mlmc", "ladder": {"kind": "s-top-k", "segment_size": 0.1}},
    },
    "optimizer": {"kind": "sgd", "step_size": 0.1},
    "engine": "inline",
    "rounds": 6,
    "evaluate_every": 3,
    "observe_every": 2,
}


def console_of(*, terminal: bool, width: int = 100) -> tuple[Console, io.StringIO]:
    file = io.StringIO()
    environment = {"TERM": "xterm"}
    console = Console(
        file=file, force_terminal=terminal, width=width, height=40, _environ=environment
    )
    return console, file


@pytest.mark.parametrize(
    ("values", "width", "line"),
    [
        ([0, 1, 2, 3, 4, 5, 6, 7], 8, "▁▂▃▄▅▆▇█"),
        ([0, 9, 1, 8, 2, 7], 3, "█▅▁"),  # the last of each pair
        ([7.0, 0.0], 8, "█▁"),
        ([3.0, 3.0], 8, "▅▅"),
        ([1.0, 10.0, 100.0, 1000.0], 4, "▁▃▆█"),  # far apart: by logarithm
        ([0.0, math.nan, 1.0, math.inf], 4, "▁ █ "),
        ([-1.7e308, 0.0, 1.7e308], 3, "▁▅█"),  # the range is more than a float holds
        ([math.nan], 4, " "),
        ([], 4, ""),
    ],
)
def test_a_curve_in_one_line(values: list[float], width: int, line: str) -> None:
    assert sparkline(values, width) == line


@pytest.mark.parametrize(
    ("counts", "width", "line"),
    [([8, 4, 0, 1], 8, "█▅ ▂"), ([4, 4, 0, 0, 1, 0], 3, "█ ▂"), ([0], 3, " ")],
)
def test_counts_in_one_line(counts: list[int], width: int, line: str) -> None:
    assert histogram(counts, width) == line


def test_the_view_shows_what_the_run_has_come_to(tmp_path: Path) -> None:
    console, file = console_of(terminal=True)
    config = load_config(CONFIG)
    with LiveProgress(console, config.name, config.rounds) as progress:
        summary, metrics = run_one(config, tmp_path / "run", progress)
        progress.note("a line above")
    shown = file.getvalue()
    assert "a line above" in shown
    last = shown[shown.rindex("hello  4 workers, 38,282 parameters") :]
    assert "6/6" in last
    assert f"{metrics[-1]['train_loss']:.4g}" in last
    assert f"{summary.measures['accuracy']:.1%}" in last
    for label in ("loss", "accuracy", "up a round", "down a round", "relative error", "rounds/s"):
        assert label in last
    draws = 3 * config.workers
    assert f", {draws} draws" in last
    assert "slowest" in last
    assert "times the mean" in last
    assert "bits" not in last


def test_the_view_fits_a_narrow_terminal(tmp_path: Path) -> None:
    console, file = console_of(terminal=True, width=60)
    config = load_config(CONFIG)
    with LiveProgress(console, "a name that is much too long " * 4, config.rounds) as progress:
        run_one(config, tmp_path / "run", progress)
    frame = file.getvalue()[file.getvalue().rindex("loss") :]
    assert all(len(line) <= 200 for line in frame.splitlines())
    assert "slowest" in frame
    assert "times the mean" in frame


def test_it_is_drawn_four_times_a_second_at_most() -> None:
    console, _ = console_of(terminal=True)
    drawn: list[float] = []
    with Session({**CONFIG, "rounds": 40}) as session:
        progress = LiveProgress(console, "hello", 40)
        view = progress._view
        draw = view.drawn

        def counted(width: int) -> Any:
            drawn.append(time.monotonic())
            return draw(width)

        view.drawn = counted  # type: ignore[method-assign]
        with progress:
            progress.on_start(session)
            progress.begin("accuracy")
            started, before = time.monotonic(), len(drawn)
            while time.monotonic() < started + 1.5:
                progress.on_round(session, session.metrics[-1], RoundResult())
            seconds = time.monotonic() - started
            during = len(drawn) - before
    assert during <= 4 * seconds + 2


@pytest.mark.parametrize("kept", [0, 1])
def test_without_a_terminal_it_says_so_and_shows_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept: int
) -> None:
    monkeypatch.setattr("launch.display.terminal.number_kept", lambda: kept)
    console, file = console_of(terminal=False)
    config = load_config(CONFIG)
    with LiveProgress(console, config.name, config.rounds) as progress:
        run_one(config, tmp_path / "run", progress)
    lines = file.getvalue().splitlines()
    assert lines[0].startswith("--live needs a terminal, and this is none")
    compiling = "" if kept else ": compiling kernels (once, up to a minute)"
    assert lines[1] == f"hello  starting{compiling}"
    assert [line.split()[1] for line in lines[3:]] == ["3/6", "6/6"]


def test_a_branch_begins_with_the_curves_of_its_past() -> None:
    console, _ = console_of(terminal=True)
    with Session(CONFIG) as session:
        session.run(4)
        progress = LiveProgress(console, "branch", 6)
        with session.branch("branch") as branch:
            progress.on_start(branch)
            progress.begin("accuracy")
    rows = {label: (line, said) for label, line, said in progress._view._rows(20)}
    assert len(rows["loss"][0]) == 4
    assert len(rows["accuracy"][0]) == 3  # before the first round, at 3, and at the end
    up = [m["uplink_bytes"] for m in session.metrics]
    assert len(rows["up a round"][0]) == 4
    assert progress._view._curves["uplink"] == [b - a for a, b in itertools.pairwise(up)]
    assert "slowest" not in rows
