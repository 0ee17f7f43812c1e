import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from launch.configuration.catalogue import KINDS
from mlmc_ray.compressors import Identity, RandK, TopK
from mlmc_ray.compressors.base import Compressor, Context
from mlmc_ray.estimator import MLMC, OwnLaw
from mlmc_ray.flat import FlatModel
from mlmc_ray.ladders import FixedPointLadder, SegmentedTopKLadder
from mlmc_ray.methods import (
    ADIANA,
    DASHA,
    DASHAMVR,
    DASHAPP,
    DIANA,
    EF21BC,
    EF21P,
    EF21PDIANA,
    EF21SGDM,
    EFBV,
    M3,
    MARINA,
    PPMARINA,
    SERVER,
    SVRG,
    TAMUNA,
    VRMARINA,
    AdaptiveShadowheart,
    AsyncSGD,
    CocoEF,
    CompressedScaffnew,
    CompressedSGD,
    DASHAPage,
    DASHASyncMVR,
    DataParallelSGD,
    DoCoFL,
    ErrorFeedback,
    LearnedCompression,
    LocalSGD,
    MarinaP,
    Method,
    PartialParticipation,
    PowerSGDMethod,
    RandDIANA,
    RennalaSGD,
    Scaffnew,
    Shadowheart,
)
from mlmc_ray.methods.reports import add_average
from mlmc_ray.payloads import DensePayload, Message, SparsePayload
from mlmc_ray.problems import Quadratic
from mlmc_ray.seeding import generator_for
from tests.mlmc_ray.driver import QuadraticOracle, Run, late_factor, oracles_of, squared_distances

RAND, TOP = RandK(k=6), TopK(k=6)
METHODS: list[Method] = [
    DataParallelSGD(),
    CompressedSGD(compressor=RAND),
    ErrorFeedback(compressor=TOP),
    EF21SGDM(compressor=TOP, momentum=0.5),
    EFBV(compressor=TOP),
    DIANA(compressor=RAND),
    RandDIANA(compressor=RAND),
    ADIANA(compressor=RAND, smoothness=10.0, strong_convexity=1.0),
    SVRG(compressor=RAND, refresh=0.3),
    MARINA(compressor=RAND),
    VRMARINA(compressor=RAND, p=0.3),
    PPMARINA(compressor=RAND, participants=3, p=0.3),
    DASHA(compressor=RAND),
    DASHAPage(compressor=RAND, p_page=0.3),
    DASHAMVR(compressor=RAND, noise_momentum=0.3),
    DASHASyncMVR(compressor=RAND, p=0.3),
    DASHAPP(compressor=RAND, participants=3),
    AsyncSGD(compressor=RAND),
    RennalaSGD(batch=5, compressor=RAND),
    Shadowheart(compressor=Identity(), compute_s=1.0, message_s=1.0, noise=0.0),
    AdaptiveShadowheart(compressor=Identity(), noise=0.0),
    EF21P(downlink=TOP),
    EF21PDIANA(compressor=RAND, downlink=TOP),
    EF21BC(compressor=TOP, downlink=TOP, step_size=0.01),
    MarinaP(downlink=RAND),
    M3(compressor=RAND, downlink=RAND),
    DoCoFL(compressor=RAND, anchor=RAND, correction=TOP, anchor_rounds=2, anchors_alive=1),
    PowerSGDMethod(),
    LearnedCompression(k=0.25, dense_rounds=1, training_rounds=3, edge_layers=0, fall_back=False),
    LocalSGD(local_step_size=0.05, local_steps=3, compressor=TOP, error_feedback=True),
    Scaffnew(step_size=0.05, probability=0.5),
    CompressedScaffnew(step_size=0.05, probability=0.5),
    TAMUNA(step_size=0.05, probability=0.5, participants=4),
    CocoEF(compressor=TOP, straggling=0.3),
    PartialParticipation(method=EF21SGDM(compressor=TOP), participants=3),
]
ESTIMATING = [method for method in METHODS if not method.moves_parameters]
MOVING = [method for method in METHODS if method.moves_parameters]
PROBLEM = Quadratic(num_functions=8, dim=24)
START = torch.zeros(24, dtype=torch.float64)


class Layered(Run):
    """A run whose parameters are one matrix, so that PowerSGD has something to project."""

    def context(self, worker_id: int, exchange_index: int = 0) -> Context:
        context = super().context(worker_id, exchange_index)
        return replace(context, layer_sizes=(24,), layer_shapes=((4, 6),))


