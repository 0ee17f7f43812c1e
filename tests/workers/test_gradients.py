"""Gradients of several workers at once are those of each alone, up to rounding."""

import dataclasses
import time
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from mlmc_ray.compressors import Identity, TopK
from mlmc_ray.errors import NonFiniteError, ProblemError
from mlmc_ray.flat import CPU
from mlmc_ray.methods import EF21SGDM, SVRG, CompressedSGD, DataParallelSGD, LocalSGD, Method
from mlmc_ray.payloads import DensePayload, Message
from mlmc_ray.problems import ProblemSource, TensorShard
from mlmc_ray.rounds import Answers
from mlmc_ray.wire import decode, encode
from tests.tasks import Regression
from workers.device import placed
from workers.gradients import Gradients, Precision
from workers.host import WorkerHost, WorkerPlan
from workers.oracle import BatchSize, _Point

TASK = "tests.tasks.Regression"


def plan_of(
    at_once: int,
    problem: str = TASK,
    *,
    method: Method | None = None,
    batch_size: BatchSize = 5,
    precision: Precision = "float32",
    **options: Any,
) -> WorkerPlan:
    return WorkerPlan(
        problem=ProblemSource(problem, options),
        method=method or DataParallelSGD(),
        num_workers=4,
        seed=3,
        batch_size=batch_size,
        buffers_every=1,
        gradients_at_once=at_once,
        precision=precision,
    )


def news_of(host: WorkerHost, shift: float = 0.0) -> bytes:
    """Every worker's news; the first have running statistics too."""
    model = host._model
    payloads = {"parameters": DensePayload(model.parameters * 0 + 0.3 + shift)}
    if model.num_statistics and not shift:
        payloads["buffers"] = DensePayload(torch.linspace(0.5, 1.5, model.num_statistics))
    return encode(Message(payloads))


def rounds_of(
    plan: WorkerPlan, hosting: Sequence[Sequence[int]] = (range(4),), rounds: int = 3
) -> list[Mapping[int, Message]]:
    """Return the reports of some rounds, by worker."""
    hosts = [WorkerHost(plan, ids) for ids in hosting]
    found: list[Mapping[int, Message]] = []
    for round_index in range(rounds):
        reports: dict[int, Message] = {}
        for host, ids in zip(hosts, hosting, strict=True):
            news = news_of(host, 0.1 * round_index)
            answers = host.step(round_index, 0, [dict.fromkeys(ids, news)])[0]
            reports |= {i: decode(frame) for i, frame in answers.reports.items()}
        found.append(reports)
    return found


def assert_close(first: Sequence[Mapping[int, Message]], other: Any) -> None:
    for reports, expected in zip(first, other, strict=True):
        assert reports.keys() == expected.keys()
        for i, report in reports.items():
            assert report.payloads.keys() == expected[i].payloads.keys()
            for name, payload in report.payloads.items():
                torch.testing.assert_close(
                    payload.to_dense(),
                    expected[i].payloads[name].to_dense(),
                    rtol=1e-4,
                    atol=1e-5,
                )


def calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list that gets, for each gradient or group of them, how many it has."""
    sizes: list[int] = []
    alone, together = Gradients.alone, Gradients.together

    def one(self: Gradients, *args: Any) -> Any:
        sizes.append(1)
        return alone(self, *args)

    def some(self: Gradients, at: Tensor, batches: Sequence[Any], *args: Any) -> Any:
        sizes.append(len(batches))
        return together(self, at, batches, *args)

    monkeypatch.setattr(Gradients, "alone", one)
    monkeypatch.setattr(Gradients, "together", some)
    return sizes


def asked(host: WorkerHost, ids: Sequence[int] = range(4), round_index: int = 0) -> Answers:
    return host.step(round_index, 0, [dict.fromkeys(ids, news_of(host))])[0]


@pytest.mark.parametrize("at_once", [2, 3, 4, 9])
@pytest.mark.parametrize("batch_size", [5, "full"])
def test_reports_are_those_of_gradients_alone(at_once: int, batch_size: BatchSize) -> None:
    """With running statistics, of which every worker has its own."""
    options: Any = {"batch_size": batch_size, "batch_norm": True}
    alone, together = (rounds_of(plan_of(n, **options)) for n in (1, at_once))
    assert_close(together, alone)


def test_so_many_are_computed_together(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = calls(monkeypatch)
    asked(WorkerHost(plan_of(3), range(4)))
    assert sizes == [3, 1]
    sizes.clear()
    asked(WorkerHost(plan_of(2), range(4)), [0, 2, 3])  # 0 and 1 are a group, whoever is asked
    assert sizes == [1, 2]


def test_reports_do_not_depend_on_hosting() -> None:
    plan = plan_of(2, batch_norm=True, dropout=0.3)
    whole, apart = (
        [[encode(own[i]) for i in range(4)] for own in rounds_of(plan, hosting)]
        for hosting in ([range(4)], [[0, 1], [2, 3]])
    )
    assert whole == apart


def test_dropout_drops_other_units_of_every_worker_and_round() -> None:
    plan = plan_of(4, "tests.workers.test_gradients.SameExamples", dropout=0.5)
    reports = rounds_of(plan, rounds=2)
    kept = {encode(report) for own in reports for report in own.values()}
    assert len(kept) == 8
    again = rounds_of(plan, rounds=2)
    assert {encode(report) for own in again for report in own.values()} == kept
    before = torch.random.get_rng_state()
    rounds_of(plan, rounds=1)
    assert torch.equal(torch.random.get_rng_state(), before)


class SameExamples(Regression):
    """Every worker has the same two examples, twice."""

    def shard(self, worker_id: int, num_workers: int, generator: Generator) -> TensorShard:
        return TensorShard((torch.ones(1, 3), torch.ones(1, 1), torch.zeros(1)))


def test_buffers_of_every_sort_stay_each_workers_own() -> None:
    """But for one that is None at first: torch.func cannot make it."""
    alone, together = (rounds_of(plan_of(n, f"{__name__}.Counting")) for n in (1, 4))
    assert_close(together, alone)


class _Counting(nn.Module):
    average: Tensor
    count: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 1)
        self.register_buffer("average", torch.zeros(1), persistent=False)
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))

    def forward(self, points: Tensor) -> Tensor:
        outputs: Tensor = self.linear(points)
        self.average = 0.5 * self.average + 0.5 * outputs.detach().mean(dim=0)
        self.count += 1
        return outputs * (1 + self.average + 0.01 * self.count)


class Counting(Regression):
    """Gradients depend on buffers that are replaced, and counted up in place."""

    def model(self) -> nn.Module:
        return _Counting()

    def loss(self, model: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
        return functional.mse_loss(model(batch[0]), batch[1])


def test_batches_of_other_shapes_are_computed_with_their_like(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sizes = calls(monkeypatch)
    path = f"{__name__}.Uneven"
    together = rounds_of(plan_of(4, path, batch_size="full"), rounds=2)
    assert sizes == [2, 2] * 2
    assert_close(together, rounds_of(plan_of(1, path, batch_size="full"), rounds=2))


def test_batches_are_those_of_workers_alone_where_shapes_differ(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sizes = calls(monkeypatch)
    path = f"{__name__}.OtherWidths"
    together = rounds_of(plan_of(4, path), rounds=2)
    assert sizes == [1, 1, 2] * 2
    assert_close(together, rounds_of(plan_of(1, path), rounds=2))


class OtherWidths(Regression):
    """Workers 0 and 1 have batches of shapes of their own."""

    def loss(self, model: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
        return super().loss(model, batch[:3])

    def shard(self, worker_id: int, num_workers: int, generator: Generator) -> TensorShard:
        whole = super().shard(worker_id, num_workers, generator).tensors
        return TensorShard((*whole, torch.zeros(len(whole[0]), 1 + min(worker_id, 2))))


class Uneven(Regression):
    """Workers 0 and 2 have one example less than the others."""

    def shard(self, worker_id: int, num_workers: int, generator: Generator) -> TensorShard:
        whole = super().shard(worker_id, num_workers, generator)
        return TensorShard(tuple(tensor[1 - worker_id % 2 :] for tensor in whole.tensors))


def test_later_gradients_of_an_exchange_are_computed_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sizes = calls(monkeypatch)
    method = LocalSGD(compressor=Identity(), local_steps=3, local_step_size=0.1)
    together = rounds_of(plan_of(4, method=method, batch_norm=True))
    assert sizes == [4, *[1] * 8] * 3
    assert_close(together, rounds_of(plan_of(1, method=method, batch_norm=True)))


def test_a_point_that_moves_is_another() -> None:
    at = torch.ones(3)
    point = _Point(at)
    assert point.equals(at)
    assert point.equals(torch.ones(3))
    at.add_(1)
    assert not point.equals(at)
    assert point.equals(torch.ones(3))


def test_a_batch_at_two_points_counts_once() -> None:
    method = SVRG(compressor=Identity(), refresh=2)
    alone, together = (rounds_of(plan_of(n, method=method, batch_norm=True)) for n in (1, 4))
    assert_close(together, alone)


def test_what_is_asked_for_otherwise_is_computed_alone_and_noted() -> None:
    """Worker 1 draws another batch first than worker 0, and worker 3 asks for nothing."""
    method = Choosy()
    plan = plan_of(4, method=method)
    host = WorkerHost(plan, range(4))
    answers = asked(host)
    reports = {i: decode(frame) for i, frame in answers.reports.items()}
    alone = asked(WorkerHost(dataclasses.replace(plan, gradients_at_once=1), range(4)))
    expected = {i: decode(frame) for i, frame in alone.reports.items()}
    assert_close([reports], [expected])
    assert answers.num_unused == 2
    assert answers.num_gradients == alone.num_gradients
    assert asked(host, round_index=1).num_unused == 0  # said once
    assert alone.num_unused == 0


class _ChoosyWorker:
    def step(self, news: Message, oracle: Any, *, context: Any) -> Message:
        at = news.payloads["parameters"].to_dense()
        if context.worker_id == 3:
            return Message({"gradient": DensePayload(torch.zeros_like(at))})
        batch = oracle.sample(2 if context.worker_id == 1 else None)
        return Message({"gradient": DensePayload(oracle.gradient(at, batch).clone())})

    def state_dict(self) -> dict[str, Tensor]:
        return {}

    def load_state_dict(self, state: Any) -> None:
        pass


@dataclasses.dataclass(frozen=True)
class Choosy(DataParallelSGD):
    """Workers that do not all ask for the same."""

    def worker(self) -> Any:
        return _ChoosyWorker()


def test_every_worker_has_its_share_of_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    together = Gradients.together

    def slow(self: Gradients, *args: Any) -> Any:
        time.sleep(0.2)
        return together(self, *args)

    monkeypatch.setattr(Gradients, "together", slow)
    started = time.perf_counter()
    seconds = asked(WorkerHost(plan_of(4), range(4))).seconds
    assert sum(seconds.values()) <= time.perf_counter() - started
    assert min(seconds.values()) >= 0.05


@pytest.mark.parametrize("name", ["Item", "Lengths"])
def test_a_loss_that_torch_func_does_not_take_is_named(name: str) -> None:
    text = (
        r"round 0: worker 0: problem: RuntimeError while computing the losses of 2 workers of "
        rf"{name} together, .*: give gradients_at_once: 1\. It says: vmap: It looks like you're "
        r"[^.]* \(1\) calling .item\(\) on a Tensor [^.]* internals\. \([^ ]*test_gradients.py, "
        r"line \d+, in loss\)$"
    )
    plan = plan_of(2, f"{__name__}.{name}")
    with pytest.raises(ProblemError, match=text):
        asked(WorkerHost(plan, [0, 1]), [0, 1])
    asked(WorkerHost(dataclasses.replace(plan, gradients_at_once=1), [0, 1]), [0, 1])


class Item(Regression):
    """Looks at a number on the way."""

    def loss(self, model: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
        assert batch[0].mean().item() < 1e9
        return super().loss(model, batch)


class Lengths(Regression):
    """Cuts a batch as its numbers say."""

    def loss(self, model: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
        rows = int((batch[0].abs() < 9).sum(dim=0).max())
        return super().loss(model, tuple(tensor[:rows] for tensor in batch))


def test_a_gradient_that_is_not_finite_is_named() -> None:
    host = WorkerHost(plan_of(4, nan_worker=2), range(4))
    with pytest.raises(NonFiniteError, match=r"round 0: worker 2: .* first in layer 4\.bias"):
        asked(host)


# Precision.


@pytest.mark.parametrize("at_once", [1, 4])
def test_bfloat16_is_near_float32_and_not_the_same(at_once: int) -> None:
    plan = plan_of(at_once, batch_norm=at_once == 1)
    full = asked(WorkerHost(plan, range(4)))
    half = asked(WorkerHost(dataclasses.replace(plan, precision="bfloat16"), range(4)))
    for i, frame in full.reports.items():
        own, other = (decode(f).payloads["gradient"].to_dense() for f in (frame, half.reports[i]))
        assert other.dtype == torch.float32
        error = float((own - other).norm() / own.norm())
        assert 1e-5 < error < 0.05
    assert half.losses != full.losses


def test_what_torch_cannot_normalise_together_in_bfloat16_is_named() -> None:
    plan = plan_of(4, batch_norm=True, precision="bfloat16")
    with pytest.raises(ProblemError, match=r"on a CPU no batch normalisation in bfloat16\): give"):
        asked(WorkerHost(plan, range(4)))


# Where gradients are.


@pytest.mark.parametrize(
    ("method", "device"),
    [
        (CompressedSGD(compressor=TopK(k=2)), "meta"),
        (EF21SGDM(compressor=TopK(k=2)), "cpu"),
    ],
)
def test_who_only_compresses_gets_gradients_where_they_are_computed(
    method: Method, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    moved = Tensor.to

    def to(self: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if args and args[0] == CPU and self.device.type == "meta":
            return torch.zeros(self.shape)
        return moved(self, *args, **kwargs)

    class Looking(Exception):
        pass

    def compress(self: TopK, vector: Tensor, *, generator: Generator) -> Any:
        seen.append(vector.device.type)
        raise Looking

    monkeypatch.setattr(Tensor, "to", to)
    monkeypatch.setattr(TopK, "compress", compress)
    monkeypatch.setattr(Gradients, "alone", lambda *_: 0.0)
    host = WorkerHost(dataclasses.replace(plan_of(1, method=method), device="meta"), [0])
    news = encode(Message({"parameters": DensePayload(torch.zeros(29))}))
    with pytest.raises(Looking):
        host.step(0, 0, [{0: news}])
    assert seen[-1] == device  # the others are of the warm-up


def test_a_shard_of_tensors_is_moved_once_and_draws_the_same_rows() -> None:
    shard = TensorShard((torch.arange(10.0), torch.arange(10)))
    there = placed(shard, torch.device("meta"))
    batch = there.sample(4, Generator().manual_seed(1))
    assert [tensor.device.type for tensor in batch] == ["meta", "meta"]
    assert [tensor.shape for tensor in batch] == [(4,), (4,)]
    here = placed(shard, CPU)
    assert isinstance(here, TensorShard)
    assert all(a is b for a, b in zip(here.tensors, shard.tensors, strict=True))
    one = Uneven()
    assert placed(one, torch.device("meta")) is one  # type: ignore[comparison-overlap, arg-type]
