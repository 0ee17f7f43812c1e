import dataclasses
import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Generator, Tensor

from mlmc_ray.compressors import (
    ECUQ,
    QSGD,
    RTN,
    BiasedRounding,
    Compressor,
    ExponentialDithering,
    FloatingPoint,
    Natural,
    OneBit,
    ScaledSign,
    SparseDithering,
    StandardDithering,
    TernGrad,
    TopKDithering,
    UnbiasedRounding,
)
from mlmc_ray.compressors.rounding import float32_below, geometric_grid, wire_step, wire_steps
from mlmc_ray.errors import NonFiniteError
from mlmc_ray.kernels.norms import magnitude_range
from mlmc_ray.kernels.power_rounding import geometric_codes
from mlmc_ray.kernels.rounding import linear_codes
from mlmc_ray.kernels.tensors import rounding as tensors
from mlmc_ray.kernels.tensors.splitmix import uniforms
from mlmc_ray.payloads import CodesPayload, DensePayload, Payload, ScatteredPayload, ZeroPayload
from mlmc_ray.seeding import generator_for
from tests.mlmc_ray.cases import GOLDEN, dense, received
from tests.mlmc_ray.strategies import vectors

UNBIASED: list[Any] = [
    UnbiasedRounding(base=1.1),
    UnbiasedRounding(base=2.0),
    UnbiasedRounding(base=3.0),
    Natural(),
    StandardDithering(levels=1),
    StandardDithering(levels=3, norm=1.0),
    StandardDithering(levels=200, norm=3.0, bucket_size=2),
    StandardDithering(levels=1000, norm=math.inf),
    QSGD(levels=1),
    QSGD(levels=7, bucket_size=3),
    QSGD(levels=2, norm=math.inf),
    TernGrad(),
    ExponentialDithering(levels=1),
    ExponentialDithering(levels=4),
    ExponentialDithering(levels=9, base=1.5, norm=1.0),
    ExponentialDithering(levels=200, base=3.0, norm=math.inf),
    SparseDithering(nu=0.1),
    SparseDithering(nu=30.0),
]
BIASED: list[Any] = [
    BiasedRounding(base=1.1),
    BiasedRounding(base=2.0),
    BiasedRounding(base=3.0),
    TernGrad(clip=2.5),
    TopKDithering(k=2, levels=3),
    TopKDithering(k=0.5, levels=4, base=3.0, norm=math.inf),
    SparseDithering(nu=0.3, unbiased=False),
    FloatingPoint(mantissa_bits=0),
    FloatingPoint(mantissa_bits=3),
    FloatingPoint(mantissa_bits=7),
    FloatingPoint(mantissa_bits=23),
    RTN(bits=1),
    RTN(bits=2),
    RTN(bits=9),
    RTN(bits=16),
    RTN(bits=1, nested=True),
    RTN(bits=8, nested=True),
    ECUQ(bits=1),
    ECUQ(bits=4),
    ScaledSign(),
    OneBit(),
]
EVERY = pytest.mark.parametrize("compressor", UNBIASED + BIASED, ids=str)
EVERY_UNBIASED = pytest.mark.parametrize("compressor", UNBIASED, ids=str)
FEW = settings(max_examples=8)
SOME = settings(max_examples=40)
HARMONIC = 4 / 3  # of 1 and 2
REST = 1e-6  # float32 scales are off by up to 2^-23 of themselves


def compress(compressor: Compressor, vector: Tensor, seed: int = 0) -> Payload:
    return compressor.compress(vector, generator=generator_for(seed))


def compressed(compressor: Compressor, vector: Tensor, seed: int = 0) -> Tensor:
    return dense(compress(compressor, vector, seed))


def squared(vector: Tensor) -> float:
    return float(vector.double().square().sum())


def norm(vector: Tensor, order: float) -> float:
    return float(torch.linalg.vector_norm(vector.double(), ord=order))


def neighbours(compressor: Compressor, vector: Tensor) -> tuple[Tensor, Tensor]:
    """Return the values around every magnitude that its code may stand for, float64."""
    payload = compress(compressor, vector)
    assert isinstance(payload, CodesPayload)
    magnitudes = vector.double().abs()
    spread = payload.scales.double().repeat_interleave(payload.bucket_size)[: len(vector)]
    if isinstance(compressor, UnbiasedRounding | Natural | ExponentialDithering):
        codes = np.arange(1, 20_000 if not isinstance(compressor, ExponentialDithering) else 400)
        with np.errstate(over="ignore"):
            values = payload.codebook.values(codes[codes <= _num_codes(compressor)])
        points = torch.cat([torch.zeros(1).double(), spread[0] * torch.from_numpy(values)])
        above = torch.searchsorted(points, magnitudes).clamp(1, len(points) - 1)
        return points[above - 1], points[above]
    ratios = torch.where(spread > 0, magnitudes / spread, 0.0)
    return ratios.floor() * spread, (ratios.floor() + 1) * spread


