"""The ladders with few levels, with a base, of quantisers, of matrices and of any compressor."""

import math

import pytest
import torch
from hypothesis import example, given, settings
from torch import Tensor

from mlmc_ray.compressors import (
    Compressor,
    Context,
    FixedPoint,
    Identity,
    PerLayer,
    PermK,
    PowerSGD,
    RandK,
    TopK,
    bound,
)
from mlmc_ray.estimator import MLMC, AdaptiveLaw, CostAwareLaw, GivenLaw, LevelLaw, OwnLaw
from mlmc_ray.kernels.exponents import digit_energies
from mlmc_ray.ladders import (
    ECUQLadder,
    FloatingPointLadder,
    GeometricLadder,
    Ladder,
    RankLadder,
    RefinementLadder,
    RTNLadder,
    SegmentedTopKLadder,
    TopKLadder,
)
from mlmc_ray.payloads import (
    CodesPayload,
    DensePayload,
    LowRankPayload,
    Message,
    SparsePayload,
    SumPayload,
    Table,
    ZeroPayload,
)
from mlmc_ray.seeding import generator_for
from mlmc_ray.wire import encode
from mlmc_ray.wire.ideal import entropy_bits
from tests.mlmc_ray.cases import GOLDEN, dense, received
from tests.mlmc_ray.strategies import vectors

FEW = settings(max_examples=10, deadline=None)
SOME = settings(max_examples=30, deadline=None)

SPARSE_LADDERS: list[Ladder] = [
    GeometricLadder(first=1),
    GeometricLadder(first=2),
    GeometricLadder(first=0.3),
    GeometricLadder(first=100),
    GeometricLadder(first=1, tail_segment=2),
    GeometricLadder(first=3, tail_segment=2),
    GeometricLadder(first=1, tail_segment=0.25),
]
OTHER_LADDERS: list[Ladder] = [
    FloatingPointLadder(),
    RTNLadder(bits=3),
    RTNLadder(bits=8),
    RTNLadder(bits=16),
    RTNLadder(bits=2, construction="nested"),
    RTNLadder(bits=9, construction="nested"),
    RankLadder(rows=1),
    ECUQLadder(budgets=(1, 2)),
    RefinementLadder(compressor=TopK(k=1), steps=3),
    RefinementLadder(compressor=FixedPoint(planes=2), steps=2),
    RefinementLadder(compressor=RandK(k=1, scaled=False), steps=2),
    RefinementLadder(compressor=TopK(k=1), steps=2, top=Identity()),
]
LADDERS = SPARSE_LADDERS + OTHER_LADDERS
EVERY_LADDER = pytest.mark.parametrize("ladder", LADDERS, ids=str)
WIDE = torch.tensor([2.0**100, -3.0, 2.0**-100, 0.0, 1 + 2.0**-23])


def increments(ladder: Ladder, vector: Tensor) -> list[Tensor]:
    levels = ladder.levels(vector)
    return [dense(levels.increment(level)) for level in range(1, len(levels) + 1)]


def base_of(ladder: Ladder, vector: Tensor) -> Tensor:
    base = ladder.levels(vector).base()
    return torch.zeros(len(vector), dtype=torch.float64) if base is None else dense(base)


def whole(ladder: Ladder, vector: Tensor) -> Tensor:
    return sum(increments(ladder, vector), start=base_of(ladder, vector))


def laws_of(ladder: Ladder, vector: Tensor) -> list[LevelLaw]:
    levels = ladder.levels(vector)
    weights = [1 + level % 3 for level in range(len(levels))]
    given_law = GivenLaw(tuple(weight / sum(weights) for weight in weights))
    own: list[LevelLaw] = [] if levels.own_law() is None else [OwnLaw()]
    return [AdaptiveLaw(), CostAwareLaw(), given_law, *own]


