"""The copy of round 0, which every process makes for itself, and the digests that confirm it."""

import hashlib
from typing import Any

import msgpack
import pytest
import torch
from torch import Tensor

from mlmc_ray.downlinks import Downlink, RelayDownlink
from mlmc_ray.downlinks.changes import changes
from mlmc_ray.errors import RoundError, WireError
from mlmc_ray.payloads import DensePayload, Message, Payload, SumPayload
from mlmc_ray.replica import Replica
from mlmc_ray.wire import decode
from mlmc_ray.wire.bundles import Bundle, digest_of, encode_bundle
from tests.mlmc_ray.downlinks.replicas import replica_of
from tests.mlmc_ray.downlinks.test_receivers import (
    COMPRESSED,
    DELTA,
    DIM,
    NOTHING,
    STEP,
    WORKERS,
    ZeroOf,
    at,
    change,
    full,
    make,
    receiver_of,
    relayed,
    took,
    whole,
)

PLACES = torch.arange(DIM, dtype=torch.float32)


class Start:
    """Makes replicas of a start, and counts them."""

    def __init__(self, parameters: Tensor = PLACES) -> None:
        self.made = 0
        self._parameters = parameters

    def __call__(self) -> Replica:
        self.made += 1
        replica = make()
        replica.parameters.copy_(self._parameters)
        return replica


def digest_number(copy: Tensor) -> float:
    """The digest of a copy as ``docs/wire.md`` says it."""
    told = hashlib.blake2b(copy.numpy().astype("<f4").tobytes(), digest_size=8).digest()
    return float(int.from_bytes(told[:6], "big"))


def confirming(payload: Payload, copy: Tensor, **scalars: float) -> bytes:
    """What has changed since the start, for a worker that is to end at a copy."""
    news = Message({"parameters": DensePayload(copy)}, scalars)
    return changes(news, payload, 0, leading_to=copy)


def moved(entry: int, value: float) -> Tensor:
    vector = PLACES.clone()
    vector[entry] = value
    return vector


@pytest.mark.parametrize("downlink", [DELTA, COMPRESSED])
def test_the_first_news_need_no_copy(downlink: Downlink) -> None:
    start = Start()
    receiver = downlink.receiver(start, DIM)
    news = receiver.take(0, 0, confirming(ZeroOf[downlink], PLACES, phase=2.0), WORKERS)
    assert isinstance(news, Message)
    assert torch.equal(news.payloads["parameters"].to_dense(), PLACES)
    assert news.scalars == {"phase": 2.0}
    later = took(receiver, 1, change(0, at(0, 5.0)))
    assert later is not None
    assert torch.equal(later, moved(0, 5.0))
    assert start.made == 1


@pytest.mark.parametrize("downlink", [DELTA, COMPRESSED])
def test_what_is_missed_since_the_start_comes_at_once(downlink: Downlink) -> None:
    start = Start()
    receiver = downlink.receiver(start, DIM)
    payload = at(0, 6.0) if downlink is DELTA else SumPayload((at(0, 2.0), at(0, 4.0)))
    for _ in range(2):  # for another worker the same
        news = took(receiver, 2, confirming(payload, moved(0, 6.0)))
        assert news is not None
        assert torch.equal(news, moved(0, 6.0))
    assert start.made == 1


def test_the_digest_is_what_the_page_says() -> None:
    for copy in (torch.zeros(DIM), PLACES, torch.full((DIM,), -1e-30)):
        assert decode(confirming(NOTHING, copy)).scalars["digest"] == digest_number(copy)


@pytest.mark.parametrize("downlink", [DELTA, COMPRESSED])
def test_no_start_is_made_for_news_that_need_another_copy(downlink: Downlink) -> None:
    start = Start()
    receiver = downlink.receiver(start, DIM)
    nothing, right = ZeroOf[downlink], digest_number(PLACES)
    assert took(receiver, 1, change(0, nothing)) is None  # no digest
    assert took(receiver, 2, change(1, nothing, digest=right)) is None
    assert took(receiver, 2, change(-1, nothing, digest=right)) is None
    assert start.made == 0


