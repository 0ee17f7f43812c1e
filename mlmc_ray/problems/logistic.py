"""Regularised logistic regression, on real data, with the constants that theory asks for."""

import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from mlmc_ray.problems.base import TensorShard
from mlmc_ray.problems.constants import Constants
from mlmc_ray.problems.functions import Variables, check_workers
from mlmc_ray.problems.labelled_rows import Array, breast_cancer, read_libsvm
from mlmc_ray.problems.newton import minimise


@dataclass(frozen=True, kw_only=True)
class LogisticRegression:
    """f(x) = mean over rows of log(1 + exp(-y_r a_r'x)), regularised; from x = 0, without offset.

    Every worker holds floor(N / M) of the N rows; the others are dropped, so f is the mean of the
    workers' f_i. Hence the number of workers M is part of the problem.

    The model is trained in float32 and measured in float64 from what is found there. Rows are
    rounded to float32 first, so both mean the same f; the gap comes to rest, by rounding of
    parameters and gradients alone, at about 1e-15 L |x*|^2, and at up to L / mu times that.

    Args:
        data: "breast-cancer": 569 rows of 30 standardised features, shipped with scikit-learn.
        path: of a file in LIBSVM's format, to be read instead of ``data``; a relative one starts
            at the current directory.
        num_functions: M, one for each worker.
        l2: weight of the regulariser, 0 or more.
        convex: regularise with l2 |x|^2 / 2; otherwise with l2 sum x_j^2 / (1 + x_j^2), which is
            not convex.
        sorted_by_label: deal rows sorted by label, so that most workers see one label; otherwise
            shuffled.
        planted: subtract c'x, where c is the gradient at a random point of norm about 1, which
            thereby becomes the optimum to float32 precision, with the workers' gradients there
            as different as the data make them.
        seed: of the order of the rows, and of the planted optimum.

    Raises:
        ValueError: a value is out of range, or two of them contradict each other.
    """

    data: Literal["breast-cancer"] = "breast-cancer"
    path: str | Path | None = None
    num_functions: int = 4
    l2: float = 0.1
    convex: bool = True
    sorted_by_label: bool = False
    planted: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        if self.data != "breast-cancer":
            raise ValueError(
                f"data is {self.data!r}: give breast-cancer, or the path of a file in LIBSVM's "
                "format as path"
            )
        if self.num_functions < 1:
            raise ValueError(f"num_functions is {self.num_functions!r}: give at least 1")
        if not 0 <= self.l2 < math.inf:
            raise ValueError(f"l2 is {self.l2!r}: give 0 or more")
        if self.planted and not self.convex:
            raise ValueError(
                "planted is true and convex is false: the gradient of a function that is not "
                "convex may vanish where there is no minimum; leave planted out"
            )

    @cached_property
    def rows(self) -> Array:
        """y_r a_r, shape (functions, rows a function, dim), float32 numbers held in float64.

        Raises:
            ProblemError: the data cannot be read.
            ValueError: there are fewer rows than functions.
        """
        features, labels = breast_cancer() if self.path is None else read_libsvm(self.path)
        each = len(labels) // self.num_functions
        if not each:
            raise ValueError(
                f"num_functions is {self.num_functions} and there are {len(labels)} rows: give at "
                "most that many"
            )
        rng = np.random.default_rng(self.seed)
        order = rng.permutation(len(labels))[: each * self.num_functions]
        if self.sorted_by_label:
            order = order[np.argsort(labels[order], kind="stable")]
        rows = (labels[order, None] * features[order]).astype(np.float32).astype(np.float64)
        return rows.reshape(self.num_functions, each, -1)

    @cached_property
    def tilt(self) -> Array:
        """c, shape (dim,), float32 numbers held in float64; zero without a planted optimum."""
        if not self.planted:
            return np.zeros(self.rows.shape[2])
        return self._untilted_gradient(self._planted_point).astype(np.float32).astype(np.float64)

    @cached_property
    def optimum(self) -> Array:
        """The minimiser, shape (dim,), where |grad f| is at most 1e-12 in float64.

        The limit is 1e-12 times the norm of the longest row where that is above 1.

        Raises:
            ValueError: the problem is not convex, or no minimum is found.
        """
        if not self.convex:
            raise ValueError("convex is false: the optimum is not known")
        longest = float(np.linalg.norm(self.rows, axis=2).max())
        start = self._planted_point if self.planted else np.zeros_like(self.tilt)
        try:
            x = minimise(self.value, self.gradient, self._hessian, start, 1e-12 * max(1.0, longest))
        except ValueError as error:
            raise ValueError(f"l2 is {self.l2!r}: {error}; give a larger one") from error
        if not self.l2 and not self.planted and (self.rows @ x > 0).all():
            raise ValueError(
                f"l2 is {self.l2!r} and a plane separates the labels, so f has no minimum: give a "
                "larger one"
            )
        return x

    def constants(self, num_workers: int) -> Constants:
        """Return bounds of the constants, from the largest eigenvalues of the data.

        Raises:
            ProblemError: the data cannot be read.
            ValueError: the number of workers is not the number of functions, or there are fewer
                rows than functions.
        """
        check_workers(self.num_functions, num_workers)
        curvature = self.l2 if self.convex else 2 * self.l2
        convexity = self.l2 if self.convex else 0.0
        whole = _curvature(self.rows.reshape(-1, self.rows.shape[2]))
        each = np.array([_curvature(rows) for rows in self.rows])
        longest = (self.rows**2).sum(axis=2).max(axis=1) / 4
        return Constants(
            smoothness=whole + curvature,
            mean_smoothness=_quadratic_mean(each + curvature),
            largest_smoothness=float(each.max()) + curvature,
            strong_convexity=convexity,
            least_convexity=convexity,
            hessian_variance=_quadratic_mean(each),  # the regulariser is the same on all workers
            sample_smoothness=_quadratic_mean(longest + curvature),
            convex=self.convex,
        )

    def model(self) -> nn.Module:
        """One vector of variables, at zero."""
        return Variables(torch.zeros(self.rows.shape[2]))

    def loss(self, model: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
        """The regularised mean over a batch of rows y_r a_r, shape (rows, dim), less c'x."""
        (rows,) = batch
        x: Tensor = model(None)
        squares = x.square()
        penalty = squares / 2 if self.convex else squares / (1 + squares)
        loss = functional.softplus(-(rows @ x)).mean() + self.l2 * penalty.sum()
        return loss - self._float32_tilt.to(x.device) @ x if self.planted else loss

    def shard(self, worker_id: int, num_workers: int, generator: Generator) -> TensorShard:
        """Return worker i's rows y_r a_r.

        Raises:
            ProblemError, ValueError: see ``constants``.
        """
        check_workers(self.num_functions, num_workers)
        return TensorShard((torch.tensor(self.rows[worker_id], dtype=torch.float32),))

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """f(x) - f* and |x - x*|^2 where convex, else f(x); |grad f(x)|; the accuracy.

        The accuracy is that on the rows that are trained on.
        """
        with torch.no_grad():
            x = model(None).double().numpy()
        slope = float(np.linalg.norm(self.gradient(x)))
        accuracy = float((self.rows @ x > 0).mean())
        if not self.convex:
            return {"gradient_norm": slope, "loss": self.value(x), "accuracy": accuracy}
        return {
            "gap": self.value(x) - self._minimum,
            "squared_distance": float(((x - self.optimum) ** 2).sum()),
            "gradient_norm": slope,
            "accuracy": accuracy,
        }

    def value(self, x: Array) -> float:
        """f(x) in float64.

        Args:
            x: shape (dim,).
        """
        penalty = x**2 / 2 if self.convex else x**2 / (1 + x**2)
        losses = np.logaddexp(0, -(self.rows @ x))
        return float(losses.mean() + self.l2 * penalty.sum() - self.tilt @ x)

    def gradient(self, x: Array) -> Array:
        """Grad f(x) in float64, shape (dim,).

        Args:
            x: shape (dim,).
        """
        return self._untilted_gradient(x) - self.tilt

    def _untilted_gradient(self, x: Array) -> Array:
        rows = self.rows.reshape(-1, len(x))
        slopes = x if self.convex else 2 * x / (1 + x**2) ** 2
        return self.l2 * slopes - _sigmoid(-(rows @ x)) @ rows / len(rows)

    def _hessian(self, x: Array) -> Array:
        """The Hessian where convex, shape (dim, dim)."""
        rows = self.rows.reshape(-1, len(x))
        share = _sigmoid(rows @ x)
        weights = share * (1 - share) / len(rows)
        return (rows * weights[:, None]).T @ rows + self.l2 * np.eye(len(x))

    @cached_property
    def _minimum(self) -> float:
        return self.value(self.optimum)

    @cached_property
    def _planted_point(self) -> Array:
        dim = self.rows.shape[2]
        return np.random.default_rng([self.seed, 1]).standard_normal((dim,)) / math.sqrt(dim)

    @cached_property
    def _float32_tilt(self) -> Tensor:
        return torch.tensor(self.tilt, dtype=torch.float32)


def _curvature(rows: Array) -> float:
    """Return a quarter of the largest eigenvalue of the mean of a_r a_r', rows of shape (n, d)."""
    gram = rows.T @ rows if rows.shape[0] > rows.shape[1] else rows @ rows.T
    return float(np.linalg.eigvalsh(gram)[-1]) / (4 * len(rows))


def _quadratic_mean(values: Array) -> float:
    return float(np.sqrt((values**2).mean()))


def _sigmoid(scores: Array) -> Array:
    shares: Array = np.tanh(scores / 2)  # which, unlike exp, does not overflow
    return (shares + 1) / 2
