"""Gradient coding: unbiased over all patterns of stragglers, its variance, error feedback."""

import itertools
import math
from typing import Any

import pytest
import torch
from torch import Tensor

from mlmc_ray.compressors import Identity, RandK, TopK
from mlmc_ray.flat import FlatModel
from mlmc_ray.methods import DataParallelSGD
from mlmc_ray.methods.error_feedback.coco_ef import CocoEF, late_workers
from mlmc_ray.payloads import Message
from mlmc_ray.problems import Problem, ProblemSource, Quadratic
from mlmc_ray.problems.replicated import Replicated
from mlmc_ray.seeding import generator_for, seed_for
from tests.mlmc_ray.driver import QuadraticOracle, Run, oracles_of

STEP_SIZE = 0.1
START = torch.ones(6, dtype=torch.float64)


def replicated(num_workers: int, copies: int) -> list[QuadraticOracle]:
    """Worker i's function is the mean of those of subsets i to i + copies - 1."""
    own = oracles_of(Quadratic(num_functions=num_workers, dim=6))
    held = [[own[(i + k) % num_workers] for k in range(copies)] for i in range(num_workers)]
    return [
        QuadraticOracle(
            torch.stack([oracle.matrix for oracle in oracles]).mean(0),
            torch.stack([oracle.vector for oracle in oracles]).mean(0),
        )
        for oracles in held
    ]


def gradient_at(start: Tensor, num_workers: int) -> Tensor:
    own = oracles_of(Quadratic(num_functions=num_workers, dim=6))
    return torch.stack([oracle.gradient(start, None) for oracle in own]).mean(0)


@pytest.mark.parametrize("copies", [1, 2, 4])
def test_without_compression_and_stragglers_it_is_gradient_descent(copies: int) -> None:
    run = Run(CocoEF(compressor=Identity()), replicated(4, copies), START, STEP_SIZE)
    descent = Run(DataParallelSGD(), replicated(4, 1), START, STEP_SIZE)
    for _ in range(30):
        torch.testing.assert_close(run.rounds(1), descent.rounds(1), rtol=1e-12, atol=1e-13)


def estimates(probability: float, oracles: list[QuadraticOracle]) -> list[tuple[float, Tensor]]:
    """The first estimate for each of the 2^M sets of late workers, with its probability."""
    method = CocoEF(compressor=Identity(), straggling=probability)
    found: dict[frozenset[int], tuple[float, Tensor]] = {}
    for seed in itertools.count():
        late = frozenset(late_workers(seed_for(seed, "shared", 0), len(oracles), probability))
        if late not in found:
            run = Run(method, oracles, START, STEP_SIZE, seed)
            estimate = run.round()
            assert estimate is not None
            assert {i for i, report in run.reports.items() if not report.payloads} == late
            chance = probability ** len(late) * (1 - probability) ** (len(oracles) - len(late))
            found[late] = (chance, estimate.clone())
        if len(found) == 2 ** len(oracles):
            return list(found.values())
    raise AssertionError


@pytest.mark.parametrize("copies", [1, 2, 3])
def test_the_mean_over_all_patterns_of_stragglers_is_the_gradient(copies: int) -> None:
    probability, oracles = 0.4, replicated(4, copies)
    drawn = estimates(probability, oracles)
    mean = torch.stack([chance * estimate for chance, estimate in drawn]).sum(0)
    torch.testing.assert_close(mean, gradient_at(START, 4), rtol=1e-12, atol=1e-13)
    coded = [oracle.gradient(START, None) / (4 * (1 - probability)) for oracle in oracles]
    expected = probability * (1 - probability) * sum(float(u.square().sum()) for u in coded)
    variance = sum(chance * float((e - mean).square().sum()) for chance, e in drawn)
    assert variance == pytest.approx(expected, rel=1e-12)


def test_workers_are_late_on_their_own_with_that_probability() -> None:
    draws, num_workers, probability = 4000, 3, 0.3
    late = [late_workers(seed, num_workers, probability) for seed in range(draws)]
    margin = math.sqrt(math.log(2 * 6 / 1e-9) / (2 * draws))  # a correct sampler fails once in 1e9
    assert margin < 0.06
    for i in range(num_workers):
        assert abs(sum(i in who for who in late) / draws - probability) <= margin
        both = sum({i, (i + 1) % num_workers} <= who for who in late) / draws
        assert abs(both - probability**2) <= margin


@pytest.mark.parametrize("accumulate", [False, True])
def test_a_late_worker_keeps_its_error_or_adds_its_gradient(accumulate: bool) -> None:
    """After every round, what was sent plus the errors is what was computed."""
    probability, oracles = 0.5, replicated(4, 2)
    method = CocoEF(compressor=TopK(k=2), straggling=probability, accumulate=accumulate)
    run = Run(method, oracles, START, STEP_SIZE)
    computed, sent = torch.zeros_like(START), torch.zeros_like(START)
    lates = 0
    for _ in range(20):
        late = late_workers(run.context(-1).shared_seed, 4, probability)
        lates += len(late)
        for i, oracle in enumerate(oracles):
            if accumulate or i not in late:
                computed += oracle.gradient(run.x, None) / (1 - probability) / 4
        estimate = run.round()
        assert estimate is not None
        sent += estimate
        states = [worker.state_dict() for worker in run.workers]
        errors = torch.stack([state.get("error", torch.zeros_like(START)) for state in states])
        torch.testing.assert_close(sent + errors.mean(0), computed, rtol=1e-12, atol=1e-12)
    assert 20 < lates < 60


