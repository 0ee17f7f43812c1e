"""Base levels, several draws, inclusion, costs, and randomised truncation."""

import itertools
import math

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from mlmc_ray.compressors import (
    Compressor,
    Context,
    FixedPoint,
    Identity,
    PaperCost,
    PowerSGD,
    RandK,
    TopK,
)
from mlmc_ray.compressors import bound as bound_compressor
from mlmc_ray.estimator import MLMC, AdaptiveLaw, CostAwareLaw, GivenLaw, OwnLaw
from mlmc_ray.ladders import (
    ECUQLadder,
    FixedPointLadder,
    FloatingPointLadder,
    GeometricLadder,
    Ladder,
    RefinementLadder,
    RTNLadder,
    SegmentedTopKLadder,
    TopKLadder,
)
from mlmc_ray.laws import inclusion_chances
from mlmc_ray.payloads import Payload, SparsePayload, SumPayload, ZeroPayload
from mlmc_ray.seeding import generator_for
from mlmc_ray.truncation import RandomTruncation
from tests.mlmc_ray.cases import GOLDEN, dense, received
from tests.mlmc_ray.strategies import vectors

FEW = settings(max_examples=10, deadline=None)
SOME = settings(max_examples=30, deadline=None)

SMALL = torch.tensor([3.0, -4.0, 0.5, 1.25])
LADDERS: list[Ladder] = [
    SegmentedTopKLadder(segment_size=1),
    SegmentedTopKLadder(segment_size=2, contiguous=True),
    GeometricLadder(first=1),
    RTNLadder(bits=2),
    RTNLadder(bits=3, construction="nested"),
    RefinementLadder(compressor=FixedPoint(planes=1), steps=2),
]
RANDOM_TOPS: list[Ladder] = [
    RTNLadder(bits=2, construction="unbiased"),
    RTNLadder(bits=2, construction="nested-unbiased"),
    ECUQLadder(budgets=(1, 2), construction="unbiased"),
    RefinementLadder(compressor=TopK(k=1), top=RandK(k=1)),
]
BASES: list[Compressor | None] = [None, TopK(k=1), FixedPoint(planes=2), RandK(k=2), Identity()]
EVERY_LADDER = pytest.mark.parametrize("ladder", LADDERS, ids=str)
EVERY_BASE = pytest.mark.parametrize("base", BASES, ids=str)


def energy(vector: Tensor) -> float:
    return float(vector.double().square().sum())


def outcomes(estimator: MLMC, vector: Tensor) -> list[tuple[float, list[int]]]:
    """Return everything that may be drawn, with its probability."""
    chances = estimator.probabilities(vector).tolist()
    levels = range(1, len(chances) + 1)
    if not estimator.inclusion:
        possible = [level for level in levels if chances[level - 1] > 0]
        if not possible:
            return [(1.0, [])]
        return [
            (math.prod(chances[level - 1] for level in drawn), list(drawn))
            for drawn in itertools.product(possible, repeat=estimator.draws)
        ]
    subsets = itertools.product([False, True], repeat=len(chances))
    return [
        (
            math.prod(q if there else 1 - q for q, there in zip(chances, subset, strict=True)),
            [level for level, there in zip(levels, subset, strict=True) if there],
        )
        for subset in subsets
    ]


def moments(estimator: MLMC, vector: Tensor) -> tuple[Tensor, float]:
    """Return the mean and the variance of what the server decodes, over all outcomes."""
    mean, variance = torch.zeros(len(vector), dtype=torch.float64), 0.0
    total = 0.0
    for p, drawn in outcomes(estimator, vector):
        total += p
        if p > 0:
            decoded = dense(received(estimator.at_levels(vector, drawn)))
            mean += p * decoded
            variance += p * energy(decoded - vector)
    assert total == pytest.approx(1, abs=1e-12)
    return mean, variance


def check_moments(estimator: MLMC, vector: Tensor) -> None:
    mean, variance = moments(estimator, vector)
    torch.testing.assert_close(mean, vector.double(), rtol=0, atol=5e-6)
    assert variance == pytest.approx(estimator.variance(vector), rel=1e-5, abs=1e-5)


