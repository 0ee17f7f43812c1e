"""A job from submission to its end, over connections that break, are silent, or never come back."""

import asyncio
from collections.abc import AsyncIterator, Callable
from types import SimpleNamespace
from typing import Any

import pytest
from ray.job_submission import JobStatus

from launch.submission.following import Outcome, follow
from mlmc_ray.errors import ClusterError


class Cluster:
    """A dashboard whose job is in these states, one an answer; the last one remains."""

    url = "http://head:1"

    def __init__(self, *states: str | ClusterError, log: str = "", exit_code: int = 0) -> None:
        self.states = list(states)
        self.whole = log
        self.exit_code = exit_code
        self.clock = 0.0
        self.tails: list[Callable[[], AsyncIterator[str]]] = []

    def details(self, job_id: str) -> Any:
        state = self.states.pop(0) if len(self.states) > 1 else self.states[0]
        if isinstance(state, ClusterError):
            raise state
        return SimpleNamespace(
            status=JobStatus(state), message="m.", driver_exit_code=self.exit_code
        )

    def tail(self, job_id: str) -> AsyncIterator[str]:
        return self.tails.pop(0)()

    def log(self, job_id: str) -> str:
        return self.whole

    def sleep(self, seconds: float) -> None:
        self.clock += seconds


def followed(cluster: Any, monkeypatch: pytest.MonkeyPatch) -> tuple[Outcome, list[str], str]:
    """Follow the job ``j`` by the cluster's clock; return its end, what was told, and its log."""
    clock = SimpleNamespace(monotonic=lambda: 1.0 + cluster.clock, sleep=cluster.sleep)
    monkeypatch.setattr("launch.submission.following.time", clock)
    told: list[str] = []
    written: list[str] = []
    outcome = follow(cluster, "j", told.append, written.append)
    return outcome, told, "".join(written)


class TestFollowing:
    def test_a_connection_that_breaks_after_an_hour_is_made_again(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        gone = ClusterError("gone")
        states: list[str | ClusterError] = [
            "RUNNING",
            "RUNNING",
            *[gone] * 20,
            "RUNNING",
            "RUNNING",
            "SUCCEEDED",
        ]
        cluster = Cluster(*states, log="a\nb\nc\n")

        async def breaks() -> AsyncIterator[str]:
            yield "a\n"
            cluster.clock += 3600
            raise ClusterError("the log breaks off")

        async def ends() -> AsyncIterator[str]:
            yield "a\nb\n"

        cluster.tails = [breaks, breaks, ends]
        outcome, told, log = followed(cluster, monkeypatch)
        assert outcome.status == "SUCCEEDED"
        assert log == "a\nb\nc\n"
        assert told == [
            "the log breaks off; trying again, and j goes on",
            "gone; trying again, and j goes on",
            "the log breaks off; trying again, and j goes on",
        ]

    def test_a_minute_of_silence_ends_it_and_says_how_to_go_on(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        cluster = Cluster("PENDING", "PENDING", ClusterError("gone"))
        attach = "mlmc-ray submit --attach j --address http://head:1"
        with pytest.raises(ClusterError, match=f"^gone, for 60 s; j does not end .*: .*{attach}$"):
            followed(cluster, monkeypatch)
        assert 60 < cluster.clock < 62

    def test_a_job_that_is_not_there_is_an_error_at_once(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        cluster = Cluster(ClusterError("no such job"))
        with pytest.raises(ClusterError, match=r"^no such job$"):
            followed(cluster, monkeypatch)

    def test_a_connection_that_is_silent_is_left(self, monkeypatch: pytest.MonkeyPatch) -> None:
        async def hangs() -> AsyncIterator[str]:
            yield "a\n"
            await asyncio.sleep(60)
            yield "never"

        cluster = Cluster("RUNNING", "RUNNING", "SUCCEEDED", log="a\nb\n")
        cluster.tails = [hangs]
        monkeypatch.setattr("launch.submission.following._QUIET_S", 0.05)
        outcome, told, log = followed(cluster, monkeypatch)
        assert (outcome.status, told, log) == ("SUCCEEDED", [], "a\nb\n")

    @pytest.mark.parametrize("exit_code", [137, -9])
    def test_a_job_that_was_killed_says_why(
        self, exit_code: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        outcome, _, _ = followed(Cluster("FAILED", exit_code=exit_code), monkeypatch)
        assert outcome.exit_code == 137
        assert outcome.message == "m. (killed; most often the node had no memory left)"
