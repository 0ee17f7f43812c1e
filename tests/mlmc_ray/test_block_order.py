"""The order in which blocks are coded, and back."""

import numpy as np
import pytest

from mlmc_ray.kernels.block_order import ascending_order, coding_order


@pytest.mark.parametrize("interleaved", [True, False])
@pytest.mark.parametrize("block_size", [1, 2, 7, 64, 1000])
@pytest.mark.parametrize("num_groups", [1, 2, 63, 64, 500])
def test_groups_are_sorted_by_block_and_back(
    num_groups: int, block_size: int, interleaved: bool
) -> None:
    rng = np.random.default_rng(num_groups)
    num_blocks = -(-num_groups // block_size)
    order = rng.permutation(num_blocks)
    for share in (0.0, 0.1, 1.0):
        groups = np.flatnonzero(rng.random(num_groups) < share)
        blocks = groups % num_blocks if interleaved else groups // block_size
        found = groups[coding_order(groups, order, block_size, interleaved)]
        expected = [group for b in order for group in groups[blocks == b]]
        assert found.tolist() == expected
        back = found[ascending_order(found, num_blocks, block_size, interleaved)]
        np.testing.assert_array_equal(back, groups)
