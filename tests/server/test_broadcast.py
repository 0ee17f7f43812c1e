"""What every worker is sent, by what it has."""

from collections.abc import Collection
from typing import Any

import pytest
import torch
from torch import Tensor

from mlmc_ray.compressors import Context, TopK
from mlmc_ray.downlinks import (
    FULL,
    CompressedDownlink,
    DeltaDownlink,
    Downlink,
    HalfDownlink,
    RelayDownlink,
)
from mlmc_ray.downlinks.base import request
from mlmc_ray.downlinks.copies import _FullSender
from mlmc_ray.errors import RoundError
from mlmc_ray.methods import CompressedSGD, DataParallelSGD, Method, PartialParticipation
from mlmc_ray.methods.averaging import AverageServer
from mlmc_ray.methods.base import ServerHalf
from mlmc_ray.optimizers import SGD
from mlmc_ray.payloads import DensePayload, Message, SparsePayload, ZeroPayload
from mlmc_ray.plan import RunPlan
from mlmc_ray.problems import ProblemSource
from mlmc_ray.saving import loaded, saved
from mlmc_ray.wire import decode, encode
from mlmc_ray.wire.bundles import Bundle, decode_bundle, digest_of, is_bundle
from server.server import ParameterServer

DIM = 200
NUM_WORKERS = 3
ASK = encode(request())


def server_of(
    downlink: Downlink = FULL, *, method: Method | None = None, batch_norm: bool = False
) -> ParameterServer:
    problem = ProblemSource("tests.tasks.Regression", {"batch_norm": True})
    if not batch_norm:
        path = "mlmc_ray.problems.quadratic.Quadratic"
        problem = ProblemSource(path, {"num_functions": NUM_WORKERS, "dim": DIM})
    return ParameterServer(
        RunPlan(
            problem=problem,
            method=method or CompressedSGD(compressor=TopK(k=2)),
            optimizer=SGD(step_size=0.5),
            num_workers=NUM_WORKERS,
            seed=1,
            downlink=downlink,
        )
    )


def report(*entries: int) -> bytes:
    """A report that moves these entries by 0.5, if all workers send it."""
    indices = torch.tensor(entries)
    return encode(Message({"gradient": SparsePayload(DIM, indices, torch.ones(len(entries)))}))


class _Halving(AverageServer):
    def news(self, *, context: Context) -> Message:
        self.memory["share"] = self.memory.get("share", torch.ones(1)) / 2
        return super().news(context=context)


class Halving(CompressedSGD):
    """A method whose news change what the server's half remembers."""

    def server(self, parameters: Tensor) -> ServerHalf:
        return _Halving(parameters, "gradient")


def test_relay_refuses_news_that_change_the_memory() -> None:
    method = Halving(compressor=TopK(k=2))
    server_of(method=method).broadcast()
    with pytest.raises(RoundError, match="downlink is relay, and the method's news change what"):
        server_of(RelayDownlink(), method=method).broadcast()


class _Counting(AverageServer):
    def __init__(self, parameters: Tensor, name: str) -> None:
        super().__init__(parameters, name)
        self.memory["counts"] = torch.zeros(3, dtype=torch.int64)


class CountingServer(CompressedSGD):
    """A method whose server half remembers what no full copy holds."""

    def server(self, parameters: Tensor) -> ServerHalf:
        return _Counting(parameters, "gradient")


def test_relay_refuses_memory_that_no_copy_holds_before_one_is_asked_for() -> None:
    method = CountingServer(compressor=TopK(k=2))
    server_of(method=method).broadcast()
    with pytest.raises(RoundError, match=r"the half remembers 'counts' of shape .* no copy can"):
        server_of(RelayDownlink(), method=method).broadcast()


def round_of(server: ParameterServer, *entries: int) -> dict[int, bytes]:
    """Run a round, and return its news."""
    frames = server.broadcast()
    assert server.receive(dict.fromkeys(frames, report(*entries))) is not None
    return frames


def changed(frame: bytes) -> tuple[int, list[int], list[float]]:
    news = decode(frame)
    change = news.payloads["change"]
    assert isinstance(change, SparsePayload)
    return int(news.scalars["since"]), change.indices.tolist(), change.values.tolist()


def bundle_of(frame: bytes) -> Bundle:
    assert is_bundle(frame)
    return decode_bundle(frame)


def digest_in(frame: bytes) -> float | None:
    """The digest in news of what has changed."""
    return decode(frame).scalars.get("digest")


def digest_number(copy: Tensor) -> float:
    return float(int.from_bytes(digest_of(copy)[:6], "big"))


# What is new since the start, and then what is new since the round before.