def _num_codes(compressor: Any) -> int:
    if isinstance(compressor, ExponentialDithering):
        return min(compressor.levels, 380)
    return math.ceil(280 / math.log2(getattr(compressor, "base", 2.0)))


def variance(compressor: Compressor, vector: Tensor) -> float:
    """Return the exact variance: (|t| - a) (b - |t|) an entry, the law being two-point."""
    if not vector.any():
        return 0.0
    low, high = neighbours(compressor, vector)
    magnitudes = vector.double().abs()
    return float(((magnitudes - low) * (high - magnitudes)).clamp(min=0).sum())


@EVERY
def test_it_is_a_value(compressor: Any) -> None:
    twin = dataclasses.replace(compressor)
    assert twin == compressor
    assert hash(twin) == hash(compressor)
    assert isinstance(compressor, Compressor)
    assert compressor.paper_cost(1000) is not None
    assert compressor.unbiased == (compressor in UNBIASED)
    if not isinstance(compressor, TernGrad):
        assert compressor.unbiased == (compressor.omega(10) is not None)


@EVERY
@pytest.mark.parametrize("dim", [1, 5])
def test_zero_is_sent_as_zero(compressor: Compressor, dim: int) -> None:
    payload = compress(compressor, torch.zeros(dim))
    assert isinstance(payload, ZeroPayload)
    assert payload.dim == dim


@EVERY
def test_what_is_not_finite_is_refused(compressor: Compressor) -> None:
    for bad in (math.nan, math.inf, -math.inf):
        for dtype in (torch.float32, torch.float64, torch.float16):
            vector = torch.tensor([1.0, 0.0, bad, bad], dtype=dtype)
            with pytest.raises(NonFiniteError, match=f"2 of 4 entries .* entry 2 \\({bad}\\)"):
                compress(compressor, vector)


@EVERY
@given(vector=vectors(widest=30))
@FEW
def test_the_receiver_gets_the_same_and_the_input_stays(
    compressor: Compressor, vector: Tensor
) -> None:
    before = vector.clone()
    payload = compress(compressor, vector)
    assert torch.equal(vector, before)
    assert payload.dim == len(vector)
    assert torch.equal(dense(received(payload)), dense(payload))
    assert torch.equal(dense(compress(compressor, before)), dense(payload))


@EVERY
def test_other_dtypes_give_the_same(compressor: Compressor) -> None:
    vector = torch.tensor([3.0, -4.0, 0.0, 1.0, -2.0, 0.375, -0.0, -1.25, 1.5])
    expected = compressed(compressor, vector)
    for dtype in (torch.float64, torch.float16, torch.bfloat16):
        assert torch.equal(compressed(compressor, vector.to(dtype)), expected)
    strided = torch.stack([vector, torch.full_like(vector, torch.nan)], dim=1)[:, 0]
    assert torch.equal(compressed(compressor, strided), expected)


@EVERY
def test_extreme_vectors_come_out_finite(compressor: Compressor) -> None:
    tiny = 2.0**-149
    for values in ([tiny], [tiny, -3 * tiny, 0.0], [2.0**-130, 1.0], [-(2.0**100)], [0.1] * 4):
        payload = compress(compressor, torch.tensor(values))
        assert bool(torch.isfinite(dense(payload)).all())
        assert torch.equal(dense(received(payload)), dense(payload))


@EVERY
def test_what_does_not_fit_float32_is_refused_or_finite(compressor: Compressor) -> None:
    for vector in (torch.full((4,), 3.3e38), torch.tensor([1e300, 1.0], dtype=torch.float64)):
        try:
            payload = compress(compressor, vector)
        except NonFiniteError as error:
            assert "float32" in str(error)  # noqa: PT017
        else:
            assert bool(torch.isfinite(payload.to_dense()).all())


SCALE_FREE = [
    compressor
    for compressor in UNBIASED + BIASED
    if not isinstance(compressor, ECUQ)
    and (getattr(compressor, "base", 2.0) == 2 or isinstance(compressor, TopKDithering))
]


@pytest.mark.parametrize("compressor", SCALE_FREE, ids=str)
@given(vector=vectors(widest=20), exponent=st.integers(-12, 12))
@FEW
def test_scaling_by_a_power_of_two_scales_the_result(
    compressor: Compressor, vector: Tensor, exponent: int
) -> None:
    vector = torch.where(vector.abs() < 2.0**-60, 0.0, vector)
    out = compressed(compressor, vector)
    assert torch.equal(compressed(compressor, vector * 2.0**exponent), out * 2.0**exponent)


# Unbiasedness. The law of every entry has two points a <= |t| <= b; the upper one is chosen where a
# uniform number of the seed is below (|t| - a) / (b - a), whose mean is |t|.