@EVERY_LADDER
@EVERY_BASE
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"draws": 2},
        {"draws": 3},
        {"inclusion": True},
        {"inclusion": True, "expected_levels": 2.0},
    ],
    ids=str,
)
def test_all_options_are_exactly_unbiased(
    ladder: Ladder, base: Compressor | None, options: dict[str, float]
) -> None:
    check_moments(MLMC(ladder=ladder, base=base, **options), SMALL)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "options", [{"draws": 2}, {"inclusion": True, "expected_levels": 1.5}], ids=str
)
@given(vector=vectors(max_dim=4, widest=12))
@FEW
def test_options_on_other_vectors_and_laws(options: dict[str, float], vector: Tensor) -> None:
    unit = vector / vector.abs().max() if vector.any() else vector
    for law in (AdaptiveLaw(), CostAwareLaw(), GivenLaw((0.1, 0.4, 0.3, 0.2))):
        check_moments(MLMC(ladder=TopKLadder(), law=law, **options), unit)  # type: ignore[arg-type]


def test_a_base_of_the_ladder_and_one_of_the_estimator_add_up() -> None:
    for draws in (1, 2):
        for law in (AdaptiveLaw(), OwnLaw()):
            estimator = MLMC(ladder=FloatingPointLadder(), base=TopK(k=1), law=law, draws=draws)
            check_moments(estimator, torch.tensor([3.3, -0.7, 0.0]))
    first = estimator.at_levels(torch.tensor([3.3, -0.7, 0.0]), [1, 2])
    assert isinstance(first, SumPayload)
    assert len(first.parts) == 4


def test_a_base_is_sent_even_where_nothing_is_left() -> None:
    estimator = MLMC(ladder=TopKLadder(), base=TopK(k=3))
    sparse = torch.tensor([1.0, 0.0, -2.0, 0.0])
    payload = estimator.compress(sparse, generator=generator_for(0))
    assert isinstance(payload, SparsePayload)
    assert torch.equal(dense(payload), sparse.double())
    assert estimator.variance(sparse) == 0
    powers = MLMC(ladder=FloatingPointLadder())
    assert torch.equal(dense(powers.compress(sparse, generator=generator_for(0))), sparse.double())


def test_variance_with_a_base() -> None:
    """Base Top-2 leaves (0, 0, 0, 1, -2, 0.5, 0, -1), to which importance sampling is applied."""
    estimator = MLMC(ladder=TopKLadder(), base=TopK(k=2))
    assert estimator.variance(GOLDEN) == pytest.approx(4.5**2 - 6.25, rel=1e-12)
    segments = MLMC(ladder=SegmentedTopKLadder(segment_size=2), base=TopK(k=2))
    relative = segments.variance(GOLDEN) / 31.25
    assert relative <= (math.ceil(6 / 2) - 1) * (1 - 25 / 31.25)
    assert segments.omega(8) == pytest.approx(3 * (1 - 2 / 8))


@given(vector=vectors(), draws=st.integers(1, 7))
@SOME
def test_draws_divide_the_variance(vector: Tensor, draws: int) -> None:
    one, many = MLMC(ladder=TopKLadder()), MLMC(ladder=TopKLadder(), draws=draws)
    assert many.variance(vector) * draws == pytest.approx(one.variance(vector), rel=1e-12)
    assert many.omega(len(vector)) == (len(vector) - 1) / draws


def test_equal_draws_are_merged() -> None:
    estimator = MLMC(ladder=TopKLadder(), draws=3)
    p = estimator.probabilities(GOLDEN).tolist()
    merged = estimator.at_levels(GOLDEN, [2, 1, 2])
    assert isinstance(merged, SumPayload)
    assert len(merged.parts) == 2
    expected = [2 * 3 / (3 * p[1]), -4 / (3 * p[0])]
    assert dense(merged)[:2].tolist() == pytest.approx(expected, rel=1e-6)
    assert isinstance(estimator.at_level(GOLDEN, 1), SparsePayload)


