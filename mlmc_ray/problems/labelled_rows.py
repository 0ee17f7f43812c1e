"""Rows with labels -1 and 1, for binary classification."""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mlmc_ray.errors import ProblemError, one_line

Array = npt.NDArray[np.float64]
Rows = tuple[Array, Array]
"""Features, shape (rows, dim), and labels, -1 or 1, shape (rows,)."""

_LABELS = ((-1, 1), (0, 1), (1, 2))
_MOST_ENTRIES = 2**28  # 2 GiB of float64


@lru_cache(maxsize=1)
def breast_cancer() -> Rows:
    """Return 569 tumours with 30 standardised measurements each; 1 is benign.

    Source: W. Wolberg, O. Mangasarian, N. Street and W. Street, Breast Cancer Wisconsin
    (Diagnostic), UCI Machine Learning Repository, 1995, shipped with scikit-learn.
    """
    from sklearn.datasets import load_breast_cancer  # takes a second to import

    data = load_breast_cancer()
    features = (data.data - data.data.mean(axis=0)) / data.data.std(axis=0)
    return features, 2.0 * data.target - 1


@lru_cache(maxsize=1)
def read_libsvm(path: str | Path) -> Rows:
    """Read a file in LIBSVM's text format: a row a line, ``label index:value index:value ...``.

    Args:
        path: of a text file, or of one packed with gzip or bzip2, by its ending. Indices count
            from 1 and increase; labels are -1 and 1, or 0 and 1, or 1 and 2, the smaller meaning
            -1.

    Raises:
        ProblemError: it cannot be read, or is not of that format, or too large to be made dense.
    """
    from sklearn.datasets import load_svmlight_file

    place = Path(path).expanduser().absolute()
    if not place.is_file():
        raise ProblemError(
            f"there is no file {place}: give the path of a file in LIBSVM's format, on the machine "
            "of every process; a relative one starts at the current directory"
        )
    try:
        features, labels = load_svmlight_file(str(place), zero_based=False)
    except (ValueError, OverflowError, OSError, EOFError) as error:
        raise ProblemError(
            f"{place} is not in LIBSVM's format: {one_line(error)}; expected a row a line, 'label "
            "index:value index:value ...', with indices that increase from 1"
        ) from error
    dense = _dense(features, place)
    return dense, _signs(labels, place)


def _dense(features: Any, place: Path) -> Array:
    """Return a sparse matrix as an array.

    Raises:
        ProblemError: it is empty or too large, or holds NaN or infinity.
    """
    num_rows, dim = features.shape
    if not features.nnz or num_rows * dim > _MOST_ENTRIES:
        raise ProblemError(
            f"{place} holds {num_rows} rows of {dim} features, {features.nnz} of them not zero: "
            f"expected at least one, and at most {_MOST_ENTRIES} entries with the zeros, since "
            "rows are kept dense"
        )
    dense: Array = features.toarray()
    if not np.isfinite(dense).all():
        raise ProblemError(f"{place} holds NaN or infinity: expected numbers")
    return dense


def _signs(labels: Array, place: Path) -> Array:
    """Return labels as -1 and 1.

    Raises:
        ProblemError: they are not two of those that are known.
    """
    found = np.unique(labels)
    if not any(np.array_equal(found, pair) for pair in _LABELS):
        raise ProblemError(
            f"{place} holds {len(found)} different labels, {_shown(found.tolist())}: expected both "
            f"of one of {', '.join(map(str, _LABELS))}"
        )
    return np.where(labels == found[1], 1.0, -1.0)


def _shown(values: Sequence[float]) -> str:
    """Return the first few of some numbers."""
    return ", ".join(f"{value:g}" for value in values[:5]) + (", ..." if len(values) > 5 else "")
