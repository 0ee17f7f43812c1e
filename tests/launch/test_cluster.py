"""Joining and starting clusters, with Ray itself replaced."""

import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest
import ray

from launch.cluster import ray_cluster
from mlmc_ray.errors import ClusterError


class FakeRay:
    """Stands for the few functions of Ray that are used."""

    def __init__(self) -> None:
        self.started: list[dict[str, Any]] = []
        self.shutdowns = 0
        self.initialized = False
        self.error: BaseException | None = None

    def init(self, **arguments: Any) -> None:
        self.started.append(arguments)
        signal.signal(signal.SIGTERM, lambda *_: None)  # as Ray does
        if self.error is not None:
            raise self.error

    def shutdown(self) -> None:
        self.shutdowns += 1

    def is_initialized(self) -> bool:
        return self.initialized


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeRay]:
    fake = FakeRay()
    for name in ("init", "shutdown", "is_initialized"):
        monkeypatch.setattr(ray, name, getattr(fake, name))
    for name in ("RAY_ADDRESS", "RAY_AUTH_TOKEN"):
        monkeypatch.setenv(name, "")  # so that it is put back at the end
        monkeypatch.delenv(name)
    handler = signal.getsignal(signal.SIGTERM)
    yield fake
    signal.signal(signal.SIGTERM, handler)


def test_a_local_cluster_is_started_and_ended(fake: FakeRay) -> None:
    with ray_cluster(None, 3):
        assert fake.shutdowns == 0
        assert len(os.environ["RAY_AUTH_TOKEN"]) == 64
    assert fake.shutdowns == 1
    (arguments,) = fake.started
    assert (arguments["address"], arguments["num_cpus"]) == ("local", 3)
    assert arguments["include_dashboard"] is False


def test_a_cluster_is_ended_when_the_run_fails(fake: FakeRay) -> None:
    with pytest.raises(ZeroDivisionError), ray_cluster(None, 3):
        raise ZeroDivisionError
    assert fake.shutdowns == 1


def test_a_cluster_of_ones_own_is_kept(fake: FakeRay) -> None:
    fake.initialized = True
    with ray_cluster("10.0.0.1:6379", 3):
        pass
    assert fake.started == []
    assert fake.shutdowns == 0


def test_the_environment_names_a_cluster(fake: FakeRay, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    with ray_cluster(None, 3):
        pass
    assert fake.started[0]["address"] == "auto"
    assert "num_cpus" not in fake.started[0]
    assert "RAY_AUTH_TOKEN" not in os.environ


def test_a_cluster_that_cannot_be_started_is_an_error(fake: FakeRay) -> None:
    fake.error = RuntimeError("no space\n left on\n device")
    with pytest.raises(ClusterError) as caught, ray_cluster(None, 3):
        pytest.fail("it has not been started")
    assert str(caught.value).startswith(
        "could not start a local Ray cluster: no space left on device; see "
    )
    assert "--engine inline" in str(caught.value)
    assert fake.shutdowns == 1


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1"])
def test_an_address_where_nothing_listens_is_an_error(fake: FakeRay, address: str) -> None:
    with pytest.raises(ClusterError) as caught, ray_cluster(address, 3):
        pytest.fail("it has not been joined")
    assert str(caught.value).startswith(f"could not join the Ray cluster at {address}: ")
    assert "check the address, and that it runs: ray status" in str(caught.value)
    assert fake.started == []


def test_sigterm_is_answered_as_before(fake: FakeRay) -> None:
    def ours(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, ours)
    with ray_cluster(None, 3):
        assert signal.getsignal(signal.SIGTERM) is ours


def test_sigterm_while_ray_starts_is_an_interrupt(fake: FakeRay) -> None:
    fake.error = SystemExit(15)
    with pytest.raises(KeyboardInterrupt), ray_cluster(None, 3):
        pytest.fail("it has not been started")
