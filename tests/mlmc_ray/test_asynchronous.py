"""Asynchronous methods, driven by arrivals in simulated time."""

import heapq
import math
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor

from mlmc_ray.compressors import PermK, RandK, TopK
from mlmc_ray.compressors.base import Compressor
from mlmc_ray.estimator import MLMC, OwnLaw
from mlmc_ray.ladders import FixedPointLadder, SegmentedTopKLadder
from mlmc_ray.methods import SERVER, DataParallelSGD, Method, Progress
from mlmc_ray.methods.asynchronous.async_sgd import AsyncSGD
from mlmc_ray.methods.asynchronous.rennala import RennalaSGD
from mlmc_ray.methods.theory import Setting
from mlmc_ray.payloads import Message
from mlmc_ray.problems import Quadratic
from mlmc_ray.problems.constants import Constants
from tests.mlmc_ray.driver import QuadraticOracle, Run, late_factor, oracles_of, squared_distances


class AsyncRun(Run):
    """Reports arrive one by one; worker i takes ``seconds[i]`` for each.

    ``arrivals`` has the time, the worker and the age of every report, whether it was used or not.
    """

    def __init__(
        self,
        method: Method,
        oracles: list[Any],
        start: Tensor,
        step_size: float,
        seconds: tuple[float, ...],
        seed: int = 0,
    ) -> None:
        super().__init__(method, oracles, start, step_size, seed)
        self.arrivals: list[tuple[float, int, int]] = []
        self.now_s = 0.0
        self._seconds = seconds
        self._queue: list[tuple[float, int, Message]] = []

    def round(self) -> Tensor:
        """Let reports arrive until the server steps."""
        result: Tensor | Progress = Progress.MORE
        exchange_index = 0
        while not isinstance(result, Tensor):
            assert result is Progress.MORE
            self._start(exchange_index)
            self.now_s, worker_id, report = heapq.heappop(self._queue)
            age = self.round_index - int(report.scalars["version"])
            self.arrivals.append((self.now_s, worker_id, age))
            context = self.context(SERVER, exchange_index)
            result = self.server.step({worker_id: report}, context=context)
            exchange_index += 1
        self.round_index += 1
        self.x.add_(result, alpha=-self._step_size)
        return result

    def _start(self, exchange_index: int) -> None:
        news = self.server.news(context=self.context(SERVER, exchange_index))
        assert not isinstance(news, Message)
        for i, message in news.items():
            context = self.context(i, exchange_index)
            report = self.workers[i].step(message, self._oracles[i], context=context)
            heapq.heappush(self._queue, (self.now_s + self._seconds[i], i, report))


@dataclass
class NoisyOracle:
    """The gradient of |x|^2 / 2 plus noise: row k of a table for the k-th gradient."""

    noise: Tensor
    used: int = field(default=0)

    def sample(self, size: int | None = None) -> Tensor:
        self.used += 1
        return self.noise[self.used - 1]

    def full(self) -> Tensor:
        return torch.zeros_like(self.noise[0])

    def gradient(self, at: Tensor, batch: Tensor) -> Tensor:
        return at + batch


def diagonal(*values: float) -> QuadraticOracle:
    curvatures = torch.tensor(values, dtype=torch.float64)
    return QuadraticOracle(curvatures.diag(), torch.zeros_like(curvatures))


def ones(dim: int) -> Tensor:
    return torch.ones(dim, dtype=torch.float64)


ORACLE = diagonal(1.0, 0.5, 0.25, 0.125)
POLICIES = [
    AsyncSGD(),
    AsyncSGD(policy="drop"),
    AsyncSGD(policy="drop", max_staleness=2),
    AsyncSGD(policy="damp"),
    AsyncSGD(policy="damp-cap"),
    AsyncSGD(policy="ssp", slack=1),
]
METHODS: list[Method] = [
    *POLICIES,
    AsyncSGD(blocks=3),
    RennalaSGD(batch=1),
    RennalaSGD(batch=3, compressor=RandK(k=2)),
]


# Limits.


@pytest.mark.parametrize("method", [*POLICIES, RennalaSGD(batch=1)], ids=str)
def test_one_worker_is_sgd_bit_for_bit(method: Method) -> None:
    alone = AsyncRun(method, [ORACLE], ones(4), 0.3, (1.0,))
    serial = Run(DataParallelSGD(), [ORACLE], ones(4), 0.3)
    for rounds in range(1, 21):
        assert torch.equal(alone.rounds(1), serial.rounds(1))
        assert alone.arrivals[-1] == (float(rounds), 0, 0)


