"""What worker halves say to news that they cannot use: of another size, out of range, too late."""

import copy
import re
from dataclasses import replace
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
    CocoEF,
    DoCoFL,
    LearnedCompression,
    Method,
    PowerSGDMethod,
    Shadowheart,
    WorkerHalf,
)
from mlmc_ray.methods.checks import whole
from mlmc_ray.methods.reports import payload_of
from mlmc_ray.payloads import DensePayload, Message
from mlmc_ray.seeding import generator_for
from tests.mlmc_ray.driver import QuadraticOracle, oracles_of
from tests.mlmc_ray.test_methods import METHODS, PROBLEM, START, Layered

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


OTHER_POINT = "the oracle refuses a point of another size"


class Refusing(QuadraticOracle):
    """An oracle that refuses points of another size, as those of real workers do."""

    def gradient(self, at: Tensor, batch: Any) -> Tensor:
        if at.shape != self.vector.shape:
            raise ValueError(OTHER_POINT)
        return super().gradient(at, batch)


class Misled:
    """A worker half whose copies get other news before it answers its own.

    Attributes:
        complaints: of the copies: a payload's name, what was done with it, and what the copy said
            to that; "" for nothing.
    """

    def __init__(self, half: WorkerHalf) -> None:
        self.half = half
        self.complaints: list[tuple[str, str, str]] = []

    def step(self, news: Message, oracle: Any, *, context: Context) -> Message:
        for name, payload in news.payloads.items():
            others = {key: value for key, value in news.payloads.items() if key != name}
            longer = DensePayload(torch.ones(payload.dim + 1, dtype=torch.float64))
            for change, payloads in (("longer", {**others, name: longer}), ("missing", others)):
                here = replace(context, generator=generator_for(0))
                try:
                    message = Message(payloads, news.scalars)
                    copy.deepcopy(self.half).step(message, oracle, context=here)
                    complaint = ""
                except ValueError as error:
                    complaint = str(error)
                self.complaints.append((name, change, complaint))
        return self.half.step(news, oracle, context=context)

    def state_dict(self) -> dict[str, Tensor]:
        return self.half.state_dict()


MAY_BE_MISSING = {"previous", "right", "anchor", "weights"}
"""Payloads whose absence says something."""


@pytest.mark.parametrize("method", METHODS, ids=str)
def test_payloads_that_are_missing_or_of_another_size_are_refused(method: Method) -> None:
    if isinstance(method, CocoEF):
        method = replace(method, straggling=0.0)  # a late worker does not look at the news
    oracles = [Refusing(oracle.matrix, oracle.vector) for oracle in oracles_of(PROBLEM)]
    run = Layered(method, oracles, START, 0.01)
    half = Misled(run.workers[0])
    run.workers[0] = half  # type: ignore[call-overload]
    run.rounds(8)
    assert half.complaints
    for name, change, complaint in half.complaints:
        if change == "missing":
            assert complaint or name in MAY_BE_MISSING
        elif complaint != OTHER_POINT or name not in ("parameters", "previous", "point"):
            assert name in complaint


def test_a_payload_is_refused_in_these_words() -> None:
    news = news_of("change")
    assert payload_of(news, "change").dim == payload_of(news, "change", DIM).dim == DIM
    with pytest.raises(
        ValueError, match=r"^the server's news lacks 'left'; server and workers must"
    ):
        payload_of(news, "left", DIM)
    text = "^the server's news: change has 16 entries, the model here has 15; server and workers"
    with pytest.raises(ValueError, match=text):
        payload_of(news, "change", 15)


def test_a_number_that_is_missing_is_named() -> None:
    with pytest.raises(
        ValueError, match=r"^the server's news: phase is None, expected a whole num"
    ):
        whole({}, "phase", 0, 2)


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