@pytest.mark.parametrize(
    ("expected", "rank", "factor", "variance"),
    [(1, 0, 1 / 11.5, 101), (2, 0, 2 / 11.5, 34.875), (3, 1, 0.2666667, 12.875)],
)
def test_golden_inclusion(expected: float, rank: int, factor: float, variance: float) -> None:
    """Inclusion of the Top-k levels is optimal sparsification."""
    estimator = MLMC(ladder=TopKLadder(), inclusion=True, expected_levels=float(expected))
    chances = estimator.probabilities(GOLDEN)
    ranked = torch.tensor([4.0, 3, 2, 1, 1, 0.5, 0, 0])
    assert chances.tolist() == pytest.approx((factor * ranked).clamp(max=1).tolist(), abs=1e-6)
    assert int((chances == 1).sum()) == rank
    assert estimator.variance(GOLDEN) == pytest.approx(variance, rel=1e-12)


@given(
    weights=st.lists(st.floats(0, 1) | st.sampled_from([0.0, 0.5, 1e-9]), min_size=1, max_size=20),
    expected=st.floats(0.1, 20) | st.integers(1, 20).map(float),
)
@example(weights=[1.0] * 8 + [1e-309], expected=8.5)
@settings(max_examples=200, deadline=None)
def test_inclusion_chances(weights: list[float], expected: float) -> None:
    law = torch.tensor(weights, dtype=torch.float64)
    law = law / law.sum() if law.sum() > 0 else law
    chances = inclusion_chances(law, expected)
    assert bool(((chances >= 0) & (chances <= 1)).all())
    assert bool(((chances > 0) == (law > 0)).all())
    number = int((law > 0).sum())
    assert float(chances.sum()) == pytest.approx(min(expected, number), rel=1e-9)
    below = (chances < 1) & (law > 0)
    if below.any():
        ratios = chances[below] / law[below]
        factor = float(ratios.max())
        assert float(ratios.min()) == pytest.approx(factor, rel=1e-9)
        assert bool((law[chances == 1] * factor >= 1 - 1e-9).all())
        assert factor >= expected * (1 - 1e-9)


@EVERY_LADDER
@given(vector=vectors(widest=12), expected=st.floats(0.3, 4))
@FEW
def test_omega_with_options(ladder: Ladder, vector: Tensor, expected: float) -> None:
    slack = 1e-6 * energy(vector)
    for base in (None, TopK(k=0.4), FixedPoint(planes=3)):
        drawn = MLMC(ladder=ladder, base=base, draws=2)
        included = MLMC(ladder=ladder, base=base, inclusion=True, expected_levels=expected)
        for estimator in (drawn, included):
            omega = estimator.omega(len(vector))
            assert omega is not None
            assert estimator.variance(vector) <= omega * energy(vector) + (1 + omega) * slack


EVERY_RANDOM_TOP = pytest.mark.parametrize("ladder", RANDOM_TOPS, ids=str)
MIDWAY = torch.tensor([1.0] + 99 * [0.25])  # between the points of a grid 1/2 apart


@EVERY_RANDOM_TOP
@pytest.mark.parametrize(
    "options", [{}, {"draws": 3}, {"inclusion": True, "expected_levels": 1.5}], ids=str
)
def test_variance_counts_how_far_a_random_top_is_off(
    ladder: Ladder, options: dict[str, float]
) -> None:
    """Given the top, whose draw is the same in all outcomes."""
    for base in (None, TopK(k=1)):
        estimator = MLMC(ladder=ladder, base=base, **options)  # type: ignore[arg-type]
        _, variance = moments(estimator, SMALL)
        assert variance > 0
        assert estimator.variance(SMALL) == pytest.approx(variance, rel=1e-5)


def of_top(ladder: Ladder, vector: Tensor, number: int) -> float:
    """Return the mean of |g^L - v|^2 / |v|^2 over generators."""
    errors = []
    for seed in range(number):
        levels = ladder.levels(vector, generator=generator_for(seed))
        total = sum(dense(levels.increment(level)) for level in range(1, len(levels) + 1))
        errors.append(energy(total - vector))
    return sum(errors) / number / energy(vector)


