import math
from collections import Counter
from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mlmc_ray.kernels.packing import (
    pack_bits,
    unpack_bits,
    width_of,
)
from mlmc_ray.kernels.select import largest, rank
from mlmc_ray.kernels.subset import random_subset
from tests.mlmc_ray.strategies import vectors

SOME = settings(max_examples=50)


@given(vector=vectors(max_dim=12), data=st.data())
@SOME
def test_largest_is_the_start_of_a_stable_sort(vector: Tensor, data: st.DataObject) -> None:
    k = data.draw(st.integers(0, len(vector)))
    magnitudes = vector.abs().tolist()
    ranked = sorted(range(len(magnitudes)), key=lambda j: (-magnitudes[j], j))
    chosen = largest(vector.abs(), k)
    assert chosen.dtype == torch.int64
    assert chosen.tolist() == sorted(ranked[:k])


def test_largest_breaks_ties_by_the_lower_position() -> None:
    assert largest(torch.tensor([1.0, 2.0, 1.0, 2.0, 1.0]), 3).tolist() == [0, 1, 3]
    assert largest(torch.zeros(5), 2).tolist() == [0, 1]


@given(vector=vectors(max_dim=12))
@SOME
def test_rank_is_a_stable_sort(vector: Tensor) -> None:
    for magnitudes in (vector.abs(), vector.abs().to(torch.float64)):
        values = magnitudes.tolist()
        ranked = sorted(range(len(values)), key=lambda j: (-values[j], j))
        assert rank(magnitudes).tolist() == ranked


def test_rank_at_the_ends_of_the_range() -> None:
    magnitudes = torch.tensor([0.0, 3.4e38, 1e-45, 0.0, 1.0, 3.4e38])
    assert rank(magnitudes).tolist() == [1, 5, 4, 2, 0, 3]
    assert rank(torch.zeros(0)).tolist() == []


@pytest.mark.parametrize(
    ("bound", "width"), [(1, 1), (2, 1), (3, 2), (4, 2), (5, 3), (256, 8), (257, 9), (1 << 32, 32)]
)
def test_width_of_a_bound(bound: int, width: int) -> None:
    assert width_of(bound) == width


@given(width=st.integers(1, 40), data=st.data())
@SOME
def test_bits_come_back(width: int, data: st.DataObject) -> None:
    numbers = data.draw(st.lists(st.integers(0, (1 << width) - 1), max_size=20))
    packed = pack_bits(np.array(numbers, dtype=np.int64), width)
    assert len(packed) == math.ceil(len(numbers) * width / 8)
    assert unpack_bits(packed, len(numbers), width).tolist() == numbers


def test_bits_are_packed_low_bit_first() -> None:
    assert pack_bits(np.array([1, 2, 3]), 2) == bytes([0b111001])
    assert pack_bits(np.array([0x155]), 9) == bytes([0x55, 0x01])


@pytest.mark.parametrize(
    ("data", "count", "complaint"),
    [
        (b"", 1, "expected 1 bytes, got 0"),
        (b"\x00\x00", 1, "expected 1 bytes, got 2"),
        (b"\x08", 1, "unused bits"),
    ],
)
def test_bits_that_were_not_packed_are_refused(data: bytes, count: int, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        unpack_bits(data, count, 3)


def first_distinct_draws(seed: int, dim: int, size: int) -> set[int]:
    """Draw one number at a time, as the definition has it."""
    stream = np.random.Philox(key=seed)
    seen: set[int] = set()
    while len(seen) < size:
        raw = int(stream.random_raw())
        if raw < (1 << 64) // dim * dim:
            seen.add(raw % dim)
    return seen


@given(seed=st.integers(0, (1 << 64) - 1), dim=st.integers(1, 200), data=st.data())
@SOME
def test_a_subset_is_the_first_distinct_draws(seed: int, dim: int, data: st.DataObject) -> None:
    size = data.draw(st.integers(0, dim))
    if 2 * size <= dim:
        expected = first_distinct_draws(seed, dim, size)
    else:
        expected = set(range(dim)) - first_distinct_draws(seed, dim, dim - size)
    drawn = random_subset(seed, dim, size)
    assert drawn.dtype == np.int64
    assert drawn.tolist() == sorted(expected)


@pytest.mark.parametrize(("dim", "size"), [(5000, 4), (5000, 5), (100_000, 48_000)])
def test_a_subset_is_the_same_for_few_draws_and_for_many(dim: int, size: int) -> None:
    expected = sorted(first_distinct_draws(3, dim, size))
    assert random_subset(3, dim, size).tolist() == expected
    rest = set(range(dim)) - set(expected)
    assert random_subset(3, dim, dim - size).tolist() == sorted(rest)


@pytest.mark.parametrize(
    ("seed", "dim", "size", "subset"),
    [
        (0, 10, 3, [6, 8, 9]),
        (1, 10, 3, [5, 7, 8]),
        (3, 10, 8, [0, 1, 2, 3, 4, 6, 7, 8]),
        (4, 10, 5, [0, 1, 4, 5, 8]),
        (4, 11, 6, [0, 1, 4, 5, 6, 7]),
        (7, 6, 0, []),
        (7, 6, 6, [0, 1, 2, 3, 4, 5]),
        (5, 1, 1, [0]),
        ((1 << 64) - 1, 1000, 4, [150, 199, 260, 347]),
        (12345678901234567890, 10**12, 3, [209532563704, 472730208218, 894951839630]),
    ],
)
def test_subsets_are_part_of_the_wire_format(
    seed: int, dim: int, size: int, subset: list[int]
) -> None:
    assert random_subset(seed, dim, size).tolist() == subset


DELTA = 1e-9  # a correct sampler fails this test with at most this probability


@pytest.mark.parametrize("size", [2, 3])
def test_every_subset_is_equally_likely(size: int) -> None:
    n, subsets = 12_000, list(combinations(range(5), size))
    margin = math.sqrt(math.log(2 * len(subsets) / DELTA) / (2 * n))  # Hoeffding, union bound
    assert margin < 0.032  # each of the ten has 0.1: one of 0.03 or 0.17 is caught
    counts = Counter(tuple(random_subset(seed, 5, size).tolist()) for seed in range(n))
    assert set(counts) == set(subsets)
    assert all(abs(counts[subset] / n - 1 / len(subsets)) <= margin for subset in subsets)
