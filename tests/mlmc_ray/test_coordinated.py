"""Levels that workers draw by shared permutations: every margin, and the noise of the average.

Where nothing else is said the moments are exact: the probabilities are multiples of 1 / (M n), so
that all numbers of a cell of that size give the same level, and permutations and cells can be
enumerated.
"""

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Generator, Tensor

from launch import Session
from mlmc_ray.compressors import Compressor, Context, PerLayer, PermK, ScaledSign, TopK
from mlmc_ray.compressors import bound as bound_compressor
from mlmc_ray.coordination import Place, place_in
from mlmc_ray.estimator import MLMC, GivenLaw
from mlmc_ray.ladders import (
    FloatingPointLadder,
    Ladder,
    RefinementLadder,
    SegmentedTopKLadder,
    TopKLadder,
)
from mlmc_ray.laws import levels_at
from mlmc_ray.methods import DIANA, SERVER, CompressedSGD, Method, PartialParticipation
from mlmc_ray.methods.theory import Setting
from mlmc_ray.problems import Quadratic
from mlmc_ray.problems.constants import Constants
from mlmc_ray.seeding import generator_for
from mlmc_ray.truncation import RandomTruncation
from tests.mlmc_ray.cases import GOLDEN, dense, received
from tests.mlmc_ray.driver import QuadraticOracle, Run, oracles_of

LAW = (7 / 12, 3 / 12, 2 / 12)
WORKERS, CELLS = 3, 4  # a stratum, a third of [0, 1), is 4 cells of 1 / 12
PLACE = Place(seed=0, worker_id=0, num_workers=WORKERS)
ESTIMATOR = MLMC(ladder=TopKLadder(), law=GivenLaw(LAW), coordinated=True)
TRUNCATION = RandomTruncation(ladder=TopKLadder(), law=GivenLaw(LAW), coordinated=True)
Estimator = MLMC | RandomTruncation


def here(worker_id: int = 0, num_workers: int = 4, seed: int = 7, **others: Any) -> Context:
    return Context(generator_for(0, worker_id), seed, worker_id, num_workers, **others)


def placed(estimator: Compressor, context: Context) -> MLMC:
    estimator = bound_compressor(estimator, context)
    assert isinstance(estimator, MLMC)
    return estimator


# One worker's draws.


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("num_workers", [2, 5, 32])
def test_every_stratum_is_drawn_by_one_worker(num_workers: int, seed: int) -> None:
    drawn = [
        Place(seed=seed, worker_id=i, num_workers=num_workers).uniforms(6, 10, generator_for(i))
        for i in range(num_workers)
    ]
    strata = (torch.stack(drawn) * num_workers).long()
    everyone = torch.arange(num_workers)
    assert torch.equal(strata.sort(dim=0).values, everyone[:, None].expand(-1, 6))
    within = torch.stack(drawn) * num_workers - strata
    assert len(set(within.flatten().tolist())) == within.numel()
    if num_workers == 32:
        assert len({tuple(draw) for draw in strata.T.tolist()}) == 6  # other draws, other orders


def test_strata_are_the_same_everywhere() -> None:
    """They are drawn by integers alone."""
    place = Place(seed=3, worker_id=1, num_workers=8)
    strata = (place.uniforms(10, 24, generator_for(0)) * 8).long()
    assert strata.tolist() == [6, 5, 7, 6, 3, 0, 6, 7, 0, 2]
    fewer = (place.uniforms(4, 24, generator_for(5)) * 8).long()
    assert fewer.tolist() == [6, 5, 7, 6]


DELTA = 1e-9  # a correct sampler fails the next test with at most this probability