@pytest.mark.parametrize("downlink", [FULL, HalfDownlink()])
def test_where_no_copies_are_kept_all_news_are_the_parameters(downlink: Downlink) -> None:
    server = server_of(downlink)
    frames = server.broadcast()
    assert len({id(frame) for frame in frames.values()}) == 1
    assert list(decode(frames[0]).payloads) == ["parameters"]


@pytest.mark.parametrize(
    "downlink", [DeltaDownlink(), CompressedDownlink(compressor=TopK(k=1))], ids=str
)
def test_the_first_news_are_nothing_and_a_digest_of_the_start(downlink: Downlink) -> None:
    server = server_of(downlink)
    frames = round_of(server, 3)
    assert len({id(frame) for frame in frames.values()}) == 1
    news = decode(frames[0])
    assert list(news.payloads) == ["change"]
    assert torch.equal(news.payloads["change"].to_dense(), torch.zeros(DIM))
    start = server_of().parameters
    assert news.scalars == {"since": 0, "digest": digest_number(start)}
    assert len(frames[0]) < 60
    assert digest_in(server.broadcast()[0]) is None  # they have a copy now


def test_the_first_news_of_relay_are_no_rounds_and_a_digest_of_the_start() -> None:
    frames = server_of(RelayDownlink()).broadcast()
    bundle = bundle_of(frames[0])
    assert (bundle.since, bundle.rounds) == (0, ())
    assert bundle.digest == digest_of(server_of().parameters)
    assert {len(frame) for frame in frames.values()} == {14}


def test_delta_sends_the_entries_that_moved_as_they_are_now() -> None:
    server = server_of(DeltaDownlink())
    round_of(server, 3)
    second, third = round_of(server, 3, 7), round_of(server)
    assert changed(second[0]) == (0, [3], [-0.5])
    assert changed(third[1]) == (1, [3, 7], [-1.0, -0.5])
    assert changed(server.broadcast()[2]) == (2, [], [])


def test_delta_sends_all_where_most_entries_moved() -> None:
    server = server_of(DeltaDownlink())
    round_of(server)
    few = round_of(server, *range(DIM - 40))
    many = round_of(server, *range(DIM))
    assert len(few[0]) < 100
    assert len(many[0]) < 4 * DIM
    assert torch.equal(
        decode(server.broadcast()[0]).payloads["parameters"].to_dense(), server.parameters
    )


def test_relay_sends_the_reports_of_the_round_before() -> None:
    server = server_of(RelayDownlink(digest_every=2))
    first, second, third = round_of(server, 3), round_of(server, 4, 9), server.broadcast()
    assert not bundle_of(first[0]).rounds
    bundle = bundle_of(second[1])
    assert (bundle.since, bundle.digest) == (0, None)
    assert [dict(reports) for reports in bundle.rounds] == [dict.fromkeys(range(3), report(3))]
    bundle = bundle_of(third[1])
    assert (bundle.since, bundle.digest) == (1, digest_of(server.parameters))
    assert [dict(reports) for reports in bundle.rounds] == [dict.fromkeys(range(3), report(4, 9))]


def test_compressed_sends_the_largest_of_what_is_lacking() -> None:
    server = server_of(CompressedDownlink(compressor=TopK(k=1)))
    round_of(server, 3, 8)
    assert changed(round_of(server, 8)[0]) == (0, [3], [-0.5])
    assert changed(round_of(server)[0]) == (1, [8], [-1.0])
    assert isinstance(decode(server.broadcast()[0]).payloads["change"], ZeroPayload)


# Who was away, and who asks.


def test_each_worker_gets_what_is_new_to_it() -> None:
    method = PartialParticipation(method=CompressedSGD(compressor=TopK(k=2)), participants=1)
    server = server_of(DeltaDownlink(), method=method)
    asked: dict[int, int] = {}
    for round_index in range(12):
        frames = round_of(server, round_index)
        (worker_id,) = frames
        since, indices, _ = changed(frames[worker_id])
        assert since == asked.get(worker_id, 0)
        assert indices == list(range(since, round_index))
        assert (digest_in(frames[worker_id]) is None) == (worker_id in asked)
        asked[worker_id] = round_index
    assert len(asked) == NUM_WORKERS