def run_of(method: Method, step_size: float = 0.01) -> Layered:
    return Layered(method, oracles_of(PROBLEM), START, step_size)


def test_the_list_is_complete() -> None:
    assert {type(method) for method in METHODS} == set(KINDS[Method].values())


@pytest.mark.parametrize("method", ESTIMATING, ids=str)
def test_the_server_keeps_the_parameters_and_not_a_copy(method: Method) -> None:
    run = run_of(method)
    news = run.server.news(context=run.context(SERVER))
    for message in [news] if isinstance(news, Message) else news.values():
        assert message.payloads["parameters"].to_dense().data_ptr() == run.x.data_ptr()


@pytest.mark.parametrize("method", MOVING, ids=str)
def test_a_server_that_steps_moves_the_parameters_that_it_was_given(method: Method) -> None:
    run = run_of(method)
    assert run.round() is None
    assert bool(run.rounds(2).any())


def sends_one_vector(method: Method) -> bool:
    """Whether in the first round every worker reports one vector and nothing else."""
    run = run_of(method)
    run.round()
    sizes = [[p.dim for p in report.payloads.values()] for report in run.reports.values()]
    return sizes == [[24]] * 8


@pytest.mark.parametrize(
    "method",
    [m for m in ESTIMATING if not m.asynchronous and sends_one_vector(m)],
    ids=str,
)
def test_the_first_estimate_is_the_average_of_what_was_sent(method: Method) -> None:
    run = run_of(method)
    estimate = run.round()
    sent = torch.zeros(24, dtype=torch.float64)
    for report in run.reports.values():
        (payload,) = report.payloads.values()
        payload.add_to(sent)
    torch.testing.assert_close(estimate, sent / 8, rtol=1e-14, atol=1e-15)


@pytest.mark.parametrize("method", [m for m in METHODS if m.facts.uplink == "C"], ids=str)
def test_a_compressed_report_has_the_cost_of_its_compressor(method: Any) -> None:
    assert method.paper_cost(24) == method.compressor.paper_cost(24) is not None


@pytest.mark.parametrize("method", [m for m in ESTIMATING if m.facts.uplink == "d"], ids=str)
def test_a_report_of_a_gradient_costs_a_number_per_parameter(method: Method) -> None:
    cost = method.paper_cost(24)
    assert cost is not None
    assert cost.bits == 64 * 24


@pytest.mark.parametrize("rounds", [0, 1, 6])
@pytest.mark.parametrize("method", METHODS, ids=str)
def test_new_halves_that_load_what_was_saved_continue_exactly(method: Method, rounds: int) -> None:
    run = run_of(method)
    run.rounds(rounds)
    resumed = Layered(method, oracles_of(PROBLEM), run.x, 0.01)
    resumed.round_index = rounds
    resumed.server.load_state_dict(run.server.state_dict())
    for worker, twin in zip(run.workers, resumed.workers, strict=True):
        twin.load_state_dict(worker.state_dict())
    for _ in range(6):
        assert torch.equal(run.rounds(1), resumed.rounds(1))


WITHOUT_COMPRESSION: list[Method] = [
    EFBV(compressor=Identity()),
    EF21P(downlink=Identity()),
    EF21PDIANA(compressor=Identity(), downlink=Identity()),
    EF21BC(compressor=Identity(), downlink=Identity(), step_size=0.05),
    DoCoFL(compressor=Identity(), anchor=RAND, correction=Identity()),
    PartialParticipation(method=CompressedSGD(compressor=Identity()), participants=8),
]


@pytest.mark.parametrize("method", WITHOUT_COMPRESSION, ids=str)
def test_without_compression_it_is_gradient_descent(method: Method) -> None:
    """Up to rounding. The tests of the other methods have such limits of theirs."""
    run, descent = run_of(method, 0.05), run_of(DataParallelSGD(), 0.05)
    for _ in range(40):
        torch.testing.assert_close(run.rounds(1), descent.rounds(1), rtol=1e-12, atol=1e-13)


def test_averages_are_added_in_worker_order() -> None:
    """In float32, (2^-2 + 2^22) - 2^22 is 0, and in the order of arrival it would be 2^-2."""
    reports = {
        2: Message({"a": DensePayload(torch.tensor([-(2.0**24)]))}),
        0: Message({"a": DensePayload(torch.tensor([1.0]))}),
        1: Message({"a": SparsePayload(1, torch.tensor([0]), torch.tensor([2.0**24]))}),
        3: Message({"a": DensePayload(torch.tensor([0.0]))}),
    }
    accumulator = torch.zeros(1)
    add_average(accumulator, reports, "a")
    assert accumulator.item() == 0