def expectation(estimator: MLMC, vector: Tensor) -> tuple[Tensor, float]:
    """Return the mean and variance of what the server decodes, summed over the levels."""
    law = list(enumerate(estimator.probabilities(vector).tolist(), start=1))
    chances = [([level], p) for level, p in law if p > 0] or [([], 1.0)]  # nothing but the base
    mean, variance = torch.zeros(len(vector), dtype=torch.float64), 0.0
    for drawn, p in chances:
        decoded = dense(received(estimator.at_levels(vector, drawn)))
        mean += p * decoded
        variance += p * float((decoded - vector).square().sum())
    return mean, variance


def tolerance(ladder: Ladder, vector: Tensor) -> float:
    """Float32 rounds every increment; quantisers have increments larger than the entry.

    A scale near 2^-149 has few digits, and is multiplied by codes of up to 2^15.
    """
    largest = max(float(increment.abs().max()) for increment in increments(ladder, vector))
    return 4e-7 * max(float(vector.abs().max()), largest) + 2.0**-133


@EVERY_LADDER
@given(vector=vectors(widest=40))
@example(vector=torch.zeros(3))
@example(vector=WIDE)
@example(vector=torch.tensor([1e-45, -1.2e-38, 3e-39]))
@FEW
def test_base_and_increments_sum_to_the_vector(ladder: Ladder, vector: Tensor) -> None:
    before = vector.clone()
    exact = ladder in SPARSE_LADDERS or isinstance(ladder, FloatingPointLadder)
    margin = 0 if exact else tolerance(ladder, vector)
    torch.testing.assert_close(whole(ladder, vector), vector.double(), rtol=0, atol=margin)
    assert torch.equal(vector, before)


@EVERY_LADDER
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_dtypes(ladder: Ladder, dtype: torch.dtype) -> None:
    vector = torch.tensor([3, -4, 0, 1, -2, 0.5, 0, -1.25], dtype=dtype)
    torch.testing.assert_close(whole(ladder, vector), vector.double(), rtol=0, atol=2e-6)


@EVERY_LADDER
@given(vector=vectors(widest=20))
@FEW
def test_norms_are_those_of_the_increments(ladder: Ladder, vector: Tensor) -> None:
    levels = ladder.levels(vector)
    norms, costs = levels.norms(), levels.costs()
    assert norms.dtype == costs.dtype == torch.float64
    assert len(norms) == len(costs) == len(levels)
    assert bool((costs > 0).all())
    expected = [float(increment.norm()) for increment in increments(ladder, vector)]
    rounding = 1e-6 * float(vector.double().norm())
    assert norms.tolist() == pytest.approx(expected, rel=1e-6, abs=rounding)


@EVERY_LADDER
@given(vector=vectors(widest=20))
@example(vector=GOLDEN)
@example(vector=torch.zeros(2))
@FEW
def test_the_estimator_is_exactly_unbiased(ladder: Ladder, vector: Tensor) -> None:
    for law in laws_of(ladder, vector):
        estimator = MLMC(ladder=ladder, law=law)
        mean, variance = expectation(estimator, vector)
        moment = estimator.variance(vector) + float(vector.double().square().sum())
        margin = len(ladder.levels(vector)) * tolerance(ladder, vector)
        torch.testing.assert_close(mean, vector.double(), rtol=0, atol=margin)
        assert variance == pytest.approx(estimator.variance(vector), rel=1e-5, abs=1e-5 * moment)


@EVERY_LADDER
@given(vector=vectors(widest=20))
@example(vector=torch.ones(10))
@FEW
def test_omega_bounds_the_relative_variance(ladder: Ladder, vector: Tensor) -> None:
    estimator, energy = MLMC(ladder=ladder), float(vector.double().square().sum())
    omega = estimator.omega(len(vector))
    is_random = isinstance(ladder, RefinementLadder) and isinstance(ladder.compressor, RandK)
    if omega is not None and not is_random:  # those in expectation over their own draws only
        assert estimator.variance(vector) <= omega * energy + 1e-6 * (1 + omega) * energy