@EVERY_UNBIASED
@given(vector=vectors(max_dim=8, widest=40), draw=st.integers(0, 1 << 30))
@FEW
def test_every_entry_is_rounded_by_its_probability(
    compressor: Compressor, vector: Tensor, draw: int
) -> None:
    if not vector.any():
        return
    low, high = neighbours(compressor, vector)
    magnitudes = vector.double().abs()
    assert bool(((low <= magnitudes) & (magnitudes <= high)).all())
    probabilities = (magnitudes - low) / (high - low)
    seed = int(torch.randint(1 << 62, (), generator=generator_for(draw)))
    draws = uniforms(seed, len(vector), vector.device)
    expected = torch.where(draws < probabilities, high, low) * vector.sign()
    clear = (draws - probabilities).abs() > 1e-12
    out = compressed(compressor, vector, draw)
    torch.testing.assert_close(out[clear], expected[clear], rtol=1e-13, atol=0)


@EVERY_UNBIASED
@given(vector=vectors(max_dim=12, widest=60))
@FEW
def test_omega_bounds_the_variance(compressor: Compressor, vector: Tensor) -> None:
    omega = compressor.omega(len(vector))
    assert omega is not None
    assert omega >= 0
    bound = omega * (1 + REST) * squared(vector)
    assert variance(compressor, vector) <= bound + REST * squared(vector)


@pytest.mark.parametrize("levels", [1, 4])
def test_the_draws_are_fair(levels: int) -> None:
    """The sum of n = 10^6 draws with ranges c_j: Hoeffding's margin for 1e-9 (fixed seed)."""
    n = 10**6
    vector = torch.linspace(0, 1, n)
    out = compressed(StandardDithering(levels=levels, norm=math.inf), vector)
    margin = math.sqrt(math.log(2 / 1e-9) / (2 * n)) / levels
    assert margin < 0.0033 / levels  # a mean that is off by 0.7 % of a step is caught
    assert abs(float(out.mean() - vector.double().mean())) <= margin


def test_rare_events_happen_as_often_as_they_should() -> None:
    """Entries 1e-5 of the maximum: the count is binomial; Bernstein's margin for 1e-9."""
    n, p = 2_000_000, 1e-5
    vector = torch.full((n,), p)
    vector[0] = 1
    count = int((compressed(TernGrad(), vector) != 0).sum()) - 1
    log_term = math.log(2 / 1e-9)
    margin = math.sqrt(2 * n * p * log_term) + log_term  # 20 expected; 71 or more are caught
    assert abs(count - n * p) <= margin < 51
    tiny = torch.full((n,), p, dtype=torch.float64)
    tiny[0] = 1
    seeds = [int((compressed(TernGrad(), tiny, s) != 0).sum()) - 1 for s in range(20)]
    assert abs(sum(seeds) - 400) <= math.sqrt(2 * 400 * log_term) + log_term
    assert len(set(seeds)) > 5


def test_uniforms_are_splitmix64() -> None:
    def expected(seed: int, j: int) -> float:
        mask = (1 << 64) - 1
        z = (seed + j * 0x9E3779B97F4A7C15) & mask
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
        return ((z ^ (z >> 31)) >> 11) / 2**53

    for seed in (0, 1, (1 << 62) - 1, (1 << 64) - 1):
        found = uniforms(seed, 100, torch.device("cpu")).tolist()
        assert found == [expected(seed, j) for j in range(100)]


