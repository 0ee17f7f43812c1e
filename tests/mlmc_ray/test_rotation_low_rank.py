"""DRIVE, EDEN and PowerSGD, and the kernel of the nearest centroids."""

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mlmc_ray.compressors.base import Compressor, Context, bound
from mlmc_ray.compressors.low_rank import PowerSGD
from mlmc_ray.compressors.rotation import _TABLES, DRIVE, EDEN
from mlmc_ray.errors import NonFiniteError
from mlmc_ray.kernels.centroids import nearest_centroids
from mlmc_ray.payloads import (
    ConcatPayload,
    DensePayload,
    LowRankPayload,
    Message,
    Payload,
    ZeroPayload,
)
from mlmc_ray.wire import decode, encode
from tests.mlmc_ray.strategies import vectors

FEW = settings(max_examples=40, deadline=None)
WHOLE = [DRIVE(), EDEN(bits=1), EDEN(bits=1.3), EDEN(bits=2), EDEN(bits=3), EDEN(bits=4)]
ROTATIONS = [*WHOLE, DRIVE(unbiased=False), EDEN(bits=0.4)]
EVERY = pytest.mark.parametrize("compressor", [*ROTATIONS, PowerSGD(rank=1)], ids=str)
EVERY_WHOLE = pytest.mark.parametrize("compressor", WHOLE, ids=str)


def compress(compressor: Compressor, vector: Tensor, seed: int = 0) -> Payload:
    return compressor.compress(vector, generator=torch.Generator().manual_seed(seed))


def compressed(compressor: Compressor, vector: Tensor, seed: int = 0) -> Tensor:
    return compress(compressor, vector, seed).to_dense().double()


def received(payload: Payload) -> Payload:
    return decode(encode(Message({"v": payload}))).payloads["v"]


def relative_error(result: Tensor, vector: Tensor) -> float:
    return float((result - vector).square().sum() / vector.double().square().sum())


def normal(dim: int, seed: int = 0) -> Tensor:
    return torch.randn(dim, generator=torch.Generator().manual_seed(seed))


# What holds for all of them.


@EVERY
def test_it_is_a_value(compressor: Any) -> None:
    twin = dataclasses.replace(compressor)
    assert twin == compressor
    assert hash(twin) == hash(compressor)
    assert isinstance(compressor, Compressor)
    assert compressor.omega(10) is None
    assert compressor.alpha(10) == (0.1 if compressor == DRIVE(unbiased=False) else None)
    assert compressor.unbiased == (compressor not in (DRIVE(unbiased=False), PowerSGD(rank=1)))


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
@given(vector=vectors())
@FEW
def test_the_receiver_gets_the_same_and_the_input_stays(
    compressor: Compressor, vector: Tensor
) -> None:
    before = vector.clone()
    payload = compress(compressor, vector)
    assert torch.equal(vector, before)
    assert payload.dim == len(vector)
    assert torch.equal(received(payload).to_dense(), payload.to_dense())
    assert bool(torch.isfinite(payload.to_dense()).all())
    assert torch.equal(compressed(compressor, before), payload.to_dense().double())


@EVERY
def test_other_dtypes_give_the_same(compressor: Compressor) -> None:
    vector = torch.tensor([3.0, -4.0, 0.0, 1.0, -2.0, 0.375, -0.0, -1.25, 1.5])
    expected = compressed(compressor, vector)
    for dtype in (torch.float64, torch.float16, torch.bfloat16):
        assert torch.equal(compressed(compressor, vector.to(dtype)), expected)
    strided = torch.stack([vector, torch.full_like(vector, torch.nan)], dim=1)[:, 0]
    assert torch.equal(compressed(compressor, strided), expected)


@pytest.mark.parametrize("compressor", ROTATIONS, ids=str)
def test_extreme_vectors_come_out_finite_or_are_refused(compressor: Compressor) -> None:
    tiny = 2.0**-149
    for values in ([tiny], [tiny, -3 * tiny, 0.0], [2.0**-130, 1.0], [-(2.0**100)], [0.1] * 4):
        payload = compress(compressor, torch.tensor(values))
        assert bool(torch.isfinite(payload.to_dense()).all())
        assert torch.equal(received(payload).to_dense(), payload.to_dense())
    small = compress(compressor, torch.full((4,), 1e-300, dtype=torch.float64))
    assert not small.to_dense().any()
    for vector in (torch.full((4,), 3.3e38), torch.full((4,), 1e300, dtype=torch.float64)):
        with pytest.raises(NonFiniteError, match="may not fit float32"):
            compress(compressor, vector)


@pytest.mark.parametrize("compressor", ROTATIONS, ids=str)
@given(vector=vectors(widest=20), exponent=st.integers(-60, 60))
@FEW
def test_scaling_by_a_power_of_two_scales_the_result(
    compressor: Compressor, vector: Tensor, exponent: int
) -> None:
    out = compressed(compressor, vector)
    assert torch.equal(compressed(compressor, vector * 2.0**exponent), out * 2.0**exponent)


