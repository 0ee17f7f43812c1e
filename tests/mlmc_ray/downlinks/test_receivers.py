"""What the workers' side makes of frames: of good ones, of old ones and of bad ones."""

from typing import Any

import msgpack
import pytest
import torch
from torch import Tensor

from mlmc_ray.compressors import FixedPoint, TopK
from mlmc_ray.downlinks import (
    FULL,
    CompressedDownlink,
    DeltaDownlink,
    Downlink,
    HalfDownlink,
    Receiver,
    RelayDownlink,
    changes,
)
from mlmc_ray.downlinks.state import state_message
from mlmc_ray.errors import RoundError, WireError
from mlmc_ray.methods import DataParallelSGD
from mlmc_ray.optimizers import SGD
from mlmc_ray.payloads import (
    DensePayload,
    Message,
    Payload,
    SparsePayload,
    SumPayload,
    ZeroPayload,
)
from mlmc_ray.replica import Replica
from mlmc_ray.wire import decode, encode
from mlmc_ray.wire.bundles import Bundle, digest_of, encode_bundle
from tests.mlmc_ray.downlinks.replicas import replica_of

DIM = 10
DELTA, COMPRESSED = DeltaDownlink(), CompressedDownlink(compressor=TopK(k=1))
WORKERS = (0, 1)


def make() -> Replica:
    return replica_of(optimizer=SGD(step_size=1.0))


def receiver_of(downlink: Downlink) -> Receiver:
    return downlink.receiver(make, DIM)


def took(receiver: Receiver, round_index: int, frame: bytes) -> Tensor | None:
    news = receiver.take(round_index, 0, frame, WORKERS)
    if news is None:
        return None
    assert isinstance(news, Message)
    return news.payloads["parameters"].to_dense()


def full(values: Tensor) -> bytes:
    return encode(Message({"parameters": DensePayload(values)}))


def change(since: float, payload: Payload, **scalars: float) -> bytes:
    return encode(Message({"change": payload}, {"since": since, **scalars}))


def at(entry: int, value: float, dim: int = DIM) -> SparsePayload:
    return SparsePayload(dim, torch.tensor([entry]), torch.tensor([value]))


def with_entry(entry: int, value: float) -> Tensor:
    vector = torch.ones(DIM)
    vector[entry] = value
    return vector


# Good ones.


def test_delta_puts_values_in_and_compressed_adds() -> None:
    for downlink, expected in ((DELTA, 5.0), (COMPRESSED, 6.0)):
        receiver = receiver_of(downlink)
        took(receiver, 3, full(torch.ones(DIM)))
        news = took(receiver, 4, change(3, at(2, 5.0)))
        assert news is not None
        assert torch.equal(news, with_entry(2, expected))


@pytest.mark.parametrize("downlink", [DELTA, COMPRESSED])
def test_what_the_workers_do_with_their_news_changes_no_copy(downlink: Downlink) -> None:
    receiver = receiver_of(downlink)
    for round_index, frame in enumerate((full(torch.ones(DIM)), change(0, ZeroOf[downlink]))):
        news = took(receiver, round_index, frame)
        assert news is not None
        assert torch.equal(news, torch.ones(DIM))
        news.zero_()


@pytest.mark.parametrize("downlink", [DELTA, COMPRESSED])
def test_a_copy_is_not_kept_in_the_memory_of_decoded_values(
    downlink: Downlink, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Message] = []

    def decoded(*given: Any, **options: Any) -> Message:
        seen.append(decode(*given, **options))
        return seen[-1]

    monkeypatch.setattr(changes, "decode", decoded)
    receiver = receiver_of(downlink)
    took(receiver, 3, full(torch.ones(DIM)))
    took(receiver, 4, change(3, at(2, 5.0)))
    assert torch.equal(seen[0].payloads["parameters"].to_dense(), torch.ones(DIM))


NOTHING = SparsePayload(DIM, torch.tensor([], dtype=torch.int64), torch.tensor([]))
ZeroOf: dict[Downlink, Payload] = {DELTA: NOTHING, COMPRESSED: ZeroPayload(DIM)}


def test_other_news_are_handed_on() -> None:
    receiver = receiver_of(DELTA)
    took(receiver, 0, full(torch.ones(DIM)))
    buffers = DensePayload(torch.ones(2))
    frame = encode(Message({"change": NOTHING, "buffers": buffers}, {"since": 0.0, "phase": 2.0}))
    news = receiver.take(1, 0, frame, WORKERS)
    assert isinstance(news, Message)
    assert set(news.payloads) == {"parameters", "buffers"}
    assert news.scalars == {"phase": 2.0}