@EVERY_LADDER
def test_levels_out_of_range_are_refused_and_zero_is_zero(ladder: Ladder) -> None:
    levels = ladder.levels(GOLDEN)
    for level in (0, -1, len(levels) + 1):
        with pytest.raises(ValueError, match=f"level is {level}: .* levels 1 to {len(levels)}"):
            levels.increment(level)
    estimator = MLMC(ladder=ladder)
    sent = estimator.compress(torch.zeros(4), generator=generator_for(0))
    assert isinstance(sent, ZeroPayload)
    assert not ladder.levels(torch.zeros(4)).norms().any()


# Geometric.


@given(vector=vectors())
@SOME
def test_the_geometric_ladder_climbs_through_top_k(vector: Tensor) -> None:
    ladder, k, total = GeometricLadder(first=2), 2, torch.zeros(len(vector)).double()
    for increment in increments(ladder, vector):
        total += increment
        assert torch.equal(total, dense(TopK(k=k).compress(vector, generator=generator_for(0))))
        k *= 2
    assert len(ladder.levels(vector)) == 1 + max(0, math.ceil(math.log2(len(vector) / 2)))


def sizes(ladder: Ladder, dim: int) -> list[int]:
    levels = ladder.levels(torch.arange(1.0, dim + 1))
    payloads = [levels.increment(level) for level in range(1, len(levels) + 1)]
    assert all(isinstance(payload, SparsePayload) for payload in payloads)
    return [payload.indices.numel() for payload in payloads if isinstance(payload, SparsePayload)]


def test_sizes_of_geometric_levels() -> None:
    assert sizes(GeometricLadder(first=1), 8) == [1, 1, 2, 4]
    assert sizes(GeometricLadder(first=3), 20) == [3, 3, 6, 8]
    assert sizes(GeometricLadder(first=1, tail_segment=4), 20) == [1, 1, 2, 4, 4, 4, 4]
    assert sizes(GeometricLadder(first=1, tail_segment=3), 10) == [1, 1, 2, 3, 3]
    assert sizes(GeometricLadder(first=5, tail_segment=2), 7) == [2, 2, 2, 1]
    assert sizes(GeometricLadder(first=100), 7) == [7]
    assert GeometricLadder(first=100).omega(7) == 0
    assert GeometricLadder(first=1, tail_segment=4).omega(20) == 6
    assert GeometricLadder(first=3).omega(1000) == math.ceil(math.log2(1000 / 3))


def test_many_segments_agree_with_few() -> None:
    vector = torch.randn(1000, generator=generator_for(1))
    many = GeometricLadder(first=1, tail_segment=3)
    assert len(many.levels(vector)) > 100
    assert torch.equal(whole(many, vector), vector.double())
    expected = [float(increment.norm()) for increment in increments(many, vector)]
    assert many.levels(vector).norms().tolist() == pytest.approx(expected, rel=1e-14)


def test_golden_geometric() -> None:
    ladder = GeometricLadder(first=1)
    norms = ladder.levels(GOLDEN).norms().tolist()
    assert norms == pytest.approx([4, 3, 2.2360680, 1.1180340], abs=1e-7)
    assert MLMC(ladder=ladder).variance(GOLDEN) == pytest.approx(75.9574275, abs=1e-7)


def test_flat_vectors_have_the_limits_of_the_specification() -> None:
    ladder, flat = GeometricLadder(first=1), torch.ones(1 << 20)
    adaptive = MLMC(ladder=ladder)
    assert adaptive.variance(flat) / len(flat) == pytest.approx(4.8284, abs=0.03)
    entries = ladder.levels(flat).norms().square()
    assert float(adaptive.probabilities(flat) @ entries) / len(flat) == pytest.approx(
        0.2266, abs=1e-3
    )
    cost_aware = MLMC(ladder=ladder, law=CostAwareLaw()).probabilities(flat)
    torch.testing.assert_close(cost_aware, torch.full((21,), 1 / 21, dtype=torch.float64))


# Floating point.


