"""What a server does about hosts that are lost, late, or whose frames came damaged."""

import re
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import ray
import torch

from mlmc_ray.errors import DamagedError, RoundError
from mlmc_ray.methods import AsyncSGD, DataParallelSGD
from mlmc_ray.optimizers import SGD
from mlmc_ray.plan import RunPlan
from mlmc_ray.problems import ProblemSource
from mlmc_ray.quorum import Quorum
from mlmc_ray.rounds import Answers, Call, Lost, RoundResult, checksum_of
from server.actor import ParameterServerActor
from workers.actor import WorkerHostActor
from workers.host import WorkerPlan

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("cluster")]

INCARNATION = 7
COMMON: dict[str, Any] = {
    "problem": ProblemSource("mlmc_ray.problems.Quadratic", {"num_functions": 4, "dim": 6}),
    "num_workers": 4,
    "seed": 1,
}


@ray.remote(num_cpus=0, max_retries=0)
def ended() -> None:
    """End the process, as an actor's ends that is killed."""
    raise SystemExit(1)


class _Holder:
    def __init__(self) -> None:
        self.given = threading.Event()
        self.answers: Any = None

    def give(self, answers: Any) -> None:
        self.answers = answers
        self.given.set()

    def wait(self) -> Any:
        self.given.wait()
        return self.answers


_HOLDER: Any = ray.remote(_Holder)


class Held:
    """An answer that comes when the test says so."""

    def __init__(self) -> None:
        self.owner: Any = _HOLDER.options(num_cpus=0, max_concurrency=2).remote()
        self.reference = self.owner.wait.remote()

    def release(self, answers: Answers) -> None:
        ray.get(self.owner.give.remote(answers))


class Host:
    """A host in this process whose faults a test chooses, call by call."""

    def __init__(self, worker_ids: Sequence[int], method: Any, faults: Sequence[str] = ()) -> None:
        self.worker_ids = worker_ids
        self.faults = list(faults)
        self.calls: list[Call] = []
        self.held: list[tuple[Held, Answers]] = []
        self._actor = WorkerHostActor()
        plan = WorkerPlan(**COMMON, method=method, batch_size="full", buffers_every=1)
        self._actor.set_up(plan, worker_ids, 1, INCARNATION)

    def step(self, call: Call, news: Sequence[Any]) -> Any:
        self.calls.append(call)
        fault = self.faults.pop(0) if self.faults else ""
        if fault == "dies":
            return ended.remote()
        frames = [ray.get(one) if isinstance(one, ray.ObjectRef) else one for one in news]
        if fault == "damages news":
            frames = [b"x" + frame[1:] for frame in frames]
        try:
            answers = self._actor.step(call, *frames)
        except Exception as error:
            return failing.remote(error)
        if fault == "damages reports":
            first = min(answers.reports)
            answers = replace(answers, reports={**answers.reports, first: b"x"})
        if fault in ("is late", "never answers"):
            self.held.append((Held(), answers))
            return self.held[-1][0].reference
        return ray.put(answers)

    def release(self) -> None:
        held, answers = self.held.pop(0)
        held.release(answers)


@ray.remote(num_cpus=0)
def failing(error: Exception) -> None:
    """Raise the error."""
    raise error


def server_of(
    hosts: Sequence[Host], method: Any = None, quorum: Quorum | None = None
) -> ParameterServerActor:
    actor = ParameterServerActor()
    plan = RunPlan(
        **COMMON,
        method=method or DataParallelSGD(),
        optimizer=SGD(step_size=0.1),
        quorum=quorum,
    )
    actor.set_up(plan, 0, hosts, 1, INCARNATION)
    return actor


def hosts_of(*faults: Sequence[str], method: Any = None) -> list[Host]:
    """Return two hosts of two workers each, with these faults, call by call."""
    own = method or DataParallelSGD()
    return [Host((i, i + 2), own, fault) for i, fault in enumerate(faults or ((), ()))]


