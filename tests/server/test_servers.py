"""Several servers, as plain objects; reports that are decoded as they come; clipped steps."""

import math
import time
from typing import Any

import pytest
import torch
from torch import Tensor

import server.server
from mlmc_ray.errors import RoundError
from mlmc_ray.methods import DataParallelSGD
from mlmc_ray.optimizers import SGD
from mlmc_ray.payloads import DensePayload, Message
from mlmc_ray.plan import RunPlan
from mlmc_ray.problems import ProblemSource
from mlmc_ray.wire import decode, encode
from server.server import ParameterServer
from tests.server.test_actor import TINY, server_with

STEP_SIZE = 0.25
DIM = 6
GRADIENTS = [torch.tensor([3.0, 0, -1, 4, 0, 2]), torch.tensor([1.0, 2, 3, -4, 0.5, 0])]
MEAN = torch.stack(GRADIENTS).mean(dim=0)


def servers_of(number: int = 1, **settings: Any) -> list[ParameterServer]:
    """The servers of a quadratic of 6 parameters and two workers, which have been broadcast."""
    plan = RunPlan(
        problem=ProblemSource("mlmc_ray.problems.Quadratic", {"num_functions": 2, "dim": DIM}),
        method=DataParallelSGD(),
        optimizer=SGD(step_size=STEP_SIZE),
        num_workers=2,
        seed=1,
        servers=number,
        **settings,
    )
    servers = [ParameterServer(plan, index) for index in range(number)]
    for one in servers:
        one.broadcast()
    return servers


def report(gradient: Tensor) -> bytes:
    return encode(Message({"gradient": DensePayload(gradient)}))


def reports_for(index: int, number: int) -> dict[int, bytes]:
    entries = slice(index * DIM // number, (index + 1) * DIM // number)
    return {i: report(gradient[entries]) for i, gradient in enumerate(GRADIENTS)}


def step_of(servers: list[ParameterServer]) -> Tensor:
    """Take a round on all servers and return the step that they took together."""
    before = torch.cat([one.parameters for one in servers])
    assert all(one.take(reports_for(i, len(servers))) for i, one in enumerate(servers))
    squared_norm = sum(one.squared_norm for one in servers)
    for one in servers:
        one.finish(squared_norm)
    return torch.cat([one.parameters for one in servers]) - before


# Several.


def test_servers_have_the_parts_of_one_servers_parameters() -> None:
    (alone,) = servers_of()
    parts = servers_of(3)
    assert torch.equal(torch.cat([one.parameters for one in parts]), alone.parameters)
    news = [decode(one.broadcast()[0]).payloads["parameters"].to_dense() for one in parts]
    assert torch.equal(torch.cat(news), alone.parameters)


def test_the_first_server_evaluates_and_saves_the_parameters_of_all() -> None:
    (alone,), (first, *others) = servers_of(), servers_of(3)
    step_of([alone])
    step_of([first, *others])
    parameters = [one.parameters for one in others]
    assert first.evaluate(*parameters) == alone.evaluate()
    state, expected = first.model_state(*parameters), alone.model_state()
    assert all(torch.equal(state[name], tensor) for name, tensor in expected.items())
    with pytest.raises(RoundError, match="only the first server has the whole model"):
        others[0].evaluate()


# Clipped steps.


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_long_estimate_is_shortened_to_the_norm(number: int) -> None:
    norm = math.sqrt(float(MEAN.double().square().sum()))
    step = step_of(servers_of(number, clip_norm=0.5 * norm))
    torch.testing.assert_close(step, -STEP_SIZE * 0.5 * MEAN, rtol=1e-6, atol=1e-7)
    longest = step_of(servers_of(number, clip_norm=1.01 * norm))
    assert torch.equal(longest, step_of(servers_of(number)))


def test_the_norm_is_only_computed_where_it_is_needed() -> None:
    (plain,), (clipped,) = servers_of(), servers_of(clip_norm=1.0)
    for one in (plain, clipped):
        one.receive(reports_for(0, 1))
    assert plain.squared_norm == 0
    assert clipped.squared_norm == pytest.approx(float(MEAN.square().sum()))


# Reports that are decoded as they come.


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[bytes | memoryview]:
    """Which frames have been decoded, in their order."""
    frames = []

    def noting(frame: bytes | memoryview, **settings: Any) -> Message:
        frames.append(frame)
        return decode(frame, **settings)

    monkeypatch.setattr(server.server, "decode", noting)
    return frames


def test_a_report_is_decoded_when_it_comes_and_not_again(decoded: list[Any]) -> None:
    (one,), (other,) = servers_of(), servers_of()
    frames = reports_for(0, 1)
    one.decode(1, frames[1])
    one.decode(0, frames[0])
    assert decoded == [frames[1], frames[0]]
    assert one.take(frames)
    assert len(decoded) == 2
    assert other.take(frames)
    one.finish(0)
    other.finish(0)
    assert torch.equal(one.parameters, other.parameters)


@pytest.mark.ray
@pytest.mark.usefixtures("cluster")
def test_reports_of_a_host_are_decoded_while_another_works(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    actor, _ = server_with(TINY, after_s=(0, 1.0))
    seen = []

    def noting(_: ParameterServer, worker_id: int, frame: memoryview) -> None:
        seen.append((worker_id, time.monotonic()))

    monkeypatch.setattr(ParameterServer, "decode", noting)
    actor.round(60, False)
    assert [worker_id for worker_id, _ in seen] == [0, 2, 1, 3]
    assert seen[2][1] - seen[1][1] > 0.5


def test_another_report_than_the_decoded_one_counts(decoded: list[Any]) -> None:
    (one,) = servers_of()
    before = one.parameters.clone()
    one.decode(0, report(torch.full((DIM,), 9.0)))
    one.receive(reports_for(0, 1))
    assert len(decoded) == 3
    torch.testing.assert_close(one.parameters, before - STEP_SIZE * MEAN)


def test_what_was_decoded_is_forgotten_when_the_next_exchange_begins(decoded: list[Any]) -> None:
    (one,) = servers_of()
    frames = reports_for(0, 1)
    one.decode(0, frames[0])
    one.broadcast()
    one.take(frames)
    assert len(decoded) == 3


def test_bad_reports_are_told_in_worker_order_and_counted() -> None:
    (one,) = servers_of()
    frames = {0: b"\x93", 1: b""}
    one.decode(1, frames[1])
    one.decode(0, frames[0])
    assert one.ledger.frame_bytes("uplink") == 0
    with pytest.raises(RoundError, match=r"^round 0: report of worker 0: frame: not one complete"):
        one.take(frames)
    assert one.ledger.frame_bytes("uplink") == 1
