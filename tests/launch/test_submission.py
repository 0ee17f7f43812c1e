"""Jobs: what is submitted, what comes back, and what is said when it does not."""

import io
import json
import os
import re
import struct
import threading
import time
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import IO, Any

import pytest
import typer
import yaml
from rich.console import Console

from launch.commands.submit import _stops
from launch.configuration.run_config import load_config
from launch.display.results import telling_where
from launch.submission import on_cluster
from launch.submission.access import dashboard_url, headers_of, token_source
from launch.submission.capacity import Capacity, capacity_of
from launch.submission.dashboard import Dashboard
from launch.submission.following import Outcome
from launch.submission.job import EXCLUDES, job_of, processors_of
from launch.submission.results import (
    archive_name,
    check_empty,
    fetch_results,
    manifest_name,
    pack,
    unpack,
)
from launch.submission.watching import watch
from mlmc_ray.errors import ClusterError, ConfigError

CONFIG: dict[str, Any] = {
    "name": "Small run",
    "problem": {"kind": "quadratic", "num_functions": 4, "dim": 8},
    "method": "sgd",
    "optimizer": {"kind": "sgd", "step_size": 0.01},
    "rounds": 3,
}


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "tree" / "configs").mkdir(parents=True)
    path = tmp_path / "tree" / "configs" / "small run.yaml"
    path.write_text(yaml.safe_dump(CONFIG))
    monkeypatch.chdir(tmp_path / "tree")
    return path


class TestJob:
    def test_the_command_runs_the_same_configuration(self, config: Path) -> None:
        job = job_of(config, ["rounds=5"], num_cpus=0.5)
        assert job.job_id.startswith("small-run-")
        assert job.entry_point == (
            f"python -m launch.submission.on_cluster --job {job.job_id} -- train "
            "'configs/small run.yaml' --set rounds=5 --set address=auto"
        )
        assert (job.name, job.processors, job.num_cpus) == ("Small run", 2, 0.5)
        assert job_of(config).job_id != job.job_id

    def test_a_comparison_needs_what_its_largest_run_needs(self, config: Path) -> None:
        runs = [{"name": "a", "actors": 3}, {"name": "b", "engine": "inline"}]
        config.write_text(yaml.safe_dump({**CONFIG, "compare": runs}))
        job = job_of(config, compare=True, keep="/shared/x")
        assert job.processors == 4
        assert f"--keep /shared/x -- compare '{config.parent.name}/" in job.entry_point

    @pytest.mark.parametrize(
        ("settings", "processors"),
        [
            ([], 2),
            (["actors=3"], 4),
            (["actors=30", "workers=4"], 5),
            (["engine=inline"], 0),
        ],
    )
    def test_processors(self, config: Path, settings: list[str], processors: int) -> None:
        assert processors_of(load_config(config, settings)) == processors

    @pytest.mark.parametrize(
        ("settings", "gpus"),
        [
            ([], 0),
            (["device=cuda"], 1),
            (["device=cuda", "actors=30", "workers=4", "gpus_per_actor=0.5"], 2),
            (["device=cuda", "engine=inline"], 0),
        ],
    )
    def test_gpus(self, config: Path, settings: list[str], gpus: float) -> None:
        assert job_of(config, settings).gpus == gpus

    def test_a_configuration_elsewhere_is_refused(self, config: Path, tmp_path: Path) -> None:
        (tmp_path / "elsewhere.yaml").write_text(config.read_text())
        with pytest.raises(ConfigError, match="not below the current directory"):
            job_of(tmp_path / "elsewhere.yaml")

    @pytest.mark.parametrize(
        ("wrong", "message"),
        [
            ({"wheel": Path("no.whl")}, "no.whl is no wheel"),
            ({"keep": "runs/x"}, "keep is 'runs/x': give an absolute path"),
            ({"num_cpus": -1}, "num_cpus is -1: give 0 or more"),
        ],
    )
    def test_wrong_values_are_quoted(
        self, config: Path, wrong: dict[str, Any], message: str
    ) -> None:
        with pytest.raises(ConfigError, match=message):
            job_of(config, **wrong)

    def test_names_become_fit_for_a_path(self, config: Path) -> None:
        job = job_of(config)
        assert replace(job, name="Ünï / 1%", job_id="").job_id.startswith("n-1-")
        assert replace(job, name="%", job_id="").job_id.startswith("run-")

    def test_the_tree_travels_without_what_it_made(self, config: Path) -> None:
        with job_of(config, environment={"A": "1"}).runtime_env() as described:
            assert described["working_dir"] == str(Path.cwd())
            assert described["env_vars"]["A"] == "1"
            assert {".git", "runs", ".venv", "__pycache__"} <= set(described["excludes"])
            assert described["excludes"] == list(EXCLUDES)

    def test_a_wheel_takes_the_place_of_the_packages(self, config: Path, tmp_path: Path) -> None:
        for name in ("launch", "runs", "data"):
            (config.parents[1] / name).mkdir()
        wheel = tmp_path / "mlmc_ray-1-py3-none-any.whl"
        wheel.write_bytes(b"wheel")
        with job_of(config, wheel=wheel).runtime_env() as described:
            staged = Path(described["working_dir"])
            assert sorted(path.name for path in staged.iterdir()) == [
                "configs",
                "data",
                wheel.name,
            ]
            assert (staged / "configs" / config.name).read_text() == config.read_text()
            (installed,) = described["pip"]
            assert installed.endswith(f"}}/{wheel.name}")
        assert not staged.exists()
        assert config.exists()