def test_the_average_is_added_to_what_is_there() -> None:
    accumulator = torch.tensor([0.5])
    reports = {i: Message({"a": DensePayload(torch.tensor([float(i)]))}) for i in (2, 4)}
    add_average(accumulator, reports, "a")
    assert accumulator.item() == 3.5


class AutogradOracle:
    """The gradient of a problem's loss in float32, by backpropagation through a flat model."""

    def __init__(self, problem: Quadratic, worker_id: int, num_workers: int) -> None:
        self._problem = problem
        self._model = FlatModel(problem.model())
        self._shard = problem.shard(worker_id, num_workers, generator_for(0))
        self._draws = generator_for(1, worker_id)

    def sample(self) -> Any:
        return self._shard.sample(4, self._draws)

    def gradient(self, at: Tensor, batch: Any) -> Tensor:
        self._model.parameters.copy_(at)
        self._model.gradients.zero_()
        self._problem.loss(self._model.module, batch).backward()  # type: ignore[no-untyped-call]
        return self._model.gradients


@pytest.mark.parametrize(
    "method", [DataParallelSGD(), CompressedSGD(compressor=Identity())], ids=str
)
def test_uncompressed_is_plain_sgd_bit_for_bit(method: Method) -> None:
    problem, num_workers, step_size = Quadratic(num_functions=4, noise=1.0), 4, 0.05
    oracles = [AutogradOracle(problem, i, num_workers) for i in range(num_workers)]
    run = Run(method, oracles, torch.zeros(24), step_size)

    model = problem.model()
    optimizer = torch.optim.SGD(model.parameters(), lr=step_size)
    shards = [problem.shard(i, num_workers, generator_for(0)) for i in range(num_workers)]
    draws = [generator_for(1, i) for i in range(num_workers)]
    for _ in range(20):
        optimizer.zero_grad()
        for shard, generator in zip(shards, draws, strict=True):
            loss = problem.loss(model, shard.sample(4, generator)) / num_workers  # exact: 2^-2
            loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        run.round()
        assert torch.equal(run.x, next(model.parameters()))
    assert bool(run.x.any())


def test_gradient_descent_contracts_as_theory_says() -> None:
    mu, smoothness, _ = PROBLEM.smoothness
    step_size, kappa = 2 / (smoothness + mu), smoothness / mu
    run = Run(DataParallelSGD(), oracles_of(PROBLEM), START, step_size)
    distances = squared_distances(run, torch.from_numpy(PROBLEM.optimum), 1e-20, 200)
    for rounds, distance in enumerate(distances):
        bound = ((kappa - 1) / (kappa + 1)) ** (2 * rounds) * distances[0]
        assert distance <= bound * (1 + 1e-9) + 1e-28


UNBIASED: list[Any] = [
    pytest.param(RandK(k=12), marks=pytest.mark.slow),
    MLMC(ladder=SegmentedTopKLadder(segment_size=8)),
    pytest.param(MLMC(ladder=FixedPointLadder(), law=OwnLaw()), marks=pytest.mark.slow),
]


@pytest.mark.parametrize("compressor", UNBIASED, ids=str)
def test_unbiased_messages_reach_a_shared_optimum_linearly(compressor: Compressor) -> None:
    """Where grad f_i(x*) = 0, E|x - x*|^2 falls by 1 - step mu, 1/step = L + 2 omega L_max / n."""
    problem = Quadratic(num_functions=8, dim=24, interpolation=True)
    optimum = torch.from_numpy(problem.optimum)
    omega = compressor.omega(24)
    assert omega is not None
    mu, smoothness, _ = problem.smoothness
    step_size = 1 / (smoothness + 2 * omega * problem.largest / 8)
    factors = []
    for seed in range(5):
        method = CompressedSGD(compressor=compressor)
        run = Run(method, oracles_of(problem), START, step_size, seed)
        factors.append(late_factor(squared_distances(run, optimum, 1e-20, 1500)))
    assert sum(factors) / 5 <= (1 - step_size * mu) * 1.01


