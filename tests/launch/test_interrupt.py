"""Runs that are interrupted: what they leave behind, and what they must not."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import yaml

from launch.configuration.run_config import load_config

SCRIPT = str(Path(sys.executable).parent / "mlmc-ray")
CONFIG: dict[str, Any] = {
    "problem": {"kind": "quadratic", "num_functions": 4, "dim": 8},
    "method": "sgd",
    "optimizer": {"kind": "sgd", "step_size": 0.001},
    "rounds": 1_000_000,
    "evaluate_every": 1_000_000,
}


def _hear_sigint() -> None:
    """Undo what a background job of a shell inherits: there SIGINT is ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class Command:
    """``mlmc-ray`` in a session of its own, whose processes can be told from all others."""

    def __init__(self, *arguments: str) -> None:
        self._mark = f"MLMC_RAY_TEST={uuid4().hex}"
        name, _, value = self._mark.partition("=")
        environment = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
        self.process = subprocess.Popen(
            [SCRIPT, *arguments],
            env={**environment, name: value},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            preexec_fn=_hear_sigint,
        )

    def interrupt_after(self, rounds: int, metrics: Path, number: signal.Signals) -> None:
        """Send a signal once a run has come so far; SIGINT to all, as a terminal does."""
        wait_for(lambda: metrics.exists() and metrics.read_text().count("\n") > rounds, self)
        if number == signal.SIGINT:
            os.killpg(self.process.pid, number)
        else:
            self.process.send_signal(number)

    def end(self) -> tuple[int, str, str]:
        """Wait for the end; return the exit code, and what was printed."""
        stdout, stderr = self.process.communicate(timeout=120)
        return self.process.returncode, stdout, stderr

    def processes(self) -> list[str]:
        """Return the command lines of all processes that descend from this one."""
        found = []
        for path in Path("/proc").iterdir():
            try:
                if path.name.isdigit() and self._mark in (path / "environ").read_text().split("\0"):
                    found.append((path / "cmdline").read_text().replace("\0", " "))
            except (OSError, UnicodeDecodeError):
                continue  # it has just ended, or is another user's
        return found


def wait_for(condition: Callable[[], bool], command: Command, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert command.process.poll() is None, command.end()
        assert time.monotonic() < deadline
        time.sleep(0.05)


def assert_readable(directory: Path) -> None:
    """Every line is complete, and rounds and frames agree but for the round that was open."""
    config = load_config(directory / "config.yaml")
    assert config.rounds == 1_000_000
    text = (directory / "metrics.jsonl").read_text()
    assert text.endswith("}\n")
    metrics = [json.loads(line) for line in text.splitlines()]
    assert [entry["round"] for entry in metrics] == list(range(len(metrics)))
    with (directory / "ledger.csv").open(newline="") as file:
        assert file.read().endswith("\n")
        file.seek(0)
        rows = list(csv.DictReader(file))
    assert {len(row) for row in rows} == {5}
    done = [row for row in rows if int(row["round_index"]) < len(metrics) - 1]
    assert len(rows) - len(done) in (0, 8)  # of four workers, both ways
    for direction in ("uplink", "downlink"):
        sizes = [int(row["frame_bytes"]) for row in done if row["direction"] == direction]
        assert sum(sizes) == metrics[-1][f"{direction}_bytes"]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return write(tmp_path / "config.yaml", CONFIG)


def write(path: Path, content: dict[str, Any]) -> Path:
    path.write_text(yaml.safe_dump(content))
    return path


MESSAGE = "interrupted\n"


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_can_be_read(
    config: Path, tmp_path: Path, number: signal.Signals
) -> None:
    out = tmp_path / "out"
    command = Command("train", str(config), "--engine", "inline", "--out", str(out))
    command.interrupt_after(3, out / "metrics.jsonl", number)
    code, stdout, stderr = command.end()
    assert (code, stderr) == (130, MESSAGE)
    assert f"results: {out}" in stdout
    assert_readable(out)


def test_an_interrupted_comparison_keeps_the_runs_that_ended(config: Path, tmp_path: Path) -> None:
    compare = [{"name": "First", "rounds": 2}, {"name": "Second"}, {"name": "Third"}]
    write(config, {**CONFIG, "compare": compare})
    out = tmp_path / "out"
    command = Command("compare", str(config), "--engine", "inline", "--out", str(out))
    command.interrupt_after(3, out / "second" / "metrics.jsonl", signal.SIGINT)
    code, _, stderr = command.end()
    assert (code, stderr) == (130, MESSAGE)
    assert [row["name"] for row in json.loads((out / "summary.json").read_text())] == ["First"]
    assert (out / "compare.png").read_bytes().startswith(b"\x89PNG")
    assert (out / "first" / "model.pt").exists()
    assert_readable(out / "second")
    assert not (out / "third").exists()


@pytest.mark.ray
@pytest.mark.parametrize(
    "number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)]
)
def test_an_interrupted_run_on_ray_leaves_no_process(
    config: Path, tmp_path: Path, number: signal.Signals
) -> None:
    out = tmp_path / "out"
    command = Command("train", str(config), "--set", "actors=1", "--out", str(out))
    command.interrupt_after(3, out / "metrics.jsonl", number)
    code, stdout, stderr = command.end()
    assert (code, stderr) == (130, MESSAGE)
    assert f"results: {out}" in stdout
    assert_readable(out)
    deadline = time.monotonic() + 30
    while command.processes():
        assert time.monotonic() < deadline, command.processes()
        time.sleep(0.2)


@pytest.mark.ray
def test_a_cluster_that_cannot_be_joined_is_one_line(config: Path) -> None:
    command = Command("train", str(config), "--set", "address=127.0.0.1:1")
    code, _, stderr = command.end()
    assert code == 1
    assert stderr.startswith("error: could not join the Ray cluster at 127.0.0.1:1: ")
    assert stderr.count("\n") == 1