@pytest.mark.parametrize(
    "downlink",
    [DeltaDownlink(), CompressedDownlink(compressor=TopK(k=1)), RelayDownlink(digest_every=100)],
    ids=str,
)
def test_a_late_worker_gets_all_since_the_start_with_a_digest(downlink: Downlink) -> None:
    """Worker by worker, until each has used a copy; what it is to be is that of the server."""
    method = PartialParticipation(method=CompressedSGD(compressor=TopK(k=2)), participants=1)
    server = server_of(downlink, method=method)
    seen: set[int] = set()
    late = 0
    for round_index in range(12):
        here = server.parameters.clone()
        ((worker_id, frame),) = round_of(server, round_index, round_index + 50).items()
        relayed = isinstance(downlink, RelayDownlink)
        digest = bundle_of(frame).digest if relayed else digest_in(frame)
        if worker_id in seen:
            assert digest is None
            continue
        seen.add(worker_id)
        late = round_index
        if isinstance(downlink, CompressedDownlink):
            here = server.state_dict()["downlink"]["copy"]
        assert digest == (digest_of(here) if relayed else digest_number(here))
        assert (bundle_of(frame).since if relayed else decode(frame).scalars["since"]) == 0
        assert not relayed or len(bundle_of(frame).rounds) == round_index
    assert len(seen) == NUM_WORKERS
    assert late > 1


def test_a_worker_that_asks_in_round_0_needs_no_digest_then() -> None:
    server = server_of(DeltaDownlink())
    server.broadcast()
    server.receive({0: report(3), 1: ASK, 2: ASK})
    assert list(decode(server.broadcast()[1]).payloads) == ["parameters"]
    server.receive({1: report(3), 2: report(3)})
    frames = server.broadcast()
    assert [changed(frame)[0] for frame in frames.values()] == [0, 0, 0]
    assert [digest_in(frame) for frame in frames.values()] == [None] * 3


def test_where_no_copies_are_kept_late_workers_get_the_frame_of_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A round's is encoded once."""
    method = PartialParticipation(method=CompressedSGD(compressor=TopK(k=2)), participants=2)
    server = server_of(method=method)
    made: list[bytes] = []
    frame = _FullSender.frame

    def counting(*args: Any, **settings: Any) -> bytes:
        made.append(frame(*args, **settings))
        return made[-1]

    monkeypatch.setattr(_FullSender, "frame", counting)
    asked = [frozenset(round_of(server)) for _ in range(6)]
    assert len(set(asked)) > 1
    assert len(made) == len(asked)


def test_workers_that_ask_are_sent_a_full_copy_and_the_round_waits() -> None:
    server = server_of(DeltaDownlink())
    round_of(server, 3)
    before = server.parameters.clone()
    server.observe(False)
    frames = server.broadcast()
    assert server.receive({0: report(5), 1: ASK, 2: ASK}) is None
    assert torch.equal(server.parameters, before)
    again = server.broadcast()
    assert list(again) == [1, 2]
    assert torch.equal(decode(again[1]).payloads["parameters"].to_dense(), before)
    assert server.notes == [
        "round 1: workers [1, 2] have no copy of the parameters, or not that of the server: they "
        "are sent a full one"
    ]
    ledger = server.receive({1: report(5), 2: report(5)})
    assert ledger is not None
    sizes = {
        (way, i): [e.frame_bytes for e in ledger if (e.direction, e.worker_id) == (way, i)]
        for way in ("downlink", "uplink")
        for i in range(3)
    }
    assert sizes["downlink", 0] == [len(frames[0])]
    assert sizes["uplink", 0] == [len(report(5))]
    for i in (1, 2):
        assert sizes["downlink", i] == [len(frames[i]), len(again[i])]
        assert sizes["uplink", i] == [len(ASK), len(report(5))]
    assert server.parameters[5] == -0.5
    assert [changed(frame)[0] for frame in server.broadcast().values()] == [1, 1, 1]


def test_a_worker_that_asks_twice_in_a_round_is_named() -> None:
    server = server_of(DeltaDownlink())
    round_of(server, 3)
    server.broadcast()
    server.receive({0: report(5), 1: ASK, 2: ASK})
    server.broadcast()
    with pytest.raises(RoundError) as caught:
        server.receive({1: ASK, 2: report(5)})
    assert str(caught.value) == (
        "round 1: workers [1] were sent a full copy, and ask for another: server and workers must "
        "have the same downlink"
    )


def test_only_those_that_asked_may_answer_then() -> None:
    server = server_of(DeltaDownlink())
    server.broadcast()
    server.receive({0: report(5), 1: ASK, 2: ASK})
    server.broadcast()
    with pytest.raises(RoundError, match=r"came from workers \[0, 1\], expected \[1, 2\]"):
        server.receive({0: report(5), 1: report(5)})


def test_notes_are_of_one_round() -> None:
    server = server_of(DeltaDownlink())
    server.observe(False)
    server.broadcast()
    server.receive(dict.fromkeys(range(3), ASK))
    assert len(server.notes) == 1
    server.observe(False)
    assert server.notes == []