def test_without_staleness_it_is_serial_sgd_bit_for_bit() -> None:
    method = AsyncSGD(policy="drop", max_staleness=0)
    run = AsyncRun(method, 3 * [ORACLE], ones(4), 0.3, (1.0, 1.3, 2.2))
    serial = Run(DataParallelSGD(), [ORACLE], ones(4), 0.3)
    for _ in range(30):
        assert torch.equal(run.rounds(1), serial.rounds(1))
    assert any(age > 0 for _, _, age in run.arrivals)  # and those have been dropped
    assert len(run.arrivals) > 30


def test_a_drop_takes_reports_up_to_the_largest_age() -> None:
    """Among equally fast workers every report but the first few is M - 1 = 3 steps old."""
    used = AsyncRun(
        AsyncSGD(policy="drop", max_staleness=3), 4 * [ORACLE], ones(4), 0.1, 4 * (1.0,)
    )
    applied = AsyncRun(AsyncSGD(), 4 * [ORACLE], ones(4), 0.1, 4 * (1.0,))
    assert torch.equal(used.rounds(40), applied.rounds(40))
    assert [age for *_, age in used.arrivals] == [0, 1, 2] + 37 * [3]
    fewer = AsyncRun(
        AsyncSGD(policy="drop", max_staleness=2), 4 * [ORACLE], ones(4), 0.1, 4 * (1.0,)
    )
    fewer.rounds(40)
    dropped = [age for *_, age in fewer.arrivals if age > 2]
    assert len(fewer.arrivals) == 40 + len(dropped) > 45


def test_by_default_a_drop_takes_ages_up_to_the_number_of_workers() -> None:
    seconds = (1.0, 5.0)
    run = AsyncRun(AsyncSGD(policy="drop"), 2 * [ORACLE], ones(4), 0.1, seconds)
    given = AsyncRun(AsyncSGD(policy="drop", max_staleness=2), 2 * [ORACLE], ones(4), 0.1, seconds)
    assert torch.equal(run.rounds(30), given.rounds(30))
    assert {worker for _, worker, age in run.arrivals if age > 2} == {1}


@pytest.mark.parametrize("tau", [0, 1, 2, 3])
def test_a_constant_delay_is_stable_up_to_its_threshold(tau: int) -> None:
    """step lambda < 2 sin(pi / (2 (2 tau + 1))), within 1%: one coordinate below, one above."""
    threshold = 2 * math.sin(math.pi / (2 * (2 * tau + 1)))
    oracle = diagonal(0.99 * threshold, 1.01 * threshold)
    run = AsyncRun(AsyncSGD(), (tau + 1) * [oracle], ones(2), 1.0, (tau + 1) * (1.0,))

    def largest(rounds: int) -> Tensor:
        return torch.stack([run.rounds(1).abs() for _ in range(rounds)]).amax(0)

    largest(300)
    early, _, late = largest(100), largest(700), largest(100)
    assert late[0] < 0.8 * early[0]
    assert late[1] > 1.2 * early[1]
    assert {age for *_, age in run.arrivals[tau:]} == {tau}


# Weights, clocks, blocks.


@pytest.mark.parametrize(
    ("method", "weight"), [(AsyncSGD(policy="damp"), 1 / 11), (AsyncSGD(policy="damp-cap"), 0.2)]
)
def test_damping_scales_the_estimate_by_its_age(method: AsyncSGD, weight: float) -> None:
    """The second worker reports at 10 s, after ten steps of the first."""
    run = AsyncRun(method, [ORACLE, diagonal(3, 3, 3, 3)], ones(4), 0.1, (1.0, 10.0))
    run.rounds(10)
    estimate = run.round()
    assert run.arrivals[-1] == (10.0, 1, 10)
    torch.testing.assert_close(estimate, 3 * weight * ones(4), rtol=1e-15, atol=0)


