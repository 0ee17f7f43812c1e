"""The parameter server, as a plain object."""

from collections.abc import Callable, Mapping
from itertools import permutations
from pathlib import Path

import pytest
import torch
from torch import Tensor

from mlmc_ray.compressors import PermK, TopK
from mlmc_ray.errors import ProblemError, RoundError
from mlmc_ray.ledger import Entry
from mlmc_ray.methods import EF21SGDM, CompressedSGD, DataParallelSGD, Method
from mlmc_ray.optimizers import SGD
from mlmc_ray.payloads import (
    CodesPayload,
    DensePayload,
    Message,
    Payload,
    SparsePayload,
    ZeroPayload,
)
from mlmc_ray.plan import RunPlan
from mlmc_ray.problems import ProblemSource
from mlmc_ray.wire import decode, encode
from server.server import ParameterServer

STEP_SIZE = 0.25
QUADRATIC = ProblemSource("mlmc_ray.problems.quadratic.Quadratic", {"num_functions": 3, "dim": 4})
BATCH_NORM = ProblemSource("tests.tasks.Regression", {"batch_norm": True})


def server_of(
    problem: ProblemSource = QUADRATIC, *, num_workers: int = 3, method: Method | None = None
) -> ParameterServer:
    """A server in its first round, which has been broadcast."""
    server = ParameterServer(
        RunPlan(
            problem=problem,
            method=method or DataParallelSGD(),
            optimizer=SGD(step_size=STEP_SIZE),
            num_workers=num_workers,
            seed=1,
        )
    )
    server.broadcast()
    return server


def report(gradient: Payload, **others: Payload) -> bytes:
    return encode(Message({"gradient": gradient, **others}))


def dense(*values: float) -> DensePayload:
    return DensePayload(torch.tensor(values))


GRADIENTS = [
    dense(1e8, 1.0, -3.0, 0.1),  # whose sum depends on the order
    CodesPayload.on_grid(torch.tensor([1, 0, -1, 1], dtype=torch.int8), 0.7),
    SparsePayload(4, torch.tensor([0, 3]), torch.tensor([-1e8, 0.3])),
]
REPORTS = {worker_id: report(payload) for worker_id, payload in enumerate(GRADIENTS)}


def average(payloads: list[Payload]) -> Tensor:
    mean = torch.zeros(payloads[0].dim)
    for payload in payloads:
        payload.add_to(mean, 1 / len(payloads))
    return mean


# A round.


def test_the_news_are_the_parameters_and_are_counted_once_for_every_worker() -> None:
    server = server_of()
    frame = server.broadcast()[0]
    news = decode(frame).payloads
    assert list(news) == ["parameters"]
    assert torch.equal(news["parameters"].to_dense(), server.parameters)
    assert [entry.worker_id for entry in server.ledger] == 2 * [0, 1, 2]
    assert {entry.frame_bytes for entry in server.ledger} == {len(frame)}


def test_the_server_steps_along_the_average_of_the_reports() -> None:
    server = server_of()
    before = server.parameters.clone()
    server.receive(REPORTS)
    assert torch.equal(server.parameters, before - STEP_SIZE * average(GRADIENTS))
    assert server.round_index == 1


def test_the_ledger_of_a_round_has_every_frame_both_ways() -> None:
    server = server_of()
    news = server.broadcast()[0]
    ledger = server.receive(REPORTS)
    assert ledger is not None
    paper = 64 * 4  # 64 bits a number, each way
    # fmt: off
    assert list(ledger) == [
        *[Entry(0, i, "downlink", len(news), paper) for i in (0, 1, 2, 0, 1, 2)],
        *[Entry(0, i, "uplink", len(REPORTS[i]), paper) for i in range(3)],
    ]
    # fmt: on
    assert len(server.ledger) == 0
    server.broadcast()
    assert [entry.round_index for entry in server.ledger] == [1, 1, 1]


def test_the_papers_cost_is_of_the_compressor_in_its_place() -> None:
    server = server_of(
        ProblemSource(QUADRATIC.path, {"num_functions": 4, "dim": 4}),
        num_workers=4,
        method=CompressedSGD(compressor=PermK()),
    )
    ledger = server.receive({i: REPORTS[1] for i in range(4)})
    assert ledger is not None
    assert {entry.paper_bits for entry in ledger if entry.direction == "uplink"} == {16 * 4}


