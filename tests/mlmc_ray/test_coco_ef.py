"""Gradient coding: unbiased over all patterns of stragglers, its variance, error feedback."""

import itertools
import math
from collections import Counter
from typing import Any, get_args

import pytest
import torch
from torch import Tensor

from mlmc_ray.compressors import Identity, RandK, TopK
from mlmc_ray.flat import FlatModel
from mlmc_ray.methods import DataParallelSGD
from mlmc_ray.methods.error_feedback import coco_ef
from mlmc_ray.methods.error_feedback.coco_ef import CocoEF, late_workers
from mlmc_ray.payloads import Message
from mlmc_ray.problems import Problem, ProblemSource, Quadratic
from mlmc_ray.problems.replicated import (
    Allocation,
    Replicated,
    cyclic_allocation,
    random_allocation,
)
from mlmc_ray.seeding import generator_for, seed_for
from tests.mlmc_ray.driver import QuadraticOracle, Run, oracles_of
from tests.mlmc_ray.method_checks import assert_continues_exactly

STEP_SIZE = 0.1
START = torch.ones(6, dtype=torch.float64)


def replicated(
    num_workers: int, copies: int, allocation: Allocation = "cyclic"
) -> list[QuadraticOracle]:
    """Worker i's function is the mean of those of its subsets."""
    own = oracles_of(Quadratic(num_functions=num_workers, dim=6))
    allocations = {
        "cyclic": cyclic_allocation(num_workers, copies),
        "random": random_allocation(num_workers, copies, seed=2),
    }
    held = [[own[k] for k in shards] for shards in allocations[allocation]]
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


@pytest.mark.parametrize("allocation", get_args(Allocation))
@pytest.mark.parametrize("copies", [1, 2, 4])
def test_without_compression_and_stragglers_it_is_gradient_descent(
    copies: int, allocation: Allocation
) -> None:
    run = Run(CocoEF(compressor=Identity()), replicated(4, copies, allocation), START, STEP_SIZE)
    descent = Run(DataParallelSGD(), replicated(4, 1), START, STEP_SIZE)
    for _ in range(30):
        torch.testing.assert_close(run.rounds(1), descent.rounds(1), rtol=1e-12, atol=1e-13)


def estimates(
    method: CocoEF, oracles: list[QuadraticOracle], memory: dict[str, Tensor]
) -> list[tuple[float, Tensor]]:
    """The next estimate for each of the 2^M sets of late workers, with its probability."""
    probability = method.straggling
    found: dict[frozenset[int], tuple[float, Tensor]] = {}
    for seed in itertools.count():
        late = frozenset(late_workers(seed_for(seed, "shared", 0), len(oracles), probability))
        if late not in found:
            run = Run(method, oracles, START, STEP_SIZE, seed)
            run.server.load_state_dict(memory)
            estimate = run.round()
            assert estimate is not None
            assert {i for i, report in run.reports.items() if not report.payloads} == late
            chance = probability ** len(late) * (1 - probability) ** (len(oracles) - len(late))
            found[late] = (chance, estimate.clone())
        if len(found) == 2 ** len(oracles):
            return list(found.values())
    raise AssertionError


@pytest.mark.parametrize("allocation", get_args(Allocation))
@pytest.mark.parametrize("copies", [1, 2, 3])
def test_the_mean_over_all_patterns_of_stragglers_is_the_gradient(
    copies: int, allocation: Allocation
) -> None:
    probability, oracles = 0.4, replicated(4, copies, allocation)
    drawn = estimates(CocoEF(compressor=Identity(), straggling=probability), oracles, {})
    mean = torch.stack([chance * estimate for chance, estimate in drawn]).sum(0)
    torch.testing.assert_close(mean, gradient_at(START, 4), rtol=1e-12, atol=1e-13)
    coded = [oracle.gradient(START, None) / (4 * (1 - probability)) for oracle in oracles]
    expected = probability * (1 - probability) * sum(float(u.square().sum()) for u in coded)
    variance = sum(chance * float((e - mean).square().sum()) for chance, e in drawn)
    assert variance == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("share", [0.5, 0.6, 1.0])
