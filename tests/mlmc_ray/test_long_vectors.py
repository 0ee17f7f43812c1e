"""Ladders of long vectors, which find their levels without sorting."""

import pytest
import torch
from torch import Tensor

from mlmc_ray.compressors import SegmentedTopK
from mlmc_ray.estimator import MLMC, OwnLaw
from mlmc_ray.ladders import FixedPointLadder, SegmentedTopKLadder
from mlmc_ray.payloads import CodesPayload, ScatteredPayload, SparsePayload
from mlmc_ray.seeding import generator_for
from tests.mlmc_ray.cases import dense, received

DIM = 70_001
SIZE = 700


def vector_of(kind: str) -> Tensor:
    draws = torch.Generator().manual_seed(5)
    normal = torch.randn(DIM, generator=draws)
    return {
        "normal": normal,
        "heavy": normal * torch.randn(DIM, generator=draws).exp() ** 3,
        "mostly zero": normal * (torch.rand(DIM, generator=draws) < 0.02),
        "few values": normal.round(),
        "equal": torch.ones(DIM),
        "tiny": normal * 1e-40,
        "least": normal.round() * 2.0**-149,
    }[kind]


@pytest.mark.parametrize(
    "kind", ["normal", "heavy", "mostly zero", "few values", "equal", "tiny", "least"]
)
def test_long_sorted_segments_are_those_of_a_sort(kind: str) -> None:
    vector = vector_of(kind)
    levels = SegmentedTopKLadder(segment_size=SIZE).levels(vector)
    assert len(levels) == -(-DIM // SIZE)
    order = vector.abs().sort(descending=True, stable=True).indices
    total = torch.zeros(DIM, dtype=torch.float64)
    norms = []
    for level in range(1, len(levels) + 1):
        increment = levels.increment(level)
        assert isinstance(increment, SparsePayload)
        expected = order[(level - 1) * SIZE : level * SIZE].sort().values
        assert torch.equal(increment.indices, expected)
        increment.add_to(total)
        norms.append(float(increment.values.double().norm()))
    assert torch.equal(total, vector.double())
    read = levels.norms()
    exact = torch.tensor(norms, dtype=torch.float64)
    assert torch.equal(read > 0, exact > 0)
    if kind not in ("tiny", "least"):
        torch.testing.assert_close(read, exact, rtol=2**-9, atol=0)


def test_long_vectors_are_estimated_without_bias() -> None:
    vector = vector_of("heavy")
    estimator = MLMC(ladder=SegmentedTopKLadder(segment_size=SIZE))
    mean = torch.zeros(DIM, dtype=torch.float64)
    for level, p in enumerate(estimator.probabilities(vector).tolist(), start=1):
        received(estimator.at_level(vector, level)).add_to(mean, weight=p)
    torch.testing.assert_close(mean, vector.double(), rtol=2e-7, atol=0)


def test_the_law_of_long_vectors_is_nearly_the_best() -> None:
    vector = vector_of("normal")
    levels = SegmentedTopKLadder(segment_size=SIZE).levels(vector)
    energies = torch.stack(
        [dense(levels.increment(level)).square().sum() for level in range(1, len(levels) + 1)]
    )
    best = float(energies.sqrt().sum()) ** 2
    read = levels.norms() / levels.norms().sum()
    assert float((energies[energies > 0] / read[energies > 0]).sum()) <= best * (1 + 1e-4)


def test_the_first_segments_are_s_top_k() -> None:
    vector = vector_of("normal")
    levels = SegmentedTopKLadder(segment_size=SIZE).levels(vector)
    top = SegmentedTopK(k=2, segment_size=SIZE).compress(vector, generator=generator_for(0))
    assert torch.equal(dense(levels.increment(1)) + dense(levels.increment(2)), dense(top))


@pytest.mark.parametrize("kind", ["normal", "heavy", "mostly zero", "equal", "tiny"])
def test_compiled_digits_are_those_of_the_definition(kind: str) -> None:
    vector = vector_of(kind)[:3000]
    compiled = FixedPointLadder().levels(vector)
    by_torch = FixedPointLadder().levels(vector.double())
    assert len(compiled) == len(by_torch)
    assert torch.equal(compiled.norms(), by_torch.norms())
    forms = set()
    for level in range(1, len(compiled) + 1):
        forms.add(type(compiled.increment(level)))
        assert torch.equal(dense(compiled.increment(level)), dense(by_torch.increment(level)))
    assert forms <= {CodesPayload, ScatteredPayload}
    payload = MLMC(ladder=FixedPointLadder(), law=OwnLaw()).at_level(vector, 1)
    assert torch.equal(dense(received(payload)), dense(payload))
