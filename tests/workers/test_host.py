"""Workers and their host, as plain objects."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from mlmc_ray.compressors import Identity, RandK, TopK
from mlmc_ray.downlinks import RelayDownlink
from mlmc_ray.errors import NonFiniteError, ProblemError, RoundError
from mlmc_ray.estimator import MLMC, GivenLaw
from mlmc_ray.flat import FlatModel
from mlmc_ray.ladders import SegmentedTopKLadder
from mlmc_ray.methods import (
    ADIANA,
    DASHAMVR,
    DASHAPP,
    EF21SGDM,
    PPMARINA,
    SVRG,
    VRMARINA,
    CompressedSGD,
    DASHAPage,
    DASHASyncMVR,
    DataParallelSGD,
    LocalSGD,
    Method,
)
from mlmc_ray.optimizers import Adam
from mlmc_ray.payloads import DensePayload, Message, ZeroPayload
from mlmc_ray.problems import ProblemSource, Quadratic
from mlmc_ray.seeding import seed_for
from mlmc_ray.wire import decode, encode
from tests.tasks import Regression, examples, rows_of
from workers.host import WorkerHost, WorkerPlan
from workers.oracle import BatchSize

SEED = 3


def plan_of(
    problem: str,
    *,
    num_workers: int = 4,
    method: Method | None = None,
    batch_size: BatchSize = "full",
    buffers_every: int = 1,
    **options: Any,
) -> WorkerPlan:
    return WorkerPlan(
        problem=ProblemSource(problem, options),
        method=method or DataParallelSGD(),
        num_workers=num_workers,
        seed=SEED,
        batch_size=batch_size,
        buffers_every=buffers_every,
    )


def quadratic(num_workers: int = 4, **settings: Any) -> WorkerPlan:
    path = "mlmc_ray.problems.quadratic.Quadratic"
    return plan_of(path, num_workers=num_workers, num_functions=num_workers, dim=6, **settings)


def regression(**settings: Any) -> WorkerPlan:
    return plan_of("tests.tasks.Regression", **settings)


def model_of(**options: Any) -> FlatModel:
    """The model that every process of a run starts from."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_for(SEED, "parameters"))
        return FlatModel(Regression(**options).model())


def news_of(parameters: Tensor, buffers: Tensor | None = None) -> bytes:
    payloads = {"parameters": DensePayload(parameters)}
    if buffers is not None:
        payloads["buffers"] = DensePayload(buffers)
    return encode(Message(payloads))


def ask(
    host: WorkerHost, round_index: int, frame: bytes, worker_ids: Iterable[int] = range(4)
) -> tuple[Mapping[int, bytes], Mapping[int, float]]:
    """Send all the same news; return their reports and losses."""
    (answers,) = host.step(round_index, 0, [dict.fromkeys(worker_ids, frame)])
    return answers.reports, answers.losses


def reported(frame: bytes, name: str = "gradient") -> Tensor:
    return decode(frame).payloads[name].to_dense()


# Each worker has its own shard.


def test_worker_i_reports_the_gradient_of_function_i() -> None:
    matrices, vectors = (torch.tensor(x) for x in Quadratic(num_functions=4, dim=6).coefficients)
    x = torch.linspace(-1, 1, 6)
    frames, losses = ask(WorkerHost(quadratic(), range(4)), 0, news_of(x))
    assert list(frames) == [0, 1, 2, 3]
    for i in range(4):
        gradient = matrices[i] @ x.double() - vectors[i]
        torch.testing.assert_close(reported(frames[i]).double(), gradient, rtol=1e-5, atol=1e-5)
        loss = 0.5 * x.double() @ matrices[i] @ x.double() - vectors[i] @ x.double()
        assert losses[i] == pytest.approx(loss.item(), rel=1e-4)


def test_worker_i_reports_the_gradient_of_shard_i() -> None:
    model = model_of()
    frames, _ = ask(WorkerHost(regression(), range(4)), 0, news_of(model.parameters.clone()))
    points, targets = examples()
    for i in range(4):
        rows = rows_of(i, 4, SEED)
        loss = functional.mse_loss(model.module(points[rows]), targets[rows])
        parameters = list(model.module.parameters())
        gradients = torch.autograd.grad(loss, parameters)
        expected = torch.cat([gradient.flatten() for gradient in gradients])
        torch.testing.assert_close(reported(frames[i]), expected, rtol=1e-5, atol=1e-6)


