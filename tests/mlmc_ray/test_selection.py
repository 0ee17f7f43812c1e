"""Selections, digits and rotations, against the plain definitions."""

import math
from fractions import Fraction

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mlmc_ray.kernels.digits import digit_counts, digit_positions
from mlmc_ray.kernels.finite import scan
from mlmc_ray.kernels.hadamard import rotate, unrotate
from mlmc_ray.kernels.magnitudes import magnitude_histogram, middles, rank_energies
from mlmc_ray.kernels.select import entries_between, largest, largest_entries
from mlmc_ray.ladders.fixed_point import FixedPointLadder
from tests.mlmc_ray.strategies import vectors

SOME = settings(max_examples=50)
SUBNORMAL = 2.0**-149
LARGE_DIM = 200_000

_TIED = st.sampled_from([0.0, -0.0, 1.0, -1.0, 3.0, SUBNORMAL, -SUBNORMAL, 3 * SUBNORMAL, 3e38])
TIED_VECTORS = st.lists(_TIED, min_size=1, max_size=150).map(torch.tensor)


def ranked(vector: Tensor) -> npt.NDArray[np.int64]:
    """All positions by decreasing magnitude, ties by ascending position."""
    return np.argsort(-np.abs(vector.numpy()), kind="stable")


def check_selections(vector: Tensor, low: int, high: int) -> None:
    kept = vector.clone()
    order = ranked(vector)
    chosen = largest_entries(vector, high)
    assert chosen.dtype == torch.int64
    np.testing.assert_array_equal(chosen.numpy(), np.sort(order[:high]))
    np.testing.assert_array_equal(largest(vector.abs(), high).numpy(), chosen.numpy())
    between = entries_between(vector, low, high)
    assert between.dtype == torch.int64
    np.testing.assert_array_equal(between.numpy(), np.sort(order[low:high]))
    counts = magnitude_histogram(vector)
    assert torch.equal(entries_between(vector, low, high, counts), between)
    assert torch.equal(vector, kept)


@given(vector=st.one_of(vectors(max_dim=12), TIED_VECTORS), data=st.data())
@SOME
def test_selections_are_parts_of_a_stable_sort(vector: Tensor, data: st.DataObject) -> None:
    high = data.draw(st.integers(0, len(vector)))
    low = data.draw(st.integers(0, high))
    check_selections(vector, low, high)
    check_selections(vector.to(torch.float64), low, high)
    check_selections(vector, 0, len(vector))
    check_selections(vector, high, high)


def adversarial_vectors() -> dict[str, npt.NDArray[np.float32]]:
    generator = np.random.default_rng(0)
    gaussian = generator.standard_normal(LARGE_DIM, dtype=np.float32)
    lone, spikes = np.zeros_like(gaussian), gaussian.copy()
    lone[123_456] = -3e38
    spikes[::12] = 100 + gaussian[::12]  # a sample with an even step sees too many of them
    subnormal = generator.integers(-50, 50, LARGE_DIM).astype(np.float32) * np.float32(SUBNORMAL)
    return {
        "gaussian": gaussian,
        "zeros": np.zeros_like(gaussian),
        "equal": np.full_like(gaussian, -0.7),
        "equal magnitudes": np.sign(gaussian),
        "ascending": np.sort(gaussian),
        "descending": np.sort(gaussian)[::-1],
        "few values": np.round(gaussian),
        "one entry": lone,
        "one huge entry": gaussian + lone,
        "mostly zero": np.where(np.abs(gaussian) > 3, gaussian, 0).astype(np.float32),
        "periodic": spikes,
        "one bin": (1 + 1e-3 * generator.random(LARGE_DIM)).astype(np.float32),
        "subnormal": subnormal,
        "wide": gaussian * np.exp2(generator.integers(-120, 120, LARGE_DIM)).astype(np.float32),
    }


