"""Nearest rows of a codebook, against float64."""

import numpy as np
import numpy.typing as npt
import pytest

from mlmc_ray.kernels.nearest_rows import may_reach, nearest_rows
from mlmc_ray.kernels.sphere_codebook import random_bases


def units(number: int, size: int, seed: int = 0) -> npt.NDArray[np.float64]:
    points = np.random.default_rng(seed).standard_normal((number, size))
    return np.asarray(points / np.linalg.norm(points, axis=1, keepdims=True))


@pytest.mark.parametrize(("rows", "size"), [(2, 2), (8, 4), (512, 64), (2048, 128)])
def test_the_nearest_is_that_of_float64(rows: int, size: int) -> None:
    book, vectors = random_bases(3, rows, size), units(700, size)
    exact = np.abs(vectors @ book.T.astype(np.float64))
    np.testing.assert_array_equal(nearest_rows(vectors, book), exact.argmax(axis=1))


def test_what_float32_cannot_tell_apart_is_compared_in_float64() -> None:
    book = random_bases(1, 8, 2)
    gaps = np.linspace(-1e-7, 1e-7, 200)  # from a vector that is as near to one row as to the other
    vectors = book[0] + (1 + gaps[:, None]) * book[1].astype(np.float64)
    exact = np.abs(vectors @ book[:2].T.astype(np.float64)).argmax(axis=1)
    assert set(exact) == {0, 1}
    assert nearest_rows(vectors, book[:2]).tolist() == exact.tolist()


def test_the_first_of_equal_rows_is_taken() -> None:
    book = np.repeat(random_bases(1, 4, 4), 3, axis=0)
    assert set(nearest_rows(units(300, 4), book)) == {0, 3, 6, 9}


def test_what_is_ruled_out_does_not_reach() -> None:
    """Of any rows that include those that ruled it out; and little else is kept."""
    book, vectors = random_bases(3, 512, 64), units(2000, 64)
    for rows in (64, 512):
        largest = np.abs(vectors @ book[:rows].T.astype(np.float64)).max(axis=1)
        for ratio in (2.0, 3.0, 4.0):
            found = may_reach(vectors, book[:rows], np.full(2000, ratio))
            assert found[1 / largest >= ratio].all()
            assert not found[1 / largest < ratio / 1.001].any()
    there = may_reach(vectors, book, 1 / largest)
    assert there.all()


def test_no_vectors_have_no_rows() -> None:
    book, none = random_bases(3, 8, 4), np.empty((0, 4))
    assert nearest_rows(none, book).tolist() == []
    assert may_reach(none, book, np.empty(0)).tolist() == []