def test_only_replicas_make_an_optimizer_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Any] = []
    monkeypatch.setattr("workers.host.warm_up_optimizer", made.append)
    sent = dataclasses.replace(quadratic(), optimizer=Adam(step_size=0.1))
    WorkerHost(sent, [0])
    assert made == []
    WorkerHost(dataclasses.replace(sent, downlink=RelayDownlink()), [0])
    assert made == [sent.optimizer]


def test_shards_are_dealt_without_rest_or_overlap() -> None:
    rows = [rows_of(i, 5, SEED) for i in range(5)]
    assert sorted(torch.cat(rows).tolist()) == list(range(48))
    assert {len(part) for part in rows} == {9, 10}


# It does not matter where a worker lives, nor what else does.

METHODS = {
    "sgd": DataParallelSGD(),
    "rand-k": CompressedSGD(compressor=RandK(k=5)),
    "mlmc": CompressedSGD(compressor=MLMC(ladder=SegmentedTopKLadder(segment_size=4))),
    "ef21": EF21SGDM(compressor=TopK(k=5)),
}


def rounds_of(plan: WorkerPlan, hosting: Sequence[Sequence[int]], rounds: int = 4) -> list[bytes]:
    """Return all report frames of some rounds, by round and worker, for a given hosting."""
    hosts = [WorkerHost(plan, worker_ids) for worker_ids in hosting]
    parameters = model_of(batch_norm=True).parameters.clone()
    frames = []
    for round_index in range(rounds):
        buffers = torch.arange(8) / 8 + 0.5 if round_index == 0 else None
        news = news_of(parameters, buffers)
        reports: dict[int, bytes] = {}
        for host, worker_ids in zip(hosts, hosting, strict=True):
            reports |= ask(host, round_index, news, worker_ids)[0]
        frames += [reports[worker_id] for worker_id in sorted(reports)]
        parameters -= 0.05 * torch.sin(parameters + round_index)  # some other point
    return frames


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize(
    "hosting", [[[0], [1], [2], [3]], [[0, 2], [1, 3]], [[3, 1, 0, 2]], [[2], [0, 1, 3]]]
)
def test_reports_do_not_depend_on_hosting(name: str, hosting: list[list[int]]) -> None:
    plan = regression(method=METHODS[name], batch_size=5, batch_norm=True, dropout=0.3)
    assert rounds_of(plan, hosting) == rounds_of(plan, [range(4)])


def test_every_worker_has_buffers_of_its_own() -> None:
    plan = plan_of("tests.tasks.Remembering", batch_size=5)

    def reports(hosting: Sequence[Sequence[int]]) -> list[bytes]:
        hosts = [WorkerHost(plan, worker_ids) for worker_ids in hosting]
        frames = []
        for round_index in range(4):
            news = news_of(torch.full((4,), 0.1 * round_index))
            answers = [
                ask(*pair)[0]
                for pair in (
                    (h, round_index, news, ids) for h, ids in zip(hosts, hosting, strict=True)
                )
            ]
            together = {i: frame for answer in answers for i, frame in answer.items()}
            frames += [together[i] for i in range(4)]
        return frames

    assert reports([[0], [1], [2], [3]]) == reports([[2, 0, 1, 3]]) == reports([[0, 3], [1, 2]])


def test_workers_draw_for_themselves() -> None:
    frames = rounds_of(regression(batch_size=5, batch_norm=True), [range(4)])
    assert len(set(frames)) == len(frames)


def test_a_repeated_round_repeats_its_draws() -> None:
    plan = regression(batch_size=5, dropout=0.3, method=METHODS["rand-k"])
    news = news_of(model_of().parameters)
    frames = [ask(WorkerHost(plan, [0, 1]), 7, news, [0, 1])[0] for _ in range(2)]
    assert frames[0] == frames[1]
    assert ask(WorkerHost(plan, [0, 1]), 8, news, [0, 1])[0] != frames[0]


