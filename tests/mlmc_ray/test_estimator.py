import math
from collections import Counter

import pytest
import torch
from hypothesis import example, given, settings
from torch import Tensor

from launch.configuration.catalogue import KINDS
from mlmc_ray.compressors import Compressor
from mlmc_ray.errors import NonFiniteError
from mlmc_ray.estimator import MLMC, AdaptiveLaw, GivenLaw, LevelLaw, OwnLaw
from mlmc_ray.ladders import FixedPointLadder, Ladder, RankLadder, SegmentedTopKLadder, TopKLadder
from mlmc_ray.payloads import CodesPayload, Payload, ZeroPayload
from mlmc_ray.seeding import generator_for
from mlmc_ray.truncation import RandomTruncation
from tests.mlmc_ray.cases import (
    ALL_LADDERS,
    ALL_LAWS,
    EXACT_LADDERS,
    GOLDEN,
    LADDERS_AND_LAWS,
    dense,
    received,
    uneven_law,
)
from tests.mlmc_ray.strategies import vectors

EVERY_ESTIMATOR = pytest.mark.parametrize(("ladder", "law"), LADDERS_AND_LAWS, ids=str)
WIDE = torch.tensor([2.0**100, -3.0, 2.0**-100, 0.0, 1 + 2.0**-23])
FEW = settings(max_examples=12)


def estimator_for(ladder: Ladder, law: str, vector: Tensor) -> MLMC:
    return MLMC(ladder=ladder, law=ALL_LAWS[law](len(ladder.levels(vector))))


def test_the_lists_are_complete() -> None:
    assert {type(ladder) for ladder in ALL_LADDERS} == set(KINDS[Ladder].values())
    assert set(ALL_LAWS) == set(KINDS[LevelLaw])
    assert all(type(make(2)) is KINDS[LevelLaw][name] for name, make in ALL_LAWS.items())
    own = {ladder for ladder, law in LADDERS_AND_LAWS if law == "own"}
    assert own == {FixedPointLadder()}
    assert len(LADDERS_AND_LAWS) == 3 * len(EXACT_LADDERS) + len(own)


@EVERY_ESTIMATOR
@given(vector=vectors(widest=20))
@example(vector=WIDE)
@example(vector=torch.zeros(3))
@FEW
def test_what_the_server_decodes_is_exactly_unbiased(
    ladder: Ladder, law: str, vector: Tensor
) -> None:
    estimator = estimator_for(ladder, law, vector)
    mean = torch.zeros(len(vector), dtype=torch.float64)
    for level, p in enumerate(estimator.probabilities(vector).tolist(), start=1):
        if p > 0:
            received(estimator.at_level(vector, level)).add_to(mean, weight=p)
    torch.testing.assert_close(mean, vector.double(), rtol=2e-7, atol=0)


@EVERY_ESTIMATOR
@given(vector=vectors(widest=20, dtype=torch.float64))
@example(vector=WIDE.double())
@FEW
def test_mlmc_is_exactly_unbiased(ladder: Ladder, law: str, vector: Tensor) -> None:
    estimator = estimator_for(ladder, law, vector)
    mean = torch.zeros(len(vector), dtype=torch.float64)
    for level, p in enumerate(estimator.probabilities(vector).tolist(), start=1):
        if p > 0:
            payload = estimator.at_level(vector, level)
            payload.add_to(mean, weight=p / rounding_of_scale(payload, ladder, vector, level, p))
    torch.testing.assert_close(mean, vector, rtol=1e-12, atol=0)


def rounding_of_scale(
    payload: Payload, ladder: Ladder, vector: Tensor, level: int, p: float
) -> float:
    """Return what rounding the scale of codes to float32 did: a factor within 2^-24 of 1.

    Codes have a float32 scale whatever the dtype of the vector, so that both sides use the same.
    """
    if not isinstance(payload, CodesPayload):
        return 1.0
    increment = ladder.levels(vector).increment(level)
    assert isinstance(increment, CodesPayload)
    factor = float(payload.scales[0]) / (float(increment.scales[0]) / p)
    assert abs(factor - 1) <= 2.0**-24
    return factor


@EVERY_ESTIMATOR
@given(vector=vectors(widest=20))
@FEW
def test_laws_are_laws(ladder: Ladder, law: str, vector: Tensor) -> None:
    probabilities = estimator_for(ladder, law, vector).probabilities(vector)
    norms = ladder.levels(vector).norms()
    assert probabilities.dtype == torch.float64
    assert bool((probabilities >= 0).all())
    assert bool((probabilities[: len(norms)][norms > 0] > 0).all())
    if vector.any():
        assert float(probabilities.sum()) == pytest.approx(1, abs=1e-12)


@given(vector=vectors(widest=20))
@settings(max_examples=30)
def test_the_own_law_of_fixed_point_sends_one_symbol_at_every_level(vector: Tensor) -> None:
    estimator = MLMC(ladder=FixedPointLadder(), law=OwnLaw())
    num_levels = len(estimator.ladder.levels(vector))
    scale = 2.0 ** int(torch.frexp(vector.abs().max()).exponent)
    symbol = torch.tensor(scale * (1 - 2.0**-num_levels), dtype=torch.float32).item()
    for level in range(1, num_levels + 1):
        payload = estimator.at_level(vector, level)
        assert isinstance(payload, CodesPayload)
        assert payload.scales.tolist() == [symbol]
        assert int(payload.codes.abs().max()) <= 1


