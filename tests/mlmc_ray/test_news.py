"""What worker halves say to news that they cannot use: numbers out of range, or too late."""

import re
from typing import Any

import pytest
import torch
from torch import Tensor

from mlmc_ray.compressors import Identity, TopK
from mlmc_ray.compressors.base import Context
from mlmc_ray.methods import (
    DASHAPP,
    EF21BC,
    EF21P,
    M3,
    TAMUNA,
    AsyncSGD,
    DoCoFL,
    LearnedCompression,
    Method,
    PowerSGDMethod,
    Shadowheart,
)
from mlmc_ray.methods.checks import whole
from mlmc_ray.payloads import DensePayload, Message
from mlmc_ray.seeding import generator_for

DIM = 16
HERE = Context(
    generator_for(0), worker_id=1, num_workers=3, layer_sizes=(DIM,), layer_shapes=((8, 2),)
)
EXACT = Identity()
LEARNED = LearnedCompression(k=4, edge_layers=0)


class Flat:
    """An oracle whose gradient is one everywhere."""

    def sample(self, size: int | None = None) -> None:
        return None

    def full(self) -> None:
        return None

    def gradient(self, at: Tensor, batch: Any) -> Tensor:
        return torch.ones(DIM)


def news_of(*names: str, **scalars: float) -> Message:
    return Message({name: DensePayload(torch.ones(DIM)) for name in names}, scalars)


def answer(method: Method, news: Message) -> Message:
    """What a worker that has just been made says."""
    return method.worker().step(news, Flat(), context=HERE)


@pytest.mark.parametrize("value", [-1.0, 0.5, 7.0, 1e300, float("inf"), float("nan")])
def test_numbers_out_of_range_are_named(value: float) -> None:
    with pytest.raises(ValueError, match=f"^the server's news: phase is {re.escape(repr(value))},"):
        whole({"phase": value}, "phase", 0, 2)


def test_whole_numbers_up_to_the_limits_are_read() -> None:
    assert [whole({"phase": value}, "phase", 0, 2) for value in (0.0, 1.0, 2.0)] == [0, 1, 2]
    assert whole({"anchor": 2.0**53}, "anchor", 0) == 2**53


SHADOWHEART = Shadowheart(compressor=EXACT, compute_s=1.0, message_s=1.0, noise=1.0)
BAD_NUMBERS: dict[str, tuple[Method, Message]] = {
    "anchor is 1e+300": (DoCoFL(compressor=EXACT), news_of("anchor", anchor=1e300)),
    "phase is 7.0": (LEARNED, news_of("parameters", phase=7.0, leader=0.0)),
    "leader is 3.0": (LEARNED, news_of("parameters", phase=1.0, leader=3.0)),
    "gradients is 1000000000000000.0": (
        SHADOWHEART,
        news_of("parameters", gradients=1e15, messages=1.0),
    ),
    "messages is 5000.0": (
        SHADOWHEART,
        news_of("parameters", gradients=1.0, messages=5000.0),
    ),
    "version is 0.5": (AsyncSGD(), news_of("parameters", version=0.5)),
}


@pytest.mark.parametrize("text", BAD_NUMBERS)
def test_methods_refuse_numbers_out_of_range(text: str) -> None:
    with pytest.raises(ValueError, match=f"^the server's news: {re.escape(text)}, expected a whol"):
        answer(*BAD_NUMBERS[text])


LATE: dict[str, tuple[str, Method, Message]] = {
    "ef21-p": (
        "parameters",
        EF21P(downlink=TopK(k=2)),
        news_of("change"),
    ),
    "m3": ("parameters", M3(compressor=EXACT), news_of("change")),
    "ef21-bc": (
        "direction",
        EF21BC(compressor=TopK(k=2), downlink=TopK(k=2), step_size=0.1),
        news_of("change"),
    ),
    "docofl": ("anchor", DoCoFL(compressor=EXACT), news_of("correction")),
    "dasha-pp": (
        "gradient",
        DASHAPP(compressor=EXACT, participants=2),
        news_of("parameters", "previous"),
    ),
    "tamuna": (
        "sent",
        TAMUNA(step_size=0.1, probability=0.5, senders=2, participants=2),
        news_of("entries"),
    ),
    "learned, as the leader": (
        "weights",
        LEARNED,
        news_of("parameters", phase=2.0, leader=1.0),
    ),
    "learned": ("error", LEARNED, news_of("positions", phase=2.0, leader=0.0)),
    "power-sgd": ("right", PowerSGDMethod(rank=1), news_of("parameters", "right")),
    "power-sgd, second exchange": ("error", PowerSGDMethod(rank=1), news_of("left")),
}


@pytest.mark.parametrize("name", LATE)
def test_a_worker_that_joins_too_late_says_what_it_lacks(name: str) -> None:
    lacking, method, news = LATE[name]
    with pytest.raises(ValueError, match=f"^this worker lacks its {lacking}: it joined after the"):
        answer(method, news)
