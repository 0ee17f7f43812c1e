import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from launch.configuration.catalogue import KINDS
from mlmc_ray.compressors import FixedPoint, SegmentedTopK, TopK
from mlmc_ray.ladders import FixedPointLadder, Ladder, SegmentedTopKLadder, TopKLadder
from mlmc_ray.payloads import CodesPayload, SegmentsPayload, SparsePayload
from mlmc_ray.seeding import generator_for
from tests.mlmc_ray.cases import ALL_LADDERS, EXACT_LADDERS, GOLDEN, dense
from tests.mlmc_ray.strategies import vectors

EVERY_LADDER = pytest.mark.parametrize("ladder", EXACT_LADDERS, ids=str)
FEW = settings(max_examples=20)
SOME = settings(max_examples=50)


def increments(ladder: Ladder, vector: Tensor) -> list[Tensor]:
    levels = ladder.levels(vector)
    return [dense(levels.increment(level)) for level in range(1, len(levels) + 1)]


def partial_sum(ladder: Ladder, vector: Tensor, level: int) -> Tensor:
    zero = torch.zeros(len(vector), dtype=torch.float64)
    return sum(increments(ladder, vector)[:level], start=zero)


def test_the_list_is_complete() -> None:
    assert {type(ladder) for ladder in ALL_LADDERS} == set(KINDS[Ladder].values())


@EVERY_LADDER
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@given(data=st.data())
@FEW
def test_the_last_level_is_the_vector(
    ladder: Ladder, dtype: torch.dtype, data: st.DataObject
) -> None:
    vector = data.draw(vectors(widest=40, dtype=dtype))
    before = vector.clone()
    assert torch.equal(partial_sum(ladder, vector, len(ladder.levels(vector))), vector.double())
    assert torch.equal(vector, before)


@EVERY_LADDER
@given(vector=vectors(widest=40))
@FEW
def test_norms_are_those_of_the_increments(ladder: Ladder, vector: Tensor) -> None:
    norms = ladder.levels(vector).norms()
    assert norms.dtype == torch.float64
    expected = [float(increment.norm()) for increment in increments(ladder, vector)]
    assert norms.tolist() == pytest.approx(expected, rel=1e-14, abs=0)


@EVERY_LADDER
@pytest.mark.parametrize("level", [0, -1, 1000])
def test_a_level_out_of_range_is_refused(ladder: Ladder, level: int) -> None:
    levels = ladder.levels(GOLDEN)
    with pytest.raises(ValueError, match=f"level is {level}: .* levels 1 to {len(levels)}"):
        levels.increment(level)


@EVERY_LADDER
def test_zero_has_increments_of_zero(ladder: Ladder) -> None:
    assert not any(increment.any() for increment in increments(ladder, torch.zeros(5)))
    assert not ladder.levels(torch.zeros(5)).norms().any()


@given(vector=vectors(), level=st.integers(1, 10))
@SOME
def test_the_top_k_ladder_climbs_through_top_k(vector: Tensor, level: int) -> None:
    level = min(level, len(vector))
    top = TopK(k=level).compress(vector, generator=generator_for(0))
    assert torch.equal(partial_sum(TopKLadder(), vector, level), dense(top))


@given(vector=vectors(), size=st.integers(1, 4), level=st.integers(1, 10))
@SOME
def test_the_sorted_ladder_climbs_through_s_top_k(vector: Tensor, size: int, level: int) -> None:
    ladder = SegmentedTopKLadder(segment_size=size)
    level = min(level, len(ladder.levels(vector)))
    top = SegmentedTopK(k=level, segment_size=size).compress(vector, generator=generator_for(0))
    assert torch.equal(partial_sum(ladder, vector, level), dense(top))
    norms = ladder.levels(vector).norms()
    assert bool((norms.diff() <= 0).all())


@given(vector=vectors(widest=12), planes=st.integers(1, 31))
@SOME
def test_the_fixed_point_ladder_climbs_through_fixed_point(vector: Tensor, planes: int) -> None:
    truncated = FixedPoint(planes=planes).compress(vector, generator=generator_for(0))
    assert torch.equal(partial_sum(FixedPointLadder(), vector, planes), dense(truncated))


def test_ties_go_to_the_lower_index() -> None:
    levels = TopKLadder().levels(torch.tensor([1.0, -2.0, 2.0, 1.0]))
    order = []
    for level in range(1, 5):
        increment = levels.increment(level)
        assert isinstance(increment, SparsePayload)
        order += increment.indices.tolist()
    assert order == [1, 2, 0, 3]