@pytest.mark.parametrize("slack", [0, 1, 3])
def test_no_worker_is_further_ahead_than_its_slack(slack: int) -> None:
    seconds = (1.0, 3.7, 5.1)
    run = AsyncRun(AsyncSGD(policy="ssp", slack=slack), 3 * [ORACLE], ones(4), 0.05, seconds)
    free = AsyncRun(AsyncSGD(), 3 * [ORACLE], ones(4), 0.05, seconds)
    sent = [0, 0, 0]
    leads = set()
    for _ in range(90):
        run.round()
        free.round()
        sent[run.arrivals[-1][1]] += 1
        leads.add(max(sent) - min(sent))
    assert max(leads) == slack + 1  # the report of who may just still start
    assert max(age for *_, age in run.arrivals) <= 2 * (2 * slack + 1)
    assert run.now_s > free.now_s
    if slack == 0:
        assert all({w for _, w, _ in run.arrivals[i : i + 3]} == {0, 1, 2} for i in range(0, 90, 3))


def test_block_b_lands_b_steps_later_exactly() -> None:
    """x_(t+1) = x_t - step lambda x_(t-b) in block b, and nothing before step b."""
    curvatures = torch.tensor([1.0, 0.5, 0.7, 0.25, 0.3], dtype=torch.float64)
    run = AsyncRun(AsyncSGD(blocks=3), [diagonal(*curvatures)], ones(5), 0.4, (1.0,))
    delays = [0, 0, 1, 1, 2]  # 5 entries in 3 blocks
    history = [ones(5)]
    for t in range(25):
        expected = history[-1].clone()
        for j, delay in enumerate(delays):
            if t >= delay:
                expected[j] -= 0.4 * (curvatures[j] * history[t - delay][j])
        history.append(expected)
        torch.testing.assert_close(run.rounds(1), expected, rtol=1e-14, atol=0)


def test_fast_workers_pull_the_fixed_point_towards_theirs() -> None:
    """f_0 is minimal at 1 and f_1 at -1; with three reports of the first to one, at 1/2."""
    eye = torch.eye(1, dtype=torch.float64)
    oracles = [QuadraticOracle(eye, value * ones(1)) for value in (1.0, -1.0)]
    ends = {}
    for seconds in [(1.0, 3.0), (1.0, 1.0), (3.0, 1.0)]:
        run = AsyncRun(AsyncSGD(), oracles, 0 * ones(1), 0.02, seconds)
        run.rounds(800)
        ends[seconds] = sum(float(run.rounds(1)) for _ in range(80)) / 80
    assert ends[1.0, 3.0] == pytest.approx(0.5, abs=0.05)
    assert ends[1.0, 1.0] == pytest.approx(0.0, abs=0.05)
    assert ends[3.0, 1.0] == pytest.approx(-0.5, abs=0.05)


# Rennala.