def done(outcome: RoundResult | Lost) -> RoundResult:
    """Return the result of a round that was completed."""
    assert isinstance(outcome, RoundResult)
    return outcome


def lost_in(outcome: RoundResult | Lost) -> Lost:
    """Return which hosts a round waits for."""
    assert isinstance(outcome, Lost)
    return outcome


def undisturbed(rounds: int) -> tuple[torch.Tensor, list[RoundResult]]:
    actor = server_of(hosts_of())
    results = [done(actor.round(60, False)) for _ in range(rounds)]
    return torch.tensor(actor.parameters()), results


FAULTS = {
    "dies": r"^(is gone|failed): ",
    "damages news": r"the news of server 0 came damaged: the checksum differs$",
    "damages reports": r"^its reports came damaged: the checksum differs$",
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_round_goes_on_with_another_host(fault: str) -> None:
    hosts = hosts_of(["", fault], [])
    actor = server_of(hosts)
    first = done(actor.round(60, False))
    lost = lost_in(actor.round(60, False))
    assert list(lost.hosts) == [0]
    assert lost.exchange_index == 0
    assert re.search(FAULTS[fault], lost.hosts[0])
    other = Host((0, 2), DataParallelSGD())
    result = done(actor.go_on({0: other}))
    third = done(actor.round(60, False))

    parameters, (once, twice, again) = undisturbed(3)
    assert torch.equal(torch.tensor(actor.parameters()), parameters)
    for found, wanted in ((first, once), (result, twice), (third, again)):
        assert list(found.ledger) == list(wanted.ledger)
        assert found.losses == wanted.losses
    assert {entry.worker_id for entry in result.repeated} == {0, 2}
    assert {entry.direction for entry in result.repeated} == {"downlink"}
    assert len(hosts[1].calls) == 3  # and no report was asked for twice
    assert not twice.repeated
    assert not third.repeated


def test_both_hosts_may_be_lost_and_their_successors_too() -> None:
    actor = server_of(hosts_of(["dies"], ["dies"]))
    lost = lost_in(actor.round(60, False))
    assert sorted(lost.hosts) == [0, 1]
    others = hosts_of(["dies"], [])
    lost = lost_in(actor.go_on(dict(enumerate(others))))
    assert list(lost.hosts) == [0]
    result = done(actor.go_on({0: Host((0, 2), DataParallelSGD())}))
    parameters, (once,) = undisturbed(1)
    assert torch.equal(torch.tensor(actor.parameters()), parameters)
    assert list(result.ledger) == list(once.ledger)
    assert len(result.repeated) == 6


# A host answers its own servers, and each of their calls once.


def call_of(number: int, incarnation: int = INCARNATION, frame: bytes = b"") -> Call:
    return Call(incarnation, number, checksum_of([frame]), 0, 0, 0, False, ((0, 2),))


def test_calls_that_are_stale_repeated_or_damaged_are_refused() -> None:
    hosts = hosts_of()
    actor = server_of(hosts)
    actor.round(60, False)
    real = hosts[0]._actor
    with pytest.raises(RoundError, match="of another run, or of servers that have been replaced"):
        real.step(call_of(2, INCARNATION + 1), b"")
    with pytest.raises(RoundError, match=r"round 0: .* have come before: nothing is done twice"):
        real.step(call_of(1), b"")
    with pytest.raises(DamagedError, match="the checksum differs"):
        real.step(call_of(2, frame=b"sent"), b"came")
    done(actor.round(60, False))


# A quorum.


def test_a_round_closes_with_the_first_reports_and_late_ones_are_counted() -> None:
    hosts = hosts_of(["is late"], [])
    actor = server_of(hosts, quorum=Quorum(reports=2))
    first = done(actor.round(60, False))
    up = [entry.worker_id for entry in first.ledger if entry.direction == "uplink"]
    assert up == [1, 3]
    second = done(actor.round(60, False))  # the first host is still at work, and is not asked
    assert {entry.worker_id for entry in second.ledger} == {1, 3}
    assert len(hosts[0].calls) == 1
    hosts[0].release()
    results = [done(actor.round(60, False)) for _ in range(20)]
    late = sum(result.late_reports for result in results)
    assert late >= 2
    assert len(hosts[0].calls) > 1


def test_the_estimate_is_the_average_over_those_in_time() -> None:
    hosts = hosts_of([], ["never answers"])
    actor = server_of(hosts, quorum=Quorum(reports=2))
    before = torch.tensor(actor.parameters())
    done(actor.round(60, False))
    step = torch.tensor(actor.parameters()) - before
    alone = server_of([Host((0, 2), DataParallelSGD())], quorum=Quorum(reports=2))
    alone.round(60, False)
    assert torch.equal(torch.tensor(alone.parameters()) - before, step)


def test_a_deadline_closes_a_round_with_what_has_come() -> None:
    hosts = hosts_of([], ["never answers"])
    actor = server_of(hosts, quorum=Quorum(deadline_s=0.2))
    result = done(actor.round(60, False))
    assert [e.worker_id for e in result.ledger if e.direction == "uplink"] == [0, 2]


def test_a_host_that_never_answers_is_lost_in_time_with_a_quorum_too() -> None:
    hosts = hosts_of([], ["never answers"])
    actor = server_of(hosts, quorum=Quorum(reports=2))
    for _ in range(1000):
        outcome = actor.round(0.5, False)
        if isinstance(outcome, Lost):
            break
    assert outcome == Lost({1: "did not answer within round_timeout_s = 0.5"}, 0)
    done(actor.go_on({1: Host((1, 3), DataParallelSGD())}))


def test_a_pause_between_rounds_is_no_fault_of_the_hosts() -> None:
    hosts = hosts_of(["is late"], [])
    actor = server_of(hosts, quorum=Quorum(reports=2))
    done(actor.round(0.3, False))
    hosts[0].release()
    time.sleep(0.6)
    done(actor.round(60, False))
    actor = server_of(hosts_of(["is late"], []), quorum=Quorum(reports=2))
    done(actor.round(0.3, False))
    time.sleep(0.6)
    assert list(lost_in(actor.round(0.3, False)).hosts) == [0]


def test_a_quorum_that_is_there_does_without_a_lost_host() -> None:
    actor = server_of(hosts_of(["dies"], []), quorum=Quorum(reports=2))
    done(actor.round(60, False))
    for _ in range(1000):
        outcome = actor.round(60, False)
        if isinstance(outcome, Lost):
            break
    assert list(lost_in(outcome).hosts) == [0]
    done(actor.go_on({0: Host((0, 2), DataParallelSGD())}))


# Each report as it comes.


def test_an_asynchronous_server_takes_reports_as_they_come() -> None:
    method = AsyncSGD()
    hosts = [Host((0,), method, ["is late"]), Host((1,), method)]
    actor = server_of(hosts, method)
    for _ in range(3):
        done(actor.round(60, False))
    assert [len(host.calls) for host in hosts] == [1, 3]
    hosts[0].release()
    results = [done(actor.round(60, False)) for _ in range(10)]
    ups = [e.worker_id for r in results for e in r.ledger if e.direction == "uplink"]
    assert 0 in ups


def test_a_lost_report_of_an_asynchronous_method_is_asked_for_again() -> None:
    method = AsyncSGD()
    hosts = [Host((0,), method, ["dies"]), Host((1,), method)]
    actor = server_of(hosts, method)
    for _ in range(1000):
        outcome = actor.round(60, False)
        if isinstance(outcome, Lost):
            break
    assert list(lost_in(outcome).hosts) == [0]
    other = Host((0,), method)
    actor.go_on({0: other})
    results = [done(actor.round(60, False)) for _ in range(20)]
    ups = {e.worker_id for r in results for e in r.ledger if e.direction == "uplink"}
    assert 0 in ups
    assert other.calls