def test_dropout_does_not_hang_on_the_global_generator() -> None:
    plan = regression(dropout=0.5)
    news = news_of(model_of().parameters)
    frames = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        before = torch.random.get_rng_state()
        host = WorkerHost(plan, range(4))
        frames.append([ask(host, round_index, news)[0] for round_index in range(2)])
        assert torch.equal(torch.random.get_rng_state(), before)
    assert frames[0] == frames[1]
    assert frames[0][0] != frames[0][1]  # and each round drops other units


# Running statistics.


def statistics_after(worker_id: int, starts: Tensor) -> Tensor:
    """Running mean and variance of a worker after one full batch, by PyTorch alone."""
    module = model_of(batch_norm=True).module
    assert isinstance(module, nn.Sequential)
    norm = module[1]
    assert isinstance(norm, nn.BatchNorm1d)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    norm.running_mean.copy_(starts[:4])
    norm.running_var.copy_(starts[4:])
    hidden = module[0](examples()[0][rows_of(worker_id, 4, SEED)])
    mean = 0.9 * starts[:4] + 0.1 * hidden.mean(dim=0)
    return torch.cat([mean, 0.9 * starts[4:] + 0.1 * hidden.var(dim=0)]).detach()


def test_each_worker_reports_its_own_running_statistics() -> None:
    starts = torch.arange(8) / 8 + 0.5
    news = news_of(model_of(batch_norm=True).parameters, starts)
    frames, _ = ask(WorkerHost(regression(batch_norm=True), range(4)), 0, news)
    for i in range(4):
        torch.testing.assert_close(reported(frames[i], "buffers"), statistics_after(i, starts))


def test_running_statistics_are_reported_every_nth_round_and_kept_in_between() -> None:
    host = WorkerHost(regression(batch_norm=True, buffers_every=3), [2])
    parameters = model_of(batch_norm=True).parameters
    starts = torch.arange(8) / 8 + 0.5
    expected = starts
    for round_index in range(6):
        news = news_of(parameters, starts if round_index == 0 else None)
        frame = ask(host, round_index, news, [2])[0][2]
        expected = statistics_after(2, expected)
        assert ("buffers" in decode(frame).payloads) == (round_index in (2, 5))
        if round_index in (2, 5):
            torch.testing.assert_close(reported(frame, "buffers"), expected)


def test_a_model_without_buffers_reports_none() -> None:
    frames, _ = ask(WorkerHost(regression(), [0]), 0, news_of(model_of().parameters), [0])
    assert set(decode(frames[0]).payloads) == {"gradient"}


def moved_to(point: Tensor, before: Tensor) -> bytes:
    """News for every method: where to evaluate, and what some of them say of the past."""
    named = {"parameters": point, "previous": before, "point": point, "anchor": before}
    return encode(Message({name: DensePayload(vector) for name, vector in named.items()}))


EXACT = Identity()
TWO_POINTS: dict[str, Method] = {
    "svrg": SVRG(compressor=EXACT, refresh=5),
    "adiana": ADIANA(compressor=EXACT, smoothness=1.0, strong_convexity=0.1),
    "vr-marina": VRMARINA(compressor=EXACT, p=1e-9),
    "pp-marina": PPMARINA(compressor=EXACT, participants=4, p=1e-9),
    "dasha-page": DASHAPage(compressor=EXACT, p_page=1e-9),
    "dasha-mvr": DASHAMVR(compressor=EXACT, noise_momentum=0.1),
    "dasha-sync-mvr": DASHASyncMVR(compressor=EXACT, p=1e-9),
    "dasha-pp": DASHAPP(compressor=EXACT, participants=4),
}


@pytest.mark.parametrize("name", TWO_POINTS)
def test_points_of_the_past_change_neither_statistics_nor_losses(name: str) -> None:
    host = WorkerHost(regression(batch_norm=True, method=TWO_POINTS[name]), [2])
    plain = WorkerHost(regression(batch_norm=True), [2])
    first = model_of(batch_norm=True).parameters
    ask(host, 0, news_of(first) if name != "adiana" else moved_to(first, first), [2])
    ask(plain, 0, news_of(first), [2])
    frames, losses = ask(host, 1, moved_to(first + 0.5, first), [2])
    again = dict.fromkeys([2], moved_to(first + 0.5, first))
    assert host.step(2, 0, [again])[0].num_gradients == {2: 2}
    expected_frames, expected_losses = ask(plain, 1, news_of(first + 0.5), [2])
    assert losses == expected_losses
    assert torch.equal(reported(frames[2], "buffers"), reported(expected_frames[2], "buffers"))


