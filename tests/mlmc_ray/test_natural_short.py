"""Natural compression to 127 powers of two, which with zero and the signs take 8 bits."""

import pytest
import torch
from hypothesis import example, given, settings
from torch import Tensor

from mlmc_ray.compressors import Natural, UnbiasedRounding
from mlmc_ray.payloads import CodesPayload
from mlmc_ray.seeding import generator_for
from tests.mlmc_ray.cases import GOLDEN, dense, received
from tests.mlmc_ray.strategies import vectors

SHORT = Natural(bits=8)
WIDE = torch.tensor([2.0**60, -(2.0**-66), 2.0**-67, -(2.0**-100), 0.0, 3.0])


@given(vector=vectors(widest=100))
@example(vector=WIDE)
@example(vector=torch.tensor([2.0**126 * 1.5, 2.0**-130, -(2.0**-149)]))
@settings(max_examples=60, deadline=None)
def test_the_powers_are_those_of_nine_bits_unless_below_the_range(vector: Tensor) -> None:
    payload = SHORT.compress(vector, generator=generator_for(0))
    whole = dense(Natural().compress(vector, generator=generator_for(0)))
    lowest = float(whole.abs().max()) * 2.0**-126
    expected = torch.where(whole != 0, whole.sign() * whole.abs().clamp(min=lowest), 0.0)
    assert torch.equal(dense(received(payload)), expected)
    if isinstance(payload, CodesPayload):
        low, high = payload.range()
        assert low >= -127
        assert high <= 127


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_what_lies_below_the_range_gets_its_lowest_power(dtype: torch.dtype) -> None:
    payload = SHORT.compress(WIDE.to(dtype), generator=generator_for(0))
    assert isinstance(payload, CodesPayload)
    assert payload.codes.dtype == torch.int8
    sent = dense(payload).tolist()
    assert sent[:5] == [2.0**60, -(2.0**-66), 2.0**-66, -(2.0**-66), 0.0]
    assert sent[5] in (2.0, 4.0)
    if dtype == torch.float64:
        with_nine = UnbiasedRounding().compress(WIDE.to(dtype), generator=generator_for(0))
        assert dense(with_nine).tolist()[2] == 2.0**-67


def test_it_is_biased_and_contracts() -> None:
    assert not SHORT.unbiased
    assert SHORT.omega(10) is None
    assert SHORT.alpha(10) == 7 / 8
    assert SHORT.paper_cost(10).bits == 80
    assert (Natural().unbiased, Natural().omega(10), Natural().alpha(10)) == (True, 1 / 8, None)
    assert Natural().paper_cost(10).bits == 90
    n, vector = 4000, torch.full((50,), 4 / 3)  # the worst case
    outs = torch.stack(
        [dense(SHORT.compress(vector, generator=generator_for(i))) for i in range(n)]
    )
    error = float((outs - vector).square().mean()) / float(vector[0]) ** 2
    assert error == pytest.approx(1 - 7 / 8, abs=2e-3)
    zeros = dense(SHORT.compress(GOLDEN, generator=generator_for(0)))
    assert torch.equal(zeros == 0, GOLDEN == 0)


def test_other_numbers_of_bits_are_refused() -> None:
    with pytest.raises(ValueError, match="bits is 7: give 9, or 8 for 127 powers only"):
        Natural(bits=7)