@given(vector=vectors(widest=100))
@example(vector=torch.tensor([1e-45, -1.2e-38, 2.0**-126, 1.0]))
@SOME
def test_floating_point_with_its_own_law(vector: Tensor) -> None:
    """Every level says sgn 2^e (1 + (1 - 2^-23) m_l), and the mean is the vector bit for bit."""
    estimator, mean = (
        MLMC(ladder=FloatingPointLadder(), law=OwnLaw()),
        torch.zeros(len(vector)).double(),
    )
    law = estimator.probabilities(vector).tolist()
    base = base_of(FloatingPointLadder(), vector)
    for level, p in enumerate(law, start=1):
        sent = dense(received(estimator.at_level(vector, level)))
        exponent = torch.frexp(vector.double()).exponent.double().clamp(min=-125) - 1
        symbol = vector.sign() * 2.0**exponent * (1 - 2.0**-23)
        assert bool(((sent == base) | (sent == base + symbol)).all())
        mean += p * sent
    torch.testing.assert_close(mean, vector.double(), rtol=1e-15, atol=0)


@given(vector=vectors(widest=60))
@example(vector=torch.tensor([4 / 3, -2 / 3]))
@SOME
def test_variance_of_floating_point(vector: Tensor) -> None:
    estimator = MLMC(ladder=FloatingPointLadder(), law=OwnLaw())
    base = base_of(FloatingPointLadder(), vector)
    powers, rest = base.abs(), (vector.double() - base).abs()
    expected = float((powers * (1 - 2.0**-23) * rest - rest.square()).sum())
    energy = float(vector.double().square().sum())
    assert estimator.variance(vector) == pytest.approx(expected, rel=1e-9, abs=1e-12 * energy)
    assert estimator.variance(vector) <= energy / 8 + 1e-12 * energy
    assert MLMC(ladder=FloatingPointLadder()).variance(vector) <= expected + 1e-12 * energy


def test_golden_floating_point() -> None:
    estimator = MLMC(ladder=FloatingPointLadder(), law=OwnLaw())
    assert estimator.variance(GOLDEN) == pytest.approx(1.0, abs=1e-6)
    worst = torch.full((3,), 4 / 3)
    assert estimator.variance(worst) / float(worst.double().square().sum()) == pytest.approx(1 / 8)
    assert estimator.omega(3) == 1 / 8
    payload = estimator.at_level(GOLDEN, 1)
    assert isinstance(payload, SumPayload)
    base, digit = payload.parts
    assert isinstance(base, CodesPayload)
    assert isinstance(digit, CodesPayload)
    assert base.codes.tolist() == [3, -4, 0, 2, -3, 1, 0, -2]
    assert digit.codes.tolist() == [3, 0, 0, 0, 0, 0, 0, 0]
    assert base.scales.tolist() == [0.5]


def test_digit_energies_of_all_magnitudes() -> None:
    generator = generator_for(0)
    exponents = torch.randint(-140, 120, (2000,), generator=generator)
    vector = (torch.randn(2000, generator=generator).double() * 2.0 ** exponents.double()).float()
    expected = [float(i.square().sum()) for i in increments(FloatingPointLadder(), vector)]
    assert digit_energies(vector.numpy()).tolist() == pytest.approx(expected, rel=1e-12)


# Round to nearest.


def steps_of(ladder: RTNLadder, vector: Tensor) -> list[Tensor]:
    parts = increments(ladder, vector)
    return [
        sum(parts[: level + 1], start=torch.zeros(len(vector)).double())
        for level in range(len(parts))
    ]


def test_golden_rtn() -> None:
    errors = [float((step - GOLDEN).square().sum()) for step in steps_of(RTNLadder(bits=4), GOLDEN)]
    assert errors == pytest.approx([31.25, 4.5833333, 0.8826531, 0.1388889, 0], abs=1e-6)
    nested = steps_of(RTNLadder(bits=3, construction="nested"), GOLDEN)
    assert [float((step - GOLDEN).square().sum()) for step in nested] == [7.25, 3.25, 0.25, 0]
    estimator = MLMC(ladder=RTNLadder(bits=3))
    norms = estimator.ladder.levels(GOLDEN).norms().tolist()
    assert norms == pytest.approx([0, 4.6188022, 1.9794866, 0.9394961], abs=1e-6)
    assert estimator.variance(GOLDEN) == pytest.approx(25.5682022, abs=1e-5)