def test_every_local_step_counts_for_the_statistics() -> None:
    method = LocalSGD(compressor=EXACT, local_steps=3, local_step_size=1e-9)
    host = WorkerHost(regression(batch_norm=True, method=method), [2])
    starts = torch.arange(8) / 8 + 0.5
    frame = ask(host, 0, news_of(model_of(batch_norm=True).parameters, starts), [2])[0][2]
    expected = starts
    for _ in range(3):
        expected = statistics_after(2, expected)
    torch.testing.assert_close(reported(frame, "buffers"), expected)


# Errors.


def test_losses_that_are_infinite_both_ways_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    signs = iter([1.0, -1.0])

    def loss(self: Regression, model: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
        flat: Tensor = 0 * model(batch[0]).mean()
        return flat + next(signs) * torch.inf

    monkeypatch.setattr(Regression, "loss", loss)
    method = LocalSGD(compressor=EXACT, local_steps=2, local_step_size=0.1)
    with pytest.raises(NonFiniteError, match=r"worker 2: the loss is \[inf, -inf\]"):
        ask(WorkerHost(regression(method=method), [2]), 0, news_of(model_of().parameters), [2])


def test_points_of_another_size_are_refused() -> None:
    host = WorkerHost(regression(method=TWO_POINTS["adiana"]), [1])
    text = r"^round 4: worker 1: the method asks for the gradient at a point of shape \(5,\), the"
    with pytest.raises(RoundError, match=text):
        ask(host, 4, encode(Message({"point": DensePayload(torch.ones(5))})), [1])


def test_a_gradient_that_is_not_finite_is_named() -> None:
    host = WorkerHost(regression(nan_worker=2), range(4))
    with pytest.raises(NonFiniteError, match="round 5: worker 2: cannot compress") as caught:
        ask(host, 5, news_of(model_of().parameters))
    assert "1 of 29 entries are NaN or infinite" in str(caught.value)
    assert "first in layer 4.bias" in str(caught.value)


@pytest.mark.parametrize("name", METHODS)
def test_every_method_refuses_what_is_not_finite(name: str) -> None:
    host = WorkerHost(regression(nan_worker=0, method=METHODS[name]), [0])
    with pytest.raises(NonFiniteError, match=r"round 0: worker 0: .* first in layer 4\.bias"):
        ask(host, 0, news_of(model_of().parameters), [0])


BAD_NEWS = {
    "the server's news: frame: not one complete msgpack value": b"\x93\x01",
    "the server's news: version: expected wire version 2, got 3": b"\x93\x03\x80\x80",
    "the server's news has 5 parameters, the model here has 29": news_of(torch.ones(5)),
    "the server's news: parameters.dim: expected an integer from 1 to 29": encode(
        Message({"parameters": ZeroPayload((1 << 31) - 1)})
    ),
    "the server's news has 2 buffers, the model here has 0": news_of(torch.ones(29), torch.ones(2)),
    "worker 1: the server's news lacks 'parameters'": encode(Message({})),
}


@pytest.mark.parametrize("text", BAD_NEWS)
def test_bad_news_are_refused(text: str) -> None:
    with pytest.raises(RoundError, match=f"^round 4: {text}"):
        ask(WorkerHost(regression(), [1]), 4, BAD_NEWS[text], [1])


def test_a_setting_that_does_not_fit_the_gradient_is_named() -> None:
    compressor = MLMC(ladder=SegmentedTopKLadder(segment_size=4), law=GivenLaw((0.5, 0.5)))
    host = WorkerHost(regression(method=CompressedSGD(compressor=compressor)), [3])
    with pytest.raises(RoundError, match=r"round 0: worker 3: law 'given': .* has 8 levels"):
        ask(host, 0, news_of(model_of().parameters), [3])


def test_errors_of_the_problems_own_code_are_explained() -> None:
    with pytest.raises(ProblemError, match=r"making the shard of worker 0: .*num_functions is 4"):
        WorkerHost(plan_of("mlmc_ray.problems.Quadratic", num_workers=3), range(3))
    with pytest.raises(ProblemError, match=r"making tests\.tasks\.Regression\(colour='red'\)"):
        WorkerHost(regression(colour="red"), [0])
