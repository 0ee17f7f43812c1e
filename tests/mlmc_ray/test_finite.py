"""Looking for NaN and infinity in one pass."""

import math

import pytest
import torch

from mlmc_ray.kernels.finite import all_finite


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("size", [1, 2, 7, 64, 1000, 100_003])
def test_one_bad_entry_is_found_wherever_it_is(size: int, value: float, dtype: torch.dtype) -> None:
    for place in {0, size // 2, size - 1}:
        vector = torch.zeros(size, dtype=dtype)
        vector[place] = value
        assert not all_finite(vector)
        assert not all_finite(torch.stack([vector, vector], dim=1)[:, 0])  # not contiguous


def test_nan_is_found_beside_infinity() -> None:
    assert not all_finite(torch.tensor([math.inf, math.nan, -math.inf, 1.0]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_finite_vectors(dtype: torch.dtype) -> None:
    largest = torch.finfo(dtype).max
    assert all_finite(torch.tensor([largest, -largest, 0.0, 1e-45], dtype=dtype))
    assert all_finite(torch.zeros(0, dtype=dtype))
