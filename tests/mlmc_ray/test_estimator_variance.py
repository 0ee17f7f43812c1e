import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mlmc_ray.compressors import RandK, TopK
from mlmc_ray.estimator import MLMC, AdaptiveLaw, GivenLaw, OwnLaw
from mlmc_ray.ladders import (
    FixedPointLadder,
    Ladder,
    RefinementLadder,
    RTNLadder,
    SegmentedTopKLadder,
    TopKLadder,
)
from mlmc_ray.seeding import generator_for
from tests.mlmc_ray.cases import ALL_LAWS, EXACT_LADDERS, GOLDEN, LADDERS_AND_LAWS, dense
from tests.mlmc_ray.strategies import vectors

EVERY_LADDER = pytest.mark.parametrize("ladder", EXACT_LADDERS, ids=str)
EVERY_ESTIMATOR = pytest.mark.parametrize(("ladder", "law"), LADDERS_AND_LAWS, ids=str)
FEW = settings(max_examples=12)
SOME = settings(max_examples=30)


def energy(vector: Tensor) -> float:
    return float(vector.double().square().sum())


def enumerated(estimator: MLMC, vector: Tensor) -> float:
    """Return E|C(v) - v|^2, summed over the levels."""
    total = 0.0
    for level, p in enumerate(estimator.probabilities(vector).tolist(), start=1):
        if p > 0:
            total += p * energy(dense(estimator.at_level(vector, level)) - vector)
    return total


def close_to(second_moment: float, minus: float, rel: float) -> object:
    """Return a difference, to be met up to the rounding of what it is the difference of."""
    return pytest.approx(second_moment - minus, rel=rel, abs=rel * second_moment)


@EVERY_ESTIMATOR
@given(vector=vectors(widest=20, dtype=torch.float64))
@FEW
def test_variance_is_what_enumeration_gives(ladder: Ladder, law: str, vector: Tensor) -> None:
    """sum Delta_l^2 / p_l - |v|^2; codes have float32 scales, hence the wider margin for them."""
    estimator = MLMC(ladder=ladder, law=ALL_LAWS[law](len(ladder.levels(vector))))
    probabilities = estimator.probabilities(vector).tolist()
    norms = ladder.levels(vector).norms().tolist()
    moment = sum(n * n / p for n, p in zip(norms, probabilities, strict=False) if n > 0)
    assert estimator.variance(vector) == close_to(moment, energy(vector), 1e-12)
    rel = 1e-6 if isinstance(ladder, FixedPointLadder) else 1e-12
    assert enumerated(estimator, vector) == close_to(moment, energy(vector), rel)


@EVERY_LADDER
@given(vector=vectors(widest=20, dtype=torch.float64))
@FEW
def test_variance_of_the_adaptive_law(ladder: Ladder, vector: Tensor) -> None:
    moment = float(ladder.levels(vector).norms().sum()) ** 2
    assert MLMC(ladder=ladder).variance(vector) == close_to(moment, energy(vector), 1e-12)


@given(vector=vectors(widest=20))
@SOME
def test_variance_of_importance_sampling(vector: Tensor) -> None:
    moment = float(vector.double().abs().sum()) ** 2
    variance = MLMC(ladder=TopKLadder()).variance(vector)
    assert variance == close_to(moment, energy(vector), 1e-12)


@given(vector=vectors(widest=20))
@SOME
def test_variance_of_fixed_point(vector: Tensor) -> None:
    num_levels = len(FixedPointLadder().levels(vector))
    scale = 2.0 ** int(torch.frexp(vector.abs().max()).exponent)
    magnitudes = vector.double().abs()
    moment = (1 - 2.0**-num_levels) * scale * float(magnitudes.sum())
    own = MLMC(ladder=FixedPointLadder(), law=OwnLaw()).variance(vector)
    assert own == close_to(moment, energy(vector), 1e-12)
    digits = [(magnitudes / scale * 2.0**level).floor() % 2 for level in range(1, num_levels + 1)]
    root = sum(2.0**-level * math.sqrt(n.sum()) for level, n in enumerate(digits, start=1))
    adaptive = MLMC(ladder=FixedPointLadder()).variance(vector)
    assert adaptive == close_to((scale * root) ** 2, energy(vector), 1e-12)
    assert adaptive <= own + 1e-12 * moment


def perturbed(law: Tensor, weights: list[float]) -> GivenLaw:
    values = [p * weight for p, weight in zip(law.tolist(), weights, strict=False)]
    return GivenLaw(tuple(value / sum(values) for value in values))


@EVERY_LADDER
@given(vector=vectors(widest=20), weights=st.lists(st.floats(0.5, 2), min_size=80, max_size=80))
@FEW
def test_no_law_has_less_variance_than_the_adaptive_one(
    ladder: Ladder, vector: Tensor, weights: list[float]
) -> None:
    adaptive = MLMC(ladder=ladder)
    law = (adaptive.probabilities(vector) + 1e-9)[: len(weights)]
    if len(ladder.levels(vector)) > len(weights) or not len(law):
        return
    other = MLMC(ladder=ladder, law=perturbed(law, weights))
    slack = 1e-12 * float(ladder.levels(vector).norms().sum()) ** 2
    assert other.variance(vector) >= adaptive.variance(vector) - slack


