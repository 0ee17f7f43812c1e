import numpy as np
import numpy.typing as npt
import pytest

from mlmc_ray.kernels import sphere_codebook as module
from mlmc_ray.payloads.grouping import Grouping, codebook

BAD_SEED = 0x3857473BC9F5EA8F
"""Of which both draws of the radius of a rotation in two dimensions are 0."""


def test_a_seed_without_a_radius_has_a_codebook() -> None:
    pairs = Grouping(
        shapes=((1, 8),),
        group_sizes=(2,),
        bits=2,
        block=1,
        interleaved_entries=True,
        interleaved_groups=True,
    )
    book = codebook(BAD_SEED, pairs, 2).astype(np.float64)
    np.testing.assert_allclose(book @ book.T, np.eye(2), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    "draws",
    [
        np.zeros((4, 4)),
        np.ones((8, 8)),
        np.array([[1.0, 2.0], [2.0, 4.0]]),
        np.array([[1.0, 2.0], [1.0, 2.0 + 1e-12]]),
        np.eye(4)[[1, 1, 0, 0]],
        np.zeros((4, 2)),
        np.zeros((2, 1)),
    ],
)
def test_draws_that_depend_on_one_another_give_bases(draws: npt.NDArray[np.float64]) -> None:
    rows, size = draws.shape
    module._orthonormalize(draws)
    for start in range(0, rows, size):
        basis = draws[start : start + size]
        np.testing.assert_allclose(basis @ basis.T, np.eye(size), rtol=0, atol=1e-12)
