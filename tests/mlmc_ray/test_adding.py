"""Adding to some entries: as torch does it, bit for bit, and nowhere else."""

import numpy as np
import pytest
import torch

from mlmc_ray.kernels.adding import add_at, add_groups, set_to_sum
from mlmc_ray.payloads import DensePayload, SharedRoundingPayload, SparsePayload
from mlmc_ray.payloads.grouping import Grouping
from mlmc_ray.payloads.plain import sum_payloads
from mlmc_ray.seeding import generator_for

DTYPES = [torch.float32, torch.float64]
THIRD = 1 / 3  # which neither dtype holds


@pytest.mark.parametrize("dtype", DTYPES)
def test_entries_are_added_as_torch_adds_them(dtype: torch.dtype) -> None:
    generator = generator_for(1)
    vector = torch.randn(1000, generator=generator, dtype=dtype)
    indices = torch.randperm(1000, generator=generator)[:300].sort().values
    values = torch.randn(300, generator=generator, dtype=dtype)
    expected = vector.index_add(0, indices, values, alpha=THIRD)
    add_at(vector.numpy(), indices.numpy(), values.numpy(), THIRD)
    assert torch.equal(vector, expected)


@pytest.mark.parametrize("bad", [-1, 5, 2**62])
def test_an_index_out_of_range_is_refused(bad: int) -> None:
    vector = np.zeros(5, dtype=np.float32)
    with pytest.raises(IndexError, match=rf"^index {bad} is not in 0\.\.4$"):
        add_at(vector, np.array([1, bad, 2]), np.ones(3, dtype=np.float32), 1.0)
    assert vector.tolist() == [0, 1, 0, 0, 0]


def test_a_value_is_needed_for_every_index() -> None:
    with pytest.raises(ValueError, match="2 values for 3 indices"):
        add_at(np.zeros(5, dtype=np.float32), np.arange(3), np.ones(2, dtype=np.float32), 1.0)


def test_a_payload_with_a_wrong_index_is_refused() -> None:
    payload = SparsePayload(5, torch.tensor([0, 5]), torch.ones(2))
    with pytest.raises(IndexError, match="index 5 "):
        payload.add_to(torch.zeros(5))


@pytest.mark.parametrize("dim", [7, 1 << 15, 100_000])  # of one part, of a whole one, of several
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_sum_is_what_adding_to_zero_gives(dim: int, dtype: torch.dtype) -> None:
    generator = generator_for(5)
    numbers = [dim, 0, dim // 3, dim // 7]
    indices = [
        torch.randperm(dim, generator=generator)[:number].sort().values.numpy()
        for number in numbers
    ]
    values = [torch.randn(n, generator=generator, dtype=dtype).numpy() for n in numbers]
    expected = np.zeros(dim, dtype=values[0].dtype)
    for places, numbers_there in zip(indices, values, strict=True):
        add_at(expected, places, numbers_there, THIRD)
    found = np.full(dim, np.nan, dtype=values[0].dtype)
    set_to_sum(found, indices, values, THIRD)
    assert np.array_equal(found, expected)


@pytest.mark.parametrize("bad", [-1, 5, 2**62])
def test_a_sum_refuses_an_index_out_of_range(bad: int) -> None:
    vector, ones = np.ones(5, dtype=np.float32), np.ones(2, dtype=np.float32)
    with pytest.raises(IndexError, match=rf"^index {bad} is not in 0\.\.4$"):
        set_to_sum(vector, [np.array([0, 1]), np.array([2, bad])], [ones, ones], 1.0)


def test_a_sum_needs_a_value_for_every_index() -> None:
    with pytest.raises(ValueError, match=r"\[2\] values for \[3\] indices"):
        set_to_sum(np.zeros(5, dtype=np.float32), [np.arange(3)], [np.ones(2, np.float32)], 1.0)


def test_payloads_add_up_in_one_pass_as_one_after_the_other() -> None:
    payloads = [
        SparsePayload(4, torch.tensor([0, 3]), torch.tensor([1.0, 2.0])),
        SparsePayload(4, torch.tensor([1, 3]), torch.tensor([5.0, 7.0])),
    ]
    for added in (payloads, [*payloads, DensePayload(torch.ones(4))], []):
        total, expected = torch.full((4,), torch.nan), torch.zeros(4)
        sum_payloads(total, added, 0.5)
        for payload in added:
            payload.add_to(expected, weight=0.5)
        assert torch.equal(total, expected)
    with pytest.raises(ValueError, match="dimension 4 cannot be added"):
        sum_payloads(torch.zeros(5), payloads, 0.5)


@pytest.mark.parametrize("apart", [1, 300])
@pytest.mark.parametrize("dtype", DTYPES)
def test_groups_are_multiples_of_rows(apart: int, dtype: torch.dtype) -> None:
    generator = generator_for(2)
    groups = torch.randperm(700, generator=generator)  # more than a tile
    starts = (4 * groups if apart == 1 else groups).numpy()
    factors = torch.randn(700, generator=generator, dtype=torch.float64)
    codes = torch.randint(9, (700,), generator=generator)
    codebook = torch.randn(9, 4, generator=generator)
    if apart > 1:  # groups may not overlap
        starts, factors, codes = starts[starts < 300], factors[:300], codes[:300]
    entries = torch.from_numpy(starts)[:, None] + apart * torch.arange(4)
    values = (factors[:, None] * codebook[codes]).float().to(dtype)
    vector = torch.randn(1190 if apart > 1 else 2790, generator=generator, dtype=dtype)
    there = entries < len(vector)
    assert not there.all()  # padding is left out
    expected = vector.index_add(0, entries[there], values[there], alpha=THIRD)
    arguments = (starts, apart, factors.numpy(), codes.numpy(), codebook.numpy(), THIRD)
    add_groups(vector.numpy(), *arguments)
    assert torch.equal(vector, expected)


@pytest.mark.parametrize(("start", "code"), [(-1, 0), (0, 2), (0, -1)])
def test_groups_out_of_range_are_refused(start: int, code: int) -> None:
    vector = np.zeros(8, dtype=np.float32)
    codebook = np.ones((2, 4), dtype=np.float32)
    with pytest.raises(IndexError, match="expected 0 or more, and 2 rows"):
        add_groups(vector, np.array([start]), 1, np.ones(1), np.array([code]), codebook, 1.0)
    assert not vector.any()


@pytest.mark.parametrize("interleaved", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
def test_shared_groups_are_added_alike_by_loops_and_by_tensor_operations(
    interleaved: bool, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    grouping = Grouping(
        shapes=((3, 501), (1, 40)),
        group_sizes=(8, 1),
        bits=5,
        block=2,
        interleaved_entries=True,
        interleaved_groups=interleaved,
    )
    places = torch.arange(0, grouping.num_groups, 3)
    signs = places >= 188  # of the second layer, whose groups have one entry
    codes = (places % 32).where(~signs, places % 2)
    payload = SharedRoundingPayload(grouping, 1, 0.1, places, places % 5 + 1, codes)
    vectors = [torch.ones(grouping.dim, dtype=dtype) for _ in range(2)]
    payload.add_to(vectors[0], THIRD)
    monkeypatch.setattr("mlmc_ray.kernels.device._COMPILED", "no device")
    payload.add_to(vectors[1], THIRD)
    assert torch.equal(*vectors)
    assert (vectors[0] != 1).sum() > 500