class Files:
    """A log directory, as the dashboard of a cluster serves it."""

    def __init__(self, where: Path) -> None:
        self.where = where

    def read_log_file(self, job_id: str, name: str, sink: IO[bytes], longest: int) -> None:
        sink.write((self.where / name).read_bytes()[: longest + 1])


@pytest.fixture
def there(tmp_path: Path) -> Path:
    """A log directory with the packed results of the job ``j``."""
    run = tmp_path / "run"
    (run / "deeper").mkdir(parents=True)
    (run / "config.yaml").write_text("a: 1\n")
    (run / "deeper" / "model.pt").write_bytes(bytes(range(256)) * 100)
    where = tmp_path / "logs"
    where.mkdir()
    pack(run, "j", where)
    return where


class TestResults:
    def test_they_come_back_equal(self, there: Path, tmp_path: Path) -> None:
        out = tmp_path / "out" / "here"
        assert fetch_results(Files(there), "j", out) == 2
        assert contents(out) == contents(tmp_path / "run")
        with pytest.raises(ConfigError, match="is there: give another --out"):
            fetch_results(Files(there), "j", out)

    def test_nothing_comes_back_as_nothing(self, tmp_path: Path) -> None:
        (tmp_path / "empty").mkdir()
        pack(tmp_path / "empty", "k", tmp_path)
        assert not (tmp_path / archive_name("k")).exists()
        assert fetch_results(Files(tmp_path), "k", tmp_path / "out") == 0

    @pytest.mark.parametrize("change", ["cut", "longer", "flipped"])
    def test_a_damaged_archive_is_refused(self, there: Path, tmp_path: Path, change: str) -> None:
        archive = there / archive_name("j")
        sent = archive.read_bytes()
        other = {
            "cut": sent[:-1],
            "longer": sent + b"x",
            "flipped": sent[:40] + bytes([sent[40] ^ 1]) + sent[41:],
        }
        archive.write_bytes(other[change])
        with pytest.raises(ClusterError, match="length or SHA-256"):
            fetch_results(Files(there), "j", tmp_path / "out")
        assert not (tmp_path / "out").exists()

    @pytest.mark.parametrize(
        "text",
        ["", "[]", "{}", '{"num_bytes": -1, "sha256": ""}', '{"num_bytes": 1, "sha256": 5}', "{"],
    )
    def test_a_wrong_manifest_is_refused(self, there: Path, tmp_path: Path, text: str) -> None:
        (there / manifest_name("j")).write_text(text)
        with pytest.raises(ClusterError, match="the results of j are not as they should be"):
            fetch_results(Files(there), "j", tmp_path / "out")

    @pytest.mark.parametrize(
        "name", ["../evil", "/evil", "a/../../evil", "a\\..\\evil", "C:evil", "."]
    )
    def test_a_file_outside_is_refused(self, tmp_path: Path, name: str) -> None:
        with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
            file.writestr("good", "x")
            file.writestr(name, "x")
        with pytest.raises(ClusterError, match="would lie outside"):
            unpack(tmp_path / "a.zip", tmp_path / "out", "j")
        assert not (tmp_path / "out").exists()

    def test_no_archive_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "a.zip").write_bytes(b"PK not")
        with pytest.raises(ClusterError, match="not as they should be"):
            unpack(tmp_path / "a.zip", tmp_path / "out", "j")

    @pytest.mark.parametrize("packing", ["ZIP_STORED", "ZIP_DEFLATED", "ZIP_BZIP2", "ZIP_LZMA"])
    def test_damage_within_an_archive_is_told(self, tmp_path: Path, packing: str) -> None:
        with zipfile.ZipFile(tmp_path / "a.zip", "w", getattr(zipfile, packing)) as file:
            file.writestr("name", bytes(range(256)) * 4)
        sent = bytearray((tmp_path / "a.zip").read_bytes())
        start = 30 + len("name")  # a local header has 30 bytes and the name
        sent[start : start + 24] = b"\xff" * 24
        (tmp_path / "a.zip").write_bytes(sent)
        with pytest.raises(ClusterError, match="the archive is damaged"):
            unpack(tmp_path / "a.zip", tmp_path / "out", "j")

    def test_a_name_that_is_no_text_is_damage(self, tmp_path: Path) -> None:
        with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
            file.writestr("é", "x")
        sent = (tmp_path / "a.zip").read_bytes().replace("é".encode(), b"\xff\xff")
        (tmp_path / "a.zip").write_bytes(sent)
        with pytest.raises(ClusterError, match="the archive is damaged"):
            unpack(tmp_path / "a.zip", tmp_path / "out", "j")

    def test_no_more_is_written_than_the_archive_says(self, tmp_path: Path) -> None:
        with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as file:
            file.writestr("name", bytes(1 << 22))
        sent = (tmp_path / "a.zip").read_bytes()
        true, said = struct.pack("<L", 1 << 22), struct.pack("<L", 1000)
        (tmp_path / "a.zip").write_bytes(sent.replace(true, said))
        with pytest.raises(ClusterError, match="the archive is damaged"):
            unpack(tmp_path / "a.zip", tmp_path / "out", "j")
        assert (tmp_path / "out" / "name").stat().st_size <= 1000

    def test_too_much_is_refused(
        self, there: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        unpacked = len("a: 1\n") + 25_600
        monkeypatch.setattr("launch.submission.results._LARGEST", unpacked - 1)
        with pytest.raises(ClusterError, match=r"25.6 kB come back: run with --out-on-cluster"):
            fetch_results(Files(there), "j", tmp_path / "out")
        monkeypatch.setattr("launch.submission.results._LARGEST", 10)
        with pytest.raises(ClusterError, match="at most 10 B come back"):
            fetch_results(Files(there), "j", tmp_path / "out")
        assert contents(tmp_path / "out") == {}

    def test_a_full_disk_is_told_before_it_is_full(
        self, there: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def usage(place: Path) -> Any:
            return type("Usage", (), {"free": 2000})

        monkeypatch.setattr("shutil.disk_usage", usage)
        with pytest.raises(ConfigError, match=r"has room for 2 kB, and .* of j are 25.6 kB"):
            fetch_results(Files(there), "j", tmp_path / "out")
        assert contents(tmp_path / "out") == {}

    def test_a_file_that_is_twice_there_is_refused(self, tmp_path: Path) -> None:
        with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
            file.writestr("a/b", "x")
            file.writestr("a//b", "y")
        with pytest.raises(ClusterError, match="holds a file twice"):
            unpack(tmp_path / "a.zip", tmp_path / "out", "j")

    def test_a_directory_in_use_is_refused(self, tmp_path: Path) -> None:
        check_empty(tmp_path / "none")
        (tmp_path / "file").touch()
        with pytest.raises(ConfigError, match="is not empty: give another --out"):
            check_empty(tmp_path)


class TestInterrupt:
    @pytest.mark.parametrize("wanted", [True, False])
    def test_an_option_is_not_asked_about(self, wanted: bool) -> None:
        assert _stops(wanted) is wanted

    @pytest.mark.parametrize("answer", [True, False])
    def test_on_a_terminal_it_asks(self, answer: bool, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("sys.stdin", SimpleNamespace(isatty=lambda: True))
        monkeypatch.setattr("typer.confirm", lambda *_, **__: answer)
        assert _stops(None) is answer

    def test_a_second_one_leaves_the_job(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def abort(*_: object, **__: object) -> bool:
            raise typer.Abort

        monkeypatch.setattr("sys.stdin", SimpleNamespace(isatty=lambda: True))
        monkeypatch.setattr("typer.confirm", abort)
        assert not _stops(None)


def contents(directory: Path) -> dict[str, bytes]:
    paths = (path for path in directory.rglob("*") if path.is_file())
    return {str(path.relative_to(directory)): path.read_bytes() for path in paths}


class TestOnCluster:
    @pytest.fixture
    def scratch(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        """Where results lie before they are packed; the run writes one file."""

        def run(arguments: list[str], variables: dict[str, str]) -> int:
            out = Path(arguments[-1])
            out.mkdir()
            (out / "model.pt").write_text("x")
            return 0

        scratch = tmp_path / "scratch"
        scratch.mkdir()
        monkeypatch.setattr("tempfile.tempdir", str(scratch))
        monkeypatch.setattr(on_cluster, "_run", run)
        return scratch

    def test_results_that_are_packed_are_not_kept_twice(
        self, scratch: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(on_cluster, "log_directory", lambda: tmp_path)
        assert on_cluster.main(["--job", "j", "--", "train", "c.yaml"]) == 0
        assert (tmp_path / archive_name("j")).is_file()
        assert list(scratch.iterdir()) == []

    def test_a_run_without_results_packs_nothing(
        self,
        scratch: Path,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        monkeypatch.setattr(on_cluster, "log_directory", lambda: tmp_path)
        monkeypatch.setattr(on_cluster, "_run", lambda *_: 2)
        assert on_cluster.main(["--job", "j", "--", "train", "c.yaml"]) == 2
        assert not (tmp_path / archive_name("j")).exists()
        assert capsys.readouterr().out == ""
        assert list(scratch.iterdir()) == []

    def test_a_directory_that_results_leave_is_not_named(
        self, scratch: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        given: list[dict[str, str]] = []

        def run(_: object, variables: dict[str, str]) -> int:
            given.append(variables)
            return 0

        monkeypatch.setattr(on_cluster, "log_directory", lambda: tmp_path)
        monkeypatch.setattr(on_cluster, "_run", run)
        on_cluster.main(["--job", "j", "--", "train", "c.yaml"])
        for name, value in given[0].items():
            monkeypatch.setenv(name, value)
        console = Console(file=io.StringIO())
        with telling_where(console, tmp_path):
            (tmp_path / "model.pt").touch()
        assert console.file.getvalue() == ""  # type: ignore[attr-defined]

    def test_results_that_cannot_be_packed_are_kept(
        self,
        scratch: Path,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        def fail(*_: object) -> None:
            raise OSError("no space left")

        monkeypatch.setattr(on_cluster, "log_directory", lambda: tmp_path)
        monkeypatch.setattr(on_cluster, "pack", fail)
        assert on_cluster.main(["--job", "j", "--", "train", "c.yaml"]) == 1
        said = capsys.readouterr().out
        found = re.search("no space left.*: the results are kept in (.*) on .", said)
        assert found, said
        assert (Path(found[1]) / "model.pt").read_text() == "x"

    def test_a_log_directory_that_cannot_be_written_ends_the_job_at_once(
        self, scratch: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(on_cluster, "log_directory", lambda: tmp_path / "none")
        with pytest.raises(SystemExit, match=r"none on .* cannot be written .*--out-on-cluster"):
            on_cluster.main(["--job", "j", "--", "train", "c.yaml"])
        assert list(scratch.iterdir()) == []

    def test_results_that_stay_are_not_mixed_with_others(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        ran: list[list[str]] = []

        def run(arguments: list[str]) -> int:
            ran.append(arguments)
            return 0

        monkeypatch.setattr(on_cluster, "_run", run)
        command = ["--job", "j", "--keep", str(tmp_path / "a" / "b"), "--", "train", "c.yaml"]
        assert on_cluster.main(command) == 0
        assert ran == [["train", "c.yaml", "--out", str(tmp_path / "a" / "b")]]
        (tmp_path / "a" / "b" / "model.pt").touch()
        with pytest.raises(SystemExit, match=r"b on .* is not empty: give another --out-on-cl"):
            on_cluster.main(command)
        command[3] = "/dev/null/x"
        with pytest.raises(SystemExit, match=r"x on .* cannot be written \(Not a directory\)"):
            on_cluster.main(command)
        assert len(ran) == 1


def test_why_a_failed_job_has_no_results_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Silent:
        url = "http://head:1"

        def details(self, job_id: str) -> Any:
            return type("Details", (), {"metadata": {}})

        def read_log_file(self, *_: object) -> None:
            raise ClusterError("the node is gone")

    failed = Outcome(job_id="j", status="FAILED", exit_code=3, message="m")
    monkeypatch.setattr("launch.submission.watching.follow", lambda *_: failed)
    told: list[str] = []
    dashboard: Any = Silent()
    outcome = watch(
        dashboard, "j", out=tmp_path, stops=lambda: False, tell=told.append, write=told.append
    )
    assert outcome == failed
    assert told[-1] == (
        "no results: the node is gone; try again: mlmc-ray submit --attach j --address "
        "http://head:1"
    )


@pytest.mark.parametrize(
    ("status", "results", "text"),
    [
        ("SUCCEEDED", "/shared/x", "results: /shared/x on the cluster"),
        ("FAILED", None, "what it has written, if anything, is in /shared/x on the cluster"),
    ],
)
def test_results_that_stay_there_are_claimed_of_a_success_only(
    status: str, results: str | None, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = Outcome(job_id="j", status=status, exit_code=0, message="m")
    monkeypatch.setattr("launch.submission.watching.follow", lambda *_: ended)
    about = SimpleNamespace(metadata={"kept": "/shared/x"})
    dashboard: Any = SimpleNamespace(url="http://head:1", details=lambda _: about)
    told: list[str] = []
    outcome = watch(
        dashboard, "j", out=None, stops=lambda: False, tell=told.append, write=told.append
    )
    assert outcome.results == results
    assert told[-1] == text


class TestAddress:
    @pytest.mark.parametrize(
        ("address", "environment", "url"),
        [
            (None, {}, "http://127.0.0.1:8265"),
            ("head:8265", {}, "http://head:8265"),
            ("https://head/ray/", {}, "https://head/ray"),
            ("http://a:1", {"RAY_API_SERVER_ADDRESS": "http://b:2"}, "http://a:1"),
            (None, {"RAY_API_SERVER_ADDRESS": "b:2", "RAY_ADDRESS": "c:6379"}, "http://b:2"),
            (None, {"RAY_ADDRESS": "http://c:3"}, "http://c:3"),
        ],
    )
    def test_where_the_dashboard_is(
        self, address: str | None, environment: dict[str, str], url: str
    ) -> None:
        assert dashboard_url(address, environment) == url

    @pytest.mark.parametrize(
        ("address", "environment", "named"),
        [
            ("ray://head:10001", {}, "--address is 'ray://head:10001'"),
            ("auto", {}, "--address is 'auto'"),
            (None, {"RAY_ADDRESS": "head:6379"}, "RAY_ADDRESS is 'head:6379'"),
        ],
    )
    def test_another_kind_of_address_is_refused(
        self, address: str | None, environment: dict[str, str], named: str
    ) -> None:
        with pytest.raises(ConfigError, match=f"{named}.*http://HOST:8265"):
            dashboard_url(address, environment)

    @pytest.mark.parametrize("scheme", ["http://", "", "ftp://", "http://u:"])
    def test_a_password_is_refused_and_not_told(self, scheme: str) -> None:
        with pytest.raises(ConfigError, match="holds an '@': give http://HOST:8265") as caught:
            dashboard_url(f"{scheme}user:secret@head:8265", {})
        assert "secret" not in str(caught.value)

    @pytest.mark.parametrize("token", ["se\ncret", "secret€", "se\x00cret"])
    def test_a_token_that_no_header_carries_is_refused_and_not_told(self, token: str) -> None:
        with pytest.raises(ConfigError, match="the token of RAY_AUTH_TOKEN has") as caught:
            headers_of({"RAY_AUTH_TOKEN": token})
        assert token not in str(caught.value)

    def test_where_the_token_is(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HOME", str(tmp_path))
        assert token_source({}) is None
        (tmp_path / ".ray").mkdir()
        (tmp_path / ".ray" / "auth_token").write_text("t\n")
        assert token_source({}) == str(tmp_path / ".ray" / "auth_token")
        assert token_source({"RAY_AUTH_TOKEN_PATH": "p"}) == "RAY_AUTH_TOKEN_PATH"
        both = {"RAY_AUTH_TOKEN": "t", "RAY_AUTH_TOKEN_PATH": "p"}
        assert token_source(both) == "RAY_AUTH_TOKEN"
        assert token_source({**both, "RAY_AUTH_MODE": "disabled"}) is None


class TestCapacity:
    @pytest.mark.parametrize(
        ("settings", "text"),
        [
            ([], None),
            (["actors=4", "workers=4"], "Small run needs 5 processors, the cluster has 4"),
            (["device=cuda"], None),
            (["device=cuda", "actors=3", "workers=4"], "Small run needs 3 GPUs, the cluster has 2"),
            (
                ["device=cuda", "actors=4", "workers=4"],
                "Small run needs 5 processors and 4 GPUs, the cluster has 4 and 2",
            ),
        ],
    )
    def test_what_lacks_is_told(self, config: Path, settings: list[str], text: str | None) -> None:
        assert Capacity(processors=4, gpus=2).shortage(job_of(config, settings)) == text

    def test_only_nodes_that_are_there_count(self) -> None:
        nodes = [
            {"state": "ALIVE", "resources_total": {"CPU": 2.0, "GPU": 1.0}},
            {"state": "ALIVE", "resources_total": {"memory": 5.0}},
            {"state": "DEAD", "resources_total": {"CPU": 9.0, "GPU": 9.0}},
        ]
        answer = SimpleNamespace(json=lambda: {"data": {"result": {"result": nodes}}})
        dashboard: Any = SimpleNamespace(get=lambda *_: answer)
        assert capacity_of(dashboard) == Capacity(processors=2, gpus=1)


class _Web(BaseHTTPRequestHandler):
    """Some other server; its status, and what it answers of Ray's addresses, is in its path."""

    def do_GET(self) -> None:
        _, status, kind, *_ = [*self.path.split("/"), ""]
        self.send_response(int(status))
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(self._text(kind).encode())

    def _text(self, kind: str) -> str:
        if kind in ("html", "list") and self.path.endswith("/api/version"):
            return json.dumps({"ray_version": "2", "version": "4", "ray_commit": "", "session": ""})
        others = {"html": "<html>sign in</html>", "list": "[]", "number": "3"}
        return others.get(kind) or json.dumps({"token": self.headers.get("Authorization")})

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its name there
        pass


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in [name for name in os.environ if name.startswith("RAY_AUTH")]:
        monkeypatch.delenv(name)
    server = HTTPServer(("127.0.0.1", 0), _Web)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def odd_client(*_: object) -> Any:
    """Return a client that treats a list as an object, as Ray's does."""

    def get_job_info(job_id: str) -> Any:
        answer: Any = [job_id]
        return dict(**answer)

    return type("Client", (), {"get_job_info": staticmethod(get_job_info)})


class TestAnswers:
    def test_no_answer_is_an_error_in_seconds(self, web: str) -> None:
        started = time.monotonic()
        with pytest.raises(ClusterError, match=r"127\.0\.0\.1:1: Connection refused; check"):
            Dashboard("http://127.0.0.1:1")
        assert time.monotonic() - started < 5

    def test_another_server_is_no_dashboard(self, web: str) -> None:
        with pytest.raises(ClusterError, match=r"is no Ray dashboard \(status 200\)"):
            Dashboard(f"{web}/200")

    def test_a_number_is_no_dashboard(self, web: str) -> None:
        with pytest.raises(ClusterError, match=r"is no Ray dashboard \(status 200\)"):
            Dashboard(f"{web}/200/number")

    @pytest.mark.parametrize("address", ["http://a:99999999", "http://[a", "http://" + "a" * 99])
    def test_an_address_that_is_none_is_an_error(self, web: str, address: str) -> None:
        with pytest.raises(ClusterError, match=r"no Ray dashboard answers at http.*check the addr"):
            Dashboard(address)

    @pytest.mark.parametrize(("kind", "quoted"), [("html", "<html>sign in"), ("list", r"\[\]")])
    def test_odd_answers_later_are_errors(
        self, web: str, kind: str, quoted: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("launch.submission.dashboard._client", odd_client)
        dashboard = Dashboard(f"{web}/200/{kind}")
        with pytest.raises(ClusterError, match=f"does not list its nodes: {quoted}"):
            capacity_of(dashboard)
        with pytest.raises(ClusterError, match="answers otherwise than a Ray dashboard"):
            dashboard.details("j")

    def test_files_that_are_too_large_are_told(
        self, web: str, config: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(**_: object) -> None:
            raise RuntimeError("Request failed with status code 413: Maximum request body size 9")

        client = SimpleNamespace(submit_job=refuse)
        monkeypatch.setattr("launch.submission.dashboard._client", lambda *_: client)
        with pytest.raises(ClusterError, match=r"the files below .*tree are larger .*\.gitignore"):
            Dashboard(f"{web}/200/html").submit(job_of(config))

    def test_a_missing_token_is_told(self, web: str) -> None:
        with pytest.raises(ClusterError, match="wants a token, and there is none here: set RAY_A"):
            Dashboard(f"{web}/401")

    def test_a_wrong_token_is_told(self, web: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("RAY_AUTH_TOKEN", "t")
        with pytest.raises(ClusterError, match="refuses the token from RAY_AUTH_TOKEN"):
            Dashboard(f"{web}/403")

    def test_an_unreadable_token_is_told(self, web: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", "/no/such")
        with pytest.raises(ConfigError, match="RAY_AUTH_TOKEN_PATH cannot be read: No such file"):
            Dashboard(f"{web}/200")