@pytest.mark.parametrize("construction", ["identity", "nested", "unbiased", "nested-unbiased"])
@given(vector=vectors(widest=20))
@FEW
def test_steps_are_as_near_as_their_grids_allow(construction: str, vector: Tensor) -> None:
    ladder = RTNLadder(bits=6, construction=construction)  # type: ignore[arg-type]
    largest = float(vector.abs().max())
    for level, step in enumerate(steps_of(ladder, vector)[:5], start=1):
        width = largest * (2.0 ** (1 - level) if construction == "nested" else 2 / (2**level - 1))
        assert float((step - vector).abs().max()) <= width / 2 + 1e-6 * largest
        assert bool(((step - vector).abs() <= vector.abs() + 1e-6 * largest).all())


def test_nested_increments_are_ternary_and_others_one_code_an_entry() -> None:
    vector = torch.randn(20_000, generator=generator_for(0))
    nested = RTNLadder(bits=5, construction="nested").levels(vector)
    for level in range(1, 6):
        payload = nested.increment(level)
        assert isinstance(payload, CodesPayload)
        assert payload.range() == (-1, 1)
    plain = RTNLadder(bits=5).levels(vector)
    for level in range(3, 6):
        payload = plain.increment(level)
        assert isinstance(payload, CodesPayload)
        assert isinstance(payload.codebook, Table)
        assert len(payload.codebook.entries) <= 3 * 2 ** (level - 1) - 3
    assert isinstance(plain.increment(6), DensePayload)
    assert isinstance(RTNLadder(bits=5).levels(GOLDEN).increment(5), SumPayload)
    torch.testing.assert_close(whole(RTNLadder(bits=5), vector), vector.double(), rtol=0, atol=1e-5)


CONSTRUCTIONS = ["identity", "unbiased", "nested", "nested-unbiased"]
EVERY_CONSTRUCTION = pytest.mark.parametrize("construction", CONSTRUCTIONS)


@EVERY_CONSTRUCTION
@pytest.mark.parametrize("bits", [4, 16])
@pytest.mark.parametrize("scale", [1.0, 1e-39, 3e-44])
def test_norms_are_those_of_widths_in_float32(construction: str, bits: int, scale: float) -> None:
    ladder = RTNLadder(bits=bits, construction=construction)  # type: ignore[arg-type]
    vector = torch.randn(50, generator=generator_for(1)) * scale
    norms = [float(increment.norm()) for increment in increments(ladder, vector)]
    assert ladder.levels(vector).norms().tolist() == pytest.approx(norms, rel=1e-6, abs=0)
    if construction in ("identity", "nested"):
        margin = 1e-6 * float(vector.abs().max())
        torch.testing.assert_close(whole(ladder, vector), vector.double(), rtol=0, atol=margin)


@pytest.mark.parametrize("bits", [4, 8, 16])
def test_a_constant_vector_telescopes(bits: int) -> None:
    vector = torch.full((10,), 0.1)
    assert torch.equal(whole(RTNLadder(bits=bits), vector), vector.double())


def test_every_level_of_the_nested_unbiased_ladder_is_ternary() -> None:
    ladder = RTNLadder(bits=4, construction="nested-unbiased")
    for scale in (1.0, 3e-44):
        vector = torch.randn(2000, generator=generator_for(0)) * scale
        levels = ladder.levels(vector, generator=generator_for(1))
        assert len(levels) == 4
        for level in range(1, 5):
            payload = levels.increment(level)
            assert isinstance(payload, CodesPayload)
            assert payload.range() == (-1, 1)
        assert levels.costs().tolist() == [4000] * 4
    plain = RTNLadder(bits=4, construction="unbiased")
    tops = []
    for made in (ladder, plain):
        levels = made.levels(vector, generator=generator_for(1))
        tops.append(torch.stack([dense(levels.increment(level)) for level in range(1, 5)]).sum(0))
    torch.testing.assert_close(*tops, rtol=1e-6, atol=0)  # the same top


