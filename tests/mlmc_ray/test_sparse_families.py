import itertools
import math
from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mlmc_ray.compressors import Compressor, Identity, RandK, TopK
from mlmc_ray.compressors.base import Bindable, Context, PaperCost, bound
from mlmc_ray.compressors.importance import ImportanceSampled, OptimalSparse
from mlmc_ray.compressors.low_rank import PowerSGD
from mlmc_ray.compressors.permk import PermK
from mlmc_ray.compressors.random_sparse import AdaptiveRandom, Bernoulli, RandomSparse
from mlmc_ray.compressors.wrappers import HalfPrecision, Induced, Lazy, PerBucket, PerLayer
from mlmc_ray.errors import NonFiniteError
from mlmc_ray.estimator import MLMC
from mlmc_ray.kernels.partition import block_size, random_block
from mlmc_ray.kernels.sampling import (
    bernoulli_in_proportion,
    bernoulli_subset,
    block_ends,
    find_in_proportion,
    systematic_in_proportion,
)
from mlmc_ray.kernels.thresholds import full_magnitude
from mlmc_ray.ladders import RankLadder
from mlmc_ray.payloads import (
    CodesPayload,
    ConcatPayload,
    DensePayload,
    Payload,
    ScatteredPayload,
    SparsePayload,
    SumPayload,
    ZeroPayload,
)
from mlmc_ray.payloads.permuted import PermutedBlockPayload
from mlmc_ray.seeding import generator_for, seed_for
from mlmc_ray.wire.payload_codecs import CODECS_BY_CLASS
from tests.mlmc_ray.cases import GOLDEN, dense, received
from tests.mlmc_ray.strategies import vectors

DELTA = 1e-9  # a correct sampler fails a statistical test with at most this probability
FEW = settings(max_examples=12)
MODERATE = settings(max_examples=50)
GOLDEN_SQUARED, GOLDEN_SUM = 31.25, 11.5


def context(worker_id: int = 0, num_workers: int = 1, seed: int = 7, **others: Any) -> Context:
    return Context(generator_for(0), seed, worker_id, num_workers, **others)


FAMILIES: list[Compressor] = [
    Bernoulli(p=0.3),
    Bernoulli(p=1.0),
    RandomSparse(p=0.3),
    RandomSparse(p=1.0),
    AdaptiveRandom(),
    ImportanceSampled(draws=1),
    ImportanceSampled(draws=0.5),
    ImportanceSampled(draws=300),
    OptimalSparse(k=1),
    OptimalSparse(k=0.4, systematic=True),
    OptimalSparse(k=3),
    OptimalSparse(k=100),
    PermK(),
    PermK(worker_id=1, num_workers=3, seed=5),
    PermK(worker_id=30, num_workers=40, seed=1 << 62),
    Induced(contractive=TopK(k=1), correction=RandK(k=1)),
    Induced(contractive=HalfPrecision(), correction=Bernoulli(p=0.5)),
    Lazy(compressor=Identity(), p=0.5),
    Lazy(compressor=Induced(contractive=TopK(k=1), correction=RandK(k=1)), p=0.9),
    HalfPrecision(),
    PerLayer(compressor=OptimalSparse(k=1)),
    PerBucket(compressor=TopK(k=1), bucket_size=3),
    PerBucket(compressor=ImportanceSampled(draws=1), bucket_size=1),
]
EVERY = pytest.mark.parametrize("compressor", FAMILIES, ids=str)


def compressed(compressor: Compressor, vector: Tensor, seed: int = 0) -> Tensor:
    return dense(compressor.compress(vector, generator=generator_for(seed)))


def hoeffding(num_draws: int, num_means: int) -> float:
    """Return how far the mean of variables of [0, 1] may be off, for all means at once."""
    return math.sqrt(math.log(2 * num_means / DELTA) / (2 * num_draws))


@EVERY
@pytest.mark.parametrize("dim", [1, 5])
def test_zero_is_compressed_to_zero(compressor: Compressor, dim: int) -> None:
    payload = compressor.compress(torch.zeros(dim), generator=generator_for(0))
    assert isinstance(payload, ZeroPayload)
    assert payload.dim == dim


@EVERY
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_refused(compressor: Compressor, bad: float) -> None:
    vector = torch.tensor([1.0, 0.0, 2.0, bad, bad])
    with pytest.raises(NonFiniteError, match=f"2 of 5 entries .* entry 3 \\({bad}\\)"):
        compressor.compress(vector, generator=generator_for(0))