DELTA = 1e-9  # a correct sampler fails this test with at most this probability


@pytest.mark.parametrize(
    ("ladder", "law"),
    [
        (SegmentedTopKLadder(segment_size=2), AdaptiveLaw()),
        pytest.param(FixedPointLadder(), OwnLaw(), marks=pytest.mark.slow),
        pytest.param(
            SegmentedTopKLadder(segment_size=2, contiguous=True),
            GivenLaw((0.1, 0.4, 0.2, 0.3)),
            marks=pytest.mark.slow,
        ),
    ],
    ids=str,
)
def test_levels_are_drawn_by_their_law(ladder: Ladder, law: LevelLaw) -> None:
    estimator, n = MLMC(ladder=ladder, law=law), 8_000
    p = estimator.probabilities(GOLDEN)
    level_of = {
        tuple(dense(estimator.at_level(GOLDEN, level)).tolist()): level
        for level in range(1, 5)
        if p[level - 1] > 0
    }
    generator = generator_for(0)
    draws = Counter(
        level_of[tuple(dense(estimator.compress(GOLDEN, generator=generator)).tolist())]
        for _ in range(n)
    )
    counts = torch.tensor([draws[level] for level in range(1, 5)], dtype=torch.float64)
    margin = math.sqrt(math.log(2 * len(p) / DELTA) / (2 * n))  # Hoeffding, union over levels
    assert margin < 0.04  # a bias of 0.08 is caught
    assert bool(((counts / n - p).abs() <= margin).all())
    assert bool((counts[p == 0] == 0).all())


def test_the_draw_depends_on_the_generator_alone() -> None:
    estimator = MLMC(ladder=TopKLadder())
    first, again = (
        [dense(estimator.compress(GOLDEN, generator=generator)).tolist() for _ in range(20)]
        for generator in (generator_for(3), generator_for(3))
    )
    assert first == again
    assert len({tuple(vector) for vector in first}) > 1


@EVERY_ESTIMATOR
def test_zero_is_sent_as_zero(ladder: Ladder, law: str) -> None:
    estimator = estimator_for(ladder, law, torch.zeros(4))
    payload = estimator.compress(torch.zeros(4), generator=generator_for(0))
    assert isinstance(payload, ZeroPayload)
    assert payload.dim == 4


@EVERY_ESTIMATOR
def test_what_is_not_finite_is_refused(ladder: Ladder, law: str) -> None:
    estimator = estimator_for(ladder, law, torch.ones(2))
    with pytest.raises(NonFiniteError, match="1 of 2 entries"):
        estimator.compress(torch.tensor([1.0, math.nan]), generator=generator_for(0))


def test_one_level_is_the_identity() -> None:
    estimator = MLMC(ladder=SegmentedTopKLadder(segment_size=100))
    assert torch.equal(
        dense(estimator.compress(GOLDEN, generator=generator_for(0))), GOLDEN.double()
    )
    assert estimator.omega(8) == 0


def test_probabilities_beyond_the_last_level_send_zero() -> None:
    estimator = MLMC(ladder=TopKLadder(), law=uneven_law(3))
    beyond = estimator.at_level(torch.ones(3), 4)
    assert isinstance(beyond, ZeroPayload)
    assert beyond.dim == 3
    for level in (0, 5):
        with pytest.raises(ValueError, match=f"level is {level}"):
            estimator.at_level(torch.ones(3), level)


def test_the_own_law_of_a_ladder_without_one_is_refused() -> None:
    for ladder in (TopKLadder(), RankLadder(rows=4)):
        with pytest.raises(ValueError, match="no fixed law of its own"):
            MLMC(ladder=ladder, law=OwnLaw())
        with pytest.raises(ValueError, match="no fixed law of its own"):
            RandomTruncation(ladder=ladder, law=OwnLaw())
    with pytest.raises(ValueError, match="no fixed law of its own"):
        OwnLaw().probabilities(TopKLadder().levels(GOLDEN))


@pytest.mark.parametrize("ladder", ALL_LADDERS, ids=str)
def test_ladders_say_whether_they_have_a_law(ladder: Ladder) -> None:
    assert ladder.has_own_law == (ladder.levels(torch.ones(4)).own_law() is not None)


def test_too_few_given_probabilities_are_refused() -> None:
    estimator = MLMC(ladder=TopKLadder(), law=GivenLaw((0.5, 0.5)))
    with pytest.raises(ValueError, match="2 probabilities were given, and this vector has 8"):
        estimator.compress(GOLDEN, generator=generator_for(0))


@pytest.mark.parametrize("values", [(), (0.5, 0.6), (1.5, -0.5), (1.0, 0.0)])
def test_given_values_that_are_no_law_are_refused(values: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="give positive probabilities that sum to 1"):
        GivenLaw(values)


def test_an_estimator_is_unbiased_and_has_its_ladders_cost() -> None:
    estimator: Compressor = MLMC(ladder=FixedPointLadder())
    assert estimator.unbiased
    assert estimator.alpha(10) is None
    assert estimator.paper_cost(10) == FixedPointLadder().paper_cost(10)