def test_the_unbiased_top_of_rtn_takes_one_code_an_entry() -> None:
    vector = torch.randn(200_000, generator=generator_for(0)).exp()
    levels = RTNLadder(bits=8, construction="unbiased").levels(vector)
    payload = levels.increment(8)
    assert isinstance(payload, CodesPayload)
    upper, lower = (levels._step(level) for level in (8, 7))  # type: ignore[attr-defined]
    torch.testing.assert_close(dense(received(payload)), dense(upper) - dense(lower))
    ideal = entropy_bits(upper.codes.long() * 1000 + lower.codes) / 8
    assert ideal < len(encode(Message({"vector": payload}))) < 1.03 * ideal


DELTA = 1e-9  # a correct rounding fails the next test with at most this probability


@pytest.mark.parametrize(
    "construction", [pytest.param("unbiased", marks=pytest.mark.slow), "nested-unbiased"]
)
def test_the_stochastic_top_is_the_vector_in_expectation(construction: str) -> None:
    ladder, n = RTNLadder(bits=3, construction=construction), 4000  # type: ignore[arg-type]
    vector = torch.tensor([1.0, -0.9, 0.6, 0.1, 0.0, -1e-3])
    generator, mean = generator_for(0), torch.zeros(6, dtype=torch.float64)
    seen = torch.zeros(6, dtype=torch.float64)
    for _ in range(n):
        levels = ladder.levels(vector, generator=generator)
        top = sum(
            (dense(levels.increment(level)) for level in (1, 2, 3)), start=torch.zeros(6).double()
        )
        mean += top / n
        seen = torch.maximum(seen, (top - vector).abs())
    margin = 0.25 * math.sqrt(math.log(2 * 6 / DELTA) / (2 * n))  # Hoeffding, range of one step
    assert margin < 0.014  # a bias of 0.028 is caught; rounding to the nearest has up to 0.1
    assert bool(((mean - vector).abs() <= margin).all())
    assert bool((seen < 0.25 + 1e-6).all())
    assert float(seen[0]) < 1e-6  # the largest entry is on the grid


def test_a_random_top_is_drawn_once_a_call() -> None:
    ladder = RTNLadder(bits=2, construction="unbiased")
    vector = torch.randn(50, generator=generator_for(0))
    levels = ladder.levels(vector, generator=generator_for(5))
    assert torch.equal(dense(levels.increment(2)), dense(levels.increment(2)))
    assert float(dense(levels.increment(2)).norm()) == pytest.approx(
        float(levels.norms()[1]), rel=1e-6
    )
    other = ladder.levels(vector, generator=generator_for(6))
    assert not torch.equal(dense(levels.increment(2)), dense(other.increment(2)))
    assert torch.equal(whole(ladder, vector), whole(ladder, vector))  # without a generator


@pytest.mark.parametrize("construction", ["unbiased", "nested-unbiased"])
@given(vector=vectors(widest=20))
@FEW
def test_omega_of_the_unbiased_top(construction: str, vector: Tensor) -> None:
    ladder = RTNLadder(bits=4, construction=construction)  # type: ignore[arg-type]
    energy = float(vector.double().square().sum())
    for seed in range(5):
        norms = ladder.levels(vector, generator=generator_for(seed)).norms()
        bound = (1 + ladder.omega(len(vector))) * energy
        assert float(norms.sum()) ** 2 <= bound * (1 + 1e-9)


# Rank.