@EVERY
@given(vector=vectors(widest=30))
@FEW
def test_the_input_stays_and_the_output_has_its_signs(
    compressor: Compressor, vector: Tensor
) -> None:
    before = vector.clone()
    result = compressed(compressor, vector)
    assert torch.equal(vector, before)
    assert result.shape == vector.shape
    assert (result * vector >= 0).all() or isinstance(compressor, Induced | Lazy)
    assert not result[vector == 0].any()


@EVERY
@given(vector=vectors(widest=30), seed=st.integers(0, 9))
@FEW
def test_strides_do_not_matter(compressor: Compressor, vector: Tensor, seed: int) -> None:
    together = vector.clone(memory_format=torch.contiguous_format)
    assert torch.equal(compressed(compressor, vector, seed), compressed(compressor, together, seed))


@EVERY
@given(vector=vectors(widest=30))
@FEW
def test_the_receiver_gets_the_same_vector(compressor: Compressor, vector: Tensor) -> None:
    payload = compressor.compress(vector, generator=generator_for(0))
    if type(payload) in CODECS_BY_CLASS:
        assert torch.equal(dense(received(payload)), dense(payload))


@EVERY
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_dtypes_make_the_same_draws(compressor: Compressor, dtype: torch.dtype) -> None:
    for seed in range(20):
        expected = compressed(compressor, GOLDEN, seed)
        torch.testing.assert_close(
            compressed(compressor, GOLDEN.to(dtype), seed), expected, rtol=1e-6, atol=1e-6
        )


@EVERY
@pytest.mark.parametrize("tiny", [2.0**-149, 2.0**-130])
def test_the_smallest_numbers_are_accepted(compressor: Compressor, tiny: float) -> None:
    for seed in range(20):
        result = compressed(compressor, tiny * torch.tensor([1.0, -1, 0, 2, 1, 1, 1, 1]), seed)
        assert torch.isfinite(result).all()
        assert (result.abs() <= 2000 * tiny).all()


@EVERY
def test_powers_of_two_scale_everything(compressor: Compressor) -> None:
    for seed in range(20):
        once = compressed(compressor, GOLDEN, seed)
        assert torch.equal(compressed(compressor, GOLDEN * 2.0**40, seed), once * 2.0**40)


@EVERY
@pytest.mark.parametrize("value", [3.0, -0.1])
def test_one_coordinate(compressor: Compressor, value: float) -> None:
    results = {float(compressed(compressor, torch.tensor([value]), s)) for s in range(30)}
    if isinstance(compressor, Bernoulli | RandomSparse | Lazy) or "Bernoulli" in str(compressor):
        return
    close = 2e-3 if "HalfPrecision" in str(compressor) else 1e-6
    assert all(result == pytest.approx(value, rel=close) for result in results)


@EVERY
def test_the_mean_is_the_vector(compressor: Compressor) -> None:
    """Hoeffding with the range of every entry, |v|_1 d at most, and a fixed seed."""
    if not compressor.unbiased or isinstance(compressor, PermK):
        return
    num_draws = 1000
    draws = torch.stack([compressed(compressor, GOLDEN, seed) for seed in range(num_draws)])
    spread = float(draws.max() - draws.min())
    margin = hoeffding(num_draws, len(GOLDEN)) * spread
    assert margin <= 0.11 * spread  # a bias of 0.22 of the range is caught
    assert ((draws.mean(dim=0) - GOLDEN).abs() <= margin + 1e-6).all()


def test_every_entry_is_kept_equally_often() -> None:
    dim, tries = 1000, 1000
    margin = hoeffding(dim * tries, 1)
    assert margin < 0.0034  # a probability off by 0.007 is caught
    for p in (0.01, 0.3, 0.5, 0.99):
        kept = torch.zeros(dim)
        for seed in range(tries):
            kept[torch.from_numpy(bernoulli_subset(seed, dim, p))] += 1
        assert abs(float(kept.sum()) / (dim * tries) - p) <= margin
        assert ((kept / tries - p).abs() <= hoeffding(tries, dim)).all()
    assert bernoulli_subset(0, dim, 1.0).tolist() == list(range(dim))
    assert len(bernoulli_subset(0, dim, 2.0**-32)) == 0