@pytest.mark.parametrize("downlink", [DELTA, COMPRESSED])
@pytest.mark.parametrize(
    "digest",
    [
        -1.0,
        0.0,
        0.5,
        2.0**48,
        1e308,
        -1e308,
        5e-324,
        digest_number(PLACES) + 1,
        digest_number(-PLACES),
    ],
)
def test_another_digest_is_answered_by_asking(downlink: Downlink, digest: float) -> None:
    receiver = downlink.receiver(Start(), DIM)
    assert took(receiver, 0, change(0, ZeroOf[downlink], digest=digest)) is None
    assert took(receiver, 1, change(0, ZeroOf[downlink])) is None  # the copy is given up
    took(receiver, 1, full(PLACES))
    assert took(receiver, 2, change(1, ZeroOf[downlink])) is not None
    assert took(receiver, 2, change(1, ZeroOf[downlink], digest=digest)) is None


@pytest.mark.parametrize("downlink", [DELTA, COMPRESSED])
@pytest.mark.parametrize("digest", [float("nan"), float("inf"), 3, "3", None, [1.0], b"digest"])
def test_a_digest_that_is_no_number_is_refused(downlink: Downlink, digest: Any) -> None:
    fields = msgpack.unpackb(change(0, ZeroOf[downlink]))
    fields[2]["digest"] = digest
    with pytest.raises(WireError, match="digest"):
        took(downlink.receiver(Start(), DIM), 0, msgpack.packb(fields))


@pytest.mark.parametrize("downlink", [DELTA, COMPRESSED])
def test_another_start_is_found(downlink: Downlink) -> None:
    receiver = downlink.receiver(Start(moved(7, 7.5)), DIM)
    assert took(receiver, 1, confirming(at(0, 5.0), moved(0, 5.0))) is None
    news = took(receiver, 1, full(moved(0, 5.0)))
    assert news is not None
    assert torch.equal(news, moved(0, 5.0))


@pytest.mark.parametrize("downlink", [DELTA, COMPRESSED])
def test_a_start_of_another_size_is_an_error(downlink: Downlink) -> None:
    with pytest.raises(RoundError, match="change has 9 entries, the model here has 10"):
        took(receiver_of(downlink), 1, confirming(at(1, 1.0, dim=9), torch.ones(9)))


def test_a_replica_begins_at_the_start() -> None:
    expected = PLACES - 3 * STEP
    for first, rounds in ((0, 0), (3, 3)):  # in round 0, and later
        start = Start()
        receiver = RelayDownlink().receiver(start, DIM)
        copy = PLACES - first * STEP
        news = took(receiver, first, relayed(0, rounds, digest_of(copy)))
        assert news is not None
        assert torch.equal(news, copy)
        news = took(receiver, 3, relayed(first, 3 - first)) if first < 3 else news
        assert news is not None
        assert torch.equal(news, expected)
        assert start.made == 1


def test_no_replica_begins_for_rounds_that_need_another_copy() -> None:
    start = Start()
    receiver = RelayDownlink().receiver(start, DIM)
    assert took(receiver, 1, relayed(0, 1)) is None  # no digest
    assert took(receiver, 2, relayed(1, 1, digest_of(PLACES - STEP))) is None
    assert start.made == 0


@pytest.mark.parametrize("digest", [bytes(8), b"\xff" * 8, digest_of(PLACES - STEP)])
def test_a_replica_of_another_start_is_given_up(digest: bytes) -> None:
    receiver = RelayDownlink().receiver(Start(moved(7, 7.5)), DIM)
    assert took(receiver, 1, relayed(0, 1, digest)) is None
    assert took(receiver, 1, relayed(0, 1)) is None
    server = Start()()
    news = took(receiver, 1, whole(server))
    assert news is not None
    assert torch.equal(news, PLACES)


def test_statistics_of_the_start_go_to_each_worker_once() -> None:
    server = replica_of(norm=True)
    receiver = RelayDownlink().receiver(lambda: replica_of(norm=True), 14)
    digest = digest_of(server.parameters, server.statistics)
    assert receiver.take(0, 0, encode_bundle(Bundle(since=0, rounds=(), digest=digest)), WORKERS)
    for worker_id in WORKERS:
        told = receiver.statistics_for(worker_id)
        assert told is not None
        assert torch.equal(told, server.statistics)
        assert receiver.statistics_for(worker_id) is None


def test_statistics_of_another_start_are_found() -> None:
    server = replica_of(norm=True)
    receiver = RelayDownlink().receiver(lambda: replica_of(norm=True), 14)
    digest = digest_of(server.parameters, server.statistics + 1)
    frame = encode_bundle(Bundle(since=0, rounds=(), digest=digest))
    assert receiver.take(0, 0, frame, WORKERS) is None
