"""Joining and starting clusters, with Ray itself replaced."""

import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
import ray

from launch.engines.cluster import ray_cluster
from mlmc_ray.errors import ClusterError


class FakeRay:
    """Stands for the few functions of Ray that are used."""

    def __init__(self) -> None:
        self.started: list[dict[str, Any]] = []
        self.shutdowns = 0
        self.initialized = False
        self.error: BaseException | None = None

    def get_runtime_context(self) -> SimpleNamespace:
        return SimpleNamespace(gcs_address="127.0.0.1:6379")

    def init(self, **arguments: Any) -> None:
        self.started.append(arguments)
        signal.signal(signal.SIGTERM, lambda *_: None)  # as Ray does
        if self.error is not None:
            raise self.error
        self.initialized = True

    def shutdown(self) -> None:
        self.shutdowns += 1
        self.initialized = False

    def is_initialized(self) -> bool:
        return self.initialized


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeRay]:
    fake = FakeRay()
    for name in ("init", "shutdown", "is_initialized", "get_runtime_context"):
        monkeypatch.setattr(ray, name, getattr(fake, name))
    for name in ("RAY_ADDRESS", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_AUTH_MODE"):
        monkeypatch.setenv(name, "")  # so that it is put back at the end
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr("launch.engines.cluster.running_clusters", list)
    handler = signal.getsignal(signal.SIGTERM)
    yield fake
    signal.signal(signal.SIGTERM, handler)


def test_a_local_cluster_is_started_and_ended(fake: FakeRay) -> None:
    with ray_cluster(None) as local:
        assert local
        assert fake.shutdowns == 0
        assert len(os.environ["RAY_AUTH_TOKEN"]) == 64
    assert fake.shutdowns == 1
    assert "RAY_AUTH_TOKEN" not in os.environ
    (arguments,) = fake.started
    assert arguments["address"] == "local"
    assert arguments["include_dashboard"] is False


def test_a_cluster_is_ended_when_the_run_fails(fake: FakeRay) -> None:
    with pytest.raises(ZeroDivisionError), ray_cluster(None):
        raise ZeroDivisionError
    assert fake.shutdowns == 1


def test_the_last_one_ends_a_cluster(fake: FakeRay) -> None:
    first = ray_cluster(None)
    assert first.__enter__()
    with ray_cluster("127.0.0.1:6379") as local:
        assert local
        first.__exit__(None, None, None)
        assert fake.shutdowns == 0
    assert (len(fake.started), fake.shutdowns) == (1, 1)
    with ray_cluster(None):  # and then there is another
        pass
    assert (len(fake.started), fake.shutdowns) == (2, 2)


@pytest.mark.parametrize("address", [None, "auto", "127.0.0.1:6379", "localhost:6379"])
def test_a_cluster_of_ones_own_is_kept(fake: FakeRay, address: str | None) -> None:
    fake.initialized = True
    with ray_cluster(address) as local:
        assert not local
    assert fake.started == []
    assert fake.shutdowns == 0


@pytest.mark.parametrize("address", ["10.0.0.1:6379", "127.0.0.1:6380", "ray://127.0.0.1:10001"])
def test_another_cluster_than_ones_own_is_refused(fake: FakeRay, address: str) -> None:
    fake.initialized = True
    with pytest.raises(ClusterError) as caught, ray_cluster(address):
        pytest.fail("it has been accepted")
    assert str(caught.value) == (
        f"address is {address!r}, and this process already belongs to the Ray cluster at "
        "127.0.0.1:6379: leave address out, or call ray.shutdown() first"
    )


def test_ray_client_is_refused(fake: FakeRay) -> None:
    with (
        pytest.raises(ClusterError, match="Ray Client is not supported"),
        ray_cluster("ray://10.0.0.1:10001"),
    ):
        pytest.fail("it has been accepted")


def test_the_environment_names_a_cluster(fake: FakeRay, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    monkeypatch.setenv("RAY_TMPDIR", "/nowhere")
    with ray_cluster(None):
        pass
    assert fake.started[0]["address"] == "auto"
    assert "num_cpus" not in fake.started[0]
    assert "RAY_AUTH_TOKEN" not in os.environ


def test_a_cluster_that_cannot_be_started_is_an_error(fake: FakeRay) -> None:
    fake.error = RuntimeError("no space\n left on\n device")
    with pytest.raises(ClusterError) as caught, ray_cluster(None):
        pytest.fail("it has not been started")
    assert str(caught.value).startswith(
        "could not start a local Ray cluster: no space left on device; see "
    )
    assert "--engine inline" in str(caught.value)
    assert fake.shutdowns == 1


def test_an_address_where_nothing_listens_is_an_error(fake: FakeRay) -> None:
    address = "127.0.0.1:1"
    with pytest.raises(ClusterError) as caught, ray_cluster(address):
        pytest.fail("it has not been joined")
    assert str(caught.value).startswith(f"could not join the Ray cluster at {address}: ")
    assert "check the address, and that it runs: ray status" in str(caught.value)
    assert fake.started == []


@pytest.mark.parametrize("given", ["auto", None])
def test_a_cluster_that_has_ended_is_not_found(
    fake: FakeRay, given: str | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "ray").mkdir()
    (tmp_path / "ray" / "ray_current_cluster").write_text("127.0.0.1:1\n")
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    if given is None:
        monkeypatch.setenv("RAY_ADDRESS", "auto")
    with pytest.raises(ClusterError, match="could not join the Ray cluster at auto"):
        ray_cluster(given).__enter__()
    assert fake.started == []


def test_auto_is_a_cluster_that_keeps_its_files_elsewhere(
    fake: FakeRay, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "ray").mkdir()
    (tmp_path / "ray" / "ray_current_cluster").write_text("127.0.0.1:1\n")
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    with socket.create_server(("127.0.0.1", 0)) as server:
        running = f"127.0.0.1:{server.getsockname()[1]}"
        monkeypatch.setattr("launch.engines.cluster.running_clusters", lambda: [running])
        with ray_cluster("auto"):
            assert fake.started[0]["address"] == "auto"


class FakeConfig:
    """Stands for what Ray has read of the environment."""

    modes: ClassVar[list[str]] = []

    @classmethod
    def initialize(cls, text: str) -> None:
        """Read the environment again."""
        cls.modes.append(os.environ["RAY_AUTH_MODE"])


@pytest.mark.parametrize("mode", [None, "disabled"])
@pytest.mark.parametrize("token", ["home", "environment", None])
def test_a_cluster_gets_the_token_that_there_is(
    fake: FakeRay,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    token: str | None,
    mode: str | None,
) -> None:
    monkeypatch.setattr("ray._raylet.Config", FakeConfig)
    monkeypatch.setattr(FakeConfig, "modes", [])
    if token == "home":
        (tmp_path / ".ray").mkdir()
        (tmp_path / ".ray" / "auth_token").write_text("t")
    elif token:
        monkeypatch.setenv("RAY_AUTH_TOKEN", "t")
    if mode:
        monkeypatch.setenv("RAY_AUTH_MODE", mode)
    fake.error = ConnectionError("Failed to connect")
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        pytest.raises(ClusterError) as caught,
    ):
        ray_cluster(f"127.0.0.1:{server.getsockname()[1]}").__enter__()
    used = token is not None and mode is None
    assert FakeConfig.modes == (["token"] if used else [])
    assert os.environ.get("RAY_AUTH_MODE") == ("token" if used else mode)
    remedy = str(caught.value).partition("if it wants a token, ")[2]
    if used:
        place = tmp_path / ".ray" / "auth_token" if token == "home" else "RAY_AUTH_TOKEN"
        assert remedy == f"that is the one in {place} (compare: ray get-auth-token)"
    elif mode:
        assert remedy == "unset RAY_AUTH_MODE"
    else:
        assert remedy.startswith("put what `ray get-auth-token` prints on its head node into")


def test_the_address_of_a_dashboard_is_refused(fake: FakeRay) -> None:
    with pytest.raises(ClusterError, match=r"that is a dashboard's: give HOST:PORT"):
        ray_cluster("http://127.0.0.1:8265").__enter__()


def test_sigterm_is_answered_as_before(fake: FakeRay) -> None:
    def ours(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, ours)
    with ray_cluster(None):
        assert signal.getsignal(signal.SIGTERM) is ours


def test_sigterm_while_ray_starts_is_an_interrupt(fake: FakeRay) -> None:
    fake.error = SystemExit(15)
    with pytest.raises(KeyboardInterrupt), ray_cluster(None):
        pytest.fail("it has not been started")