def test_draws_of_neighbouring_entries_and_seeds_are_independent() -> None:
    dim = 1_000_000
    first, second = np.zeros(dim), np.zeros(dim)
    first[bernoulli_subset(1, dim, 0.5)] = 1
    second[bernoulli_subset(2, dim, 0.5)] = 1
    margin = hoeffding(dim // 2, 4) * 2
    assert margin < 0.014  # a correlation of 0.06 is caught
    for product in (first[1:] * first[:-1], first * second, first[1:] * second[:-1]):
        assert abs(product.mean() - 0.25) <= margin


def test_bernoulli_divides_by_its_probability() -> None:
    payload = Bernoulli(p=0.25).compress(GOLDEN.repeat(100), generator=generator_for(0))
    assert isinstance(payload, SparsePayload)
    assert torch.equal(payload.values, 4 * GOLDEN.repeat(100)[payload.indices])
    assert (payload.values != 0).all()
    assert Bernoulli(p=0.25).omega(8) == 3
    with pytest.raises(NonFiniteError, match="infinite"):
        Bernoulli(p=0.01).compress(torch.full((5000,), 3e38), generator=generator_for(0))


def test_random_sparse_keeps_entries_as_they_are() -> None:
    payload = RandomSparse(p=0.25).compress(GOLDEN.repeat(100), generator=generator_for(0))
    assert isinstance(payload, SparsePayload)
    assert torch.equal(payload.values, GOLDEN.repeat(100)[payload.indices])
    assert RandomSparse(p=0.25).alpha(8) == 0.25
    assert not RandomSparse(p=0.25).unbiased


def tiled_frequencies(indices: np.ndarray[Any, Any], tiles: int) -> Tensor:
    return torch.bincount(torch.from_numpy(indices) % len(GOLDEN), minlength=len(GOLDEN)) / tiles


def test_entries_are_drawn_in_proportion() -> None:
    """The same 8 entries 100,000 times over: one draw is 100,000 draws."""
    tiles = 100_000
    vector = GOLDEN.repeat(tiles).numpy()
    margin = hoeffding(tiles, len(GOLDEN))
    assert margin < 0.011  # a probability off by 0.022 is caught
    for full in (3.0, 5.0, 100.0):
        expected = (GOLDEN.abs() / full).clamp(max=1)
        kept = bernoulli_in_proportion(vector, full, 3)
        assert ((tiled_frequencies(kept, tiles) - expected).abs() <= margin).all()
        placed = systematic_in_proportion(vector, full, 0.3)
        assert abs(len(placed) - tiles * float(expected.sum())) <= 1
    ends = block_ends(vector)
    assert ends[-1] == GOLDEN_SUM * tiles
    points = np.sort(np.random.default_rng(0).random(tiles)) * ends[-1]
    found = find_in_proportion(vector, ends, points)
    expected = GOLDEN.abs() / GOLDEN_SUM
    assert ((tiled_frequencies(found, tiles) - expected).abs() <= margin).all()
    sums = np.abs(vector.astype(np.float64)).cumsum()
    assert np.array_equal(found, np.searchsorted(sums, points, side="right"))


def test_systematic_draws_have_the_probabilities() -> None:
    """Enumerated: 11,500 evenly spaced starts."""
    full, starts = 5.75, 11_500
    counts = torch.zeros(len(GOLDEN))
    for start in range(starts):
        drawn = systematic_in_proportion(GOLDEN.numpy(), full, (start + 0.5) / starts)
        assert len(drawn) == 2
        counts[torch.from_numpy(drawn)] += 1
    assert ((counts / starts - GOLDEN.abs() / full).abs() <= 2 / starts).all()


def test_points_beyond_all_entries_fall_on_none() -> None:
    vector = np.array([0, 1, 0, 2, 0], dtype=np.float32)
    points = np.array([0.0, 0.999, 1.0, 2.999, 3.0, 3.5])
    assert find_in_proportion(vector, block_ends(vector), points).tolist() == [1, 1, 3, 3]


@given(vector=vectors(max_dim=30, widest=100))
@MODERATE
def test_one_entry_is_drawn_and_the_error_is_bounded(vector: Tensor) -> None:
    if not vector.any():
        return
    p = AdaptiveRandom().probabilities(vector)
    squares = vector.double().square()
    error = float((p * (squares.sum() - squares)).sum())
    assert error <= (1 - AdaptiveRandom().alpha(len(vector)) + 1e-12) * float(squares.sum())
    payload = AdaptiveRandom().compress(vector, generator=generator_for(1))
    assert isinstance(payload, SparsePayload)
    assert len(payload.indices) == 1
    assert payload.values.all()


def test_adaptive_random_has_its_known_error() -> None:
    p = AdaptiveRandom().probabilities(GOLDEN)
    error = float((p * (GOLDEN_SQUARED - GOLDEN.double().square())).sum())
    assert error == pytest.approx(22.456521739)
    num_draws = 4000
    drawn = Counter(
        int(compressed(AdaptiveRandom(), GOLDEN, seed).abs().argmax()) for seed in range(num_draws)
    )
    margin = hoeffding(num_draws, len(GOLDEN))
    assert margin < 0.055  # a probability off by 0.11 is caught
    assert all(abs(drawn[j] / num_draws - float(p[j])) <= margin for j in range(len(GOLDEN)))


@given(vector=vectors(max_dim=30), draws=st.integers(1, 50))
@MODERATE
def test_importance_sampling_is_exactly_unbiased_and_bounded(vector: Tensor, draws: int) -> None:
    if not vector.any():
        return
    compressor = ImportanceSampled(draws=draws)
    p = compressor.probabilities(vector)
    assert float(p.sum()) <= 1 + 1e-12
    payload = compressor.compress(vector, generator=generator_for(1))
    assert isinstance(payload, ScatteredPayload)
    assert isinstance(payload.inner, CodesPayload)
    scale = float(payload.inner.scales)
    mean = draws * p * scale * vector.sign()
    torch.testing.assert_close(mean, vector.double(), rtol=1e-12, atol=0)
    squared, norm = float(vector.double().square().sum()), float(vector.double().abs().sum())
    variance = scale * norm - squared / draws  # of a multinomial
    assert variance <= (norm**2 - squared) / draws + 1e-6 * norm**2 / draws
    assert variance <= compressor.omega(len(vector)) * squared + 1e-6 * norm**2 / draws
    codes = payload.inner.codes
    assert int(codes.abs().sum()) in (draws, draws - 1)
    assert (codes.sign() == vector[payload.indices].sign()).all()


def test_importance_sampling_has_its_known_variance() -> None:
    one = ImportanceSampled(draws=1)
    scale = GOLDEN_SUM
    p = one.probabilities(GOLDEN)
    assert float((p * scale**2).sum()) - GOLDEN_SQUARED == pytest.approx(101)
    few = torch.stack([compressed(ImportanceSampled(draws=4), GOLDEN, s) for s in range(2000)])
    errors = (few - GOLDEN).square().sum(dim=1)
    largest = (GOLDEN_SUM + math.sqrt(GOLDEN_SQUARED)) ** 2  # |C(v)| <= |v|_1
    margin = hoeffding(2000, 1) * largest
    assert margin < 22  # twice the variance would be caught
    assert abs(float(errors.mean()) - 101 / 4) <= margin


def greedy_probabilities(vector: Tensor, k: int) -> Tensor:
    """The loop of Wangni et al., algorithm 2, run until it stops."""
    magnitudes = vector.double().abs()
    p = (k * magnitudes / magnitudes.sum()).clamp(max=1)
    for _ in range(100):
        rest = p < 1
        if not p[rest].any():
            break
        p[rest] = (p[rest] * (k - int((~rest).sum())) / p[rest].sum()).clamp(max=1)
    return p


@given(vector=vectors(max_dim=30, widest=24), k=st.integers(1, 31))
@MODERATE
def test_optimal_probabilities(vector: Tensor, k: int) -> None:
    compressor = OptimalSparse(k=k)
    p = compressor.probabilities(vector)
    there = vector != 0
    if int(there.sum()) <= k:
        assert torch.equal(p, there.double())
        return
    assert k * (1 - 1e-6) <= float(p.sum()) <= k * (1 + 1e-12)
    torch.testing.assert_close(p, greedy_probabilities(vector, k), rtol=1e-5, atol=0)
    squares = vector.double().square()
    variance = float((squares[there] * (1 / p[there] - 1)).sum())
    omega = compressor.omega(len(vector))
    assert variance <= (omega + 1e-5) * float(squares.sum())


@given(vector=vectors(max_dim=30), k=st.integers(1, 10), systematic=st.booleans())
@MODERATE
def test_optimal_sparsification_is_exactly_unbiased(
    vector: Tensor, k: int, systematic: bool
) -> None:
    """Whatever is received is v_j / p_j, with the probability that the loop draws it with."""
    compressor = OptimalSparse(k=k, systematic=systematic)
    p = compressor.probabilities(vector)
    result = compressed(compressor, vector)
    kept = result != 0
    torch.testing.assert_close((result * p)[kept], vector.double()[kept], rtol=1e-12, atol=0)
    assert kept[p == 1].all()
    if systematic:
        assert abs(int(kept.sum()) - min(k, int((vector != 0).sum()))) <= 1


def test_optimal_sparsification_has_its_known_variances() -> None:
    for k, scale, variance in ((1, 11.5, 101.0), (2, 5.75, 34.875), (3, 3.75, 12.875)):
        p = OptimalSparse(k=k).probabilities(GOLDEN)
        there = GOLDEN != 0
        found = float((GOLDEN[there].double().square() * (1 / p[there] - 1)).sum())
        assert full_magnitude(GOLDEN.numpy(), k) == scale
        assert found == pytest.approx(variance)


def test_optimal_sparsification_sends_values_and_signs() -> None:
    payload = OptimalSparse(k=3, systematic=True).compress(GOLDEN, generator=generator_for(0))
    assert isinstance(payload, SumPayload)
    sure, drawn = payload.parts
    assert isinstance(sure, SparsePayload)
    assert isinstance(drawn, ScatteredPayload)
    assert sure.indices.tolist() == [1]
    assert drawn.inner.dim == 2
    assert drawn.inner.to_dense().abs().tolist() == [3.75, 3.75]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_full_magnitude_of_many_entries(dtype: Any) -> None:
    """Of heavy tails, where thousands are sure; and of geometric decay, where all but one are."""
    heavy = np.random.default_rng(1).standard_normal(50_000) ** 7
    steep = 0.5 ** np.arange(60.0)
    for vector, count in ((heavy, 500), (heavy, 25_000), (heavy, 49_999), (steep, 30), (steep, 1)):
        values = vector.astype(dtype)
        full = full_magnitude(values, count)
        sum_of_probabilities = np.minimum(1, np.abs(values.astype(np.float64)) / full).sum()
        assert sum_of_probabilities == pytest.approx(count, rel=1e-11)


def test_a_scale_beyond_float32_is_refused() -> None:
    vector = torch.full((1000,), 3e38)
    for compressor in (ImportanceSampled(draws=1), OptimalSparse(k=1)):
        with pytest.raises(NonFiniteError, match=r"a scale of .*e\+41"):
            compressor.compress(vector, generator=generator_for(0))


@given(seed=st.integers(0, (1 << 64) - 1), num_blocks=st.integers(1, 40), more=st.integers(0, 200))
@MODERATE
def test_blocks_partition_the_range(seed: int, num_blocks: int, more: int) -> None:
    dim = num_blocks + more
    blocks = [random_block(seed, dim, num_blocks, b) for b in range(num_blocks)]
    assert [len(block) for block in blocks] == [
        block_size(dim, num_blocks, b) for b in range(num_blocks)
    ]
    assert all((np.diff(block) > 0).all() for block in blocks)
    assert sorted(np.concatenate(blocks).tolist()) == list(range(dim))


def test_the_draw_of_blocks_never_changes() -> None:
    """It is part of the wire format."""
    assert [random_block(42, 10, 3, block).tolist() for block in range(3)] == BLOCKS_OF_SEED_42


BLOCKS_OF_SEED_42 = [[1, 5, 7, 9], [0, 3, 8], [2, 4, 6]]


def test_every_partition_is_drawn_equally_often() -> None:
    """Into blocks of 2, 2, 1: the 30 partitions of 5."""
    tries = 15_000
    drawn = Counter(
        tuple(tuple(random_block(seed, 5, 3, block).tolist()) for block in (0, 1))
        for seed in range(tries)
    )
    margin = hoeffding(tries, 30)
    assert margin < 0.03  # one drawn twice as often would be caught
    assert len(drawn) == 30
    assert all(abs(count / tries - 1 / 30) <= margin for count in drawn.values())


@given(vector=vectors(max_dim=30), num_workers=st.integers(1, 70), seed=st.integers(0, 1 << 62))
@MODERATE
def test_the_mean_over_workers_is_the_vector(vector: Tensor, num_workers: int, seed: int) -> None:
    exact = vector.double()
    total = torch.zeros(len(vector), dtype=torch.float64)
    for worker_id in range(num_workers):
        bound_to = bound(PermK(), context(worker_id, num_workers, seed))
        total += compressed(bound_to, exact)
    torch.testing.assert_close(total / num_workers, exact, rtol=1e-14, atol=0)


@pytest.mark.parametrize("num_workers", [1, 2, 4, 8, 16, 64])
def test_the_mean_over_a_power_of_two_workers_is_exact(num_workers: int) -> None:
    total = torch.zeros(8)
    for worker_id in range(num_workers):
        payload = bound(PermK(), context(worker_id, num_workers)).compress(
            GOLDEN, generator=generator_for(0)
        )
        payload.add_to(total, 1 / num_workers)
    assert torch.equal(total, GOLDEN)


def test_a_block_is_sent_without_indices() -> None:
    """Both cases: 8 entries for 3 workers, and 8 for 16, two of which send each entry."""
    vector = torch.arange(1.0, 9.0)
    for num_workers, num_blocks, factor in ((3, 3, 3), (16, 8, 8)):
        blocks = Counter[int]()
        for worker_id in range(num_workers):
            compressor = PermK().bind(context(worker_id, num_workers))
            payload = compressor.compress(vector, generator=generator_for(0))
            assert isinstance(payload, PermutedBlockPayload)
            assert payload.num_blocks == num_blocks
            assert payload.values.numel() == block_size(8, num_blocks, payload.block)
            assert torch.equal(payload.values, factor * vector[payload.indices()])
            assert torch.equal(dense(payload.scaled(0.5)), dense(payload) / 2)
            assert compressor.omega(8) == factor - 1
            blocks[payload.block] += 1
        assert set(blocks.values()) == {num_workers // num_blocks}


@pytest.mark.parametrize(
    ("dim", "num_workers"),
    [
        (5, 3),
        (3, 5),
        *(pytest.param(*sizes, marks=pytest.mark.slow) for sizes in [(4, 2), (2, 4), (2, 6)]),
    ],
)
def test_one_worker_of_permk_is_unbiased(dim: int, num_workers: int) -> None:
    """Over seeds, also where blocks differ in size; and the variance is at most omega |v|^2."""
    vector = torch.arange(1.0, dim + 1)
    tries = 6000
    total, squared = torch.zeros(dim, dtype=torch.float64), 0.0
    for seed in range(tries):
        compressor = PermK(worker_id=1, num_workers=num_workers, seed=seed)
        result = compressed(compressor, vector)
        total += result
        squared += float((result - vector).square().sum())
    largest = num_workers * vector / (num_workers // min(dim, num_workers))
    margin = hoeffding(tries, dim) * largest
    assert float(margin.max()) < 0.045 * float(largest.max())
    assert ((total / tries - vector).abs() <= margin).all()
    slack = hoeffding(tries, 1) * float(largest.square().sum())
    bound_of_it = PermK(num_workers=num_workers).omega(dim) * float(vector.square().sum())
    assert squared / tries <= bound_of_it + slack


@pytest.mark.parametrize(
    ("dim", "num_workers", "a"),
    [(4, 2, 1.0), pytest.param(6, 3, 1.0, marks=pytest.mark.slow), (2, 4, 1 / 3)],
)
def test_permk_has_its_ab_equality(dim: int, num_workers: int, a: float) -> None:
    """E|mean of C_i(a_i) - a_i|^2 = A (mean of |a_i|^2 - |mean of a_i|^2)."""
    tries = 3000
    each = torch.randn(num_workers, dim, generator=generator_for(1), dtype=torch.float64)
    mean = each.mean(dim=0)
    expected = a * float(each.square().sum(dim=1).mean() - mean.square().sum())
    errors = []
    for seed in range(tries):
        sent = [
            compressed(PermK(worker_id=i, num_workers=num_workers, seed=seed), each[i])
            for i in range(num_workers)
        ]
        errors.append(float((torch.stack(sent).mean(dim=0) - mean).square().sum()))
    margin = hoeffding(tries, 1) * max(errors)
    assert abs(sum(errors) / tries - expected) <= margin
    assert margin < 0.3 * expected  # A off by 0.6 of itself, such as omega/M, is caught


def test_a_block_of_zeros_is_sent_as_zero() -> None:
    """With 8 workers, one entry each, and two entries of the vector being 0."""
    payloads = [
        PermK(worker_id=i, num_workers=8).compress(GOLDEN, generator=generator_for(0))
        for i in range(8)
    ]
    assert sum(isinstance(payload, ZeroPayload) for payload in payloads) == 2


def test_permk_before_binding_sends_everything() -> None:
    payload = PermK().compress(GOLDEN, generator=generator_for(0))
    assert isinstance(payload, DensePayload)
    assert torch.equal(payload.values, GOLDEN)
    assert PermK().omega(8) == 0
    assert PermK().alpha(8) == 1
    assert isinstance(PermK(), Bindable)
    bound_to = bound(PermK(), context(2, 5, 99))
    assert bound_to == PermK(worker_id=2, num_workers=5, seed=99)


def test_the_induced_compressor_has_its_known_variance() -> None:
    """Enumerated over the 8 entries that Rand-1 may draw."""
    induced = Induced(contractive=TopK(k=1), correction=RandK(k=1))
    results: dict[int, Tensor] = {}
    for seed in itertools.count():
        payload = induced.compress(GOLDEN, generator=generator_for(seed))
        assert isinstance(payload, SumPayload)
        second = payload.parts[1]
        results[int(second.indices())] = dense(payload)  # type: ignore[attr-defined]
        if len(results) == len(GOLDEN):
            break
    every = torch.stack(list(results.values()))
    torch.testing.assert_close(every.mean(dim=0), GOLDEN.double(), rtol=1e-12, atol=1e-12)
    variance = float((every - GOLDEN).square().sum(dim=1).mean())
    assert variance == pytest.approx(106.75)
    assert induced.omega(8) == pytest.approx(7 * 7 / 8)
    assert variance <= 7 * 7 / 8 * GOLDEN_SQUARED


def test_the_lazy_compressor_sends_rarely_and_more() -> None:
    lazy = Lazy(compressor=Identity(), p=0.25)
    payloads = [lazy.compress(GOLDEN, generator=generator_for(s)) for s in range(4000)]
    sent = [payload for payload in payloads if not isinstance(payload, ZeroPayload)]
    margin = hoeffding(4000, 1)
    assert margin < 0.052  # a probability off by 0.11 is caught
    assert abs(len(sent) / 4000 - 0.25) <= margin
    assert all(torch.equal(dense(payload), 4 * GOLDEN.double()) for payload in sent)
    assert lazy.omega(8) == 3
    assert Lazy(compressor=RandK(k=2), p=0.5).omega(8) == 7
    assert lazy.alpha(8) is None


@given(vector=vectors())
@MODERATE
def test_half_precision_rounds_to_the_nearest(vector: Tensor) -> None:
    result = compressed(HalfPrecision(), vector)
    assert ((result - vector).abs() <= 2.0**-8 * vector.abs()).all()
    alpha = HalfPrecision().alpha(len(vector))
    assert alpha is not None
    error, squared = (result - vector).square().sum(), vector.double().square().sum()
    assert error <= (1 - alpha) * squared


def test_half_precision_stays_half_and_refuses_what_does_not_fit() -> None:
    for form, dtype in (("fp16", torch.float16), ("bf16", torch.bfloat16)):
        half = HalfPrecision(format=form)  # type: ignore[arg-type]
        payload = half.compress(GOLDEN, generator=generator_for(0))
        assert isinstance(payload, DensePayload)
        assert payload.values.dtype == dtype
        assert torch.equal(dense(payload), GOLDEN.double())
    assert compressed(HalfPrecision(format="fp16"), torch.tensor([65519.0])).item() == 65504
    with pytest.raises(ValueError, match=r"entry 1 is -65520\.0, and the largest fp16 is 65504"):
        compressed(HalfPrecision(format="fp16"), torch.tensor([1.0, -65520.0]))
    with pytest.raises(ValueError, match=r"entry 0 is 3\.4.*e\+38, and the largest bf16"):
        compressed(HalfPrecision(), torch.tensor([torch.finfo(torch.float32).max]))


def test_layers_and_buckets_are_compressed_on_their_own() -> None:
    layers = bound(PerLayer(compressor=TopK(k=1)), context(layer_sizes=(3, 0, 4, 1)))
    payload: Payload = layers.compress(GOLDEN, generator=generator_for(0))
    assert isinstance(payload, ConcatPayload)
    assert [part.dim for part in payload.parts] == [3, 4, 1]
    assert dense(payload).tolist() == [0, -4, 0, 0, -2, 0, 0, -1]
    buckets = PerBucket(compressor=TopK(k=1), bucket_size=3)
    payload = buckets.compress(GOLDEN, generator=generator_for(0))
    assert isinstance(payload, ConcatPayload)
    assert [part.dim for part in payload.parts] == [3, 3, 2]
    assert dense(payload).tolist() == [0, -4, 0, 0, -2, 0, 0, -1]
    assert (layers.alpha(8), buckets.alpha(8)) == (1 / 4, 1 / 3)
    with pytest.raises(ValueError, match="layer_sizes add up to 8, and the vector has 9 entries"):
        layers.compress(torch.ones(9), generator=generator_for(0))
    whole = PerLayer(compressor=TopK(k=1)).compress(GOLDEN, generator=generator_for(0))
    assert dense(whole).tolist() == [0, -4, 0, 0, 0, 0, 0, 0]


def test_the_worst_block_decides() -> None:
    layers = PerLayer(compressor=RandK(k=2), layer_sizes=(2, 6))
    assert layers.omega(8) == 2
    assert layers.alpha(8) is None
    buckets = PerBucket(compressor=RandK(k=2), bucket_size=3)
    assert (buckets.omega(8), buckets.omega(2)) == (0.5, 0)
    assert PerBucket(compressor=Identity(), bucket_size=3).alpha(8) == 1
    assert PerLayer(compressor=TopK(k=1)).omega(8) is None
    assert Induced(contractive=Bernoulli(p=0.5), correction=RandK(k=1)).omega(8) is None
    assert Lazy(compressor=TopK(k=1), p=0.5).omega(8) is None


def test_every_layer_knows_its_own_shape() -> None:
    shapes = ((2, 3), (2,), (3, 0))
    here = context(layer_sizes=(6, 2, 0), layer_shapes=shapes)
    layers = bound(PerLayer(compressor=PowerSGD(rank=1)), here)
    assert isinstance(layers, PerLayer)
    assert layers.layer_compressors == tuple(
        PowerSGD(rank=1, layer_shapes=(shape,), seed=seed_for(7, "layer", i))
        for i, shape in enumerate(shapes[:2])
    )
    payload = layers.compress(GOLDEN, generator=generator_for(0))
    assert isinstance(payload, ConcatPayload)
    assert [part.dim for part in payload.parts] == [6, 2]
    assert layers.paper_cost(8) == PaperCost(
        "sum over layers of 64 times the sum over matrices of rank (n + m)", 64 * (5 + 2)
    )


def test_an_error_names_the_layer_or_bucket_that_it_comes_from() -> None:
    rank = MLMC(ladder=RankLadder(rows=3))
    layers = bound(PerLayer(compressor=rank), context(layer_sizes=(3, 5)))
    buckets = PerBucket(compressor=rank, bucket_size=3)
    for compressor, place in ((layers, "layer 2 of 2, of 5"), (buckets, "bucket 3 of 3, of 2")):
        with pytest.raises(ValueError, match=f"^{place} entries: rows is 3: . entries cannot be"):
            compressor.compress(GOLDEN, generator=generator_for(0))
    with pytest.raises(ValueError, match=r"^layer 2 of 2, of 5 entries: rows is 3: 5 entries"):
        layers.omega(8)
    here = context(layer_sizes=(2, 16), layer_shapes=((2,), (4, 4)))
    matrices = bound(PerLayer(compressor=PowerSGD(rank=1)), here)
    with pytest.raises(NonFiniteError, match=r"^layer 2 of 2, of 16 entries: .* may not fit"):
        matrices.compress(torch.full((18,), 3e38), generator=generator_for(0))


def test_wrappers_bind_what_they_wrap() -> None:
    here = context(1, 4, 11, layer_sizes=(2, 6))

    def inner(*names: int | str) -> PermK:
        return PermK(worker_id=1, num_workers=4, seed=seed_for(11, *names) if names else 11)

    assert bound(Lazy(compressor=PermK(), p=0.5), here) == Lazy(compressor=inner(), p=0.5)
    assert bound(Induced(contractive=TopK(k=1), correction=PermK()), here) == Induced(
        contractive=TopK(k=1), correction=inner("correction")
    )
    assert bound(PerLayer(compressor=PermK()), here) == PerLayer(
        compressor=inner(),
        layer_sizes=(2, 6),
        layer_compressors=(inner("layer", 0), inner("layer", 1)),
    )
    buckets = bound(PerBucket(compressor=PermK(), bucket_size=2), here)
    assert isinstance(buckets, PerBucket)
    payload = buckets.compress(GOLDEN, generator=generator_for(0))
    assert isinstance(payload, ConcatPayload)
    alone = [
        inner("bucket", i).compress(part, generator=generator_for(0))
        for i, part in enumerate(torch.split(GOLDEN, 2))
    ]
    assert torch.equal(dense(payload), torch.cat([dense(part) for part in alone]))


def test_paper_costs() -> None:
    assert [
        cost.bits
        for compressor in (
            Bernoulli(p=0.3),
            RandomSparse(p=0.5),
            AdaptiveRandom(),
            ImportanceSampled(draws=5),
            OptimalSparse(k=0.2),
            PermK(num_workers=4),
            Induced(contractive=TopK(k=1), correction=RandK(k=2)),
            Lazy(compressor=Identity(), p=0.5),
            HalfPrecision(),
            PerLayer(compressor=TopK(k=1), layer_sizes=(3, 7)),
            PerBucket(compressor=TopK(k=1), bucket_size=3),
        )
        if (cost := compressor.paper_cost(10))
    ] == [192, 320, 64, 69, 128, 192, 192, 320, 160, 128, 256]


@pytest.mark.parametrize(
    ("kind", "arguments", "complaint"),
    [
        (Bernoulli, {"p": 0.0}, r"p is 0\.0: give a probability, from 2\^-32 to 1"),
        (Bernoulli, {"p": 1.5}, r"p is 1\.5"),
        (RandomSparse, {"p": math.nan}, "p is nan"),
        (Lazy, {"compressor": Identity(), "p": -1}, "p is -1"),
        (ImportanceSampled, {"draws": 0}, "draws is 0"),
        (OptimalSparse, {"k": 1.5}, r"k is 1\.5"),
        (PermK, {"worker_id": 3, "num_workers": 3}, "worker_id is 3: give 0 to .* which is 2"),
        (Induced, {"contractive": TopK(k=1), "correction": TopK(k=2)}, r"correction is TopK\(k=2"),
        (HalfPrecision, {"format": "fp8"}, "format is 'fp8': give one of .'bf16', 'fp16'"),
        (PerBucket, {"compressor": Identity(), "bucket_size": 0}, "bucket_size is 0"),
    ],
)
def test_settings_out_of_range_are_refused(
    kind: Any, arguments: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(ValueError, match=complaint):
        kind(**arguments)