# Rotations.


@EVERY_WHOLE
@given(vector=vectors(max_dim=40), seed=st.integers(0, 1 << 30))
@FEW
def test_the_inner_product_is_kept_in_every_draw(
    compressor: Compressor, vector: Tensor, seed: int
) -> None:
    wide = vector.double()
    energy = float(wide @ wide)
    result = compressed(compressor, vector, seed)
    # The rounding of float32, in proportion to what is multiplied.
    margin = 1e-5 * float(result.norm() * wide.norm())
    assert float(result @ wide) == pytest.approx(energy, abs=margin)


@pytest.mark.parametrize("compressor", [c for c in WHOLE if c != EDEN(bits=1.3)], ids=str)
@pytest.mark.parametrize("dim", [1, 2, 64, 1 << 14])
def test_one_entry_is_recovered_at_powers_of_two(compressor: Compressor, dim: int) -> None:
    for place in {0, dim // 2, dim - 1}:
        vector = torch.zeros(dim)
        vector[place] = -3.0
        assert relative_error(compressed(compressor, vector), vector) < 1e-10


def test_of_two_entries_the_smaller_is_lost() -> None:
    # What the docstring says of the bias for few entries, and of the largest error.
    vector = torch.zeros(64)
    vector[3], vector[40] = 2.0, -1.0
    for seed in range(5):
        expected = torch.zeros(64, dtype=torch.float64)
        expected[3] = 2.5
        assert compressed(DRIVE(), vector, seed) == pytest.approx(expected, abs=1e-5)


def limits(distortion: float) -> float:
    return distortion / (1 - distortion)


LIMITS = [
    (DRIVE(), math.pi / 2 - 1),
    (DRIVE(unbiased=False), 1 - 2 / math.pi),
    (EDEN(bits=1), 0.5708),
    (EDEN(bits=1.25), limits(0.75 * 0.36338 + 0.25 * 0.117482)),
    (EDEN(bits=2), limits(0.117482)),
    (EDEN(bits=3), limits(0.034548)),
    (EDEN(bits=4), limits(0.009501)),
    (EDEN(bits=0.5), math.pi - 1),
]


def test_the_limits_are_those_of_the_paper() -> None:
    found = [limits(d) for d in (0.36338, 0.117482, 0.034548, 0.009501)]
    assert found == pytest.approx([0.5708, 0.13312, 0.03578, 0.009592], rel=1e-3)


@pytest.mark.parametrize(("compressor", "limit"), LIMITS, ids=str)
@pytest.mark.parametrize("dim", [1 << 16, 100_003, (1 << 17) - 1])
def test_errors_tend_to_their_limits(compressor: Compressor, limit: float, dim: int) -> None:
    for vector in (normal(dim), torch.ones(dim)):
        error = relative_error(compressed(compressor, vector), vector)
        assert error == pytest.approx(limit, rel=0.03)


@pytest.mark.parametrize(("compressor", "limit"), LIMITS[:-1], ids=str)
@pytest.mark.parametrize("dim", [1 << 16, 100_003, (1 << 17) - 1])
def test_errors_are_those_where_only_one_transform_reaches(
    compressor: Compressor, limit: float, dim: int
) -> None:
    # The squares of a smooth vector's transform are correlated, so that fewer of them count. With
    # one scale for both transforms the error would be up to three times its limit.
    vector = torch.exp(-10 * torch.arange(dim) / dim)
    errors = [relative_error(compressed(compressor, vector, seed), vector) for seed in range(5)]
    assert sum(errors) / 5 == pytest.approx(limit, rel=0.1)


@EVERY_WHOLE
@pytest.mark.parametrize("dim", [1 << 12, 5000, (1 << 13) - 1])
def test_it_is_nearly_unbiased(compressor: Compressor, dim: int) -> None:
    # The mean of n independent unbiased draws is off by (omega / n)|v|^2 in expectation, and the
    # concentration over d entries is much better than the tenth that is allowed here. A bias as of
    # the scale of least error, 0.36^2 = 0.13, is far outside for 1 bit.
    vector, num_draws = normal(dim), 100
    draws = [compressed(compressor, vector, seed) for seed in range(num_draws)]
    omega = sum(relative_error(draw, vector) for draw in draws) / num_draws
    mean = torch.stack(draws).mean(dim=0)
    assert relative_error(mean, vector) == pytest.approx(omega / num_draws, rel=0.1)
    # The same for the parts that the two transforms mix differently.
    for part in (slice(0, 900), slice(dim - 900, dim)):
        kept = float(mean[part] @ vector[part].double()) / float(vector[part].double().norm() ** 2)
        assert kept == pytest.approx(1, abs=0.02)


@given(vector=vectors(max_dim=40, widest=20), seed=st.integers(0, 1 << 30))
@FEW
def test_the_least_error_contracts(vector: Tensor, seed: int) -> None:
    compressor = DRIVE(unbiased=False)
    error = (compressed(compressor, vector, seed) - vector).square().sum()
    energy = vector.double().square().sum()
    assert error <= (1 - compressor.alpha(len(vector)) + 1e-5) * energy  # type: ignore[operator]


@pytest.mark.parametrize("dim", [1 << 16, 100_003])
def test_sizes_of_frames(dim: int) -> None:
    entropies = {0.5: 0.5, 1: 1, 1.5: (1 + 1.911) / 2, 2: 1.911, 3: 2.825, 4: 3.765}
    for bits, entropy in entropies.items():
        frame = encode(Message({"v": compress(EDEN(bits=bits), normal(dim))}))
        assert 8 * len(frame) / dim <= 1.01 * entropy + 0.005
    frame = encode(Message({"v": compress(EDEN(bits=1), normal(dim))}))
    assert 8 * len(frame) / dim <= 1.01


def test_rates_are_checked() -> None:
    for bits in (0, -1, 4.5, math.nan):
        with pytest.raises(ValueError, match="give a rate above 0, up to 4"):
            EDEN(bits=bits)


def test_paper_costs() -> None:
    costs = [DRIVE().paper_cost(1000), EDEN(bits=1.5).paper_cost(1000)]
    assert [cost.bits for cost in costs] == [1064, 1564]


# Centroids.


def density(t: float) -> float:
    return math.exp(-t * t / 2) / math.sqrt(2 * math.pi)


def below(t: float) -> float:
    return (1 + math.erf(t / math.sqrt(2))) / 2


@pytest.mark.parametrize(
    ("bits", "distortion"), [(1, 0.36338), (2, 0.117482), (3, 0.034548), (4, 0.009501)]
)
def test_centroids_meet_the_conditions_of_lloyd(bits: int, distortion: float) -> None:
    centroids = np.array(_TABLES[bits].entries)
    assert len(centroids) == 2**bits
    ends = [-math.inf, *((centroids[1:] + centroids[:-1]) / 2), math.inf]
    energy = 0.0
    for centroid, low, high in zip(centroids, ends, ends[1:], strict=False):
        mass = below(high) - below(low)
        assert (density(low) - density(high)) / mass == pytest.approx(centroid, abs=1e-6)
        energy += mass * centroid**2
    assert 1 - energy == pytest.approx(distortion, abs=1e-6)


@given(vector=vectors(max_dim=50, widest=30), size=st.integers(1, 20), unit=st.floats(0.1, 10))
@FEW
def test_the_nearest_centroid_is_taken(vector: Tensor, size: int, unit: float) -> None:
    values = vector.contiguous().numpy()
    centroids = np.sort(np.random.default_rng(size).normal(size=size))
    codes, product = nearest_centroids(vector, centroids, unit)
    heights = values.astype(np.float64) / unit
    distances = np.abs(heights[:, None] - centroids)
    chosen = distances[np.arange(len(values)), codes]
    assert (chosen <= distances.min(axis=1) + 1e-6 * (1 + np.abs(heights))).all()
    parts = centroids[codes] * values
    assert product == pytest.approx(parts.sum(), abs=1e-12 * np.abs(parts).sum())


def test_ties_go_up() -> None:
    codes, product = nearest_centroids(torch.zeros(3), np.array([-1.0, 1.0]), 1.0)
    assert codes.tolist() == [1, 1, 1]
    assert product == 0


# Low rank.


def bind(compressor: PowerSGD, *shapes: tuple[int, ...], seed: int = 0) -> PowerSGD:
    context = Context(torch.Generator(), shared_seed=seed, layer_shapes=shapes)
    result = bound(compressor, context)
    assert isinstance(result, PowerSGD)
    return result


def matrix_of_rank(rank: int, rows: int, columns: int) -> Tensor:
    return normal(rows * rank, 1).view(rows, rank) @ normal(rank * columns, 2).view(rank, columns)


@pytest.mark.parametrize("iterations", [1, 3])
@pytest.mark.parametrize(("rows", "columns"), [(40, 30), (30, 40), (12, 100)])
def test_matrices_of_low_rank_come_out_exact(rows: int, columns: int, iterations: int) -> None:
    for true_rank in (1, 2, 4):
        vector = matrix_of_rank(true_rank, rows, columns).flatten()
        compressor = bind(PowerSGD(rank=4, iterations=iterations), (rows, columns), seed=7)
        payload = compress(compressor, vector)
        assert isinstance(payload, ConcatPayload)
        assert isinstance(payload.parts[0], LowRankPayload)
        assert relative_error(payload.to_dense().double(), vector) < 1e-10


@pytest.mark.parametrize("iterations", [1, 2])
def test_it_is_a_projection(iterations: int) -> None:
    vector = normal(60 * 50)
    compressor = bind(PowerSGD(rank=3, iterations=iterations), (60, 50))
    payload = compress(compressor, vector)
    assert isinstance(payload, ConcatPayload)
    (part,) = payload.parts
    assert isinstance(part, LowRankPayload)
    matrix, left = vector.view(60, 50).double(), part.left.double()
    assert (left.T @ left - torch.eye(3)).abs().max() < 1e-5
    result = payload.to_dense().double().view(60, 50)
    assert (result - left @ left.T @ matrix).abs().max() < 1e-5
    error = (result - matrix).square().sum()
    assert float(error) == pytest.approx(
        float(matrix.square().sum() - (left.T @ matrix).square().sum()), rel=1e-5
    )


def test_iterations_approach_the_best_projection() -> None:
    matrix = normal(60 * 50).view(60, 50) * 0.9 ** torch.arange(50)
    best = float(torch.linalg.svdvals(matrix)[3:].square().sum() / matrix.square().sum())
    errors = [
        relative_error(
            compressed(bind(PowerSGD(rank=3, iterations=n), (60, 50)), matrix.flatten()),
            matrix.flatten(),
        )
        for n in (1, 2, 20)
    ]
    assert errors[0] > errors[1] > errors[2] > best * (1 - 1e-6)
    assert errors[2] == pytest.approx(best, rel=1e-2)


def test_layers_are_sent_by_their_shapes() -> None:
    shapes = ((8, 3, 2, 2), (8,), (), (0, 4), (2, 2), (10, 20), (1, 9), (30, 30))
    sizes = [math.prod(shape) for shape in shapes]
    vector = normal(sum(sizes))
    vector[-900:] = 0
    compressor = bind(PowerSGD(rank=2), *shapes)
    payload = compress(compressor, vector)
    assert isinstance(payload, ConcatPayload)
    kinds = [LowRankPayload, DensePayload, DensePayload, DensePayload, LowRankPayload]
    assert [type(part) for part in payload.parts] == [*kinds, DensePayload, ZeroPayload]
    assert [part.dim for part in payload.parts] == [size for size in sizes if size]
    assert torch.equal(received(payload).to_dense(), payload.to_dense())
    assert torch.equal(payload.to_dense()[96:109], vector[96:109])
    numbers = 2 * (8 + 12) + 8 + 1 + 4 + 2 * (10 + 20) + 9 + 2 * (30 + 30)
    assert compressor.paper_cost(len(vector)).bits == 64 * numbers


def test_without_shapes_everything_is_sent() -> None:
    vector = normal(12)
    assert torch.equal(compressed(PowerSGD(rank=1), vector), vector.double())
    assert PowerSGD(rank=1).paper_cost(12).bits == 64 * 12


def test_layers_must_fit_the_vector() -> None:
    with pytest.raises(ValueError, match="layer_shapes hold 6 entries, and the vector has 7"):
        compress(bind(PowerSGD(rank=1), (2, 3)), torch.ones(7))


def test_rounds_and_layers_have_draws_of_their_own() -> None:
    block = normal(20 * 20)
    vector = torch.cat([block, block])
    first = compressed(bind(PowerSGD(rank=1), (20, 20), (20, 20), seed=1), vector)
    again = compressed(bind(PowerSGD(rank=1), (20, 20), (20, 20), seed=1), vector, seed=9)
    other = compressed(bind(PowerSGD(rank=1), (20, 20), (20, 20), seed=2), vector)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert not torch.equal(first[:400], first[400:])


@pytest.mark.parametrize("exponent", [-140, -60, 60, 100])
def test_matrices_of_any_size_of_entries(exponent: int) -> None:
    matrix = matrix_of_rank(2, 9, 11).flatten()
    compressor = bind(PowerSGD(rank=2), (9, 11))
    scaled = matrix * 2.0**exponent
    margin = 1e-9 if exponent > -140 else 1e-2  # subnormal numbers have few digits
    assert relative_error(compressed(compressor, scaled) * 2.0**-exponent, matrix) < margin


def test_products_beyond_float32_are_refused() -> None:
    compressor = bind(PowerSGD(rank=1), (9, 11))
    with pytest.raises(NonFiniteError, match=r"layer 0.* may not fit float32"):
        compress(compressor, torch.full((99,), 3.3e38))


def test_fields_are_checked() -> None:
    with pytest.raises(ValueError, match="rank is 0: give at least 1 column"):
        PowerSGD(rank=0)
    with pytest.raises(ValueError, match="iterations is 0: give at least 1"):
        PowerSGD(rank=1, iterations=0)