def test_a_smaller_step_leaves_a_smaller_neighbourhood() -> None:
    optimum = torch.from_numpy(Quadratic(num_functions=4, dim=6).optimum)
    floors = []
    for step_size in (0.04, 0.01):
        method = CocoEF(compressor=TopK(k=3), straggling=0.2)
        run = Run(method, replicated(4, 2), START, step_size)
        run.rounds(round(8 / step_size))
        late = [float((run.rounds(1) - optimum).square().sum()) for _ in range(200)]
        floors.append(sum(late) / len(late))
    assert 0 < floors[1] < 0.5 * floors[0] < 0.5


def test_a_late_worker_sends_nothing_and_the_others_one_compressed_vector() -> None:
    method = CocoEF(compressor=TopK(k=2), straggling=0.5)
    run = Run(method, replicated(4, 2), START, STEP_SIZE, seed=1)
    news = run.server.news(context=run.context(-1))
    assert isinstance(news, Message)
    assert {name: payload.dim for name, payload in news.payloads.items()} == {"parameters": 6}
    late = late_workers(run.context(-1).shared_seed, 4, 0.5)
    run.round()
    sizes = {i: {n: p.dim for n, p in r.payloads.items()} for i, r in run.reports.items()}
    assert sizes == {i: {} if i in late else {"corrected": 6} for i in range(4)}
    assert 0 < len(late) < 4


def test_halves_that_were_saved_and_loaded_continue_exactly() -> None:
    method = CocoEF(compressor=TopK(k=2), straggling=0.3)
    run = Run(method, replicated(4, 2), START, STEP_SIZE)
    run.rounds(5)
    resumed = Run(method, replicated(4, 2), run.x, STEP_SIZE)
    resumed.round_index = 5
    for worker, twin in zip(run.workers, resumed.workers, strict=True):
        twin.load_state_dict(worker.state_dict())
    for _ in range(5):
        assert torch.equal(run.rounds(1), resumed.rounds(1))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"compressor": RandK(k=2)}, "coco-ef needs a contractive compressor"),
        ({"straggling": 1.0}, "straggling is 1.0: it is the probability that a worker is late"),
        ({"straggling": -0.1}, "straggling is -0.1"),
    ],
)
def test_settings_that_cannot_work_are_refused(options: dict[str, Any], message: str) -> None:
    settings: dict[str, Any] = {"compressor": TopK(k=1), **options}
    with pytest.raises(ValueError, match=message):
        CocoEF(**settings)


QUADRATIC = ProblemSource("mlmc_ray.problems.quadratic.Quadratic", {"num_functions": 3})


def full_gradient(problem: Problem, worker_id: int, num_workers: int) -> Tensor:
    torch.manual_seed(0)
    flat = FlatModel(problem.model())
    flat.parameters.add_(0.5)
    batch = problem.shard(worker_id, num_workers, generator_for(5)).full()
    problem.loss(flat.module, batch).backward()  # type: ignore[no-untyped-call]
    return flat.gradients.clone()


@pytest.mark.parametrize(
    "source", [QUADRATIC, ProblemSource("mlmc_ray.problems.digits.Digits")], ids=str
)
def test_a_replicated_function_is_the_mean_of_those_held(source: ProblemSource) -> None:
    """Whatever the sizes of shards: 1,437 digits are 479 for each of 3 workers, or 359 or 360."""
    num_workers = 3 if source is QUADRATIC else 4
    own = [full_gradient(source.load(), i, num_workers) for i in range(num_workers)]
    problem = Replicated(problem=source, copies=2)
    assert isinstance(problem, Problem)
    for i in range(num_workers):
        expected = (own[i] + own[(i + 1) % num_workers]) / 2
        found = full_gradient(problem, i, num_workers)
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def test_a_batch_has_examples_of_every_shard_held() -> None:
    problem = Replicated(problem=ProblemSource("mlmc_ray.problems.digits.Digits"), copies=3)
    batch: Any = problem.shard(2, 4, generator_for(5)).sample(7, generator_for(1))
    assert [len(labels) for _, labels in batch] == [7, 7, 7]
    assert not torch.equal(batch[0][0], batch[1][0])


def test_measures_are_those_of_the_problem() -> None:
    problem = Replicated(problem=QUADRATIC, copies=3)
    assert problem.evaluate(problem.model()) == QUADRATIC.load().evaluate(problem.model())


@pytest.mark.parametrize("copies", [0, 4])
def test_copies_that_there_cannot_be_are_refused(copies: int) -> None:
    with pytest.raises(ValueError, match=f"copies is {copies}"):
        Replicated(problem=QUADRATIC, copies=copies).shard(0, 3, generator_for(0))