def test_rennala_is_sgd_with_the_batch_in_the_order_of_arrival_bit_for_bit() -> None:
    """By hand, for workers that take 1, 2.5 and 4 seconds, and batches of 3.

    The first worker's third gradient, and the first one of the third worker, come too late.
    """
    tables = torch.randn(3, 8, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    oracles = [NoisyOracle(table) for table in tables]
    run = AsyncRun(RennalaSGD(batch=3), oracles, ones(4), 0.25, (1.0, 2.5, 4.0))
    x = ones(4)
    for batch in ([(0, 0), (0, 1), (1, 0)], [(0, 3), (0, 4), (1, 1)]):
        mean = torch.zeros(4, dtype=torch.float64)
        for worker_id, index in batch:
            mean.add_(x + tables[worker_id, index], alpha=1 / 3)
        x = torch.add(x, mean, alpha=-0.25)
        run.round()
        assert torch.equal(run.x, x)
    expected = [(1, 0, 0), (2, 0, 0), (2.5, 1, 0)]
    expected += [(3, 0, 1), (4, 0, 0), (4, 2, 1), (5, 0, 0), (5, 1, 0)]
    assert run.arrivals == expected


def test_reports_that_arrive_together_fill_a_batch_and_no_more() -> None:
    method = RennalaSGD(batch=2)
    run = AsyncRun(method, 3 * [ORACLE], ones(4), 0.1, 3 * (1.0,))
    news = run.server.news(context=run.context(SERVER))
    assert not isinstance(news, Message)
    reports = {
        i: run.workers[i].step(news[i], diagonal(*4 * [float(i)]), context=run.context(i))
        for i in news
    }
    estimate = run.server.step(reports, context=run.context(SERVER))
    assert isinstance(estimate, Tensor)
    assert torch.equal(estimate, 0.5 * ones(4))  # the mean of 0 and 1


UNBIASED: list[Any] = [
    RandK(k=12),
    PermK(),
    MLMC(ladder=SegmentedTopKLadder(segment_size=8)),
    pytest.param(MLMC(ladder=FixedPointLadder(), law=OwnLaw()), marks=pytest.mark.slow),
]
SHARED = Quadratic(num_functions=1, dim=24, smallest=8.0)


def setting_of(problem: Quadratic, num_workers: int) -> Setting:
    mu, smoothness, mean = problem.smoothness
    constants = Constants(
        smoothness=smoothness,
        mean_smoothness=mean,
        largest_smoothness=problem.largest,
        strong_convexity=mu,
    )
    return Setting(constants=constants, dim=problem.dim, num_workers=num_workers)


@pytest.mark.parametrize("compressor", UNBIASED, ids=str)
def test_rennala_reaches_a_shared_optimum_linearly(compressor: Compressor) -> None:
    method = RennalaSGD(batch=2, compressor=compressor)
    setting = setting_of(SHARED, 2)
    step_size, omega = method.theory(setting).value, setting.omega(compressor)
    assert step_size == pytest.approx(1 / (10 * (1 + omega / 2)))
    optimum = torch.from_numpy(SHARED.optimum)
    factors = []
    for seed in range(5):
        run = AsyncRun(method, 2 * oracles_of(SHARED), 0 * optimum, step_size, (1.0, 1.4), seed)
        factors.append(late_factor(squared_distances(run, optimum, 1e-20, 1500)))
    assert sum(factors) / 5 <= (1 - step_size * 8) * 1.01


@pytest.mark.parametrize("compressor", UNBIASED, ids=str)
def test_compressed_asynchronous_steps_reach_a_shared_optimum(compressor: Compressor) -> None:
    run = AsyncRun(
        AsyncSGD(compressor=compressor), 2 * oracles_of(SHARED), 0 * ones(24), 0.02, (1.0, 1.4)
    )
    squared_distances(run, torch.from_numpy(SHARED.optimum), 1e-20, 2000)


def test_a_fast_worker_draws_anew_for_every_report_of_a_batch() -> None:
    """Nearly all reports are of one of 12 workers; the same block 12 times would diverge."""
    method = RennalaSGD(batch=12, compressor=PermK())
    setting = setting_of(SHARED, 12)
    step_size, omega = method.theory(setting).value, setting.omega(PermK())
    assert step_size == pytest.approx(1 / (10 * (1 + omega / 12)))
    optimum = torch.from_numpy(SHARED.optimum)
    seconds = (1.0, *(11 * [50.0]))
    run = AsyncRun(method, 12 * oracles_of(SHARED), 0 * optimum, step_size, seconds)
    factor = late_factor(squared_distances(run, optimum, 1e-20, 200))
    assert factor <= (1 - step_size * 8) * 1.05


# Theory.


@pytest.mark.parametrize(
    ("method", "seconds", "age"),
    [
        (AsyncSGD(), 4 * (1.0,), 3),
        (AsyncSGD(policy="drop"), (1.0, 1.1, 1.7, 3.1), 4),
        (AsyncSGD(policy="drop", max_staleness=2), (1.0, 1.1, 1.7, 3.1), 2),
        (AsyncSGD(policy="ssp", slack=1), (1.0, 1.1, 1.7, 3.1), 9),
    ],
    ids=str,
)
def test_gradients_are_as_small_as_theory_says(
    method: AsyncSGD, seconds: tuple[float, ...], age: int
) -> None:
    problem = Quadratic(num_functions=1, dim=24)
    step = method.theory(setting_of(problem, 4))
    assert step.value == pytest.approx(1 / (10 * (1 + age)))
    (oracle,) = oracles_of(problem)
    optimum = torch.from_numpy(problem.optimum)
    gap = 0.5 * float(optimum @ oracle.matrix @ optimum)
    run = AsyncRun(method, 4 * [oracle], 0 * optimum, step.value, seconds)
    total = 0.0
    for rounds in range(1, 301):
        total += float(oracle.gradient(run.x, None).square().sum())
        assert total / rounds <= 2 * gap / (step.value * rounds)
        run.round()
    assert total > 0.1 * gap / step.value  # so the bound means something


def test_no_step_is_known_without_a_proof() -> None:
    setting = setting_of(SHARED, 2)
    for method in (AsyncSGD(policy="damp"), AsyncSGD(policy="damp-cap"), AsyncSGD(blocks=2)):
        with pytest.raises(
            ValueError, match=r"policy is .* and blocks is .*: a step size is known"
        ):
            method.theory(setting)
    with pytest.raises(ValueError, match=r"compressor is RandK.*: a step size is known for exact"):
        AsyncSGD(compressor=RandK(k=2)).theory(setting)
    with pytest.raises(ValueError, match="the theory of async-sgd needs an unbiased compressor"):
        AsyncSGD(compressor=TopK(k=2)).theory(setting)


# Settings, messages, memory.


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"policy": "aply"}, r"policy is 'aply': give one of \('apply', 'drop'"),
        ({"max_staleness": 3}, "max_staleness is 3 and policy is 'apply': leave max_staleness out"),
        ({"policy": "drop", "max_staleness": -1}, "max_staleness is -1: give 0 or more"),
        ({"policy": "drop", "slack": 1}, "slack is 1 and policy is 'drop': leave slack out, or"),
        ({"policy": "ssp", "slack": -1}, "slack is -1: give 0 or more"),
        ({"policy": "ssp"}, "policy is 'ssp': give slack"),
        ({"blocks": 0}, "blocks is 0: give at least 1"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=f"^{text}"):
        AsyncSGD(**settings)