def test_the_rank_ladder_climbs_through_truncated_decompositions() -> None:
    matrix = torch.randn(4, 6, generator=generator_for(0), dtype=torch.float64)
    ladder = RankLadder(rows=4)
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    total = torch.zeros(24, dtype=torch.float64)
    for rank, increment in enumerate(increments(ladder, matrix.flatten()), start=1):
        total += increment
        best = left[:, :rank] @ values[:rank].diag() @ right[:rank]
        torch.testing.assert_close(total, best.flatten(), rtol=0, atol=1e-12)
    estimator = MLMC(ladder=ladder)
    expected = float(values.sum() ** 2 - values.square().sum())
    assert estimator.variance(matrix.flatten()) == pytest.approx(expected, rel=1e-12)
    assert estimator.omega(24) == 3
    mean, variance = expectation(estimator, matrix.flatten())
    torch.testing.assert_close(mean, matrix.flatten(), rtol=0, atol=1e-6)
    assert variance == pytest.approx(expected, rel=1e-5)
    payload = estimator.at_level(matrix.flatten(), 1)
    assert isinstance(payload, LowRankPayload)
    assert (payload.left.shape, payload.right.shape) == ((4, 1), (6, 1))


def test_rows_that_do_not_divide_are_refused() -> None:
    with pytest.raises(ValueError, match="rows is 3: 8 entries cannot be cut into so many"):
        MLMC(ladder=RankLadder(rows=3)).compress(GOLDEN, generator=generator_for(0))
    with pytest.raises(ValueError, match="rows is 3: 8 entries"):
        RankLadder(rows=3).omega(8)


def test_rows_are_those_of_the_layer() -> None:
    shapes = ((4, 3, 2), (5,), (), (6, 1))
    context = Context(generator_for(0), layer_sizes=(24, 5, 1, 6), layer_shapes=shapes)
    estimator = bound(PerLayer(compressor=MLMC(ladder=RankLadder())), context)
    assert isinstance(estimator, PerLayer)
    ladders = [layer.ladder for layer in estimator.layer_compressors if isinstance(layer, MLMC)]
    assert ladders == [RankLadder(rows=rows) for rows in (4, 1, 1, 6)]
    assert [
        ladder.omega(size) for ladder, size in zip(ladders, context.layer_sizes, strict=True)
    ] == [3, 0, 0, 0]
    vector = torch.randn(36, generator=generator_for(0))
    payload = estimator.compress(vector, generator=generator_for(1))
    torch.testing.assert_close(dense(payload)[24:], vector[24:].double(), rtol=1e-6, atol=0)
    given = bound(PerLayer(compressor=MLMC(ladder=RankLadder(rows=1))), context)
    assert isinstance(given, PerLayer)
    assert set(given.layer_compressors) == {MLMC(ladder=RankLadder(rows=1))}


def test_without_a_layer_rows_are_asked_for() -> None:
    two = Context(generator_for(0), layer_sizes=(4, 4), layer_shapes=((2, 2), (4,)))
    for estimator in (MLMC(ladder=RankLadder()), bound(MLMC(ladder=RankLadder()), two)):
        with pytest.raises(ValueError, match=r"rows is not given, and 8 .*kind: per-layer.* rows$"):
            estimator.compress(GOLDEN, generator=generator_for(0))


# Successive refinement.


def test_refinement_with_top_k_is_the_segmented_ladder() -> None:
    refined = RefinementLadder(compressor=TopK(k=2), steps=3)
    segmented = SegmentedTopKLadder(segment_size=2)
    for ours, theirs in zip(
        increments(refined, GOLDEN), increments(segmented, GOLDEN), strict=True
    ):
        assert torch.equal(ours, theirs)
    assert MLMC(ladder=refined).variance(GOLDEN) == pytest.approx(38.5410197, abs=1e-6)


@pytest.mark.parametrize(
    "compressor", [TopK(k=1), TopK(k=0.5), FixedPoint(planes=3), RandK(k=2, scaled=False)], ids=str
)
def test_refinement_makes_any_biased_compressor_unbiased(compressor: Compressor) -> None:
    assert not compressor.unbiased
    estimator = MLMC(ladder=RefinementLadder(compressor=compressor, steps=2))
    assert estimator.unbiased
    mean, _ = expectation(estimator, GOLDEN)
    torch.testing.assert_close(mean, GOLDEN.double(), rtol=0, atol=2e-6)
    levels = estimator.ladder.levels(GOLDEN)
    own = compressor.compress(GOLDEN, generator=generator_for(0))
    assert type(levels.increment(1)) is type(own)
    assert isinstance(levels.increment(3), DensePayload)