def test_equal_keys_take_strata_by_position(monkeypatch: pytest.MonkeyPatch) -> None:
    class Ties:
        def __init__(self, key: int) -> None:
            pass

        def random_raw(self, size: int) -> npt.NDArray[np.uint64]:
            return np.array([5, 9, 5, 5, 2, 2, 2, 2], dtype=np.uint64)[:size]

    monkeypatch.setattr(np.random, "Philox", Ties)
    strata = [
        (Place(seed=0, worker_id=i, num_workers=4).uniforms(2, 3, generator_for(i)) * 4).long()
        for i in range(4)
    ]
    assert torch.stack(strata).T.tolist() == [[0, 3, 1, 2], [0, 1, 2, 3]]


def test_a_worker_draws_by_the_law() -> None:
    """Over the seeds of rounds; so every stratum is as likely."""
    n, seen, vector = 2000, torch.zeros(2, 3), torch.tensor([-4.0, 3.0, 1.0])
    for seed in range(n):
        for i, worker_id in enumerate((0, 3)):
            own = placed(ESTIMATOR, here(worker_id, 4, seed))
            sent = own.compress(vector, generator=generator_for(seed, worker_id))
            seen[i, int(dense(sent).abs().argmax())] += 1
    margin = math.sqrt(math.log(2 * 6 / DELTA) / (2 * n))  # Hoeffding, union over 6 statements
    assert margin < 0.077  # an error of 0.16 is caught: that of a stratum that is never drawn
    assert bool(((seen / n - torch.tensor(LAW)).abs() <= margin).all())


@pytest.mark.parametrize("stratum", range(WORKERS))
def test_a_number_gives_its_level(stratum: int) -> None:
    numbers = torch.tensor(numbers_of(stratum), dtype=torch.float64)
    levels = levels_at(torch.tensor(LAW, dtype=torch.float64), numbers)
    assert levels == [[1, 1, 1, 1], [1, 1, 1, 2], [2, 2, 3, 3]][stratum]


def test_a_number_never_gives_a_level_of_probability_0() -> None:
    law = torch.tensor([0.0, 0.25, 0.0, 0.75, 0.0], dtype=torch.float64)
    ends = torch.tensor([0.0, 0.25 - 2**-54, 0.25, 1 - 2**-53], dtype=torch.float64)
    assert levels_at(law, ends) == [2, 2, 4, 4]


def test_the_last_stratum_ends_below_one(monkeypatch: pytest.MonkeyPatch) -> None:
    top = torch.tensor([1 - 2.0**-53], dtype=torch.float64)
    monkeypatch.setattr(torch, "rand", lambda *size, **kind: top)
    for worker_id in range(5):
        place = Place(seed=0, worker_id=worker_id, num_workers=5)
        assert float(place.uniforms(1, 4, generator_for(0))) < 1


# The workers together.


@dataclass(frozen=True)
class At:
    """A place whose numbers are known."""

    numbers: tuple[float, ...]

    def uniforms(self, number: int, dim: int, generator: Generator) -> Tensor:
        assert number == len(self.numbers)
        return torch.tensor(self.numbers, dtype=torch.float64)


def numbers_of(stratum: int) -> list[float]:
    """Return the middles of its cells."""
    return [(stratum * CELLS + cell + 0.5) / (WORKERS * CELLS) for cell in range(CELLS)]


def sent_by(estimator: Estimator, vector: Tensor) -> Tensor:
    """Return what is decoded of a draw in every stratum and cell, shape (M, n, d)."""
    strata = []
    for stratum in range(WORKERS):
        places = [replace(estimator, place=At((u,))) for u in numbers_of(stratum)]  # type: ignore[arg-type]
        payloads = [place.compress(vector, generator=generator_for(0)) for place in places]
        strata.append(torch.stack([dense(received(payload)) for payload in payloads]))
    return torch.stack(strata)


def averages(sent: list[Tensor]) -> Iterator[Tensor]:
    """Yield the average of some workers' messages in all outcomes, which are as likely."""
    for order in itertools.permutations(range(WORKERS), len(sent)):
        for cells in itertools.product(range(CELLS), repeat=len(sent)):
            drawn = [each[a, c] for each, a, c in zip(sent, order, cells, strict=True)]
            yield torch.stack(drawn).mean(dim=0)