def test_rennala_refuses_biased_compressors_and_empty_batches() -> None:
    with pytest.raises(ValueError, match=r"^rennala needs an unbiased compressor, and TopK"):
        RennalaSGD(batch=2, compressor=TopK(k=1))
    with pytest.raises(ValueError, match=r"^batch is 0: give at least 1"):
        RennalaSGD(batch=0)


@pytest.mark.parametrize("method", METHODS, ids=str)
def test_messages_hold_a_vector_and_a_version_and_each_worker_has_one_to_answer(
    method: Method,
) -> None:
    run = AsyncRun(method, 3 * [ORACLE], ones(4), 0.1, 3 * (1.0,))
    news = run.server.news(context=run.context(SERVER))
    assert not isinstance(news, Message)
    assert sorted(news) == [0, 1, 2]
    assert list(news[0].payloads) == ["parameters"]
    assert news[0].payloads["parameters"].to_dense().data_ptr() == run.x.data_ptr()
    report = run.workers[1].step(news[1], ORACLE, context=run.context(1))
    assert {name: payload.dim for name, payload in report.payloads.items()} == {"gradient": 4}
    assert report.scalars == news[1].scalars == {"version": 0.0}
    assert run.server.news(context=run.context(SERVER)) == {}
    run.server.step({1: report}, context=run.context(SERVER))
    more = run.server.news(context=run.context(SERVER))
    assert not isinstance(more, Message)
    assert set(more) <= {1}


@pytest.mark.parametrize("version", [None, -1.0, 1.0, 0.5])
def test_a_version_that_never_was_is_refused_and_changes_nothing(version: float | None) -> None:
    run = AsyncRun(RennalaSGD(batch=2), [ORACLE], ones(4), 0.1, (1.0,))
    news = run.server.news(context=run.context(SERVER))
    assert not isinstance(news, Message)
    report = run.workers[0].step(news[0], ORACLE, context=run.context(0))
    state = run.server.state_dict()
    scalars = {} if version is None else {"version": version}
    with pytest.raises(ValueError, match=rf"^report of worker 0: version is {version}, expected a"):
        run.server.step({0: Message(report.payloads, scalars)}, context=run.context(SERVER))
    assert all(torch.equal(state[name], value) for name, value in run.server.state_dict().items())


@pytest.mark.parametrize("method", METHODS, ids=str)
def test_restored_halves_go_on_as_if_nothing_had_been(method: Method) -> None:
    def started() -> AsyncRun:
        run = AsyncRun(method, 3 * [ORACLE], ones(4), 0.1, (1.0, 1.5, 3.7))
        run.rounds(7)
        return run

    whole, parts = started(), started()
    server = method.server(parts.x)
    server.load_state_dict(parts.server.state_dict())
    parts.server = server
    workers = [method.worker() for _ in parts.workers]
    for worker, old in zip(workers, parts.workers, strict=True):
        worker.load_state_dict(old.state_dict())
    parts.workers = workers
    for _ in range(12):
        assert torch.equal(whole.rounds(1), parts.rounds(1))
    assert whole.arrivals == parts.arrivals