def test_without_copies_everyone_is_sent_a_full_one() -> None:
    downlinks: list[Downlink] = [DeltaDownlink(), CompressedDownlink(compressor=TopK(k=1))]
    for downlink in downlinks:
        server, other = server_of(downlink), server_of(downlink)
        for entry in range(4):
            round_of(server, entry, 9)
        other.load_state_dict({**server.state_dict(), "copies": {}})
        frames = other.broadcast()
        assert all("parameters" in decode(frame).payloads for frame in frames.values())
        expected = server.broadcast()[0]
        assert changed(expected)[0] == 3
        if isinstance(downlink, CompressedDownlink):  # the copy, and not the parameters
            sent = decode(frames[0]).payloads["parameters"].to_dense()
            assert not torch.equal(sent, server.parameters)
            assert torch.equal(sent, server.state_dict()["downlink"]["copy"])


@pytest.mark.parametrize(
    "downlink",
    [DeltaDownlink(), CompressedDownlink(compressor=TopK(k=1)), RelayDownlink(digest_every=2)],
)
def test_a_state_goes_on_from_the_copies_that_workers_have(downlink: Downlink) -> None:
    server, other = server_of(downlink), server_of(downlink)
    for entry in range(4):
        round_of(server, entry, 9)
    other.load_state_dict(loaded(saved(server.state_dict())))
    for entry in range(4):
        frames, expected = other.broadcast(), server.broadcast()
        assert frames == expected
        assert not any("parameters" in read_payloads(frame) for frame in frames.values())
        for one in (server, other):
            one.receive({i: report(entry, 9) for i in frames})


def read_payloads(frame: bytes) -> Collection[str]:
    return () if is_bundle(frame) else decode(frame).payloads


# What cannot be sent.


def test_a_parameter_beyond_float16_names_the_other_format() -> None:
    server = server_of(HalfDownlink(format="float16"))
    round_of(server)
    server.parameters[4] = 65520.0
    with pytest.raises(RoundError) as caught:
        server.broadcast()
    assert str(caught.value) == (
        "round 1: the server's news: a parameter is larger than 65504, the largest float16: give "
        "downlink {kind: half, format: bfloat16}"
    )


def test_a_setting_that_does_not_fit_the_parameters_is_explained(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise ValueError("k is 9: too many")

    server = server_of(CompressedDownlink(compressor=TopK(k=1)), method=DataParallelSGD())
    round_of(server, 3)
    monkeypatch.setattr(TopK, "compress", fail)
    with pytest.raises(RoundError, match=r"^round 1: downlink: k is 9: too many$"):
        server.broadcast()


def test_relay_refuses_a_round_of_several_exchanges() -> None:
    sender = RelayDownlink().sender(server_of()._replica)
    with pytest.raises(RoundError, match=r"rounds of one exchange, .* give downlink: full"):
        sender.more()


@pytest.mark.parametrize("form", ["float32", "bf16", ""])
def test_a_format_that_is_none_is_named(form: Any) -> None:
    with pytest.raises(ValueError, match=f"format is '{form}': give float16 or bfloat16"):
        HalfDownlink(format=form)


@pytest.mark.parametrize("digest_every", [0, -1])
def test_a_digest_every_zero_rounds_is_refused(digest_every: int) -> None:
    with pytest.raises(ValueError, match=f"digest_every is {digest_every}: give at least 1 round"):
        RelayDownlink(digest_every=digest_every)


# Running statistics.


@pytest.mark.parametrize("downlink", [DeltaDownlink(), CompressedDownlink(compressor=TopK(k=1))])
def test_statistics_go_with_the_changes_to_those_that_lack_them(downlink: Downlink) -> None:
    server = server_of(downlink, batch_norm=True)
    gradient = SparsePayload(37, torch.tensor([1]), torch.ones(1))
    statistics = DensePayload(torch.full((8,), 2.0))
    said = encode(Message({"gradient": gradient, "buffers": statistics}))
    silent = encode(Message({"gradient": gradient}))
    server.broadcast()
    server.receive(dict.fromkeys(range(3), said))
    news = decode(server.broadcast()[0]).payloads
    assert list(news) == ["change", "buffers"]
    assert torch.equal(news["buffers"].to_dense(), torch.full((8,), 2.0))
    server.receive(dict.fromkeys(range(3), silent))
    assert list(decode(server.broadcast()[0]).payloads) == ["change"]


def test_a_full_copy_of_a_replica_says_who_lacks_its_statistics() -> None:
    server = server_of(RelayDownlink(), batch_norm=True)
    gradient = SparsePayload(37, torch.tensor([1]), torch.ones(1))
    silent = encode(Message({"gradient": gradient}))
    server.broadcast()
    server.receive({0: silent, 1: silent, 2: ASK})
    assert decode(server.broadcast()[2]).scalars["lacking"] == 1
    server.receive({2: silent})
    server.broadcast()
    server.receive({0: silent, 1: ASK, 2: ASK})
    again = decode(server.broadcast()[1])
    assert again.scalars["lacking"] == 0
    assert "buffers" in again.payloads
