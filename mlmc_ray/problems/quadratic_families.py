"""Coefficients of random quadratics f_i(x) = x'A_i x / 2 - b_i'x, by how the f_i differ.

Every function returns A, shape (functions, dim, dim), and b, shape (functions, dim), in float64.
"""

import numpy as np
import numpy.typing as npt
from numpy.random import Generator

Array = npt.NDArray[np.float64]


def random_hessians(
    rng: Generator, num_functions: int, dim: int, smallest: float, largest: float
) -> tuple[Array, Array]:
    """Draw eigenvectors and eigenvalues of every A_i, and a standard normal b_i.

    Eigenvalues are log-uniform between ``smallest`` and ``largest``, both attained by every A_i.
    """
    matrices, vectors = [], []
    for _ in range(num_functions):
        basis = _rotation(rng, dim)
        spectrum = np.exp(rng.uniform(np.log(smallest), np.log(largest), dim))
        spectrum[:2] = smallest, largest
        matrices.append(basis * spectrum @ basis.T)
        vectors.append(rng.standard_normal(dim))
    return np.stack(matrices), np.stack(vectors)


def equal_hessians(
    rng: Generator,
    num_functions: int,
    dim: int,
    smallest: float,
    largest: float,
    heterogeneity: float,
    *,
    rotated: bool,
) -> tuple[Array, Array]:
    """Give all f_i one Hessian, with log-spaced eigenvalues, and b_i = b + heterogeneity u_i.

    The u_i sum to zero and have a mean square norm of 1, so that the mean of
    |grad f_i(x) - grad f(x)|^2 is ``heterogeneity ** 2`` at every x.

    Args:
        rng: of the rotation, of b and of the u_i.
        num_functions: at least 2 where ``heterogeneity`` is not 0.
        dim: number of variables.
        smallest: least eigenvalue.
        largest: largest eigenvalue.
        heterogeneity: 0 or more.
        rotated: whether the Hessian has random eigenvectors; otherwise it is diagonal.
    """
    spectrum = np.geomspace(smallest, largest, dim)
    basis = _rotation(rng, dim) if rotated else np.eye(dim)
    matrix = basis * spectrum @ basis.T
    vectors = np.tile(rng.standard_normal(dim), (num_functions, 1))
    if heterogeneity:
        apart = rng.standard_normal((num_functions, dim))
        apart -= apart.mean(axis=0)
        apart /= np.sqrt((apart**2).sum(axis=1).mean())
        vectors += heterogeneity * apart
    return np.tile(matrix, (num_functions, 1, 1)), vectors


def tridiagonal_hessians(
    rng: Generator,
    num_functions: int,
    dim: int,
    smallest: float,
    largest: float,
    heterogeneity: float,
) -> tuple[Array, Array]:
    """Scale the second difference T = tridiag(-1, 2, -1), and its right-hand side, at random.

    A_i = c nu_i T + rho I and b_i = c nu_i (-1 + beta_i) e_1, where nu_i = 1 + s n_i is divided
    by its mean over the workers, beta_i = s n'_i, s is ``heterogeneity``, and the n are standard
    normal. c and rho are such that the eigenvalues of the average run from ``smallest`` to
    ``largest``. A single A_i may be indefinite where s is large.

    Raises:
        ValueError: the mean of the nu_i is not positive.

    References:
        Szlendak, Tyurin and Richtarik, 2021, arXiv:2110.03300, experiments.
    """
    scales = 1 + heterogeneity * rng.standard_normal(num_functions)
    shifts = heterogeneity * rng.standard_normal(num_functions)
    if not scales.mean() > 0:
        raise ValueError(
            f"heterogeneity is {heterogeneity!r}, with which the average of these functions has no "
            "minimum: give less, or another seed"
        )
    least, most = 2 - 2 * np.cos(np.pi * np.array([1, dim]) / (dim + 1))
    curvatures = (largest - smallest) / (most - least) * scales / scales.mean()
    rho = smallest - least * (largest - smallest) / (most - least)
    second_difference = 2 * np.eye(dim) - np.eye(dim, k=1) - np.eye(dim, k=-1)
    vectors = np.zeros((num_functions, dim))
    vectors[:, 0] = curvatures * (shifts - 1)
    return curvatures[:, None, None] * second_difference + rho * np.eye(dim), vectors


def _rotation(rng: Generator, dim: int) -> Array:
    """Return random orthonormal columns."""
    basis: Array = np.linalg.qr(rng.standard_normal((dim, dim)))[0]
    return basis
