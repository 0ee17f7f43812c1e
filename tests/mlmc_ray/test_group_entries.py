"""Squares and entries of groups, against the definition."""

import numpy as np
import pytest

from mlmc_ray.kernels.shared_rounding import group_entries, group_squares


@pytest.mark.parametrize("interleaved", [True, False])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("size", [1, 2, 64])
@pytest.mark.parametrize("dim", [1, 63, 64, 65, 5000, 131_100])
def test_groups_are_those_of_the_definition(
    dim: int, size: int, dtype: type[np.floating], interleaved: bool
) -> None:
    rng = np.random.default_rng(dim)
    values = rng.standard_normal(dim).astype(dtype)
    number = -(-dim // size)
    padded = np.zeros(number * size)
    padded[:dim] = values
    every = padded.reshape(size, number).T if interleaved else padded.reshape(number, size)
    squares = np.zeros(number)
    for j in range(size):  # the sum has one order, so that it is the same everywhere
        squares += every[:, j] ** 2
    np.testing.assert_array_equal(group_squares(values, size, number, interleaved), squares)
    groups = np.flatnonzero(rng.random(number) < 0.5)
    found = group_entries(values, groups, size, number, interleaved)
    np.testing.assert_array_equal(found, every[groups])
