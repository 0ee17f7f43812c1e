"""The parameter server with an asynchronous method: reports of some workers at a time."""

import pytest
import torch

from mlmc_ray.compressors import Identity
from mlmc_ray.errors import RoundError
from mlmc_ray.ledger import Entry
from mlmc_ray.methods import Method
from mlmc_ray.methods.asynchronous.async_sgd import AsyncSGD
from mlmc_ray.methods.asynchronous.rennala import RennalaSGD
from mlmc_ray.methods.asynchronous.shadowheart import Shadowheart
from mlmc_ray.optimizers import SGD
from mlmc_ray.payloads import DensePayload, Message
from mlmc_ray.plan import RunPlan
from mlmc_ray.problems import ProblemSource
from mlmc_ray.wire import decode, encode
from server.server import ParameterServer

QUADRATIC = ProblemSource("mlmc_ray.problems.quadratic.Quadratic", {"num_functions": 3, "dim": 4})
BATCH_NORM = ProblemSource("tests.tasks.Regression", {"batch_norm": True})
PAPER = 64 * 4


def server_of(method: Method, problem: ProblemSource = QUADRATIC) -> ParameterServer:
    return ParameterServer(
        RunPlan(problem=problem, method=method, optimizer=SGD(step_size=0.5), num_workers=3, seed=1)
    )


def report(version: float, *values: float) -> bytes:
    return encode(Message({"gradient": DensePayload(torch.tensor(values))}, {"version": version}))


ONES = (1.0, 1.0, 1.0, 1.0)


def test_every_report_is_a_step_and_its_worker_starts_again() -> None:
    server = server_of(AsyncSGD())
    assert list(server.broadcast()) == [0, 1, 2]
    before = server.parameters.clone()
    server.receive({1: report(0, *ONES)})
    assert torch.equal(server.parameters, before - 0.5)
    frames = server.broadcast()
    assert list(frames) == [1]
    assert decode(frames[1]).scalars == {"version": 1.0}
    server.receive({0: report(0, *ONES), 2: report(0, *ONES)})
    assert torch.equal(server.parameters, before - 1.5)
    assert list(server.broadcast()) == [0, 2]


def test_entries_are_of_the_round_in_which_they_crossed() -> None:
    server = server_of(RennalaSGD(batch=2))
    news = server.broadcast()[0]
    frame = report(0, *ONES)
    assert server.receive({2: frame}) is None
    assert server.exchange_index == 1
    server.broadcast()
    ledger = server.receive({2: frame})
    assert ledger is not None
    down, up = len(news), len(frame)
    assert list(ledger) == [
        *[Entry(0, i, "downlink", down, PAPER) for i in range(3)],
        Entry(0, 2, "uplink", up, PAPER),
        Entry(0, 2, "downlink", down, PAPER),
        Entry(0, 2, "uplink", up, PAPER),
    ]
    assert (server.round_index, server.exchange_index) == (1, 0)
    server.broadcast()
    assert server.receive({0: frame}) is None  # computed in round 0, too late
    assert list(server.ledger) == [
        Entry(1, 2, "downlink", down, PAPER),
        Entry(1, 0, "uplink", up, PAPER),
    ]


@pytest.mark.parametrize("workers", [[], [1], [0, 1], [3]])
def test_reports_of_workers_that_have_nothing_to_answer_are_refused(workers: list[int]) -> None:
    server = server_of(AsyncSGD())
    server.broadcast()
    server.receive({1: report(0, *ONES)})  # and has not been given news since
    before = server.parameters.clone()
    with pytest.raises(RoundError) as caught:
        server.receive(dict.fromkeys(workers, report(0, *ONES)))
    assert str(caught.value) == (
        f"round 1: reports came from workers {workers}, expected some of [0, 2]"
    )
    assert torch.equal(server.parameters, before)


def test_a_refused_report_may_come_again() -> None:
    server = server_of(AsyncSGD())
    server.broadcast()
    with pytest.raises(RoundError, match=r"^round 0: report of worker 1: version is 5\.0"):
        server.receive({1: report(5, *ONES)})
    assert server.receive({1: report(0, *ONES)}) is not None


def test_settings_that_do_not_fit_the_run_are_explained() -> None:
    method = Shadowheart(compressor=Identity(), compute_s=(1.0, 2.0), message_s=1.0, noise=1.0)
    with pytest.raises(RoundError, match=r"^round 0: compute_s has 2 numbers, and there are 3"):
        server_of(method).broadcast()


def test_statistics_of_a_report_move_the_servers_by_a_workers_share() -> None:
    server = server_of(AsyncSGD(), BATCH_NORM)
    zero = DensePayload(torch.zeros(len(server.parameters)))
    server.broadcast()
    for worker_id, value, mean in [(0, 3.0, 1.0), (1, 4.0, 2.0), (0, 8.0, 4.0)]:
        payloads = {"gradient": zero, "buffers": DensePayload(torch.full((8,), value))}
        server.receive({worker_id: encode(Message(payloads, {"version": 0.0}))})
        server.broadcast()
        found = server.model_state()["1.running_mean"]
        torch.testing.assert_close(found, torch.full((4,), mean))


def test_statistics_go_to_those_that_started_before_they_were_known() -> None:
    server = server_of(AsyncSGD(), BATCH_NORM)
    dim = len(server.parameters)

    def answer(worker_id: int, statistics: bool) -> bytes:
        payloads = {"gradient": DensePayload(torch.zeros(dim))}
        if statistics:
            payloads["buffers"] = DensePayload(torch.full((8,), 2.0))
        return encode(Message(payloads, {"version": 0.0}))

    def told(worker_id: int) -> bool:
        return "buffers" in decode(server.broadcast()[worker_id]).payloads

    assert told(0)
    server.receive({0: answer(0, True)})
    assert told(0)
    server.receive({1: answer(1, False)})  # at work since before the statistics came
    assert told(1)
    server.receive({0: answer(0, False)})
    assert not told(0)