def test_reports_in_any_order_give_the_same_result() -> None:
    ends, ledgers = [], []
    for order in permutations(range(3)):
        server = server_of()
        ledgers.append(server.receive({i: memoryview(REPORTS[i]) for i in order}))
        ends.append(server.parameters)
    assert all(torch.equal(end, ends[0]) for end in ends)
    assert all(ledger == ledgers[0] for ledger in ledgers)
    swapped = server_of()
    swapped.receive({0: REPORTS[0], 1: REPORTS[2], 2: REPORTS[1]})
    assert not torch.equal(swapped.parameters, ends[0])  # so the order above did not matter


def test_a_server_leaves_the_global_generator_alone() -> None:
    before = torch.random.get_rng_state()
    server = server_of(BATCH_NORM)
    server.evaluate()
    assert torch.equal(torch.random.get_rng_state(), before)


# Reports that cannot be used.


@pytest.mark.parametrize("workers", [[], [0, 2], [0, 1, 3], [0, 1, 2, 3]])
def test_missing_and_surplus_reports_are_named(workers: list[int]) -> None:
    frames = {worker_id: REPORTS[0] for worker_id in workers}
    with pytest.raises(RoundError) as caught:
        server_of().receive(frames)
    expected = f"round 0: reports came from workers {workers}, expected [0, 1, 2]"
    assert str(caught.value) == expected


NOT_A_NUMBER = report(dense(1.0, float("nan"), float("inf"), 1.0))
BAD_REPORTS = {
    "frame: not one complete msgpack value: Unpack failed: incomplete input": REPORTS[0][:-1],
    "frame: not one complete msgpack value": b"",
    "version: expected wire version 2, got 3": b"\x93\x03\x80\x80",
    "gradient.values: 2 of 4 values are NaN or infinite": NOT_A_NUMBER,
    "gradient.dim: expected an integer from 1 to 4, got 2147483647": report(
        ZeroPayload((1 << 31) - 1)
    ),
    "gradient.values: expected 4 at most, got 5": report(dense(1, 2, 3, 4, 5)),
    "buffers has 2 entries, the model here has 0": report(GRADIENTS[1], buffers=dense(1, 2)),
}


@pytest.mark.parametrize("method", [DataParallelSGD(), EF21SGDM(compressor=TopK(k=1))])
@pytest.mark.parametrize("text", BAD_REPORTS)
def test_a_bad_report_is_named_and_changes_nothing(text: str, method: Method) -> None:
    server = server_of(method=method)
    before = server.parameters.clone()
    with pytest.raises(RoundError) as caught:
        server.receive({**REPORTS, 1: BAD_REPORTS[text]})
    assert str(caught.value).startswith(f"round 0: report of worker 1: {text}")
    assert torch.equal(server.parameters, before)
    assert server.round_index == 0


@pytest.mark.parametrize(
    ("name", "method"),
    [("gradient", DataParallelSGD()), ("change", EF21SGDM(compressor=TopK(k=1)))],
)
def test_a_report_of_another_size_is_named_and_changes_nothing(name: str, method: Method) -> None:
    server = server_of(method=method)
    state = server._replica._half.state_dict()
    frames = {i: encode(Message({name: payload})) for i, payload in enumerate(GRADIENTS)}
    frames[1] = encode(Message({name: dense(1, 2, 3)}))
    text = f"^round 0: report of worker 1: {name} has 3 entries, the model here has 4; server and"
    with pytest.raises(RoundError, match=text):
        server.receive(frames)
    assert all(
        torch.equal(state[key], value) for key, value in server._replica._half.state_dict().items()
    )


def test_a_refused_report_has_been_counted() -> None:
    server = server_of()
    with pytest.raises(RoundError, match="NaN"):
        server.receive({**REPORTS, 2: NOT_A_NUMBER})
    assert server.ledger.frame_bytes("uplink", worker_id=2) == len(NOT_A_NUMBER)
    assert server.ledger.frame_bytes("uplink") == sum(map(len, [*REPORTS.values()][:2])) + len(
        NOT_A_NUMBER
    )


def test_reports_of_another_method_are_named() -> None:
    other = encode(Message({"change": GRADIENTS[0]}))
    with pytest.raises(
        RoundError, match=r"round 0: report of worker 0 lacks 'gradient'; server and workers must"
    ):
        server_of().receive({0: other, 1: REPORTS[1], 2: other})


def test_divergence_is_an_error() -> None:
    server = server_of()
    server.receive(REPORTS)
    huge = report(dense(3e38, 0, 0, 0))
    for _ in range(4):  # 0.25 x 3e38 a step: the fifth leaves float32
        server.receive(dict.fromkeys(range(3), huge))
    with pytest.raises(RoundError, match="round 5: the parameters are no longer finite"):
        server.receive(dict.fromkeys(range(3), huge))


# Running statistics.


