"""``mlmc-ray submit`` against a real cluster, with a dashboard and a token, of this module's own.

The cluster has its own home directory, ports and temporary directory, and is ended by the id of its
process group, so that no other cluster of the machine notices.
"""

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import pytest
import requests
import yaml

pytest.importorskip("aiohttp", reason="needs Ray's dashboard: pip install 'ray[default]'")
pytest.importorskip("opencensus", reason="needs Ray's dashboard: pip install 'ray[default]'")

pytestmark = pytest.mark.ray

SUBMIT = """
import typer
from launch.commands.submit import submit
app = typer.Typer(pretty_exceptions_enable=False)
app.command()(submit)
app()
"""
TASK = """
import os
from mlmc_ray.problems import Quadratic

class Task(Quadratic):
    def __init__(self):
        super().__init__(num_functions=2, dim=8)

    def evaluate(self, model):
        assert "FAIL" not in os.environ, "as asked"
        return super().evaluate(model)
"""
CONFIG: dict[str, Any] = {
    "name": "Own task",
    "problem": "my_task.Task",
    "method": "sgd",
    "optimizer": {"kind": "sgd", "step_size": 0.01},
    "workers": 2,
    "rounds": 3,
    "actors": 1,
}
ENDLESS = ("--set", "rounds=1000000", "--set", "evaluate_every=100", "--set", "engine=inline")
_START_S = 60


@dataclass(frozen=True, kw_only=True, slots=True)
class Head:
    """A running cluster of one node with two processors."""

    url: str
    home: Path
    token: str

    def start(self, *arguments: str, token: str | None = "", **variables: str) -> "Command":
        """Start ``mlmc-ray submit``; by default with the right token."""
        environment = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
        environment |= {"HOME": str(self.home), "PYTHONUNBUFFERED": "1", **variables}
        if token is not None:
            environment["RAY_AUTH_TOKEN"] = token or self.token
        return Command([*arguments, "--address", self.url], environment)

    def submit(self, *arguments: str, token: str | None = "", **variables: str) -> "Command":
        """Run ``mlmc-ray submit`` to its end."""
        command = self.start(*arguments, token=token, **variables)
        command.end()
        return command


class Command:
    """``mlmc-ray submit`` in a process of its own."""

    def __init__(self, arguments: list[str], environment: dict[str, str]) -> None:
        self.stdout = self.stderr = ""
        self.process = subprocess.Popen(
            [sys.executable, "-c", SUBMIT, *arguments],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            preexec_fn=_hear_sigint,
        )

    def read_until(self, text: str) -> None:
        """Wait for a line with a text."""
        output: IO[str] | None = self.process.stdout
        assert output is not None
        for line in output:
            self.stdout += line
            if text in line:
                return
        self.end()
        raise AssertionError(f"ended without {text!r}: {self.stdout}{self.stderr}")

    def end(self) -> int:
        """Wait for the end, and return the exit code."""
        more, self.stderr = self.process.communicate(timeout=120)
        self.stdout += more
        return self.process.returncode

    @property
    def code(self) -> int | None:
        """The exit code."""
        return self.process.returncode


def _hear_sigint() -> None:
    """Undo what a background job of a shell inherits: there SIGINT is ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.fixture(scope="module")
def head() -> Iterator[Head]:
    # Ray's sockets lie below, and the paths of sockets must be short.
    with tempfile.TemporaryDirectory(prefix="mr", ignore_cleanup_errors=True) as scratch:
        home = Path(scratch) / "home"
        home.mkdir()
        head = Head(url=f"http://127.0.0.1:{_port()}", home=home, token=secrets.token_hex(32))
        with (Path(scratch) / "log").open("w+") as log:
            process = _start(head, Path(scratch) / "ray", log)
            try:
                _await_node(head, process, log)
                yield head
            finally:
                process.terminate()
                with suppress(subprocess.TimeoutExpired):
                    process.wait(20)
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def _start(head: Head, directory: Path, log: IO[str]) -> "subprocess.Popen[bytes]":
    scripts = str(Path(sys.executable).parent)
    environment = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    environment |= {
        "HOME": str(head.home),
        "PATH": scripts + os.pathsep + os.environ["PATH"],  # a job starts with `python`
        "RAY_AUTH_MODE": "token",
        "RAY_prestart_worker_first_driver": "0",
        "RAY_AUTH_TOKEN": head.token,
    }
    ports = ("port", "dashboard-agent-listen-port", "ray-client-server-port", "metrics-export-port")
    arguments = [
        *("--head", "--block", "--disable-usage-stats", "--num-cpus=2", "--num-gpus=0"),
        *("--node-ip-address=127.0.0.1", f"--temp-dir={directory}"),
        f"--dashboard-port={head.url.rpartition(':')[2]}",
        *("--object-store-memory=100000000", "--min-worker-port=0", "--max-worker-port=0"),
        *(f"--{name}={_port()}" for name in ports),
    ]
    return subprocess.Popen(
        [f"{scripts}/ray", "start", *arguments],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def _await_node(head: Head, process: "subprocess.Popen[bytes]", log: IO[str]) -> None:
    headers = {"Authorization": f"Bearer {head.token}"}
    started = time.monotonic()
    while time.monotonic() - started < _START_S and process.poll() is None:
        with suppress(requests.RequestException, ValueError):
            answer = requests.get(f"{head.url}/api/v0/nodes", headers=headers, timeout=5)
            if answer.json()["data"]["result"]["total"]:
                return
        time.sleep(0.2)
    log.seek(0)
    raise AssertionError(f"the cluster has not started: {log.read()[-3000:]}")


def _port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working tree with a configuration and its problem, the current directory."""
    directory = tmp_path / "tree"
    directory.mkdir()
    (directory / "my_task.py").write_text(TASK)
    (directory / "own.yaml").write_text(yaml.safe_dump(CONFIG))
    monkeypatch.chdir(directory)
    return directory


