"""The news of several servers, as the workers of a host get them."""

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor

from mlmc_ray.downlinks import DeltaDownlink
from mlmc_ray.downlinks.changes import changes
from mlmc_ray.errors import RoundError
from mlmc_ray.flat import FlatModel
from mlmc_ray.methods import DataParallelSGD
from mlmc_ray.payloads import DensePayload, Message, SparsePayload
from mlmc_ray.plan import RunPlan
from mlmc_ray.problems import ProblemSource
from mlmc_ray.wire import encode
from tests.tasks import Regression
from workers.inbox import Frames, Inbox

PLACE = (3, 0)


def plan_of(servers: int = 2, **settings: Any) -> RunPlan:
    """Return the plan of a run of 37 parameters and 8 running statistics."""
    return RunPlan(
        problem=ProblemSource("tests.tasks.Regression", {"batch_norm": True}),
        method=DataParallelSGD(),
        num_workers=4,
        seed=1,
        servers=servers,
        **settings,
    )


def model() -> FlatModel:
    return FlatModel(Regression(batch_norm=True).model())


def inbox_of(servers: int = 2, **settings: Any) -> Inbox:
    return Inbox(plan_of(servers, **settings), model())


def news_of(parameters: Tensor, **others: Tensor) -> bytes:
    vectors = {"parameters": parameters, **others}
    return encode(Message({name: DensePayload(vector) for name, vector in vectors.items()}))


def spans(servers: int = 2) -> list[Tensor]:
    whole = torch.arange(37, dtype=torch.float32)
    return [whole[span.entries] for span in plan_of(servers).spans(model())]


def to_all(frame: bytes, workers: tuple[int, ...] = (1, 3)) -> Frames:
    return dict.fromkeys(workers, frame)


def parameters_of(news: list[Message] | None) -> Tensor:
    assert news is not None
    return torch.cat([own.payloads["parameters"].to_dense() for own in news])


def test_every_worker_gets_the_news_of_every_server_in_their_order() -> None:
    inbox = inbox_of(3)
    frames = [to_all(news_of(part)) for part in spans(3)]
    news = inbox.read(*PLACE, frames)
    assert list(news) == [1, 3]
    for own in news.values():
        assert torch.equal(parameters_of(own), torch.arange(37.0))


def test_workers_may_get_different_news() -> None:
    inbox = inbox_of()
    first, second = spans()
    frames = [to_all(news_of(first)), {1: news_of(second), 3: news_of(second + 1)}]
    news = inbox.read(*PLACE, frames)
    assert torch.equal(parameters_of(news[1])[-1], torch.tensor(36.0))
    assert torch.equal(parameters_of(news[3])[-1], torch.tensor(37.0))


def test_a_copy_that_one_server_misses_is_asked_of_all() -> None:
    inbox = inbox_of(downlink=DeltaDownlink())
    first, second = spans()
    nothing = SparsePayload(len(second), torch.tensor([0]), torch.tensor([0.5]))
    full = Message({"parameters": DensePayload(second)})
    since = changes(full, nothing, 2, leading_to=None)
    assert inbox.read(*PLACE, [to_all(news_of(first)), to_all(since)]) == {1: None, 3: None}
    news = inbox.read(*PLACE, [to_all(news_of(first)), to_all(news_of(second))])
    assert torch.equal(parameters_of(news[1]), torch.arange(37.0))


def news_since_the_start(start: Tensor) -> bytes:
    """News that nothing has changed, with the digest of a start."""
    nothing = SparsePayload(len(start), torch.tensor([], dtype=torch.int64), torch.tensor([]))
    return changes(Message({"parameters": DensePayload(start)}), nothing, 0, leading_to=start)


def test_the_first_copy_is_the_start_of_the_model_here() -> None:
    plan, here = plan_of(downlink=DeltaDownlink()), model()
    parts = [here.parameters[span.entries].clone() for span in plan.spans(here)]
    frames = [to_all(news_since_the_start(part)) for part in parts]
    inbox = Inbox(plan, here)
    for _ in range(2):
        news = inbox.read(*PLACE, frames)
        assert torch.equal(parameters_of(news[1]), torch.cat(parts))
        here.parameters.add_(1.0)  # workers compute elsewhere, which changes no copy
    inbox.forget()
    assert inbox.read(*PLACE, frames) == {1: None, 3: None}


@pytest.mark.parametrize("index", [0, 1])
def test_another_start_of_one_span_is_asked_of_all(index: int) -> None:
    plan, here = plan_of(downlink=DeltaDownlink()), model()
    parts = [here.parameters[span.entries].clone() for span in plan.spans(here)]
    inbox = Inbox(plan, here)
    parts[index][3] += 1.0
    frames = [to_all(news_since_the_start(part)) for part in parts]
    assert inbox.read(*PLACE, frames) == {1: None, 3: None}
    news = inbox.read(*PLACE, [to_all(news_of(part)) for part in parts])
    assert torch.equal(parameters_of(news[3]), torch.cat(parts))


def test_servers_that_ask_different_workers_are_told() -> None:
    inbox = inbox_of()
    first, second = spans()
    with pytest.raises(RoundError) as caught:
        inbox.read(*PLACE, [to_all(news_of(first)), to_all(news_of(second), (0, 1))])
    assert str(caught.value) == (
        "round 3: server 0 asks workers [1, 3], and server 1 asks [0, 1]: the method needs "
        "servers: 1"
    )


BAD: dict[str, Mapping[int, bytes]] = {
    "server 1's news: frame: not one complete msgpack value": {1: b"\x93\x01"},
    "server 1's news: parameters.values: expected": {1: news_of(torch.ones(20))},
    "server 1's news has 3 parameters, its part of the model here has 19": {
        1: news_of(torch.ones(3))
    },
    "server 0's news has 2 buffers, its part of the model here has 8": {
        0: news_of(spans()[0], buffers=torch.ones(2))
    },
}


@pytest.mark.parametrize("text", BAD)
def test_bad_news_are_named_with_their_server(text: str) -> None:
    inbox = inbox_of()
    frames = [to_all(BAD[text].get(index, news_of(part))) for index, part in enumerate(spans())]
    with pytest.raises(RoundError, match=f"^round 3: {text}"):
        inbox.read(*PLACE, frames)