def moments(estimator: Estimator, vectors: list[Tensor]) -> tuple[float, float]:
    """Return the variance of the average, and what it is for independent draws; check the mean."""
    sent = [sent_by(estimator, vector) for vector in vectors]
    outcomes = torch.stack(list(averages(sent)))
    mean = torch.stack(vectors).double().mean(dim=0)
    torch.testing.assert_close(outcomes.mean(dim=0), mean, rtol=0, atol=2e-6)
    variance = float((outcomes - mean).square().sum(dim=1).mean())
    errors = [each - vector for each, vector in zip(sent, vectors, strict=True)]
    alone = sum(float(error.square().sum(dim=2).mean()) for error in errors) / len(vectors) ** 2
    return variance, alone


VECTORS = [torch.randn(6, generator=generator_for(seed)) for seed in range(6)]
LADDERS: list[tuple[Ladder, tuple[int, ...]]] = [
    (TopKLadder(), (3, 1, 1, 2, 3, 2)),
    (SegmentedTopKLadder(segment_size=2, contiguous=True), (7, 3, 2)),
    (SegmentedTopKLadder(segment_size=3), (5, 7)),
    (RefinementLadder(compressor=ScaledSign(), steps=5), (1, 2, 1, 2, 1, 5)),
]
EVERY_LADDER = pytest.mark.parametrize(
    "estimator",
    [
        kind(ladder=each, law=GivenLaw(tuple(n / 12 for n in law)))
        for kind in (MLMC, RandomTruncation)
        for each, law in LADDERS
    ],
    ids=lambda estimator: f"{type(estimator).__name__}-{type(estimator.ladder).__name__}",
)


@EVERY_LADDER
def test_workers_that_hold_the_same_never_have_more_noise(estimator: Estimator) -> None:
    for vector in VECTORS:
        variance, alone = moments(estimator, [vector] * WORKERS)
        assert variance <= alone * (1 + 1e-6)


def test_every_worker_truncates_by_the_law() -> None:
    """Over strata and cells, which are as likely: 7, 3 and 2 of 12 up to each level."""
    vector = torch.tensor([-4.0, 3.0, 1.0])
    sent = sent_by(TRUNCATION, vector).flatten(end_dim=1)
    for level, number in ((1, 7), (2, 3), (3, 2)):
        expected = dense(TRUNCATION.at_level(vector, level))
        assert int((sent == expected).all(dim=1).sum()) == number


@EVERY_LADDER
def test_other_workers_have_at_most_the_excess(estimator: Estimator) -> None:
    """Also those who are left of them where one is not asked, or does not answer."""
    for i in range(4):
        for number in (WORKERS, WORKERS - 1):
            variance, alone = moments(estimator, VECTORS[i : i + number])
            assert variance <= PLACE.excess * alone * (1 + 1e-6)


def test_the_excess_is_reached() -> None:
    """Worker i sends entry a + i in stratum a, so that all send the same one."""
    order = torch.tensor([1.0002, 1.0001, 1.0])
    thirds = MLMC(ladder=TopKLadder(), law=GivenLaw((4 / 12, 4 / 12, 4 / 12)))
    variance, alone = moments(thirds, [order.roll(i) for i in range(WORKERS)])
    assert PLACE.excess == 1.5
    assert variance == pytest.approx(1.5 * alone, rel=1e-3)
    same, _ = moments(thirds, [order] * WORKERS)
    assert same == pytest.approx(0, abs=1e-6)


def test_golden_variance_of_two_levels() -> None:
    """One stratum holds the boundary, so the noise is that of one worker of M: O(1 / M^2).

    Of 3 p = 5/4 levels 1 a quarter is left: |D_1 / p - D_2 / (1 - p)|^2 f (1 - f) / M^2.
    """
    vector, p = torch.tensor([3.0, -4.0, 0.5, 1.25]), 5 / 12
    two = MLMC(ladder=SegmentedTopKLadder(segment_size=2), law=GivenLaw((p, 1 - p)))
    variance, alone = moments(two, [vector] * WORKERS)
    apart = 25 / p**2 + 1.8125 / (1 - p) ** 2
    assert variance == pytest.approx(apart * (3 / 16) / 9, rel=1e-6)
    assert alone == pytest.approx(apart * p * (1 - p) / 3, rel=1e-6)