def test_unbiased_messages_reach_a_plateau_where_optima_differ() -> None:
    """The bound of the plateau: 2 step omega / (mu n) times the mean of |grad f_i(x*)|^2."""
    compressor = RandK(k=3)
    optimum = torch.from_numpy(PROBLEM.optimum)
    mu, smoothness, _ = PROBLEM.smoothness
    omega = compressor.omega(24)
    assert omega is not None
    step_size = 1 / (smoothness + 2 * omega * 10 / 8)
    oracles = oracles_of(PROBLEM)
    spread = sum(float(o.gradient(optimum, None).square().sum()) for o in oracles) / 8
    run = Run(CompressedSGD(compressor=compressor), oracles, START, step_size)
    run.rounds(300)
    late = [float((run.rounds(1) - optimum).square().sum()) for _ in range(500)]
    plateau = sum(late) / len(late)
    assert 0.01 < plateau <= 2 * step_size * omega / (mu * 8) * spread


def three_workers() -> list[QuadraticOracle]:
    """f_i(x) = <a_i, x>^2 + |x|^2 / 4, by Beznosikov et al. (arXiv:2002.12410)."""
    vectors = torch.tensor([[-3, 2, 2], [2, -3, 2], [2, 2, -3]], dtype=torch.float64)
    eye = torch.eye(3, dtype=torch.float64)
    return [
        QuadraticOracle(2 * a.outer(a) + 0.5 * eye, torch.zeros(3, dtype=torch.float64))
        for a in vectors
    ]


ONES = torch.ones(3, dtype=torch.float64)


@pytest.mark.parametrize("step_size", [0.001, 0.1, 1.0])
def test_naive_top_1_diverges_exactly(step_size: float) -> None:
    run = Run(CompressedSGD(compressor=TopK(k=1)), three_workers(), ONES, step_size)
    for rounds in range(1, 51):
        run.round()
        expected = (1 + 11 * step_size / 6) ** rounds * ONES
        torch.testing.assert_close(run.x, expected, rtol=1e-12, atol=0)


def test_uncompressed_gradient_descent_converges_there() -> None:
    run = Run(DataParallelSGD(), three_workers(), ONES, 0.1)
    expected = (1 - 7 * 0.1 / 6) ** 30 * ONES
    torch.testing.assert_close(run.rounds(30), expected, rtol=1e-12, atol=1e-15)


@pytest.mark.slow
def test_an_unbiased_top_1_converges_there() -> None:
    compressor = MLMC(ladder=SegmentedTopKLadder(segment_size=1))
    step_size = 1 / (103 / 6 + 2 * 2 * 34.5 / 3)
    run = Run(CompressedSGD(compressor=compressor), three_workers(), ONES, step_size)
    assert float(run.rounds(1000).norm()) < 1e-6


def ef21_step(alpha: float, mu: float, smoothness: float, mean_smoothness: float) -> float:
    """The largest step for which EF21 contracts by 1 - step mu under strong convexity."""
    root = math.sqrt(1 - alpha) / (1 - math.sqrt(1 - alpha))
    theta = 1 - math.sqrt(1 - alpha)
    return min(1 / (smoothness + mean_smoothness * math.sqrt(2) * root), theta / (2 * mu))


@pytest.mark.slow
def test_ef21_with_top_1_converges_there() -> None:
    step_size = ef21_step(1 / 3, 7 / 6, 103 / 6, 34.5)
    assert step_size == pytest.approx(0.00427, abs=5e-6)
    method = EF21SGDM(compressor=TopK(k=1), momentum=1.0)
    run = Run(method, three_workers(), ONES, step_size)
    distances = squared_distances(run, 0 * ONES, 1e-20, 10_000)
    assert late_factor(distances) <= 1 - step_size * 7 / 6


@pytest.mark.parametrize("k", [pytest.param(6, marks=pytest.mark.slow), 12])
def test_ef21_converges_linearly_where_optima_differ(k: int) -> None:
    mu, smoothness, mean_smoothness = PROBLEM.smoothness
    compressor = TopK(k=k)
    step_size = ef21_step(compressor.alpha(24), mu, smoothness, mean_smoothness)
    run = Run(EF21SGDM(compressor=compressor, momentum=1.0), oracles_of(PROBLEM), START, step_size)
    optimum = torch.from_numpy(PROBLEM.optimum)
    distances = squared_distances(run, optimum, 1e-20, 6000)
    assert late_factor(distances) <= 1 - step_size * mu