def test_the_bound_of_refinement_tends_to_that_of_the_specification() -> None:
    a = math.sqrt(1 - 0.25)
    limit = ((1 + a) / (1 - a)) ** 2 - 1
    bounds = [RefinementLadder(compressor=TopK(k=2), steps=n).omega(8) for n in (1, 2, 5, 400)]
    assert bounds[0] == pytest.approx((1 + 2 * a) ** 2 - 1)
    assert [b for b in bounds if b is not None] == sorted(b for b in bounds if b is not None)
    assert bounds[-1] == pytest.approx(limit, rel=1e-9)
    assert RefinementLadder(compressor=PowerSGD(rank=1)).omega(8) is None


def test_an_unbiased_top_is_applied_to_the_rest() -> None:
    ladder = RefinementLadder(compressor=TopK(k=2), steps=1, top=RandK(k=3))
    rest = GOLDEN.double() - dense(TopK(k=2).compress(GOLDEN, generator=generator_for(0)))
    levels = ladder.levels(GOLDEN, generator=generator_for(1))
    top = dense(levels.increment(2))
    assert bool(((top == 0) | ((top - 8 / 3 * rest).abs() < 1e-6)).all())
    a, w = math.sqrt(1 - 2 / 8), 8 / 3 - 1
    assert ladder.omega(8) == pytest.approx((1 + a * (1 + math.sqrt(1 + w))) ** 2 - 1)


def test_bounds_and_paper_costs() -> None:
    floating = FloatingPointLadder().paper_cost(100)
    assert (floating.formula, floating.bits) == ("13 d + 6", 1306)
    without = (GeometricLadder(first=1), RTNLadder(), RefinementLadder(compressor=TopK(k=3)))
    assert [ladder.paper_cost(10) for ladder in without] == [None] * 3


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match="first is 0:"):
        GeometricLadder(first=0)
    with pytest.raises(ValueError, match=r"tail_segment is 1\.5:"):
        GeometricLadder(first=1, tail_segment=1.5)
    for bits in (1, 17):
        with pytest.raises(ValueError, match=f"bits is {bits}:"):
            RTNLadder(bits=bits)
    with pytest.raises(ValueError, match="construction is 'odd': choose"):
        RTNLadder(construction="odd")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="rows is 0:"):
        RankLadder(rows=0)
    with pytest.raises(ValueError, match="steps is 0:"):
        RefinementLadder(compressor=TopK(k=1), steps=0)
    with pytest.raises(ValueError, match="which is biased: give an unbiased compressor"):
        RefinementLadder(compressor=TopK(k=1), top=TopK(k=1))
    for unbiased in (RandK(k=1), Identity(), PermK(), MLMC(ladder=TopKLadder())):
        with pytest.raises(ValueError, match=r"is unbiased: .* without mlmc, or .* scaled: false"):
            RefinementLadder(compressor=unbiased)
    with pytest.raises(ValueError, match=r"budgets are \(2, 1\)"):
        ECUQLadder(budgets=(2, 1))


def test_costs_are_those_of_the_messages() -> None:
    assert TopKLadder().levels(GOLDEN).costs().tolist() == [35] * 8
    assert SegmentedTopKLadder(segment_size=3).levels(GOLDEN).costs().tolist() == [105, 105, 70]
    contiguous = SegmentedTopKLadder(segment_size=3, contiguous=True)
    assert contiguous.levels(GOLDEN).costs().tolist() == [98, 98, 66]
    assert GeometricLadder(first=1).levels(GOLDEN).costs().tolist() == [35, 35, 70, 140]
    assert RTNLadder(bits=2).levels(GOLDEN).costs().tolist() == [8, 16, 256]
    refined = RefinementLadder(compressor=TopK(k=2), steps=2).levels(GOLDEN)
    assert refined.costs().tolist() == [70, 70, 256]