def test_with_an_estimated_share_the_mean_is_the_gradient_as_far_as_the_share_is_right(
    share: float,
) -> None:
    method = CocoEF(compressor=Identity(), straggling=0.4, newest_weight=0.2)
    memory = {"share": torch.tensor(share, dtype=torch.float64)}
    drawn = estimates(method, replicated(4, 2), memory)
    mean = torch.stack([chance * estimate for chance, estimate in drawn]).sum(0)
    expected = 0.6 / share * gradient_at(START, 4)
    torch.testing.assert_close(mean, expected, rtol=1e-12, atol=1e-13)


def test_the_share_tends_to_one_that_is_always_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """With one worker of four late: q = 3/4 + (1 - beta)^t / 4 in round t, from t = 0."""
    monkeypatch.setattr(coco_ef, "late_workers", lambda *_: {2})
    oracles = replicated(4, 2)
    run = Run(CocoEF(compressor=Identity(), newest_weight=0.2), oracles, START, STEP_SIZE)
    for round_index in range(30):
        gradients = [o.gradient(run.x, None) for i, o in enumerate(oracles) if i != 2]
        share = 0.75 + 0.25 * 0.8**round_index
        expected = torch.stack(gradients).sum(0) / (4 * share)
        torch.testing.assert_close(run.round(), expected, rtol=1e-12, atol=1e-13)
        assert set(run.reports[2].payloads) == set()
    known = float(run.server.state_dict()["share"])
    assert known == pytest.approx(0.75 + 0.25 * 0.8**30, rel=1e-12)


def test_the_share_is_on_average_that_of_workers_which_deliver() -> None:
    """Its mean over T rounds is that of the shares of single rounds but for 1 / (beta T)."""
    rounds, probability, weight = 2000, 0.3, 0.1
    method = CocoEF(compressor=Identity(), straggling=probability, newest_weight=weight)
    eye = torch.eye(1, dtype=torch.float64)
    run = Run(method, [QuadraticOracle(eye, eye[0])] * 4, eye[0], 0.1)
    shares = []
    for _ in range(rounds):
        run.round()
        shares.append(float(run.server.state_dict()["share"]))
    margin = math.sqrt(math.log(2 / 1e-9) / (2 * 4 * rounds)) + 1 / (weight * rounds)
    assert margin < 0.05  # Hoeffding: a correct sampler fails once in 1e9
    assert abs(sum(shares) / rounds - (1 - probability)) <= margin
    spread = torch.tensor(shares[100:]).var().item()
    assert spread == pytest.approx(weight / (2 - weight) * 0.21 / 4, rel=0.3)


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
                computed += oracle.gradient(run.x, None) / 4
        estimate = run.round()
        assert estimate is not None
        sent += estimate if accumulate else (1 - probability) * estimate
        states = [worker.state_dict() for worker in run.workers]
        errors = torch.stack([state.get("error", torch.zeros_like(START)) for state in states])
        torch.testing.assert_close(sent + errors.mean(0), computed, rtol=1e-12, atol=1e-12)
    assert 20 < lates < 60


def test_accumulated_gradients_arrive_once() -> None:
    """Without a compressor the mean estimate is the gradient: a late one comes later, and whole."""
    method = CocoEF(compressor=Identity(), straggling=0.6, accumulate=True)
    eye = torch.eye(1, dtype=torch.float64)
    run = Run(method, [QuadraticOracle(eye, eye[0])] * 4, torch.zeros_like(eye[0]), 0.0)
    estimates = [float(run.round() or 0) for _ in range(500)]
    assert sum(estimates) / 500 == pytest.approx(-1, abs=0.01)


def test_a_share_of_nothing_has_a_floor() -> None:
    method = CocoEF(compressor=Identity(), straggling=0.95, newest_weight=0.5)
    eye = torch.eye(1, dtype=torch.float64)
    run = Run(method, [QuadraticOracle(eye, eye[0])] * 2, eye[0], 0.0)
    shares = []
    for _ in range(60):
        run.round()
        shares.append(float(run.server.state_dict()["share"]))
    assert min(shares) == 0.25


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


