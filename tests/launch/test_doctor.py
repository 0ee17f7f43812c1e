"""What the doctor says of a machine with something missing."""

import importlib.metadata
import importlib.util
import json
import os
import shlex
import shutil
import socket
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from launch.commands.doctor import doctor
from launch.doctor import Finding, as_json, examine, healthy
from launch.doctor.clusters import clusters
from launch.doctor.packages import versions
from launch.doctor.places import data_sets, space


@pytest.fixture(autouse=True)
def _bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A home and a temporary directory without traces of Ray."""
    for name in [name for name in os.environ if name.startswith("RAY_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    monkeypatch.chdir(tmp_path)


def named(findings: Any, name: str) -> Finding:
    (found,) = [finding for finding in findings if finding.name == name]
    assert isinstance(found, Finding)
    return found


def test_this_machine_is_healthy() -> None:
    findings = examine()
    assert healthy(findings), [f for f in findings if f.needed and f.state == "missing"]
    topics = ["versions", "devices", "Ray", "data sets", "caches and space"]
    assert list(dict.fromkeys(finding.topic for finding in findings)) == topics
    assert named(findings, "torch").state == "ok"
    report = json.loads(as_json(findings))
    assert report["healthy"] is True
    assert len(report["findings"]) == len(findings)


def test_the_command_prints_every_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    app = typer.Typer()
    app.command()(doctor)
    result = CliRunner().invoke(app, [])
    assert result.exit_code == 0, result.output
    assert "  ok      digits: comes with scikit-learn" in result.output
    assert "download=True" in result.output
    assert json.loads(CliRunner().invoke(app, ["--json"]).output)["healthy"] is True


def test_a_package_that_is_needed_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    needs = ["msgpack>=99", "no-such-package>=1", "no-such-tool; extra == 'dev'", "x; os_name=='x'"]
    monkeypatch.setattr(importlib.metadata, "requires", lambda name: needs)
    findings = list(versions())
    old, absent = named(findings, "msgpack"), named(findings, "no-such-package")
    assert (old.state, absent.state) == ("missing", "missing")
    assert ">=99 is needed" in old.text
    assert absent.remedy == "pip install 'no-such-package>=1'"
    assert named(findings, "extra dev").remedy == "pip install 'mlmc-ray[dev]'"
    assert not [finding for finding in findings if finding.name == "x"]
    assert not healthy(findings)
    assert healthy([f for f in findings if f.name == "extra dev"])


def test_a_package_that_breaks_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(name: str) -> None:
        raise OSError("libfoo.so: not found")

    monkeypatch.setattr(importlib.metadata, "requires", breaks)
    findings = examine()
    assert named(findings, "OSError").text == "libfoo.so: not found"
    assert not healthy(findings)
    assert named(findings, "digits").state == "ok"


def test_the_dashboard_is_optional(monkeypatch: pytest.MonkeyPatch) -> None:
    known = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda n: None if n == "aiohttp" else known(n))
    found = named(clusters(), "dashboard")
    assert (found.state, found.remedy) == ("hint", "pip install 'ray[default]'")
    assert healthy([found])


def test_addresses_where_nobody_answers_are_hints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert named(clusters(), "RAY_ADDRESS").state == "ok"
    monkeypatch.setattr("launch.engines.cluster.running_clusters", list)
    assert named(clusters(), "running cluster").text.startswith("none")
    (tmp_path / "ray").mkdir()
    note = tmp_path / "ray" / "ray_current_cluster"
    note.write_text("127.0.0.1:1")
    assert named(clusters(), "running cluster").remedy == f"rm {note}"
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    assert "does not answer" in named(clusters(), "RAY_ADDRESS").text
    monkeypatch.setenv("RAY_ADDRESS", "http://127.0.0.1:8265")
    assert "is no HOST:PORT" in named(clusters(), "RAY_ADDRESS").text
    with socket.create_server(("127.0.0.1", 0)) as server:
        note.write_text(f"127.0.0.1:{server.getsockname()[1]}\n")
        found = named(clusters(), "running cluster")
        assert found.state == "ok"
        assert found.text.endswith("runs join it with `address: auto`, and not by themselves")


def test_a_cluster_with_its_files_elsewhere_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        running = [address]
        monkeypatch.setattr("launch.engines.cluster.running_clusters", lambda: running)
        assert named(clusters(), "running cluster").text.startswith(f"{address}; runs join it")
        running += ["127.0.0.1:2"]
        (tmp_path / "ray").mkdir()
        (tmp_path / "ray" / "ray_current_cluster").write_text(address)
        text = named(clusters(), "running cluster").text
        assert text.endswith("there are others, to be named: 127.0.0.1:2")


def test_a_token_in_the_home_directory_is_a_hint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert named(clusters(), "token").state == "ok"
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("t")
    found = named(clusters(), "token")
    assert found.state == "hint"
    assert "InvalidAuthToken" in found.text
    assert found.remedy == "RAY_AUTH_MODE=token ray start --address=HEAD:6379"
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    assert named(clusters(), "token").state == "ok"


@pytest.mark.parametrize(
    ("kind", "cls", "folder"),
    [
        ("cifar-10", "CIFAR10", "cifar-10-batches-py"),
        ("cifar-100", "CIFAR100", "cifar-100-python"),
    ],
)
def test_data_sets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, cls: str, folder: str
) -> None:
    monkeypatch.setattr("mlmc_ray.problems.vision.DEBIAN_FASHION_MNIST", tmp_path / "none")
    found = list(data_sets(tmp_path))
    assert named(found, "fashion-mnist").remedy == "apt install dataset-fashion-mnist"
    assert named(found, "text").state == "ok"
    assert {finding.state for finding in found} == {"ok", "hint"}
    assert f"only `problem: {kind}` needs it" in named(found, kind).text
    command = shlex.split(named(found, kind).remedy)
    assert command[:2] == ["python", "-c"]
    assert f'datasets.{cls}("{tmp_path}", download=True)' in command[2]
    assert "'\"'\"'" not in named(found, kind).remedy
    compile(command[2], "remedy", "exec")
    assert healthy(found)
    (tmp_path / folder).mkdir()
    assert named(data_sets(tmp_path), kind).state == "ok"


def test_little_room_is_a_hint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1e8))
    found = list(space())
    assert named(found, "disk, here").state == "hint"
    assert named(found, "disk, here").text.startswith("100 MB free")


def test_where_kernels_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted, found = tmp_path / "wanted", tmp_path / "found"
    places: dict[str, Path | None] = {"wanted_directory": wanted, "cache_directory": found}
    for module in ("launch.doctor.places", "mlmc_ray.kernels.compiled"):
        for name in places:
            monkeypatch.setattr(f"{module}.{name}", lambda name=name: places[name])
    text = named(space(), "numba cache").text
    assert text.startswith(f"{found} is empty: the first run compiles the kernels")
    assert text.endswith(f", since {wanted} cannot be written")
    found.mkdir()
    (found / "x.nbi").touch()
    places["wanted_directory"] = found
    assert named(space(), "numba cache").text == f"1 kernels in {found}"
    places["cache_directory"] = None
    assert "export NUMBA_CACHE_DIR=" in named(space(), "numba cache").remedy


def test_what_is_missing_has_a_remedy() -> None:
    with pytest.raises(ValueError, match="x is missing: say what would help"):
        Finding(topic="t", name="x", state="missing", text="gone")