@given(vector=vectors(max_dim=30, widest=40), seed=st.integers(0, (1 << 64) - 1))
@SOME
def test_loops_and_tensor_operations_agree(vector: Tensor, seed: int) -> None:
    steps = torch.full((-(-len(vector) // 4),), 0.75)
    steps[0] = 0
    arguments = (vector, steps, 4, 40, seed)
    assert torch.equal(linear_codes(*arguments), tensors.linear_codes(*arguments))
    points = 0.5 * 1.5 ** np.arange(9.0)
    for draw in (seed, None):
        assert torch.equal(
            geometric_codes(vector, points, draw),
            tensors.geometric_codes(vector, points, draw),
        )
    for dtype in (torch.float32, torch.float64):
        smallest, largest = magnitude_range(vector.to(dtype))
        positive = vector.abs()[vector != 0].tolist()
        assert (smallest, largest) == (min(positive, default=math.inf), max(positive, default=0))


# Powers.


@pytest.mark.parametrize("base", [1.1, 1.5, 2.0, 3.0, 10.0])
def test_omega_of_rounding_is_attained_at_the_harmonic_mean(base: float) -> None:
    magnitudes = torch.logspace(0, math.log10(base), 2001, dtype=torch.float64)
    worst = max(
        variance(UnbiasedRounding(base=base), entry[None]) / squared(entry)
        for entry in [*magnitudes[:: 2000 // 20], torch.tensor(2 * base / (1 + base)).double()]
    )
    assert worst == pytest.approx(UnbiasedRounding(base=base).omega(1), rel=1e-5)


@pytest.mark.parametrize("base", [1.1, 1.5, 2.0, 3.0, 10.0])
def test_alpha_of_rounding_is_attained_midway(base: float) -> None:
    compressor = BiasedRounding(base=base)
    middle = torch.tensor([(1 + base) / 2], dtype=torch.float64)
    error = squared(compressed(compressor, middle) - middle) / squared(middle)
    assert error == pytest.approx(1 - compressor.alpha(1), rel=1e-5)


@given(vector=vectors(widest=100))
@SOME
def test_nearest_power_of_two(vector: Tensor) -> None:
    out = compressed(BiasedRounding(), vector)
    for value, rounded in zip(vector.tolist(), out.tolist(), strict=True):
        low = 2.0 ** math.floor(math.log2(abs(value))) if value else 0.0
        nearest = low if abs(value) - low <= 2 * low - abs(value) else 2 * low
        assert rounded == math.copysign(nearest, value)


def natural_law(mantissa: int) -> tuple[float, float]:
    """Return probability and relative variance of rounding 1 + mantissa / 2^23 up."""
    f = mantissa / 2**23
    return f, f * (1 - f) / (1 + f) ** 2


def test_natural_compression_is_exact_on_bits() -> None:
    seeds = range(200)
    for mantissa in (0, 1, 2**22, 2**23 - 1, 2796203):
        value = 1 + mantissa / 2**23
        vector = torch.full((50,), value)
        outs = torch.stack([compressed(Natural(), vector, seed) for seed in seeds])
        draws = torch.stack(
            [
                uniforms(
                    int(torch.randint(1 << 62, (), generator=generator_for(seed))),
                    50,
                    vector.device,
                )
                for seed in seeds
            ]
        )
        below = (draws * 2**23).floor() < mantissa  # 23 random bits: probability m / 2^23, exactly
        assert torch.equal(outs, torch.where(below, 2.0, 1.0).double())
        f, relative = natural_law(mantissa)
        assert (1 - f) * 1 + f * 2 == value
        assert variance(Natural(), vector[:1]) / value**2 == pytest.approx(relative, rel=1e-12)


def test_natural_variance_is_largest_at_a_third() -> None:
    laws = [natural_law(m)[1] for m in range(0, 2**23, 4099)]
    assert max(laws) <= 0.125 == Natural().omega(3)
    assert natural_law(round(2**23 / 3))[1] == pytest.approx(0.125, rel=1e-12)
    assert variance(Natural(), torch.tensor([HARMONIC])) == pytest.approx(HARMONIC**2 / 8, rel=1e-6)


def test_natural_compression_rounds_subnormals_to_the_smallest_normal() -> None:
    vector = torch.full((4000,), 2.0**-127)
    out = compressed(Natural(), vector)
    assert set(out.tolist()) == {0.0, 2.0**-126}
    margin = math.sqrt(math.log(2 / 1e-9) / (2 * 4000))  # Hoeffding
    assert abs(float((out != 0).double().mean()) - 0.5) <= margin < 0.06
    with pytest.raises(NonFiniteError, match="largest float32"):
        compress(Natural(), torch.tensor([2.0**127]))


def test_golden_variances() -> None:
    assert variance(Natural(), GOLDEN) == pytest.approx(1.0)
    assert variance(TernGrad(), GOLDEN) == pytest.approx(14.75)
    assert variance(QSGD(levels=1), GOLDEN) == pytest.approx(33.0369544, rel=REST)
    assert variance(QSGD(levels=2), GOLDEN) == pytest.approx(8.7746668, rel=REST)


# Dithering.


@given(
    vector=vectors(max_dim=12), levels=st.integers(1, 9), order=st.sampled_from([1, 2, math.inf])
)
@SOME
def test_variance_of_standard_dithering(vector: Tensor, levels: int, order: float) -> None:
    if not vector.any():
        return
    compressor = StandardDithering(levels=levels, norm=order)
    step = norm(vector, order) / levels
    fractions = (vector.double().abs() / step) % 1
    expected = step**2 * float((fractions * (1 - fractions)).sum())
    found = variance(compressor, vector)
    assert found == pytest.approx(expected, rel=1e-5, abs=1e-5 * step**2)
    assert found <= len(vector) * step**2 / 4 * (1 + REST)
    assert found <= step * norm(vector, 1) * (1 + REST)


@pytest.mark.parametrize("dim", [2, 4, 9, 100])
def test_worst_case_of_terngrad(dim: int) -> None:
    vector = torch.full((dim,), 1 / (1 + math.sqrt(dim)))
    vector[0] = 1
    relative = variance(TernGrad(), vector) / squared(vector)
    omega = TernGrad().omega(dim)
    assert omega == (math.sqrt(dim) - 1) / 2
    assert relative == pytest.approx(omega, rel=1e-5)
    same = StandardDithering(levels=1, norm=math.inf)
    assert same.omega(dim) == omega
    assert torch.equal(compressed(same, vector), compressed(TernGrad(), vector))


@given(vector=vectors(max_dim=12))
@SOME
def test_terngrad_keeps_signs_and_the_largest(vector: Tensor) -> None:
    out = compressed(TernGrad(), vector)
    scale = vector.abs().max()
    assert bool((out * vector >= 0).all())
    assert set(out.abs().tolist()) <= {0.0, float(scale)}
    assert bool((out[vector.abs() == scale].abs() == scale).all())
    expected = scale.double() * vector.double().abs().sum() - squared(vector)
    assert variance(TernGrad(), vector) == pytest.approx(
        float(expected), rel=1e-9, abs=1e-12 * squared(vector)
    )


def test_clipping_is_at_standard_deviations() -> None:
    vector = torch.ones(1000)
    vector[::2] = -1
    vector[0] = 100
    limit = 2.5 * float(vector.double().std(correction=0))
    payload = compress(TernGrad(clip=2.5), vector)
    assert isinstance(payload, CodesPayload)
    assert float(payload.scales) == pytest.approx(limit, rel=REST)
    assert int(payload.codes[0]) == 1
    loose = compressed(TernGrad(clip=100.0), vector)
    assert torch.equal(loose, compressed(TernGrad(), vector))
    assert not TernGrad(clip=2.5).unbiased
    assert TernGrad(clip=2.5).omega(10) is None
    assert torch.equal(compressed(TernGrad(clip=2.5), torch.ones(3)), torch.ones(3).double())


def test_buckets_are_independent() -> None:
    small, large = torch.tensor([1.0, -2.0, 0.5]), torch.tensor([1e6, 3e6, -2e6])
    vector = torch.cat([small, torch.zeros(3), large, small[:2]])
    payload = compress(QSGD(levels=4, bucket_size=3), vector)
    assert isinstance(payload, CodesPayload)
    norms = [norm(vector[start : start + 3], 2) for start in range(0, len(vector), 3)]
    assert (payload.scales.double() * 4).tolist() == pytest.approx(norms, rel=REST)
    assert bool((payload.scales.double() * 4 >= torch.tensor(norms).double()).all())
    alone = compressed(QSGD(levels=4, bucket_size=3), small)
    assert torch.equal(dense(payload)[:3], alone)
    assert not dense(payload)[3:6].any()


def test_omega_of_qsgd() -> None:
    assert QSGD(levels=1, bucket_size=16).omega(1000) == 3
    assert QSGD(levels=4, bucket_size=16).omega(1000) == 0.25
    assert QSGD(levels=1, norm=math.inf, bucket_size=16).omega(1000) == 1.5
    assert QSGD(levels=2, bucket_size=512).omega(4) == 0.25


@given(
    vector=vectors(max_dim=12), levels=st.integers(1, 9), order=st.sampled_from([1, 2, math.inf])
)
@SOME
def test_levels_of_natural_dithering(vector: Tensor, levels: int, order: float) -> None:
    if not vector.any():
        return
    payload = compress(ExponentialDithering(levels=levels, norm=order), vector)
    assert isinstance(payload, CodesPayload)
    top = float(payload.scales) * 2.0 ** (levels - 1)
    assert norm(vector, order) * (1 - 1e-15) <= top <= norm(vector, order) * (1 + 2.0**-22)
    allowed = {0.0} | {top * 2.0**-r for r in range(levels)}
    assert set(dense(payload).abs().tolist()) <= allowed


@pytest.mark.parametrize("compressor", [TopKDithering(k=2, levels=3), TopKDithering(k=4, levels=1)])
@given(vector=vectors(max_dim=6, widest=20))
@SOME
def test_top_k_dithering_contracts(compressor: TopKDithering, vector: Tensor) -> None:
    dim, k = len(vector), min(compressor.k, len(vector))
    top = vector[vector.abs().argsort(descending=True, stable=True)[:k]]
    inner = ExponentialDithering(levels=compressor.levels)
    omega = inner.omega(int(k))
    second = variance(inner, top) + squared(top)
    error = second / (1 + omega) ** 2 - 2 * squared(top) / (1 + omega) + squared(vector)
    alpha = compressor.alpha(dim)
    assert alpha == pytest.approx(k / dim / (1 + omega))
    assert error <= (1 - alpha) * squared(vector) * (1 + REST) + REST * squared(vector)


def test_top_k_dithering_of_all_entries_is_scaled_dithering() -> None:
    inner = ExponentialDithering(levels=3)
    payload = compress(TopKDithering(k=8, levels=3), GOLDEN)
    assert isinstance(payload, ScatteredPayload)
    expected = compressed(inner, GOLDEN) / (1 + inner.omega(8))
    torch.testing.assert_close(dense(payload), expected, rtol=REST, atol=0)


@pytest.mark.parametrize("nu", [0.01, 0.3, 1.0, 10.0])
@given(vector=vectors(max_dim=12))
@FEW
def test_sparse_dithering(nu: float, vector: Tensor) -> None:
    if not vector.any():
        return
    low, high = neighbours(SparseDithering(nu=nu), vector)
    assert variance(SparseDithering(nu=nu), vector) <= nu * squared(vector) * (1 + 1e-9)
    expected_level = vector.double().abs() / (high - low)
    assert float(expected_level.sum()) <= len(vector) / (2 * math.sqrt(nu)) * (1 + REST)
    if nu < 1:
        compressor = SparseDithering(nu=nu, unbiased=False)
        out = compressed(compressor, vector)
        assert squared(out - vector) <= nu * squared(vector) * (1 + 1e-9)
        assert int((out != 0).sum()) <= len(vector) / nu


@pytest.mark.parametrize("nu", [0.05, 0.5, 3.0])
def test_sparse_dithering_lies_above_the_lower_bound(nu: float) -> None:
    """The ideal bits of a message, and its variance, on a Gaussian vector of 10^5 entries."""
    vector = torch.randn(100_000, generator=generator_for(7))
    for compressor in (SparseDithering(nu=nu), SparseDithering(nu=min(nu, 0.9), unbiased=False)):
        payload = compress(compressor, vector)
        assert isinstance(payload, CodesPayload)
        shares = torch.unique(payload.codes, return_counts=True)[1] / 100_000
        rate = float(-(shares * shares.log2()).sum())
        error = squared(dense(payload) - vector) / squared(vector)
        limit = 1 / (4**rate - 1) if compressor.unbiased else 4**-rate
        assert limit < error < 8 * limit
        cost = compressor.paper_cost(100_000)
        assert cost.bits < rate * 100_000


# Grids without draws.


@given(vector=vectors(max_dim=12), bits=st.integers(2, 16))
@SOME
def test_cells_of_rtn_tile_the_range(vector: Tensor, bits: int) -> None:
    step = 2 * float(vector.abs().max()) / (2**bits - 1)
    out = compressed(RTN(bits=bits), vector)
    assert bool(((out - vector).abs() <= step / 2 * (1 + REST)).all())
    error = squared(out - vector)
    assert error <= squared(vector)
    alpha = RTN(bits=bits).alpha(len(vector))
    assert alpha is not None
    assert error <= (1 - alpha) * squared(vector) * (1 + REST)


@pytest.mark.parametrize("bits", [2, 3, 5, 8])
def test_points_of_rtn_are_all_used_and_evenly(bits: int) -> None:
    number = 2**bits - 1
    vector = (torch.arange(10 * number).double() + 0.5) / (5 * number) - 1
    vector = torch.cat([vector, torch.tensor([-1.0, 1.0]).double()])
    payload = compress(RTN(bits=bits), vector)
    assert isinstance(payload, CodesPayload)
    counts = torch.bincount(payload.codes.long() + number // 2)
    assert counts.tolist() == [11, *[10] * (number - 2), 11]


def test_golden_rtn() -> None:
    errors = [squared(compressed(RTN(bits=b), GOLDEN) - GOLDEN) for b in (1, 2, 3, 4)]
    assert errors == pytest.approx([31.25, 4.5833333, 0.8826531, 0.1388889], rel=REST)
    payloads = [compress(RTN(bits=b), GOLDEN) for b in (2, 3)]
    codes = [p.codes.tolist() for p in payloads if isinstance(p, CodesPayload)]
    assert codes == [[1, -1, 0, 0, -1, 0, 0, 0], [3, -3, 0, 1, -2, 0, 0, -1]]
    nested = [squared(compressed(RTN(bits=b, nested=True), GOLDEN) - GOLDEN) for b in (1, 2, 3)]
    assert nested == [7.25, 3.25, 0.25]
    assert RTN(bits=1).alpha(4) is None


@given(vector=vectors(max_dim=12), bits=st.integers(2, 16))
@SOME
def test_nested_grids_differ_by_a_ternary_digit(vector: Tensor, bits: int) -> None:
    if not vector.any():
        return
    fine, coarse = (compress(RTN(bits=b, nested=True), vector) for b in (bits, bits - 1))
    assert isinstance(fine, CodesPayload)
    assert isinstance(coarse, CodesPayload)
    digits = fine.codes.long() - 2 * coarse.codes.long()
    assert bool((digits.abs() <= 1).all())
    assert torch.equal(digits != 0, fine.codes % 2 != 0)
    assert float(coarse.scales) == 2 * float(fine.scales)
    error = squared(dense(fine) - vector)
    assert error <= (1 - 1 / len(vector)) * squared(vector) * (1 + REST)
    assert bool(((dense(fine) - vector).abs() <= float(fine.scales) / 2).all())


def entropy(codes: Tensor) -> float:
    shares = torch.unique(codes, return_counts=True)[1].double() / len(codes)
    return float(-(shares * shares.log2()).sum())


@pytest.mark.parametrize("bits", [1, 2, 4, 6])
@pytest.mark.parametrize("kind", ["normal", "heavy", "uniform", "shifted"])
def test_entropy_of_ecuq_is_within_the_budget(bits: int, kind: str) -> None:
    generator: Generator = generator_for(3)
    vector = torch.randn(20_000, generator=generator)
    if kind == "heavy":
        vector = vector**5
    elif kind == "uniform":
        vector = torch.rand(20_000, generator=generator)
    elif kind == "shifted":
        vector = vector * 1e-3 - 50
    payload = compress(ECUQ(bits=bits), vector)
    assert isinstance(payload, CodesPayload)
    assert entropy(payload.codes) <= bits
    if kind != "heavy" or bits < 6:
        assert entropy(payload.codes) >= bits - 0.15  # with few cells one more may be too many
    half = float(payload.scales) / 2
    ulp = float(vector.abs().max()) * 2.0**-23
    assert bool(((dense(payload) - vector).abs() <= half + ulp).all())


@given(vector=vectors(max_dim=12, widest=30), bits=st.integers(1, 5))
@SOME
def test_ecuq_of_any_vector(vector: Tensor, bits: int) -> None:
    payload = compress(ECUQ(bits=bits), vector)
    if isinstance(payload, ZeroPayload):
        return
    assert isinstance(payload, CodesPayload)
    assert entropy(payload.codes) <= bits + 1e-12
    spread = float(vector.double().max() - vector.double().min())
    limit = spread / 2 ** (bits + 1) + 2.0**-22 * float(vector.abs().max())
    assert bool(((dense(payload) - vector).abs() <= limit).all())


def test_ecuq_of_a_constant_and_of_one_entry_among_zeros() -> None:
    assert compressed(ECUQ(bits=2), torch.full((5,), -3.5)).tolist() == [-3.5] * 5
    spike = torch.zeros(1000)
    spike[0] = 1
    out = compressed(ECUQ(bits=1), spike)
    assert 0 < float(out[1]) <= 0.25  # not contractive: zeros go to the middle of their cell


@given(vector=vectors(), bits=st.integers(0, 23))
@SOME
def test_truncation_is_a_mask(vector: Tensor, bits: int) -> None:
    copies = vector.repeat(20)  # so that few values are used often
    dropped = 23 - bits
    expected = (copies.view(torch.int32) >> dropped << dropped).view(torch.float32)
    for given_vector in (copies, vector):
        out = compressed(FloatingPoint(mantissa_bits=bits), given_vector)
        assert torch.equal(out, expected[: len(given_vector)].double())
    alpha = FloatingPoint(mantissa_bits=bits).alpha(3)
    assert squared(out - vector) <= (1 - alpha) * squared(vector)


def test_how_truncated_values_are_sent() -> None:
    few, many = torch.randn(5000, generator=generator_for(1)), torch.randn(50)
    assert isinstance(compress(FloatingPoint(mantissa_bits=2), few), CodesPayload)
    for bits, dtype in ((3, torch.bfloat16), (7, torch.bfloat16), (8, torch.float32)):
        payload = compress(FloatingPoint(mantissa_bits=bits), many)
        assert isinstance(payload, DensePayload)
        assert payload.values.dtype == dtype
    assert torch.equal(compressed(FloatingPoint(mantissa_bits=23), many), many.double())


# Signs.


@given(vector=vectors(max_dim=12, widest=40))
@SOME
def test_identities_of_signs(vector: Tensor) -> None:
    energy, dim = squared(vector), len(vector)
    sign_error = squared(compressed(ScaledSign(), vector) - vector)
    expected = energy - norm(vector, 1) ** 2 / dim
    assert sign_error == pytest.approx(expected, rel=REST, abs=REST * energy)
    assert sign_error <= (1 - ScaledSign().alpha(dim)) * energy * (1 + REST) + REST * energy
    out = compressed(OneBit(), vector)
    values = vector.double()
    upper, lower = values[vector >= 0], values[vector < 0]
    spreads = [float(((part - part.mean()) ** 2).sum()) for part in (upper, lower) if len(part)]
    error = squared(out - vector)
    assert error == pytest.approx(sum(spreads), rel=REST, abs=REST * energy)
    assert error <= sign_error + REST * energy
    assert float(out.sum()) == pytest.approx(
        float(values.sum()), rel=0, abs=REST * norm(vector, 1) + 1e-300
    )


def test_golden_signs() -> None:
    assert squared(compressed(ScaledSign(), GOLDEN) - GOLDEN) == pytest.approx(14.71875)
    assert squared(compressed(OneBit(), GOLDEN) - GOLDEN) == pytest.approx(10.8666667, rel=REST)
    assert compressed(ScaledSign(), torch.tensor([0.0, -0.0, -3.0])).tolist() == [1, 1, -1]


CONTRACTIVE = [c for c in BIASED if c.alpha(10) is not None and not isinstance(c, TopKDithering)]


@pytest.mark.parametrize("compressor", CONTRACTIVE, ids=str)
@given(vector=vectors())
@FEW
def test_contraction(compressor: Compressor, vector: Tensor) -> None:
    alpha = compressor.alpha(len(vector))
    assert alpha is not None
    assert 0 < alpha <= 1
    error = squared(compressed(compressor, vector) - vector)
    assert error <= (1 - alpha) * squared(vector) * (1 + REST) + 1e-12 * squared(vector)


# Scales on the wire, and settings.


@given(reach=st.floats(1e-30, 1e30), multiple=st.integers(1, 1000))
@SOME
def test_steps_reach_far_enough_and_hardly_farther(reach: float, multiple: int) -> None:
    step = wire_step(reach, multiple)
    assert step == float(np.float32(step))
    assert reach <= step * multiple <= reach * (1 + 2.0**-22)


@given(number=st.floats(1e-30, 1e38))
@SOME
def test_rounding_down_to_float32(number: float) -> None:
    below = float32_below(number)
    assert below == float(np.float32(below))
    assert number * (1 - 2.0**-23) <= below <= number
    assert float32_below(1e-60) == 2.0**-149
    assert math.isfinite(float32_below(1e300))


def test_steps_that_do_not_fit_are_refused() -> None:
    with pytest.raises(NonFiniteError, match=r"a scale of 1e\+39 does not fit float32"):
        wire_step(1e39, 1)
    assert wire_steps(torch.tensor([1e-60, 0.0], dtype=torch.float64), 1).tolist() == [2.0**-149, 0]
    with pytest.raises(NonFiniteError, match="largest float32"):
        geometric_grid(1.0, 2.0, 3.3e38)


@pytest.mark.parametrize(
    ("kind", "arguments", "complaint"),
    [
        (UnbiasedRounding, {"base": 1.0}, r"base is 1\.0: give a number above 1"),
        (BiasedRounding, {"base": 2000.0}, r"base is 2000\.0"),
        (BiasedRounding, {"base": math.nan}, "base is nan"),
        (StandardDithering, {"levels": 0}, "levels is 0: give 1 to 32767"),
        (StandardDithering, {"levels": 1, "norm": 0.5}, r"norm is 0\.5"),
        (StandardDithering, {"levels": 1, "bucket_size": 0}, "bucket_size is 0"),
        (QSGD, {"levels": 1, "norm": 1.0}, r"norm is 1\.0: give 2 or \.inf"),
        (QSGD, {"levels": 40000}, "levels is 40000"),
        (TernGrad, {"clip": 0.0}, r"clip is 0\.0"),
        (ExponentialDithering, {"levels": 2, "base": 0.5}, r"base is 0\.5"),
        (TopKDithering, {"k": 0, "levels": 2}, "k is 0"),
        (TopKDithering, {"k": 1, "levels": 0}, "levels is 0"),
        (SparseDithering, {"nu": 0.0}, r"nu is 0\.0"),
        (SparseDithering, {"nu": 1.0, "unbiased": False}, r"nu is 1\.0: .* below 1"),
        (FloatingPoint, {"mantissa_bits": 24}, "mantissa_bits is 24: give 0 to 23"),
        (RTN, {"bits": 0}, "bits is 0: give 1 to 16"),
        (ECUQ, {"bits": 16}, "bits is 16: give 1 to 15"),
        (ECUQ, {"bits": 2, "tolerance": 0.0}, r"tolerance is 0\.0"),
    ],
)
def test_settings_out_of_range_are_refused(
    kind: Any, arguments: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(ValueError, match=complaint):
        kind(**arguments)


@pytest.mark.parametrize("kind", [UnbiasedRounding, BiasedRounding])
@pytest.mark.parametrize("base", [1.0000001, 1.0001, math.nextafter(1.0, 2.0)])
def test_a_base_with_too_many_powers_names_a_larger_one(kind: Any, base: float) -> None:
    vector = torch.tensor([1e-10, 1.0, 1e10])
    with pytest.raises(ValueError, match=r"base is 1\.0.*, and 65,535 are the most") as caught:
        compress(kind(base=base), vector)
    larger = float(str(caught.value).rpartition(" ")[2])
    assert larger < 1.001
    assert len(compress(kind(base=larger), vector).to_dense()) == 3
    compress(kind(base=1.0001), torch.tensor([1.0, 2.0]))  # few powers between these


def test_a_variance_too_small_for_codes_names_a_larger_one() -> None:
    with pytest.raises(ValueError, match=r"nu is 1e-40: codes up to .*; give a larger nu, such as"):
        compress(SparseDithering(nu=1e-40), torch.ones(4))