@pytest.mark.parametrize("newest_weight", [None, 0.2])
def test_halves_that_were_saved_and_loaded_continue_exactly(newest_weight: float | None) -> None:
    method = CocoEF(compressor=TopK(k=2), straggling=0.3, newest_weight=newest_weight)
    assert_continues_exactly(method, Quadratic(num_functions=4, dim=6), 5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"compressor": RandK(k=2)}, "coco-ef needs a contractive compressor"),
        ({"straggling": 1.0}, "straggling is 1.0: it is the probability that a worker is late"),
        ({"straggling": -0.1}, "straggling is -0.1"),
        ({"newest_weight": 0.0}, "newest_weight is 0.0: give a number above 0 and below 1"),
        ({"newest_weight": 1.0}, "newest_weight is 1.0"),
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


@pytest.mark.parametrize("copies", [1, 2, 3])
def test_the_mean_over_workers_is_the_problem_s_own_however_shards_are_dealt(copies: int) -> None:
    own = torch.stack([full_gradient(QUADRATIC.load(), i, 3) for i in range(3)])
    problem = Replicated(problem=QUADRATIC, copies=copies, allocation="random", seed=1)
    dealt = torch.stack([full_gradient(problem, i, 3) for i in range(3)])
    torch.testing.assert_close(dealt.mean(0), own.mean(0), rtol=1e-5, atol=1e-6)
    held = random_allocation(3, copies, 1)
    expected = torch.stack([own[list(shards)].mean(0) for shards in held])
    torch.testing.assert_close(dealt, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("num_workers", "copies"), [(1, 1), (2, 1), (7, 3), (20, 4), (5, 5)])
def test_a_random_allocation_has_every_shard_on_as_many_workers(
    num_workers: int, copies: int
) -> None:
    for seed in range(5):
        held = random_allocation(num_workers, copies, seed)
        assert [len(set(shards)) for shards in held] == [copies] * num_workers
        counts = Counter(shard for shards in held for shard in shards)
        assert counts == dict.fromkeys(range(num_workers), copies)


def test_all_allocations_are_drawn_alike() -> None:
    """Of 4 shards on 2 of 4 workers each: 90, of which 18 have two pairs of equal workers."""
    draws = 2000  # that one of 90 never comes has a probability below 90 (89/90)^2000 < 1e-7
    drawn = [random_allocation(4, 2, seed) for seed in range(draws)]
    assert len(set(drawn)) == 90
    pairs = sum(len(set(held)) == 2 for held in drawn) / draws
    margin = math.sqrt(math.log(2 / 1e-9) / (2 * draws))
    assert margin < 0.08  # from the cyclic allocation, relabelled, none would come
    assert abs(pairs - 18 / 90) <= margin


def test_a_batch_has_examples_of_every_shard_held() -> None:
    problem = Replicated(problem=ProblemSource("mlmc_ray.problems.digits.Digits"), copies=3)
    batch: Any = problem.shard(2, 4, generator_for(5)).sample(7, generator_for(1))
    assert [len(labels) for _, labels in batch] == [7, 7, 7]
    assert not torch.equal(batch[0][0], batch[1][0])


def test_measures_are_those_of_the_problem() -> None:
    problem = Replicated(problem=QUADRATIC, copies=3)
    assert problem.evaluate(problem.model()) == QUADRATIC.load().evaluate(problem.model())


def test_an_unknown_allocation_is_refused() -> None:
    with pytest.raises(
        ValueError, match=r"allocation is 'odd': give one of \['cyclic', 'random'\]"
    ):
        Replicated(problem=QUADRATIC, allocation="odd")  # type: ignore[arg-type]


@pytest.mark.parametrize("copies", [0, 4])
def test_copies_that_there_cannot_be_are_refused(copies: int) -> None:
    with pytest.raises(ValueError, match=f"copies is {copies}"):
        Replicated(problem=QUADRATIC, copies=copies).shard(0, 3, generator_for(0))