def test_a_run_streams_its_log_and_comes_back(head: Head, tree: Path) -> None:
    command = head.start("own.yaml", "--out", "out", "--json")
    log: IO[str] | None = command.process.stderr
    assert log is not None
    lines = [(time.monotonic(), line) for line in log]
    command.end()
    text = "".join(line for _, line in lines)
    assert command.code == 0, text
    outcome = json.loads(command.stdout)
    assert outcome["status"] == "SUCCEEDED"
    assert outcome["results"] == "out"
    assert [line for _, line in lines if "results:" in line] == ["results: out\n"]
    begun = next(at for at, line in lines if "starting" in line)
    ended = next(at for at, line in lines if "SUCCEEDED" in line)
    assert ended - begun > 0.5  # the first came while the run went on

    there = tree / "out"
    names = {path.name for path in there.iterdir()}
    assert {"config.yaml", "ledger.csv", "metrics.jsonl", "model.pt", "figure.png"} <= names
    subprocess.run(
        [sys.executable, "-m", "launch", "train", "own.yaml", "--engine=inline", "--out=here"],
        check=True,
        capture_output=True,
        timeout=120,
    )
    for name in ("ledger.csv", "model.pt"):
        assert (there / name).read_bytes() == (tree / "here" / name).read_bytes()
    assert (there / "metrics.jsonl").read_text().count("\n") == CONFIG["rounds"] + 1


@pytest.mark.slow
def test_a_failing_job_ends_with_its_code(head: Head, tree: Path) -> None:
    command = head.submit("own.yaml", "--set", "engine=inline", "--env", "FAIL=1", "--out", "out")
    assert command.code == 2, command.stdout + command.stderr
    assert "as asked" in command.stdout
    assert command.stdout.endswith("\nno results\n")
    assert "packed" not in command.stdout
    assert not (tree / "out").exists()
    assert "exit code 2" in command.stdout


@pytest.mark.slow
def test_a_comparison_leaves_its_results_on_the_cluster(head: Head, tree: Path) -> None:
    runs = [{"name": "a"}, {"name": "b", "seed": 1}]
    (tree / "both.yaml").write_text(yaml.safe_dump({**CONFIG, "engine": "inline", "compare": runs}))
    there = tree / "there"
    command = head.submit("both.yaml", "--compare", "--out-on-cluster", str(there))
    assert command.code == 0, command.stdout + command.stderr
    assert f"results: {there} on the cluster" in command.stdout
    assert (there / "summary.json").is_file()
    for name in ("a", "b"):
        assert (there / name / "model.pt").is_file()
    assert not (tree / "runs").exists()


@pytest.mark.slow
def test_a_job_that_is_too_large_says_so(head: Head, tree: Path) -> None:
    command = head.start("own.yaml", "--set", "actors=8", "--set", "workers=8")
    command.read_until("Own task needs 9 processors, the cluster has 2; waiting up to 5 s")
    told = time.monotonic()
    assert command.end() == 1
    assert time.monotonic() - told < 15
    assert "Own task needs 9 processors, the cluster has 2: lower actors" in command.stderr
    assert not (tree / "runs").exists()


@pytest.mark.slow
def test_a_job_without_its_gpus_is_not_submitted(head: Head, tree: Path) -> None:
    command = head.submit("own.yaml", "--set", "device=cuda", "--workers", "4")
    assert command.code == 1
    assert "Own task needs 1 GPU, the cluster has 0: lower actors, add nodes" in command.stderr
    assert "job " not in command.stdout


@pytest.mark.slow
def test_a_token_is_asked_for(head: Head, tree: Path) -> None:
    assert "wants a token" in head.submit("own.yaml", token=None).stderr
    refused = head.submit("own.yaml", token="0" * 64)
    assert refused.code == 1
    assert "refuses the token from RAY_AUTH_TOKEN" in refused.stderr


@pytest.mark.slow
def test_an_interrupted_job_goes_on_until_it_is_stopped(head: Head, tree: Path) -> None:
    (head.home / ".ray").mkdir()
    (head.home / ".ray" / "auth_token").write_text(head.token)  # the other way to give it
    command = head.start("own.yaml", *ENDLESS, "--detach", token=None)
    command.read_until("/1000000")
    os.killpg(command.process.pid, signal.SIGINT)
    assert command.end() == 130
    job_id = command.stdout.partition("job ")[2].partition(" ")[0]
    assert f"mlmc-ray submit --attach {job_id} --address {head.url}" in command.stdout

    command = head.start("--attach", job_id, "--stop-on-interrupt", "--out", "out", token=None)
    command.read_until("/1000000")
    os.killpg(command.process.pid, signal.SIGINT)
    assert command.end() == 130
    assert f"{job_id} STOPPED" in command.stdout, command.stdout + command.stderr
    assert len((tree / "out" / "metrics.jsonl").read_text().splitlines()) > 100