def reports_with(statistics: Mapping[int, Tensor | None]) -> dict[int, bytes]:
    zero = ZeroPayload(37)
    return {
        worker_id: report(zero) if values is None else report(zero, buffers=DensePayload(values))
        for worker_id, values in statistics.items()
    }


def sent_buffers(frame: bytes) -> Tensor | None:
    payload = decode(frame).payloads.get("buffers")
    return None if payload is None else payload.to_dense()


def test_running_statistics_are_averaged_and_sent_back_once() -> None:
    server = server_of(BATCH_NORM)
    frame = server.broadcast()[0]
    first = sent_buffers(frame)
    assert first is not None
    assert torch.equal(first, torch.tensor(4 * [0.0] + 4 * [1.0]))  # mean, variance
    statistics = {i: torch.arange(8) * (i + 1.0) for i in range(3)}
    server.receive(reports_with(statistics))
    state = server.model_state()
    torch.testing.assert_close(state["1.running_mean"], 2.0 * torch.arange(4))
    torch.testing.assert_close(state["1.running_var"], 2.0 * torch.arange(4, 8))
    second = sent_buffers(server.broadcast()[0])
    assert second is not None
    torch.testing.assert_close(second, 2.0 * torch.arange(8))
    server.receive(reports_with(dict.fromkeys(range(3))))
    assert torch.equal(server.model_state()["1.running_mean"], state["1.running_mean"])
    shorter = server.broadcast()[0]  # nothing new to say about them
    assert sent_buffers(shorter) is None
    # "buffers": 1 + 7 bytes; array of 3, kind, format: 3; 8 values: 2 + 32
    assert len(frame) - len(shorter) == 8 + 3 + 34
    assert server.ledger.frame_bytes("downlink") == 3 * len(shorter)


def test_statistics_are_averaged_over_the_reports_that_hold_some() -> None:
    server = server_of(BATCH_NORM)
    server.receive(reports_with({0: torch.full((8,), 2.0), 1: None, 2: torch.full((8,), 4.0)}))
    assert torch.equal(server.model_state()["1.running_mean"], torch.full((4,), 3.0))
    assert sent_buffers(server.broadcast()[1]) is not None  # also for the one that had none


def test_statistics_in_any_order_give_the_same_average() -> None:
    draws = torch.Generator().manual_seed(5)
    statistics = {i: 10.0 ** (6 - 6 * i) * torch.randn(8, generator=draws) for i in range(3)}
    ends = []
    for order in permutations(range(3)):
        server = server_of(BATCH_NORM)
        server.receive(reports_with({i: statistics[i] for i in order}))
        ends.append(server.model_state()["1.running_mean"])
    assert all(torch.equal(end, ends[0]) for end in ends)


def test_evaluation_uses_the_running_statistics_and_changes_nothing() -> None:
    server = server_of(BATCH_NORM)
    state = server.model_state()
    first = server.evaluate()
    assert server.evaluate() == first
    assert all(torch.equal(state[name], tensor) for name, tensor in server.model_state().items())
    server.receive(reports_with({i: torch.ones(8) for i in range(3)}))
    assert server.evaluate() != first


# The problem's own code.

TASK = """
import torch
from mlmc_ray.problems import Quadratic

class Task(Quadratic):
    def evaluate(self, model):
        return {answer}
"""


@pytest.fixture
def server_answering(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], ParameterServer]:
    """Make a server whose problem's evaluation returns an expression."""

    def make(answer: str) -> ParameterServer:
        (tmp_path / f"{tmp_path.name}.py").write_text(TASK.replace("{answer}", answer))
        monkeypatch.syspath_prepend(tmp_path)
        path = f"{tmp_path.name}.Task"
        return server_of(ProblemSource(path, {"num_functions": 3, "dim": 4}))

    return make


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        ("{}", "ValueError while evaluating: evaluate returns named measures"),
        ("None", "ValueError while evaluating: evaluate returns named measures"),
        ("0.5", "ValueError while evaluating: evaluate returns named"),
        ("{'loss': 'low'}", "ValueError while evaluating: could not convert string to float"),
        ("1 / 0", "ZeroDivisionError while evaluating"),
    ],
)
def test_an_evaluation_that_fails_is_explained(
    answer: str, text: str, server_answering: Callable[[str], ParameterServer]
) -> None:
    with pytest.raises(ProblemError, match=f"^problem: {text}"):
        server_answering(answer).evaluate()


def test_measures_may_be_tensors_of_one_number(
    server_answering: Callable[[str], ParameterServer],
) -> None:
    measures = server_answering("{'loss': torch.tensor(0.5), 'depth': 2}").evaluate()
    assert measures == {"loss": 0.5, "depth": 2.0}
    assert {type(value) for value in measures.values()} == {float}
