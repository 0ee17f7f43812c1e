import itertools

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mlmc_ray.kernels import shared_uniform as module
from mlmc_ray.kernels.shared_uniform import falling_order, permutation, shared_uniform

Floats = npt.NDArray[np.float64]

SOME = settings(max_examples=50, deadline=None)  # the first example compiles
SEEDS = st.integers(0, (1 << 63) - 1)
SPACING = 2.0**-30


def gaps(numbers: Floats) -> Floats:
    """Return the gaps between numbers on a circle of length 1."""
    ascending = np.sort(numbers)
    return np.diff(np.append(ascending, ascending[0] + 1))


@SOME
@given(seed=SEEDS, blocks=st.integers(1, 300), workers=st.integers(1, 20))
def test_every_workers_numbers_and_every_blocks_numbers_are_evenly_spaced(
    seed: int, blocks: int, workers: int
) -> None:
    numbers = np.array(
        [shared_uniform(seed, blocks, worker_id=i, num_workers=workers) for i in range(workers)]
    )
    assert ((numbers >= 0) & (numbers < 1)).all()
    for of_worker in numbers:
        np.testing.assert_allclose(gaps(of_worker), 1 / blocks, rtol=0, atol=SPACING)
    for of_block in numbers.T:
        np.testing.assert_allclose(gaps(of_block), 1 / workers, rtol=0, atol=SPACING)


@pytest.mark.parametrize("blocks", [1, 2, 3, 7, 8])
def test_every_number_is_uniform_whatever_the_permutation_is(blocks: int) -> None:
    offsets = 16 * blocks  # evenly spread: every number then takes every cell equally often
    places = permutation(5, blocks)
    numbers = np.array(
        [module._spread(places, np.uint64((2 * k + 1) * 2**63 // offsets)) for k in range(offsets)]
    )
    cells = np.sort((numbers * offsets).astype(int), axis=0)
    np.testing.assert_array_equal(cells, np.arange(offsets)[:, None].repeat(blocks, axis=1))


@pytest.mark.parametrize("worker", [0, 2])
def test_the_numbers_are_uniform_over_the_seeds(worker: int) -> None:
    draws = 4000
    numbers = np.array(
        [shared_uniform(seed, 5, worker_id=worker, num_workers=3) for seed in range(draws)]
    )
    steps = (np.arange(draws)[:, None] + 0.5) / draws
    # Kolmogorov's statistic; Massart's bound: at most 2 * 10 * exp(-2 * 4000 * 0.05^2) = 4e-8.
    assert np.abs(np.sort(numbers, axis=0) - steps).max() < 0.05


def test_a_permutation_is_one_and_the_same_again() -> None:
    found = {tuple(permutation(key, 4)) for key in range(600)}
    assert len(found) == 24
    assert all(sorted(order) == [0, 1, 2, 3] for order in found)
    np.testing.assert_array_equal(permutation(1 << 63, 1000), permutation(1 << 63, 1000))


@SOME
@given(seed=SEEDS, blocks=st.integers(1, 3000), worker=st.integers(0, 2))
@example(seed=3, blocks=1_000_003, worker=1)
def test_the_falling_order_is_that_of_the_numbers(seed: int, blocks: int, worker: int) -> None:
    uniforms = shared_uniform(seed, blocks, worker_id=worker, num_workers=3)
    np.testing.assert_array_equal(falling_order(uniforms), np.argsort(-uniforms))


def test_turns_are_a_permutation_of_the_workers_all_as_often() -> None:
    orders = [tuple(module._turn(np.uint64(key), i, 3) for i in range(3)) for key in range(6 * 400)]
    counts = [orders.count(order) for order in itertools.permutations(range(3))]
    assert sum(counts) == len(orders)
    # Hoeffding: more than 120 off with probability 12 * exp(-2 * 2400 * 0.05**2) = 7e-5 at most
    assert max(counts) - 400 < 120
    assert 400 - min(counts) < 120


def test_the_numbers_do_not_change_between_machines() -> None:
    first = shared_uniform(7, 4, worker_id=1, num_workers=3)
    assert [float(number).hex() for number in first] == [
        "0x1.0c77123e98157p-1",
        "0x1.18ee247d302aep-2",
        "0x1.8ee247d302ae0p-6",
        "0x1.8c77123e98157p-1",
    ]
    np.testing.assert_array_equal(first, shared_uniform(7, 4, worker_id=1, num_workers=3))
    assert not np.array_equal(first, shared_uniform(8, 4, worker_id=1, num_workers=3))


def test_workers_take_other_turns_with_other_seeds() -> None:
    turns = [
        round(
            float(
                shared_uniform(seed, 1, worker_id=1, num_workers=8)[0]
                - shared_uniform(seed, 1, worker_id=0, num_workers=8)[0]
            )
            % 1
            * 8
        )
        for seed in range(200)
    ]
    assert set(turns) == set(range(1, 8))


@pytest.mark.parametrize(
    ("seed", "blocks", "worker", "workers", "said"),
    [
        (-1, 1, 0, 1, "seed: .* got -1"),
        (1 << 63, 1, 0, 1, "seed"),
        (0, 0, 0, 1, "num_blocks: .* got 0"),
        (0, 1, 1, 1, "got 1 and 1"),
        (0, 1, -1, 1, "got -1 and 1"),
    ],
)
def test_what_is_out_of_range_is_refused(
    seed: int, blocks: int, worker: int, workers: int, said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        shared_uniform(seed, blocks, worker_id=worker, num_workers=workers)