@pytest.mark.parametrize(
    "ladder",
    [
        SegmentedTopKLadder(segment_size=3),
        SegmentedTopKLadder(segment_size=2, contiguous=True),
        FixedPointLadder(),
    ],
    ids=str,
)
def test_perturbing_the_adaptive_law_increases_the_variance(ladder: Ladder) -> None:
    adaptive, vector = MLMC(ladder=ladder), torch.tensor([3.0, -4.0, 0.25, 1.0, -2.0, 0.5])
    law = adaptive.probabilities(vector)
    for level in range(len(law)):
        for factor in (0.99, 1.01):
            weights = [factor if other == level else 1.0 for other in range(len(law))]
            worse = MLMC(ladder=ladder, law=perturbed(law, weights))
            assert worse.variance(vector) > adaptive.variance(vector) * (1 + 1e-6)


@EVERY_ESTIMATOR
@given(vector=vectors(widest=20))
@FEW
def test_omega_bounds_the_relative_variance(ladder: Ladder, law: str, vector: Tensor) -> None:
    estimator = MLMC(ladder=ladder, law=ALL_LAWS[law](len(ladder.levels(vector))))
    omega = estimator.omega(len(vector))
    assert (omega is None) == (law in ("given", "cost-aware"))
    if omega is not None:
        moment = energy(vector) * (1 + omega)
        assert estimator.variance(vector) <= omega * energy(vector) + 1e-12 * moment


@pytest.mark.parametrize("draws", [1, 2, 50])
@pytest.mark.parametrize("bits", [2, 4])
@given(vector=vectors(widest=20))
@FEW
def test_omega_bounds_the_variance_with_a_random_top(draws: int, bits: int, vector: Tensor) -> None:
    """The variance of the top is that of the two-point law, here of all entries."""
    ladder = RTNLadder(bits=bits, construction="unbiased")
    width = float(vector.abs().max()) / 2 ** (bits - 1)
    shares = (vector.double().abs() / width).frac() if width else torch.zeros(len(vector))
    top = width**2 * float((shares * (1 - shares)).sum())
    moment = sum(
        float(ladder.levels(vector, generator=generator_for(seed)).norms().sum()) ** 2
        for seed in range(5)
    )
    total = (moment / 5 - energy(vector) - top) / draws + top
    omega = MLMC(ladder=ladder, draws=draws).omega(len(vector))
    assert omega is not None
    assert total <= (omega + 1e-6 * (1 + omega)) * energy(vector)


@pytest.mark.parametrize("draws", [1, 2, 50])
def test_omega_bounds_the_variance_with_a_random_rest(draws: int) -> None:
    """Top-1 leaves 29 of 30 equal entries, and Rand-1 takes one of these or, rarely, of zero."""
    estimator = MLMC(ladder=RefinementLadder(compressor=TopK(k=1), top=RandK(k=1)), draws=draws)
    given_top = [
        estimator.variance(torch.ones(30), generator=generator_for(seed)) for seed in range(200)
    ]
    variance = 29 / 30 * max(given_top) + 1 / 30 * min(given_top)
    if draws == 50:
        assert variance == pytest.approx(29 * 29, rel=0.01)  # of the top: w |r|^2
    omega = estimator.omega(30)
    assert omega is not None
    assert 29 * 29 <= variance <= omega * 30


def test_omega_is_attained() -> None:
    for ladder in (TopKLadder(), SegmentedTopKLadder(segment_size=2)):
        estimator = MLMC(ladder=ladder)
        assert estimator.variance(torch.ones(8)) == pytest.approx(ladder.omega(8) * 8, rel=1e-12)
    uniform = GivenLaw((0.25, 0.25, 0.25, 0.25))
    estimator = MLMC(ladder=SegmentedTopKLadder(segment_size=2), law=uniform)
    assert estimator.variance(GOLDEN) == pytest.approx(3 * 31.25, rel=1e-12)


@pytest.mark.parametrize(
    ("estimator", "variance"),
    [
        (MLMC(ladder=TopKLadder()), 101),
        (MLMC(ladder=SegmentedTopKLadder(segment_size=2)), 38.5410197),
        (MLMC(ladder=SegmentedTopKLadder(segment_size=2, contiguous=True)), 50.8617394),
        (MLMC(ladder=FixedPointLadder(), law=OwnLaw()), 55),
        (MLMC(ladder=FixedPointLadder()), 50.8422604),
    ],
    ids=str,
)
def test_golden_variances(estimator: MLMC, variance: float) -> None:
    assert estimator.variance(GOLDEN) == pytest.approx(variance, abs=1e-7)
    assert enumerated(estimator, GOLDEN) == pytest.approx(variance, rel=1e-6)


@pytest.mark.parametrize(
    ("rate", "segment_size", "dim"),
    [(0.1, 1, 10), (0.1, 4, 40), (1.0, 2, 100), (0.01, 25, 1000), (3.0, 5, 20), (1e-4, 6, 6)],
)
def test_exponentially_decaying_entries(rate: float, segment_size: int, dim: int) -> None:
    """|v|_(j) = exp(-rj/2) gives coth(rs/4) tanh(rd/4) - 1 (arXiv:2507.05508, lemma 3.6)."""
    vector = torch.exp(-rate * torch.arange(dim, dtype=torch.float64) / 2)
    estimator = MLMC(ladder=SegmentedTopKLadder(segment_size=segment_size))
    relative = estimator.variance(vector) / energy(vector)
    expected = math.tanh(rate * dim / 4) / math.tanh(rate * segment_size / 4) - 1
    assert relative == pytest.approx(expected, abs=1e-10, rel=1e-10)


def test_a_vector_of_one_entry_has_no_variance() -> None:
    single = torch.tensor([0.0, -3.0, 0.0])
    for ladder in (TopKLadder(), SegmentedTopKLadder(segment_size=1, contiguous=True)):
        assert MLMC(ladder=ladder, law=AdaptiveLaw()).variance(single) == 0