def test_an_increment_is_as_small_as_its_structure_allows() -> None:
    segment = SegmentedTopKLadder(segment_size=3, contiguous=True).levels(GOLDEN).increment(3)
    assert isinstance(segment, SegmentsPayload)
    assert (segment.segments.tolist(), segment.values.tolist()) == ([2], [0, -1])
    ranked = SegmentedTopKLadder(segment_size=3).levels(GOLDEN).increment(2)
    assert isinstance(ranked, SparsePayload)
    assert (ranked.indices.tolist(), ranked.values.tolist()) == ([3, 5, 7], [1, 0.5, -1])
    digit = FixedPointLadder().levels(GOLDEN).increment(3)
    assert isinstance(digit, CodesPayload)
    assert (digit.scales.tolist(), digit.codes.tolist()) == ([1.0], [1, 0, 0, 1, 0, 0, 0, -1])


def test_golden_norms() -> None:
    assert TopKLadder().levels(GOLDEN).norms().tolist() == [4, 3, 2, 1, 1, 0.5, 0, 0]
    pairs = SegmentedTopKLadder(segment_size=2).levels(GOLDEN).norms().tolist()
    assert pairs == pytest.approx([5, 2.2360680, 1.1180340, 0], abs=1e-7)
    neighbours = SegmentedTopKLadder(segment_size=2, contiguous=True).levels(GOLDEN)
    assert neighbours.norms().tolist() == pytest.approx([5, 1, 2.0615528, 1], abs=1e-7)
    counts = [1, 2, 3, 1]  # of entries with digit l, where S = 8
    expected = [8 * 2.0**-level * math.sqrt(n) for level, n in enumerate(counts, start=1)]
    assert FixedPointLadder().levels(GOLDEN).norms().tolist() == pytest.approx(expected, rel=1e-15)


def test_there_are_as_many_fixed_point_levels_as_digits() -> None:
    ladder = FixedPointLadder()
    assert len(ladder.levels(GOLDEN)) == 4
    assert len(ladder.levels(torch.zeros(3))) == 0
    assert len(ladder.levels(torch.tensor([4.0, 0.0]))) == 1
    for spread in range(0, 200, 7):
        vector = torch.tensor([1.0, (1 + 2.0**-23) * 2.0**-spread])
        if spread <= 126:
            assert len(ladder.levels(vector)) == 24 + spread
    whole_range = torch.tensor([2.0**127, 2.0**-149])
    assert len(ladder.levels(whole_range)) == 277
    assert torch.equal(partial_sum(ladder, whole_range, 277), whole_range.double())


@given(vector=vectors(widest=30))
@SOME
def test_the_marginal_law_of_fixed_point_is_that_of_terngrad(vector: Tensor) -> None:
    """P(symbol_j != 0) = u_j / (1 - 2^-L) with u_j = |v_j| / S, and its sign is that of v_j."""
    levels = FixedPointLadder().levels(vector)
    law = levels.own_law()
    assert law is not None
    chances = torch.zeros(len(vector), dtype=torch.float64)
    for level, p in enumerate(law.tolist(), start=1):
        increment = levels.increment(level)
        assert isinstance(increment, CodesPayload)
        chances += p * increment.codes.double()
    scale = 2.0 ** torch.frexp(vector.abs().max()).exponent.double()
    expected = vector.double() / scale / (1 - 2.0 ** -len(levels)) if len(levels) else chances
    torch.testing.assert_close(chances, expected, rtol=1e-14, atol=0)


def test_only_the_fixed_point_ladder_has_a_law_of_its_own() -> None:
    law = FixedPointLadder().levels(GOLDEN).own_law()
    assert law is not None
    assert law.tolist() == pytest.approx([8 / 15, 4 / 15, 2 / 15, 1 / 15], rel=1e-15)
    own_laws = {ladder: ladder.levels(GOLDEN).own_law() for ladder in EXACT_LADDERS}
    with_law = {ladder for ladder, own in own_laws.items() if own is not None}
    assert with_law == {FixedPointLadder()}


def test_bounds_and_paper_costs() -> None:
    assert [TopKLadder().omega(10), TopKLadder().paper_cost(10).bits] == [9, 64]
    segments = SegmentedTopKLadder(segment_size=4)
    assert [segments.omega(10), segments.paper_cost(10).bits] == [2, 256]
    assert SegmentedTopKLadder(segment_size=0.2, contiguous=True).omega(10) == 4
    fixed = FixedPointLadder()
    assert [fixed.omega(16), fixed.paper_cost(11_000_000).bits] == [4, 22_000_070]


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match="segment_size is 0:"):
        SegmentedTopKLadder(segment_size=0)
