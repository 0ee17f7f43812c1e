"""Known values of the reference vector, and of the sizes of messages, that no other test states."""

import pytest
import torch
from torch import Tensor

from mlmc_ray.compressors import DRIVE, ImportanceSampled, Induced, RandK, TopK, TopRand
from mlmc_ray.kernels.hadamard import rotate
from mlmc_ray.ladders import FixedPointLadder
from mlmc_ray.ladders.sizes import packed_bits
from mlmc_ray.payloads import DensePayload, RotatedPayload, SparsePayload
from mlmc_ray.seeding import generator_for
from mlmc_ray.wire.ideal import ideal_bits
from tests.mlmc_ray.cases import GOLDEN, dense


def signs_drawn() -> Tensor:
    """Return the random signs of the rotation that a fresh generator draws."""
    payload = DRIVE().compress(GOLDEN, generator=generator_for(0))
    assert isinstance(payload, RotatedPayload)
    columns = [rotate(unit.numpy(), payload.seed) for unit in torch.eye(8)]
    return torch.tensor([float(column[0]) for column in columns]).sign()  # H has a row of ones


def test_norms() -> None:
    norms = [float(torch.linalg.vector_norm(GOLDEN.double(), p)) for p in (1, 2, torch.inf)]
    assert norms == pytest.approx([11.5, 31.25**0.5, 4], rel=1e-15)


def test_drive_without_random_signs() -> None:
    signed = signs_drawn() * GOLDEN  # the rotation takes the signs away again
    payload = DRIVE().compress(signed, generator=generator_for(0))
    assert isinstance(payload, RotatedPayload)
    total = float(abs(rotate(signed.numpy(), payload.seed).astype(float)).sum())
    assert total == pytest.approx(13.0814755, abs=1e-6)
    for unbiased, error in ((True, 14.4037619), (False, 9.859375)):
        sent = dense(DRIVE(unbiased=unbiased).compress(signed, generator=generator_for(0)))
        assert float((sent - signed).square().sum()) == pytest.approx(error, abs=1e-5)


def test_bounds_hold_at_the_reference_vector() -> None:
    induced = Induced(contractive=TopK(k=1), correction=RandK(k=1)).omega(8)
    assert induced is not None
    assert induced * 31.25 >= 106.75
    assert ImportanceSampled(draws=1).omega(8) * 31.25 >= 101
    rest = 31.25 - 16
    assert (7 / 1 - 1) * rest == 91.5 <= TopRand(k=2).omega(8) * 31.25  # drawn among seven
    assert 91.5 < 106.75


@pytest.fixture(scope="module")
def largest_of_many() -> SparsePayload:
    """One entry in a hundred of 11 million, which lie anywhere."""
    indices = torch.arange(0, 11_000_000, 100)
    return SparsePayload(11_000_000, indices, torch.ones(110_000))


def test_sizes_of_messages_of_eleven_million_entries(largest_of_many: SparsePayload) -> None:
    assert packed_bits(largest_of_many) == 6_160_000
    assert ideal_bits(largest_of_many) - 32 * 110_000 == pytest.approx(888_715, abs=1)
    assert ideal_bits(largest_of_many) == pytest.approx(4_408_715, abs=1)
    assert packed_bits(DensePayload(torch.zeros(1).expand(11_000_000))) == 352_000_000
    assert FixedPointLadder().paper_cost(11_000_000).bits == 22_000_070