@EVERY_RANDOM_TOP
@pytest.mark.parametrize(
    "options",
    [
        {"draws": 10_000},
        pytest.param({"inclusion": True, "expected_levels": 1000.0}, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_no_number_of_draws_reduces_the_variance_of_the_top(
    ladder: Ladder, options: dict[str, float]
) -> None:
    """The spread of the errors is 10% (RandK) or none; the part of the draws is below 1% of it."""
    estimator, n = MLMC(ladder=ladder, **options), 300  # type: ignore[arg-type]
    vector = MIDWAY
    if isinstance(ladder, ECUQLadder):  # whose grid holds the two values
        vector = torch.randn(100, generator=generator_for(0))
    generator, total = generator_for(1), 0.0
    for _ in range(n):
        total += energy(dense(estimator.compress(vector, generator=generator)) - vector)
    measured, top = total / n / energy(vector), of_top(ladder, vector, n)
    omega = estimator.omega(100)
    assert measured == pytest.approx(top, rel=0.03)
    if isinstance(ladder, ECUQLadder):
        assert omega is None
    else:
        assert omega is not None
        assert top <= omega


def test_golden_omega_of_a_random_top() -> None:
    """Of 100 entries, 99 at 1/4: the two-point law of each has variance 1/16."""
    ladder = RTNLadder(bits=2, construction="unbiased")
    assert of_top(ladder, MIDWAY, 3) == pytest.approx(99 / 16 / energy(MIDWAY), rel=1e-6)
    assert ladder.top_omega(100) == 10 / 2
    one = ladder.omega(100)
    assert one == 35
    assert MLMC(ladder=ladder).omega(100) == one
    assert MLMC(ladder=ladder, draws=50).omega(100) == pytest.approx(one / 50 + 0.98 * 5)
    included = MLMC(ladder=ladder, inclusion=True, expected_levels=10.0)
    assert included.omega(100) == pytest.approx(36 / 10 + 5)
    behind = MLMC(ladder=ladder, base=TopK(k=20), draws=50)
    assert behind.omega(100) == pytest.approx(0.8 * (one / 50 + 0.98 * 5))
    refined = RefinementLadder(compressor=TopK(k=1), steps=2, top=RandK(k=1))
    assert refined.top_omega(100) == pytest.approx(0.99**2 * 99)
    assert RefinementLadder(compressor=TopK(k=1)).top_omega(100) == 0
    assert RefinementLadder(compressor=PowerSGD(rank=1), top=RandK(k=1)).top_omega(100) is None
    assert ECUQLadder().top_omega(100) == 0


@given(vector=vectors(), expected=st.integers(1, 5))
@SOME
def test_inclusion_is_never_worse_than_draws_on_orthogonal_ladders(
    vector: Tensor, expected: int
) -> None:
    drawn = MLMC(ladder=TopKLadder(), draws=expected)
    included = MLMC(ladder=TopKLadder(), inclusion=True, expected_levels=float(expected))
    slack = 1e-9 * float(vector.double().abs().sum()) ** 2
    assert included.variance(vector) <= drawn.variance(vector) + slack


DELTA = 1e-9  # a correct sampler fails the next tests with at most this probability


def test_levels_are_included_by_their_chances() -> None:
    estimator, n = MLMC(ladder=TopKLadder(), inclusion=True, expected_levels=2.5), 4000
    chances, generator = estimator.probabilities(SMALL), generator_for(0)
    seen, pairs, empty = torch.zeros(4, dtype=torch.float64), 0, 0
    for _ in range(n):
        sent = dense(estimator.compress(SMALL, generator=generator)) != 0
        seen += sent[SMALL.abs().sort(descending=True).indices]
        pairs += int(sent[2] and sent[3])
        empty += int(not sent.any())
    margin = math.sqrt(math.log(2 * 6 / DELTA) / (2 * n))  # Hoeffding, union over 6 statements
    assert margin < 0.055  # an error of 0.11 is caught
    assert bool(((seen / n - chances).abs() <= margin).all())
    assert abs(pairs / n - float(chances[2] * chances[3])) <= margin  # independent
    assert abs(empty / n - float((1 - chances).prod())) <= margin


def test_draws_are_drawn_by_their_law() -> None:
    estimator, n = MLMC(ladder=TopKLadder(), draws=2), 3000
    p, generator = estimator.probabilities(SMALL), generator_for(0)
    order = SMALL.abs().sort(descending=True).indices
    seen = torch.zeros(4, dtype=torch.float64)
    for _ in range(n):
        seen += (dense(estimator.compress(SMALL, generator=generator)) != 0)[order]
    margin = math.sqrt(math.log(2 * 4 / DELTA) / (2 * n))
    assert margin < 0.065  # an error of 0.13 is caught
    assert bool(((seen / n - (1 - (1 - p) ** 2)).abs() <= margin).all())


def test_no_level_included_is_a_zero_payload() -> None:
    estimator = MLMC(ladder=TopKLadder(), inclusion=True, expected_levels=0.01)
    payloads = [estimator.compress(SMALL, generator=generator_for(seed)) for seed in range(20)]
    assert any(isinstance(payload, ZeroPayload) for payload in payloads)
    assert isinstance(estimator.at_levels(SMALL, []), ZeroPayload)


def test_one_draw_is_what_it_was_without_options() -> None:
    """The draw of a single level uses the generator as one torch.rand(()) does."""
    estimator = MLMC(ladder=TopKLadder())
    cumulative = estimator.probabilities(GOLDEN).cumsum(0)
    for seed in range(20):
        draw = torch.rand((), dtype=torch.float64, generator=generator_for(seed))
        level = int(torch.searchsorted(cumulative, draw * cumulative[-1], right=True)) + 1
        sent = estimator.compress(GOLDEN, generator=generator_for(seed))
        assert torch.equal(dense(sent), dense(estimator.at_level(GOLDEN, level)))


# Costs.


@given(vector=vectors(), tilt=st.floats(0.5, 2), level=st.integers(0, 20))
@SOME
def test_the_cost_aware_law_minimises_moment_times_cost(
    vector: Tensor, tilt: float, level: int
) -> None:
    levels = GeometricLadder(first=1).levels(vector)
    norms, costs = levels.norms(), levels.costs()
    if not vector.any():
        return
    p = CostAwareLaw().probabilities(levels)
    present = norms > 0

    def product(law: Tensor) -> float:
        moment = (norms[present].square() / law[present]).sum()
        return float(moment * (law * costs).sum())

    least = float((norms * costs.sqrt()).sum()) ** 2
    assert product(p) == pytest.approx(least, rel=1e-9)
    other = p.clone()
    other[level % len(p)] *= tilt
    assert product(other / other.sum()) >= least * (1 - 1e-9)


def test_equal_costs_give_the_adaptive_law() -> None:
    for ladder in (TopKLadder(), FixedPointLadder(), FloatingPointLadder()):
        levels = ladder.levels(SMALL)
        law = CostAwareLaw().probabilities(levels)
        torch.testing.assert_close(law, AdaptiveLaw().probabilities(levels))
    assert MLMC(ladder=TopKLadder(), law=CostAwareLaw()).omega(8) is None
    assert not CostAwareLaw().probabilities(TopKLadder().levels(torch.zeros(2))).any()


# Randomised truncation.


@EVERY_LADDER
def test_randomised_truncation_is_exactly_unbiased(ladder: Ladder) -> None:
    check_truncation(RandomTruncation(ladder=ladder), SMALL)


@given(vector=vectors(max_dim=5, widest=12))
@FEW
def test_randomised_truncation_of_other_vectors(vector: Tensor) -> None:
    unit = vector / vector.abs().max() if vector.any() else vector
    check_truncation(RandomTruncation(ladder=TopKLadder()), unit)
    check_truncation(RandomTruncation(ladder=FixedPointLadder(), law=OwnLaw()), unit)
    check_truncation(RandomTruncation(ladder=FloatingPointLadder(), law=OwnLaw()), unit)


def check_truncation(estimator: RandomTruncation, vector: Tensor) -> None:
    mean, moment = torch.zeros(len(vector), dtype=torch.float64), 0.0
    law = estimator.probabilities(vector).tolist()
    for level, p in enumerate(law, start=1):
        if p > 0:
            decoded = dense(received(estimator.at_level(vector, level)))
            mean += p * decoded
            moment += p * energy(decoded)
    torch.testing.assert_close(mean, vector.double(), rtol=0, atol=5e-6)
    if estimator.ladder == TopKLadder() and vector.any():  # orthogonal: sum of Delta^2 / S - |v|^2
        norms = estimator.ladder.levels(vector).norms()
        tails = torch.tensor(law, dtype=torch.float64).flip(0).cumsum(0).flip(0)
        expected = float((norms[norms > 0].square() / tails[norms > 0]).sum())
        assert moment == pytest.approx(expected, rel=1e-6)


def test_truncation_sends_all_levels_up_to_the_drawn_one() -> None:
    estimator = RandomTruncation(ladder=TopKLadder())
    sent = dense(estimator.at_level(GOLDEN, 3))
    assert sent.nonzero().flatten().tolist() == [0, 1, 4]
    assert float(sent[1]) == -4  # the first level is always sent
    seen = {
        tuple(dense(estimator.compress(GOLDEN, generator=generator_for(seed))).tolist())
        for seed in range(100)
    }
    expected = {tuple(dense(estimator.at_level(GOLDEN, level)).tolist()) for level in range(1, 7)}
    assert seen == expected
    assert isinstance(estimator.compress(torch.zeros(3), generator=generator_for(0)), ZeroPayload)
    compressor: Compressor = estimator
    assert compressor.unbiased
    assert [compressor.omega(3), compressor.alpha(3), compressor.paper_cost(3)] == [None] * 3


# Binding, bounds, and what is refused.


class Shifted:
    """A compressor that needs to know where it is used."""

    def __init__(self, seed: int | None = None) -> None:
        self.seed = seed

    unbiased = False

    def bind(self, context: Context) -> "Shifted":
        return Shifted(context.shared_seed)

    def compress(self, vector: Tensor, *, generator: torch.Generator) -> Payload:
        assert self.seed is not None
        return TopK(k=1).compress(vector, generator=generator)

    def omega(self, dim: int) -> None:
        return None

    def alpha(self, dim: int) -> float:
        return 1 / dim

    def paper_cost(self, dim: int) -> PaperCost | None:
        return None


@pytest.mark.parametrize(
    "estimator",
    [
        MLMC(ladder=TopKLadder(), base=Shifted()),
        MLMC(ladder=RefinementLadder(compressor=Shifted(), steps=1)),
        RandomTruncation(ladder=RefinementLadder(compressor=Shifted())),
    ],
    ids=["base", "ladder", "truncation"],
)
def test_what_is_inside_is_bound(estimator: MLMC | RandomTruncation) -> None:
    generator = generator_for(0)
    with pytest.raises(AssertionError):
        estimator.compress(GOLDEN, generator=generator)
    context = Context(generator=generator, shared_seed=7)
    bound_compressor(estimator, context).compress(GOLDEN, generator=generator)
    plain = MLMC(ladder=TopKLadder(), base=TopK(k=1))
    assert bound_compressor(plain, context) is plain


def test_the_input_is_not_modified_and_other_dtypes_pass() -> None:
    for dtype in (torch.float16, torch.bfloat16, torch.float64):
        vector = GOLDEN.to(dtype)
        for base in BASES:
            estimator = MLMC(ladder=TopKLadder(), base=base, draws=2)
            sent = dense(estimator.compress(vector, generator=generator_for(0)))
            assert bool(torch.isfinite(sent).all())
        assert torch.equal(vector, GOLDEN.to(dtype))


def test_bounds_and_paper_costs() -> None:
    ladder = SegmentedTopKLadder(segment_size=2)
    assert MLMC(ladder=ladder, base=RandK(k=4)).omega(8) == pytest.approx(3 * (8 / 4 - 1))
    assert MLMC(ladder=ladder, draws=3).omega(8) == 1
    assert MLMC(ladder=ladder, inclusion=True, expected_levels=2.0).omega(8) == 2
    assert MLMC(ladder=ladder).paper_cost(8) == ladder.paper_cost(8)
    assert MLMC(ladder=ladder, draws=2).paper_cost(8) is None
    assert MLMC(ladder=ladder, base=TopK(k=1)).paper_cost(8) is None


def test_settings_that_contradict_each_other_are_refused() -> None:
    ladder = TopKLadder()
    with pytest.raises(ValueError, match="draws is 0: draw at least 1"):
        MLMC(ladder=ladder, draws=0)
    with pytest.raises(ValueError, match=r"expected_levels is -1\.0: give a positive"):
        MLMC(ladder=ladder, inclusion=True, expected_levels=-1.0)
    with pytest.raises(ValueError, match="draws is 2, but inclusion draws none"):
        MLMC(ladder=ladder, inclusion=True, draws=2)
    with pytest.raises(ValueError, match=r"expected_levels is 2\.0, but levels are drawn"):
        MLMC(ladder=ladder, expected_levels=2.0)