def test_frames_of_one_round_may_begin_at_different_rounds() -> None:
    """A host's copy is as new as that of its newest worker."""
    parts = tuple(at(entry, 1.0) for entry in range(4))
    receiver = receiver_of(COMPRESSED)
    took(receiver, 0, full(torch.zeros(DIM)))
    took(receiver, 2, change(0, SumPayload(parts[:2])))
    for since in (0, 2, 0, 3):  # the first is behind by two rounds, of which one is in
        news = took(receiver, 4, change(since, SumPayload(parts[since:])))
        assert news is not None
        assert torch.equal(news, torch.tensor([1.0] * 4 + [0.0] * 6))


def test_one_missing_change_may_be_a_sum_itself() -> None:
    receiver = receiver_of(COMPRESSED)
    took(receiver, 0, full(torch.zeros(DIM)))
    news = took(receiver, 1, change(0, SumPayload((at(1, 2.0), at(4, 3.0)))))
    assert news is not None
    assert news.tolist() == [0, 2, 0, 0, 3, 0, 0, 0, 0, 0]


@pytest.mark.parametrize("form", [torch.float16, torch.bfloat16])
def test_half_precision_arrives_as_float32(form: torch.dtype) -> None:
    news = took(receiver_of(HalfDownlink()), 0, full(torch.full((DIM,), 1.5, dtype=form)))
    assert news is not None
    assert news.dtype == torch.float32
    assert torch.equal(news, torch.full((DIM,), 1.5))


# A replica.

REPORTS = {
    i: encode(Message({"gradient": DensePayload(torch.full((DIM,), 3.0 * i))})) for i in range(3)
}
STEP = 3.0  # of every entry, down


def relayed(since: int, rounds: int, digest: bytes | None = None) -> bytes:
    return encode_bundle(Bundle(since=since, rounds=[REPORTS] * rounds, digest=digest))


def whole(replica: Replica | None = None) -> bytes:
    return encode(state_message(replica or make(), lacking=True))


def test_a_replica_takes_the_steps_of_the_server() -> None:
    receiver = receiver_of(RelayDownlink())
    assert took(receiver, 5, whole()) is not None
    expected = torch.full((DIM,), -STEP)
    for frame in (relayed(5, 1), relayed(4, 2), relayed(5, 1, digest_of(expected))):
        news = took(receiver, 6, frame)  # the second and the third bring nothing new
        assert news is not None
        assert torch.equal(news, expected)
    later = took(receiver, 8, relayed(5, 3))
    assert later is not None
    assert torch.equal(later, 3 * expected)


def test_what_the_workers_do_with_their_news_changes_no_replica() -> None:
    receiver = receiver_of(RelayDownlink())
    for round_index, frame in ((0, whole()), (1, relayed(0, 1))):
        news = took(receiver, round_index, frame)
        assert news is not None
        news.fill_(7.0)
    later = took(receiver, 2, relayed(1, 1))
    assert later is not None
    assert torch.equal(later, torch.full((DIM,), -2 * STEP))


def test_another_digest_and_the_copy_is_given_up() -> None:
    receiver = receiver_of(RelayDownlink())
    took(receiver, 0, whole())
    assert took(receiver, 1, relayed(0, 1, bytes(8))) is None
    assert took(receiver, 1, relayed(0, 1)) is None
    assert took(receiver, 1, whole()) is not None
    assert took(receiver, 2, relayed(1, 1)) is not None


def test_statistics_go_to_each_worker_once_and_not_to_those_that_have_them() -> None:
    server = replica_of(norm=True)
    for lacking, expected in ((True, [True, True]), (False, [False, False])):
        receiver = RelayDownlink().receiver(lambda: replica_of(norm=True), 14)
        receiver.take(3, 0, encode(state_message(server, lacking=lacking)), WORKERS)
        for times in (expected, [False, False]):
            assert [receiver.statistics_for(i) is not None for i in WORKERS] == times
        assert receiver.statistics_for(2) is not None  # for whom the frame was not


# Old ones.


@pytest.mark.parametrize("downlink", [DELTA, COMPRESSED])
def test_changes_since_a_copy_that_is_not_here_are_answered_by_asking(downlink: Downlink) -> None:
    receiver = receiver_of(downlink)
    nothing = ZeroOf[downlink]
    assert took(receiver, 1, change(0, nothing)) is None
    took(receiver, 3, full(torch.ones(DIM)))
    assert took(receiver, 6, change(4, nothing)) is None  # since a later one
    assert took(receiver, 6, change(3, nothing)) is None  # the copy is given up
    took(receiver, 6, full(torch.ones(DIM)))
    assert took(receiver, 7, change(-1, nothing)) is None


