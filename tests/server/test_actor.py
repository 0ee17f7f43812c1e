"""How the server's actor reaches its hosts, without a process for each of them.

The hosts here are in the test's own process; what they answer is in Ray's hands all the same.
"""

import time
from collections.abc import Sequence
from typing import Any

import pytest
import ray
import torch

from mlmc_ray.errors import MlmcRayError, NonFiniteError, RoundError
from mlmc_ray.methods.compressed_sgd import DataParallelSGD
from mlmc_ray.optimizers import SGD
from mlmc_ray.plan import RunPlan
from mlmc_ray.problems import ProblemSource
from mlmc_ray.rounds import INLINE_BYTES, Answers, Call, Lost, RoundResult, fit_inline
from server.actor import ParameterServerActor
from workers.actor import WorkerHostActor
from workers.host import WorkerPlan

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("cluster")]

# Hidden units: parameters of 3 kB, of 70 kB, of which a call carries one, and of 167 kB.
INCARNATION = 7
TINY, TWO_TOO_LARGE, TOO_LARGE = 10, 100, 170


@ray.remote(num_cpus=0)
def later(seconds: float, answers: Answers) -> Answers:
    """Return the answers after a while."""
    time.sleep(seconds)
    return answers


class LocalHost:
    """A host of some workers; remembers what was sent to it and what it answered."""

    def __init__(self, worker_ids: Sequence[int], plan: WorkerPlan, after_s: float = 0) -> None:
        self.worker_ids = worker_ids
        self.sent: list[Any] = []
        self.error: Exception | None = None
        self._after_s = after_s
        self._actor = WorkerHostActor()
        self._actor.set_up(plan, worker_ids, 1, INCARNATION)

    def step(self, call: Call, news: Sequence[Any]) -> Any:
        self.sent = list(news)
        if self.error:
            return failing.remote(self.error)
        frames = [
            ray.get(frame) if isinstance(frame, ray.ObjectRef) else frame for frame in self.sent
        ]
        answers = self._actor.step(call, *frames)
        self.answers = answers
        return later.remote(self._after_s, answers) if self._after_s else ray.put(answers)


@ray.remote(num_cpus=0)
def failing(error: Exception) -> None:
    """Raise the error."""
    raise error


def server_with(
    width: int, after_s: Sequence[float] = (0, 0)
) -> tuple[ParameterServerActor, list[LocalHost]]:
    """Return a server of four workers on two hosts, which answer after some seconds."""
    common: dict[str, Any] = {
        "problem": ProblemSource("benchmarks.wide_digits.WideDigits", {"width": width}),
        "method": DataParallelSGD(),
        "num_workers": 4,
        "seed": 1,
    }
    plan = WorkerPlan(**common, batch_size=5, buffers_every=1)
    hosts = [LocalHost((i, i + 2), plan, after) for i, after in enumerate(after_s)]
    actor = ParameterServerActor()
    actor.set_up(RunPlan(**common, optimizer=SGD(step_size=0.1)), 0, hosts, 1, INCARNATION)
    return actor, hosts


def test_frames_fit_up_to_the_limit_together() -> None:
    assert fit_inline([bytes(INLINE_BYTES)])
    assert fit_inline([bytes(INLINE_BYTES - 1), b"1"])
    assert not fit_inline([bytes(INLINE_BYTES), b"1"])


def test_small_news_and_reports_go_with_the_calls() -> None:
    actor, hosts = server_with(TINY)
    actor.round(60, False)
    for host in hosts:
        assert [type(frame) for frame in host.sent] == [bytes]  # one for both workers
        assert {type(frame) for frame in host.answers.reports.values()} == {bytes}


def test_large_news_are_stored_once_and_large_reports_are_arrays() -> None:
    actor, hosts = server_with(TOO_LARGE)
    actor.round(60, False)
    (first,), (second,) = hosts[0].sent, hosts[1].sent
    assert isinstance(first, ray.ObjectRef)
    assert first == second
    assert {type(frame).__name__ for frame in hosts[0].answers.reports.values()} == {"ndarray"}


def test_reports_that_fit_one_by_one_and_not_together_are_arrays() -> None:
    actor, hosts = server_with(TWO_TOO_LARGE)
    actor.round(60, False)
    assert [type(frame) for frame in hosts[0].sent] == [bytes]
    assert {type(frame).__name__ for frame in hosts[0].answers.reports.values()} == {"ndarray"}


def test_the_order_in_which_hosts_answer_changes_nothing() -> None:
    results = []
    for after_s in ((0, 0), (1.0, 0)):
        actor, _ = server_with(TINY, after_s=after_s)
        result = actor.round(60, True)
        assert isinstance(result, RoundResult)
        losses = list(result.losses.items())
        results.append((losses, result.work[0].host, list(result.compressions), actor.parameters()))
    assert results[0][:3] == results[1][:3]
    torch.testing.assert_close(results[0][3], results[1][3], rtol=0, atol=0)


def test_a_host_that_is_late_is_named() -> None:
    actor, _ = server_with(TINY, after_s=(0, 5))
    late = "did not answer within round_timeout_s = 1"
    assert actor.round(1, False) == Lost({1: late}, exchange_index=0)


ERRORS: list[MlmcRayError] = [RoundError("round 0: this"), NonFiniteError("round 0: that")]


@pytest.mark.parametrize("error", ERRORS)
def test_what_a_host_refused_arrives_as_it_is(error: MlmcRayError) -> None:
    actor, hosts = server_with(TINY)
    hosts[1].error = error
    with pytest.raises(type(error), match=str(error)):
        actor.round(60, False)


def test_of_two_hosts_that_failed_the_first_is_told_of() -> None:
    actor, hosts = server_with(TINY)
    hosts[0].error, hosts[1].error = ERRORS
    with pytest.raises(RoundError, match="this"):
        actor.round(60, False)