@pytest.mark.parametrize("name", adversarial_vectors())
def test_selections_of_adversarial_vectors(name: str) -> None:
    vector = torch.from_numpy(adversarial_vectors()[name].copy())
    order = ranked(vector)
    counts = magnitude_histogram(vector)
    for k in (1, 2, 500, 2000, 12_500, 12_501, LARGE_DIM // 2, LARGE_DIM - 1, LARGE_DIM):
        np.testing.assert_array_equal(largest_entries(vector, k).numpy(), np.sort(order[:k]))
        low = k - k // 3
        between = entries_between(vector, low, k, counts)
        np.testing.assert_array_equal(between.numpy(), np.sort(order[low:k]))


def test_the_gradient_of_a_parameter_may_be_selected_from() -> None:
    vector = torch.tensor([1.0, -3.0, 2.0], requires_grad=True)
    assert largest_entries(vector, 2).tolist() == [1, 2]
    assert entries_between(vector, 1, 2).tolist() == [2]
    assert magnitude_histogram(vector).sum() == 3
    assert scan(vector) == (True, 3.0)


@pytest.mark.parametrize(("low", "high"), [(-1, 2), (2, 1), (0, 4)])
def test_ranks_out_of_range_are_refused(low: int, high: int) -> None:
    with pytest.raises(ValueError, match="expected 0 <= low <= high <= 3"):
        entries_between(torch.ones(3), low, high)


def test_k_out_of_range_is_refused() -> None:
    for k in (-1, 4):
        with pytest.raises(ValueError, match=f"ranks 0 to {k}"):
            largest_entries(torch.ones(3), k)


@pytest.mark.parametrize("other", [0.0, 0.5, 2.0, 1e30])
def test_another_vectors_histogram_is_refused(other: float) -> None:
    vector = torch.from_numpy(adversarial_vectors()["gaussian"])
    counts = magnitude_histogram(torch.full_like(vector, other))
    with pytest.raises(ValueError, match="not the histogram"):
        entries_between(vector, 10, 1000, counts)


def test_nothing_of_nothing() -> None:
    empty = torch.zeros(0)
    assert largest_entries(empty, 0).tolist() == []
    assert entries_between(empty, 0, 0).tolist() == []
    assert not magnitude_histogram(empty).any()
    assert scan(empty) == (True, 0.0)
    assert rotate(empty.numpy(), 0).tolist() == []
    assert digit_counts(empty.numpy(), 0).tolist() == []


@given(vector=st.one_of(vectors(max_dim=12), TIED_VECTORS))
@SOME
def test_the_histogram_counts(vector: Tensor) -> None:
    counts = magnitude_histogram(vector)
    assert counts.dtype == np.int64
    bits = np.abs(vector.contiguous().numpy()).view(np.uint32).astype(np.int64)
    bins = -(-bits // 2**15)
    np.testing.assert_array_equal(counts, np.bincount(bins, minlength=(1 << 16) + 1))


@given(vector=vectors(max_dim=12))
@SOME
def test_the_middle_of_a_bin_is_near_to_all_in_it(vector: Tensor) -> None:
    for value in vector.abs().tolist():
        (bins,) = np.nonzero(magnitude_histogram(torch.tensor([value])))
        tolerance = max(value / 2**9, 2.0**-135)  # half the width of a bin
        assert middles(bins) == pytest.approx(value, rel=0, abs=tolerance)
        assert (middles(bins) > 0) == (value > 0)


@pytest.mark.parametrize("size", [1, 7, 1000, 4096, 5000])
@pytest.mark.parametrize("zeros", [0, 1500, 4096])
def test_energies_are_sums_over_entries_from_the_largest_down(size: int, zeros: int) -> None:
    draws = np.random.default_rng(size)
    vector = (draws.standard_normal(4096) * draws.random(4096) ** 30).astype(np.float32)
    vector[:zeros] = 0
    counts = magnitude_histogram(torch.from_numpy(vector))
    found = rank_energies(counts, size)
    bins = np.flatnonzero(counts)
    squares = np.repeat(middles(bins) ** 2, counts[bins])[::-1]
    expected = [squares[start : start + size].sum() for start in range(0, 4096, size)]
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=0)
    assert len(found) == len(expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_scan_finds_the_largest_magnitude(dtype: torch.dtype) -> None:
    vector = torch.tensor([1.0, -2.5, 0.0, 2.0], dtype=dtype)
    assert scan(vector) == (True, 2.5)
    assert scan(vector[::2]) == (True, 1.0)
    vector[0] = -math.inf
    assert scan(vector) == (False, math.inf)
    vector[3] = math.nan
    finite, largest_magnitude = scan(vector)
    assert not finite
    assert math.isnan(largest_magnitude)


@pytest.mark.parametrize("dim", [1, 2, 3, 5, 8, 1000, 1024, 4097, 40_000])
def test_a_rotation_keeps_lengths_and_angles(dim: int) -> None:
    generator = np.random.default_rng(dim)
    a, b = generator.standard_normal((2, dim), dtype=np.float32)
    kept = a.copy()
    rotated_a, rotated_b = rotate(a, 7), rotate(b, 7)
    assert rotated_a.dtype == np.float32
    np.testing.assert_array_equal(a, kept)
    scale = float(np.linalg.norm(a) * np.linalg.norm(b))
    assert abs(float(rotated_a @ rotated_b) - float(a @ b)) < 2e-6 * scale
    assert np.linalg.norm(rotated_a) == pytest.approx(np.linalg.norm(a), rel=2e-6)
    np.testing.assert_allclose(unrotate(rotated_a, 7), a, rtol=0, atol=5e-6)
    np.testing.assert_allclose(rotate(unrotate(a, 7), 7), a, rtol=0, atol=5e-6)


@pytest.mark.parametrize("dim", [1, 2, 3, 5, 8, 100, 256])
def test_a_rotation_is_its_definition(dim: int) -> None:
    span = 1 << (dim.bit_length() - 1)
    hadamard: npt.NDArray[np.float64] = np.ones((1, 1))
    while len(hadamard) < span:
        hadamard = np.kron(np.array([[1.0, 1.0], [1.0, -1.0]]), hadamard).astype(np.float64)
    stream = np.random.Philox(key=12345)
    matrix = np.eye(dim)
    for start in sorted({0, dim - span}):
        words = np.array([stream.random_raw() for _ in range(-(-span // 64))], dtype="<u8")
        bits = np.unpackbits(words.view(np.uint8), bitorder="little")[:span]
        step = np.eye(dim)
        part = slice(start, start + span)
        step[part, part] = hadamard * (1.0 - 2 * bits) / math.sqrt(span)
        matrix = step @ matrix
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(dim), atol=1e-12)
    rows = np.stack([rotate(row, 12345) for row in np.eye(dim, dtype=np.float32)])
    np.testing.assert_allclose(rows.T, matrix, rtol=0, atol=1e-6)


def test_a_large_rotation_spreads_one_entry_over_all() -> None:
    dim = 1 << 17
    vector = np.zeros(dim, dtype=np.float32)
    vector[4321] = 1.0
    rotated = rotate(vector, 3)
    np.testing.assert_allclose(np.abs(rotated), 1 / math.sqrt(dim), rtol=1e-6)
    distances = 1 << np.arange(17)  # row 4321 of H: signs flip with the bits of 4321
    flips = np.sign(rotated[distances]) != np.sign(rotated[0])
    np.testing.assert_array_equal(flips, (4321 & distances) > 0)


def test_rotations_are_known_by_their_seed() -> None:
    ones = np.ones(6, dtype=np.float32)
    assert rotate(ones, 1).tolist() == rotate(ones, 1).tolist()
    assert rotate(ones, 1).tolist() != rotate(ones, 2).tolist()
    assert rotate(np.ones(8, dtype=np.float32)[::2], 9).shape == (4,)


DIGIT_VECTORS = st.one_of(vectors(max_dim=12, widest=126), TIED_VECTORS)


def plain_digit(value: float, exponent: int, level: int) -> int:
    """Digit ``level`` of |value| / 2^exponent, in exact arithmetic."""
    return math.floor(Fraction(abs(value)) / Fraction(2) ** (exponent - level)) & 1


@given(vector=DIGIT_VECTORS, above=st.integers(0, 3), data=st.data())
@SOME
def test_digits_are_those_of_the_ladder(vector: Tensor, above: int, data: st.DataObject) -> None:
    values = vector.numpy()
    exponent = int(np.frexp(np.abs(values).max())[1])
    levels = FixedPointLadder().levels(vector)
    counts = digit_counts(values, exponent)
    assert counts.dtype == np.int64
    assert len(counts) == len(levels)
    sizes = np.array([2.0 ** (exponent - level) for level in range(1, len(levels) + 1)])
    np.testing.assert_allclose(sizes * np.sqrt(counts), levels.norms().numpy(), rtol=1e-15)
    if len(levels) == 0:
        return
    level = data.draw(st.integers(1, len(levels)))
    positions, negative = digit_positions(values, exponent, level)
    digits = [plain_digit(value, exponent, level) for value in values.tolist()]
    assert positions.tolist() == np.flatnonzero(digits).tolist()
    assert negative.tolist() == np.signbit(values[positions]).tolist()
    assert counts[level - 1] == sum(digits)
    increment = np.zeros(len(values))
    increment[positions] = np.where(negative, -1, 1) * sizes[level - 1]
    np.testing.assert_array_equal(increment, levels.increment(level).to_dense().numpy())
    # A larger scale than needed shifts the digits.
    shifted = digit_counts(values, exponent + above)
    assert shifted.tolist() == [0] * above + counts.tolist()
    assert digit_positions(values, exponent + above, level + above)[0].tolist() == (
        positions.tolist()
    )


@pytest.mark.parametrize("name", ["gaussian", "zeros", "mostly zero", "subnormal", "wide"])
def test_digits_of_long_vectors_add_up(name: str) -> None:
    values = adversarial_vectors()[name]
    exponent = int(np.frexp(np.abs(values).max())[1])
    counts = digit_counts(values, exponent)
    total = np.zeros(LARGE_DIM)
    for level, count in enumerate(counts.tolist(), start=1):
        positions, negative = digit_positions(values, exponent, level)
        assert len(positions) == count
        total[positions] += np.where(negative, -1, 1) * 2.0 ** (exponent - level)
    np.testing.assert_array_equal(total, values)


def test_digits_beyond_the_last() -> None:
    values = np.array([1.0, -3e38, SUBNORMAL], dtype=np.float32)
    assert len(digit_counts(values, 128)) == 128 + 149
    for level in (0, -5, 128 + 150, 500, 1 << 40):
        positions, negative = digit_positions(values, 128, level)
        assert positions.tolist() == negative.tolist() == []


def test_a_scale_below_a_magnitude_is_refused() -> None:
    with pytest.raises(ValueError, match=r"not below 2\^1"):
        digit_counts(np.array([0.5, -2.0], dtype=np.float32), 1)