def test_rounds_after_one_that_is_not_here_are_answered_by_asking() -> None:
    receiver = receiver_of(RelayDownlink())
    assert took(receiver, 1, relayed(0, 1)) is None
    took(receiver, 3, whole())
    assert took(receiver, 6, relayed(4, 2)) is None


# Bad ones.


@pytest.mark.parametrize("downlink", [FULL, HalfDownlink(), DELTA, COMPRESSED, RelayDownlink()])
@pytest.mark.parametrize(
    "frame", [b"", b"\x93", b"\x94", b"\x94\x02", b"\xc0", full(torch.ones(11))]
)
def test_malformed_frames_are_refused(downlink: Downlink, frame: bytes) -> None:
    with pytest.raises(WireError):
        took(receiver_of(downlink), 0, frame)


BAD_CHANGES = {
    "neither 'parameters' nor 'change' since a round": [
        encode(Message({})),
        encode(Message({"change": NOTHING})),
        encode(Message({}, {"since": 0.0})),
        change(0.5, NOTHING),
        encode(state_message(make(), lacking=False)).replace(b"parameters", b"qarameters"),
    ],
    "change has 9 entries, the model here has 10": [change(0, at(1, 1.0, dim=9))],
}


@pytest.mark.parametrize("downlink", [DELTA, COMPRESSED])
@pytest.mark.parametrize(
    ("text", "frame"), [(text, frame) for text, frames in BAD_CHANGES.items() for frame in frames]
)
def test_bad_changes_are_refused(downlink: Downlink, text: str, frame: bytes) -> None:
    receiver = receiver_of(downlink)
    took(receiver, 0, full(torch.ones(DIM)))
    with pytest.raises(RoundError, match=text):
        took(receiver, 1, frame)


def test_delta_takes_entries_alone() -> None:
    receiver = receiver_of(DELTA)
    took(receiver, 0, full(torch.ones(DIM)))
    with pytest.raises(RoundError, match=r"change is a ZeroPayload, and with downlink delta"):
        took(receiver, 1, change(0, ZeroPayload(DIM)))


def test_rounds_that_do_not_end_before_this_one_are_refused() -> None:
    receiver = receiver_of(RelayDownlink())
    took(receiver, 3, whole())
    with pytest.raises(RoundError, match="rounds 3 to 4 are relayed, in round 4"):
        took(receiver, 4, relayed(3, 2))


@pytest.mark.parametrize(
    "report", [b"", b"\x93", encode(Message({"gradient": DensePayload(torch.ones(DIM + 1))}))]
)
def test_bad_reports_in_a_bundle_are_refused(report: bytes) -> None:
    receiver = receiver_of(RelayDownlink())
    took(receiver, 3, whole())
    frame = encode_bundle(Bundle(since=3, rounds=[{**REPORTS, 1: report}], digest=None))
    with pytest.raises(WireError):
        took(receiver, 4, frame)


def test_a_relayed_message_of_another_downlink_is_refused() -> None:
    with pytest.raises(WireError, match="averages: expected 1 entries, got nothing"):
        took(receiver_of(RelayDownlink()), 0, full(torch.ones(DIM)))
    with pytest.raises(WireError, match="frame: expected 3 fields, got 4"):
        took(receiver_of(DELTA), 1, relayed(0, 1))


# The server's side, where the workers' has a say.


def test_changes_that_ask_for_too_much_together_become_a_full_copy() -> None:
    """Readers allow a message 16 vectors that its bytes hardly say."""
    replica = replica_of(9999, method=DataParallelSGD())
    sender = CompressedDownlink(compressor=FixedPoint(planes=1)).sender(replica)
    news = Message({"parameters": DensePayload(replica.parameters)})
    for round_index in range(40):
        replica.parameters[round_index] += 1.0
        sender.open(round_index, replica.context(round_index, 0))
    few, many = (decode(sender.frame(news, 39, since, confirmed=True)) for since in (30, 1))
    assert isinstance(few.payloads["change"], SumPayload)
    assert len(few.payloads["change"].parts) == 9
    assert list(many.payloads) == ["parameters"]


def test_the_frames_are_messages() -> None:
    """What a bundle is not, so that it can be told from a full copy by its first byte."""
    assert msgpack.unpackb(whole())[0] == msgpack.unpackb(relayed(0, 1))[0]
    assert len(msgpack.unpackb(whole())) == 3
