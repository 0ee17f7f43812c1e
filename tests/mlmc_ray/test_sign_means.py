"""The means of signs in float32, where it has few numbers."""

import pytest
import torch
from torch import Tensor

from mlmc_ray.compressors import Compressor, OneBit, ScaledSign
from mlmc_ray.errors import NonFiniteError
from mlmc_ray.seeding import generator_for
from tests.mlmc_ray.cases import dense

SMALLEST = 2.0**-149
EVERY_COMPRESSOR = pytest.mark.parametrize("compressor", [ScaledSign(), OneBit()], ids=str)


@EVERY_COMPRESSOR
@pytest.mark.parametrize("size", [1, 3, 40])
@pytest.mark.parametrize("others", [0.0, -1.0])
def test_the_error_is_never_above_the_vector(
    compressor: Compressor, size: int, others: float
) -> None:
    for multiple in (1, 2, 5, 7):
        units = torch.tensor([float(multiple)] + (size - 1) * [others], dtype=torch.float64)
        vector = (units * SMALLEST).to(torch.float32)
        decoded = dense(compressor.compress(vector, generator=generator_for(0))) / SMALLEST
        assert float((decoded - units).square().sum()) <= float(units.square().sum())


@EVERY_COMPRESSOR
def test_means_are_rounded_to_the_nearest(compressor: Compressor) -> None:
    def mean_of(units: list[float]) -> Tensor:
        vector = (torch.tensor(units).double() * SMALLEST).to(torch.float32)
        return dense(compressor.compress(vector, generator=generator_for(0))) / SMALLEST

    assert mean_of([1.0, 0, 0]).tolist() == [0, 0, 0]
    assert mean_of([2.0, 0, 0]).tolist() == [1, 1, 1]
    assert mean_of([4.0, 0, 0]).tolist() == [1, 1, 1]


@EVERY_COMPRESSOR
def test_a_mean_above_float32_is_refused(compressor: Compressor) -> None:
    with pytest.raises(NonFiniteError, match=r"a mean of 1e\+39 does not fit float32"):
        compressor.compress(torch.full((3,), 1e39, dtype=torch.float64), generator=generator_for(0))