@pytest.mark.parametrize(
    "options",
    [
        {"draws": 2},
        pytest.param({"inclusion": True, "expected_levels": 1.5}, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_draws_and_levels_have_permutations_of_their_own(options: dict[str, Any]) -> None:
    """The variance of the average of 2 equal vectors, over rounds, and that of its mean."""
    vector, n = GOLDEN[:4], 1000
    estimator = MLMC(ladder=TopKLadder(), coordinated=True, **options)
    errors = torch.zeros(n, 4, dtype=torch.float64)
    for seed in range(n):
        for i in range(2):
            own = placed(estimator, here(i, 2, seed))
            errors[seed] += dense(own.compress(vector, generator=generator_for(seed, i))) / 2
    errors -= vector
    alone = estimator.variance(vector) / 2
    variance = float(errors.square().sum(dim=1).mean())
    assert variance < 0.9 * alone
    assert float(errors.mean(dim=0).square().sum()) < 12 * variance / n  # chi-square: 1e-9 or so


# What is said of it.


def test_it_knows_its_place() -> None:
    own = placed(ESTIMATOR, here(2, 5))
    assert own.place is not None
    assert (own.place.worker_id, own.place.num_workers) == (2, 5)
    assert own == placed(own, here(2, 5)) != placed(ESTIMATOR, here(2, 5, seed=8))
    assert placed(replace(ESTIMATOR, coordinated=False), here(2, 5)).place is None


@pytest.mark.parametrize("estimator", [ESTIMATOR, TRUNCATION], ids=["mlmc", "truncation"])
@pytest.mark.parametrize("context", [here(0, 1), here(SERVER, 5)], ids=["alone", "server"])
def test_who_has_no_others_draws_as_usual(context: Context, estimator: Estimator) -> None:
    assert place_in(context) is None
    own, usual = bound_compressor(estimator, context), replace(estimator, coordinated=False)
    assert own is estimator
    for seed in range(20):
        sent = [each.compress(GOLDEN[:3], generator=generator_for(seed)) for each in (own, usual)]
        assert torch.equal(dense(sent[0]), dense(sent[1]))


def test_a_truncation_knows_its_place_and_its_ladder_has_another_seed() -> None:
    ladder = RefinementLadder(compressor=TopK(k=1), top=ESTIMATOR)
    seeds = []
    for coordinated in (True, False):
        own = bound_compressor(RandomTruncation(ladder=ladder, coordinated=coordinated), here(2, 5))
        assert isinstance(own, RandomTruncation)
        assert own == bound_compressor(own, here(2, 5)) != bound_compressor(own, here(2, 5, seed=8))
        assert isinstance(own.ladder, RefinementLadder)
        assert isinstance(own.ladder.top, MLMC)
        assert own.ladder.top.place is not None
        seeds.append(own.ladder.top.place.seed)
        if coordinated:
            assert own.place is not None
            assert (own.place.worker_id, own.place.num_workers) == (2, 5)
            seeds.append(own.place.seed)
        else:
            assert own.place is None
    assert len(set(seeds)) == len(seeds) == 3


def test_truncations_of_workers_fall_into_every_stratum() -> None:
    """Of 3 workers one has the third of [0, 1) that levels 2 and 3 have most of."""
    vector = torch.tensor([-4.0, 3.0, 1.0])
    for seed in range(30):
        sent = [
            dense(own.compress(vector, generator=generator_for(seed, worker_id)))
            for worker_id in range(WORKERS)
            for own in [bound_compressor(TRUNCATION, here(worker_id, WORKERS, seed))]
        ]
        further = sum(int(each.count_nonzero() > 1) for each in sent)
        assert further in (1, 2)


def test_a_truncation_of_nothing_but_the_base_draws_nothing() -> None:
    powers = torch.tensor([1.0, -2.0, 0.5])
    own = RandomTruncation(ladder=FloatingPointLadder(), coordinated=True)
    own = replace(own, place=Place(seed=0, worker_id=1, num_workers=2))
    assert torch.equal(dense(own.compress(powers, generator=generator_for(0))), powers.double())


def seeds_in(estimator: MLMC) -> list[int]:
    """Return the seeds of all that draws alike for the workers."""
    assert isinstance(estimator.ladder, RefinementLadder)
    seeds = [] if estimator.place is None else [estimator.place.seed]
    for inside in (estimator.base, estimator.ladder.top):
        assert isinstance(inside, MLMC)
        assert inside.place is not None
        seeds.append(inside.place.seed)
    return seeds


@pytest.mark.parametrize("coordinated", [True, False])
def test_an_estimator_within_another_has_a_seed_of_its_own(coordinated: bool) -> None:
    ladder = RefinementLadder(compressor=TopK(k=1), top=ESTIMATOR)
    outer = MLMC(ladder=ladder, base=ESTIMATOR, coordinated=coordinated)
    seeds = seeds_in(placed(outer, here(1)))
    assert len(set(seeds)) == len(seeds) == 2 + coordinated
    assert seeds == seeds_in(placed(outer, here(3)))


def test_base_and_top_that_share_out_the_entries_do_so_independently() -> None:
    """Else the rest of the block that the base has sent would be all that the top sends."""
    outer = MLMC(ladder=RefinementLadder(compressor=TopK(k=1), top=PermK()), base=PermK())
    own = placed(outer, here(1))
    assert isinstance(own.ladder, RefinementLadder)
    assert isinstance(own.base, PermK)
    assert isinstance(own.ladder.top, PermK)
    assert own.base.seed != own.ladder.top.seed


def test_layers_of_other_lengths_have_other_permutations() -> None:
    layers = bound_compressor(PerLayer(compressor=ESTIMATOR), here(layer_sizes=(3, 2)))
    assert isinstance(layers, PerLayer)
    first, second = layers.layer_compressors
    assert isinstance(first, MLMC)
    assert isinstance(second, MLMC)
    assert first.place is not None
    assert second.place is not None
    drawn = [
        (place.uniforms(20, dim, generator_for(0)) * 4).long()
        for place, dim in ((first.place, 3), (second.place, 2))
    ]
    assert not torch.equal(*drawn)


def test_omega_bounds_the_average_of_workers() -> None:
    """As omega / M bounds it for independent draws: the excess is in omega."""
    ladder = SegmentedTopKLadder(segment_size=2)
    for options in ({}, {"draws": 3}, {"inclusion": True, "expected_levels": 2.0}):
        for base in (None, TopK(k=2)):
            plain = MLMC(ladder=ladder, base=base, **options)
            omega, own = plain.omega(8), placed(replace(plain, coordinated=True), here())
            assert omega is not None
            assert own.omega(8) == pytest.approx(omega * 4 / 3)
            assert replace(plain, coordinated=True).omega(8) == omega
    assert placed(replace(ESTIMATOR, law=GivenLaw(LAW)), here()).omega(8) is None
    constants = Constants(smoothness=1.0, mean_smoothness=1.0, largest_smoothness=1.0)
    setting = Setting(constants=constants, dim=8, num_workers=4)
    coordinated = MLMC(ladder=ladder, coordinated=True)
    assert setting.joint_omega(coordinated) == pytest.approx(3 * 4 / 3)


@pytest.mark.parametrize(
    ("place", "text"),
    [
        ({"num_workers": 1, "worker_id": 0}, "num_workers is 1: give at least 2"),
        ({"num_workers": 4, "worker_id": 4}, "worker_id is 4: give 0 to 3"),
        ({"num_workers": 4, "worker_id": -1}, "worker_id is -1: give 0 to 3"),
        ({"num_workers": 4, "worker_id": 0, "seed": -1}, "seed is -1: give 0 to"),
    ],
)
def test_wrong_places_are_refused(place: dict[str, int], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        Place(**{"seed": 0, **place})


# Runs.

PROBLEM = Quadratic(num_functions=8)
START = torch.zeros(24, dtype=torch.float64)
SAME = 8 * [QuadraticOracle(torch.diag(torch.linspace(1, 2, 24)).double(), START + 1)]
COMPRESSOR = MLMC(ladder=SegmentedTopKLadder(segment_size=12))
COORDINATED = replace(COMPRESSOR, coordinated=True)


def mean_error(method: Method, oracles: list[Any], step_size: float) -> float:
    """Return the mean over rounds of |estimate - gradient|^2 / |gradient|^2."""
    run, errors = Run(method, oracles, START, step_size), []
    for _ in range(100):
        gradient = sum(oracle.gradient(run.x, None) for oracle in oracles) / len(oracles)
        error = run.estimate() - gradient
        errors.append(float(error.square().sum() / gradient.square().sum()))
    return sum(errors) / len(errors)


def test_a_run_of_workers_that_hold_the_same_has_less_noise() -> None:
    """Two levels: at most 1 / (4 M^2) of the squared distance of their messages, at most 4 |v|^2.

    Independent draws leave about 1 / M for levels of about the same norm.
    """
    independent = mean_error(CompressedSGD(compressor=COMPRESSOR), SAME, 0.1)
    coordinated = mean_error(CompressedSGD(compressor=COORDINATED), SAME, 0.1)
    assert coordinated < 1 / 64
    assert independent > 3 * coordinated


def test_a_run_of_different_workers_has_hardly_more_noise() -> None:
    """At one point, where the variance of independent draws is known."""
    oracles = oracles_of(PROBLEM)
    gradients = [oracle.gradient(START, None) for oracle in oracles]
    alone = sum(COMPRESSOR.variance(gradient) for gradient in gradients) / 64
    squared_norm = float(sum(gradients).square().sum()) / 64  # type: ignore[union-attr]
    measured = mean_error(CompressedSGD(compressor=COORDINATED), oracles, 0.0)
    assert measured * squared_norm < 1.1 * 8 / 7 * alone


@pytest.mark.parametrize("participants", [8, 3])
def test_the_optimum_of_all_is_reached_whoever_is_asked(participants: int) -> None:
    method = CompressedSGD(compressor=COORDINATED)
    run = Run(PartialParticipation(method=method, participants=participants), SAME, START, 0.4)
    optimum = 1 / torch.linspace(1, 2, 24).double()
    assert float((run.rounds(100) - optimum).square().sum()) < 1e-20


def test_shifts_remove_the_noise_of_different_workers() -> None:
    run = Run(DIANA(compressor=COORDINATED), oracles_of(PROBLEM), START, 0.1)
    optimum = torch.from_numpy(PROBLEM.optimum)
    assert float((run.rounds(400) - optimum).square().sum()) < 1e-12


def test_a_session_of_coordinated_workers() -> None:
    config: dict[str, Any] = {
        "problem": {"kind": "quadratic", "num_functions": 8, "dim": 24},
        "method": {
            "kind": "compressed-sgd",
            "compressor": {
                "kind": "mlmc",
                "ladder": {"kind": "s-top-k", "segment_size": 6},
                "coordinated": True,
            },
        },
        "optimizer": {"kind": "sgd", "step_size": "theory"},
        "workers": 8,
        "engine": "inline",
    }
    reached = []
    for _ in range(2):
        with Session(config) as session:
            before = session.evaluate()
            session.run(50)
            assert session.evaluate()["squared_distance"] < before["squared_distance"]
            reached.append(session.parameters().clone())
    assert torch.equal(*reached)
