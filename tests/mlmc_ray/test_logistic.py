"""Logistic regression: closed forms, its constants, its optimum, and the files it reads."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mlmc_ray.errors import ProblemError
from mlmc_ray.flat import FlatModel
from mlmc_ray.problems import LogisticRegression
from mlmc_ray.problems.functions import Variables
from mlmc_ray.problems.labelled_rows import breast_cancer, read_libsvm
from mlmc_ray.problems.newton import minimise
from mlmc_ray.seeding import generator_for


def written(path: Path, rows: list[str]) -> Path:
    path.write_text("".join(f"{row}\n" for row in rows))
    return path


@pytest.fixture
def one_hot(tmp_path: Path) -> Path:
    """Coordinate 1 three times with 1 and once with -1; coordinate 2 twice and four times."""
    rows = ["1 1:1"] * 3 + ["-1 1:1"] + ["1 2:1"] * 2 + ["-1 2:1"] * 4
    return written(tmp_path / "one-hot.txt", rows)


def entropy(share: float) -> float:
    return -share * math.log(share) - (1 - share) * math.log(1 - share)


def gradient_of_mean(problem: LogisticRegression, at: Tensor) -> Tensor:
    """The mean over the workers of the gradients of the loss, in float32."""
    flat = FlatModel(problem.model())
    flat.parameters.copy_(at)
    for worker_id in range(problem.num_functions):
        shard = problem.shard(worker_id, problem.num_functions, generator_for(0))
        loss = problem.loss(flat.module, shard.full()) / problem.num_functions
        loss.backward()  # type: ignore[no-untyped-call]
    return flat.gradients


def worker_gradients(problem: LogisticRegression, at: Tensor) -> Tensor:
    """Every worker's gradient of the loss in float64, shape (workers, dim)."""
    model = Variables(at)
    model.x = nn.Parameter(at.clone())
    gradients = [
        torch.autograd.grad(problem.loss(model, (torch.from_numpy(rows),)), model.x)[0]
        for rows in problem.rows
    ]
    return torch.stack(gradients)


# Closed forms.


def test_rows_that_occur_with_both_labels_are_best_told_apart_by_nothing(tmp_path: Path) -> None:
    features = np.random.default_rng(0).standard_normal((6, 3)).round(2)
    lines = [" ".join(f"{j}:{value}" for j, value in enumerate(row, 1)) for row in features]
    rows = [f"{label} {line}" for line in lines for label in (1, -1)]
    problem = LogisticRegression(path=written(tmp_path / "x.txt", rows), num_functions=2)
    assert np.abs(problem.optimum).max() < 1e-12
    assert problem.value(problem.optimum) == pytest.approx(math.log(2), rel=1e-14)


def test_one_hot_rows_without_a_regulariser_have_a_closed_form(one_hot: Path) -> None:
    problem = LogisticRegression(path=one_hot, num_functions=1, l2=0)
    expected = [math.log(3 / 1), math.log(2 / 4)]
    assert problem.optimum == pytest.approx(expected, abs=1e-11)
    minimum = (4 * entropy(3 / 4) + 6 * entropy(2 / 6)) / 10
    assert problem.value(problem.optimum) == pytest.approx(minimum, rel=1e-13)
    assert problem.constants(1).smoothness == pytest.approx(6 / 40, rel=1e-12)
    assert problem.constants(1).strong_convexity == 0
    assert problem.constants(1).sample_smoothness == pytest.approx(1 / 4, rel=1e-12)


def test_a_planted_optimum_is_where_it_was_planted() -> None:
    problem = LogisticRegression(planted=True)
    point = np.random.default_rng([0, 1]).standard_normal(30) / math.sqrt(30)
    assert problem.optimum == pytest.approx(point, abs=1e-6)
    assert np.linalg.norm(problem.gradient(problem.optimum)) <= 2e-11
    at = torch.tensor(problem.optimum, dtype=torch.float32)
    assert float(gradient_of_mean(problem, at).norm()) < 2e-6
    assert (
        float(gradient_of_mean(LogisticRegression(), at).norm()) > 0.1
    )  # so the tilt is part of the loss


# Gradients and optima.


@pytest.mark.parametrize("convex", [True, False])
def test_the_loss_and_the_reference_agree(convex: bool) -> None:
    problem = LogisticRegression(convex=convex)
    at = torch.linspace(-1, 1, 30)
    exact = problem.gradient(at.double().numpy())
    assert gradient_of_mean(problem, at).numpy() == pytest.approx(exact, rel=1e-5, abs=1e-6)
    flat = FlatModel(problem.model())
    flat.parameters.copy_(at)
    whole = torch.tensor(problem.rows.reshape(-1, 30), dtype=torch.float32)
    loss = problem.loss(flat.module, (whole,)).item()
    assert loss == pytest.approx(problem.value(at.double().numpy()), rel=1e-6)


@pytest.mark.parametrize("convex", [True, False])
def test_the_gradient_is_that_of_the_value(convex: bool) -> None:
    problem = LogisticRegression(convex=convex)
    rng = np.random.default_rng(0)
    x, direction = rng.standard_normal(30), rng.standard_normal(30)
    step = 1e-5
    slope = (problem.value(x + step * direction) - problem.value(x - step * direction)) / (2 * step)
    assert problem.gradient(x) @ direction == pytest.approx(slope, rel=1e-8)


@pytest.mark.parametrize("l2", [1.0, 0.1, 1e-4])
def test_newton_finds_the_optimum(l2: float) -> None:
    problem = LogisticRegression(l2=l2)
    assert np.linalg.norm(problem.gradient(problem.optimum)) <= 1e-12 * 20.2  # the longest row
    rng = np.random.default_rng(0)
    best = problem.value(problem.optimum)
    assert all(
        problem.value(problem.optimum + 1e-3 * rng.standard_normal(30)) > best for _ in range(20)
    )


def test_separable_data_need_a_regulariser(tmp_path: Path) -> None:
    path = written(tmp_path / "apart", ["1 1:1", "1 1:2", "-1 1:-3"])
    with pytest.raises(ValueError, match="l2 is 0 and a plane separates the labels"):
        _ = LogisticRegression(path=path, num_functions=1, l2=0).optimum


def test_newton_says_that_it_found_no_minimum() -> None:
    def slope(x: Any) -> Any:
        return np.ones(1)

    with pytest.raises(ValueError, match="gradient of norm 1, above 1e-12"):
        minimise(lambda x: float(x[0]), slope, lambda x: np.zeros((1, 1)), np.zeros(1))


def test_newton_damps_steps_that_overshoot() -> None:
    """Undamped steps on sqrt(1 + x^2) from 2 diverge: x becomes -x^3."""
    found = minimise(
        lambda x: float(np.sqrt(1 + x[0] ** 2)),
        lambda x: x / np.sqrt(1 + x**2),
        lambda x: ((1 + x**2) ** -1.5).reshape(1, 1),
        np.array([2.0]),
    )
    assert abs(found[0]) <= 1e-12


# Constants.


@pytest.mark.parametrize("sorted_by_label", [True, False])
@pytest.mark.parametrize("convex", [True, False])
def test_constants_bound_what_gradients_do(convex: bool, sorted_by_label: bool) -> None:
    """On random pairs of points, with gradients by autograd."""
    problem = LogisticRegression(num_functions=3, convex=convex, sorted_by_label=sorted_by_label)
    known = problem.constants(3)
    pairs = torch.randn(20, 2, 30, generator=generator_for(0), dtype=torch.float64) * 0.3
    for x, y in pairs:
        change = (worker_gradients(problem, x) - worker_gradients(problem, y)) / (x - y).norm()
        norms = change.norm(dim=1)
        mean = float(change.mean(dim=0).norm())
        assert mean <= known.smoothness
        assert float(norms.max()) <= known.largest_smoothness
        assert math.sqrt(norms.square().mean()) <= known.mean_smoothness
        assert known.hessian_variance is not None
        assert float(norms.square().mean()) - mean**2 <= known.hessian_variance**2
    assert known.strong_convexity == known.least_convexity == (0.1 if convex else 0)
    assert known.convex == convex


@pytest.mark.parametrize("convex", [True, False])
def test_the_smoothness_is_attained_at_zero(convex: bool) -> None:
    problem = LogisticRegression(convex=convex)
    rows = problem.rows.reshape(-1, 30)
    spectrum, basis = np.linalg.eigh(rows.T @ rows)
    direction = 1e-5 * basis[:, -1]
    curvature = np.linalg.norm(problem.gradient(direction) - problem.gradient(-direction)) / 2e-5
    assert problem.constants(4).smoothness == pytest.approx(curvature, rel=1e-8)
    assert spectrum[-1] / (4 * len(rows)) == pytest.approx(curvature - (0.1 if convex else 0.2))


def test_the_smoothness_of_single_rows() -> None:
    problem = LogisticRegression(num_functions=2)
    longest = [max(float(row @ row) / 4 + 0.1 for row in rows) for rows in problem.rows]
    expected = math.sqrt((longest[0] ** 2 + longest[1] ** 2) / 2)
    assert problem.constants(2).sample_smoothness == pytest.approx(expected, rel=1e-12)


# Shards and measures.


def test_rows_are_dealt_once_each_and_the_rest_is_dropped() -> None:
    features, labels = breast_cancer()
    problem = LogisticRegression(num_functions=8)
    assert problem.rows.shape == (8, 71, 30)  # 568 of 569
    signed = (labels[:, None] * features).astype(np.float32)
    kept = {row.tobytes() for row in problem.rows.reshape(-1, 30).astype(np.float32)}
    assert len(kept) == 568
    assert kept < {row.tobytes() for row in signed}
    shards = [problem.shard(i, 8, generator_for(0)).full()[0] for i in range(8)]
    assert torch.equal(torch.stack(shards).double(), torch.from_numpy(problem.rows))
    assert not np.array_equal(LogisticRegression(num_functions=8, seed=1).rows, problem.rows)


def test_shards_sorted_by_label_differ(one_hot: Path) -> None:
    labels = [LogisticRegression(path=one_hot, num_functions=5, sorted_by_label=True).rows[i].sum()
              for i in range(5)]  # fmt: skip
    assert labels == [-2, -2, 0, 2, 2]


def test_measures_at_zero_and_at_the_optimum() -> None:
    problem = LogisticRegression()
    flat = FlatModel(problem.model())
    start = problem.evaluate(flat.module)
    assert list(start) == ["gap", "squared_distance", "gradient_norm", "accuracy"]
    assert start["gap"] == pytest.approx(math.log(2) - problem.value(problem.optimum), rel=1e-12)
    assert start["squared_distance"] == pytest.approx((problem.optimum**2).sum(), rel=1e-12)
    mean = problem.rows.reshape(-1, 30).mean(axis=0)
    assert start["gradient_norm"] == pytest.approx(np.linalg.norm(mean) / 2, rel=1e-12)
    flat.parameters.copy_(torch.from_numpy(problem.optimum))
    best = problem.evaluate(flat.module)
    assert abs(best["gap"]) < 1e-14
    assert best["gradient_norm"] < 1e-6
    assert 0.95 < best["accuracy"] < 1


def test_measures_where_it_is_not_convex() -> None:
    problem = LogisticRegression(convex=False)
    measures = problem.evaluate(problem.model())
    assert list(measures) == ["gradient_norm", "loss", "accuracy"]
    assert measures["loss"] == pytest.approx(math.log(2), rel=1e-12)
    with pytest.raises(ValueError, match="convex is false: the optimum is not known"):
        _ = problem.optimum


# What is refused.


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"data": "a9a"}, "data is 'a9a': give breast-cancer, or the path"),
        ({"l2": -0.1}, r"l2 is -0\.1: give 0 or more"),
        ({"l2": math.nan}, "l2 is nan"),
        ({"num_functions": 0}, "num_functions is 0"),
        ({"planted": True, "convex": False}, "leave planted out"),
    ],
)
def test_impossible_settings_are_refused(options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        LogisticRegression(**options)


def test_workers_and_rows_must_suffice(one_hot: Path) -> None:
    with pytest.raises(ValueError, match="num_functions is 4 and there are 3 workers"):
        LogisticRegression().constants(3)
    with pytest.raises(ValueError, match="num_functions is 4 and there are 3 workers"):
        LogisticRegression().shard(0, 3, generator_for(0))
    with pytest.raises(ValueError, match="num_functions is 11 and there are 10 rows"):
        _ = LogisticRegression(path=one_hot, num_functions=11).rows


@pytest.mark.parametrize("labels", [("-1", "+1"), ("0", "1"), ("1", "2"), ("-1.0", "1.0")])
def test_files_with_any_usual_labels(tmp_path: Path, labels: tuple[str, str]) -> None:
    low, high = labels
    path = written(tmp_path / "data", [f"{high} 1:0.5 3:-2 # a comment", f"{low} 2:1e-1"])
    features, signs = read_libsvm(path)
    assert features.tolist() == [[0.5, 0, -2], [0, 0.1, 0]]
    assert signs.tolist() == [1, -1]


@pytest.mark.parametrize(
    ("rows", "complaint"),
    [
        (["1 1:x"], "is not in LIBSVM's format: .*expected a row a line, 'label index:value"),
        (["1 0:1", "-1 1:1"], "is not in LIBSVM's format"),
        (["1 2:1 1:1"], "is not in LIBSVM's format"),
        (["a,b,c"], "is not in LIBSVM's format"),
        ([], "holds 0 rows"),
        (["1 1:1", "2 1:1", "3 1:1"], "holds 3 different labels, 1, 2, 3: expected both of one of"),
        (["1 1:1"], "holds 1 different labels, 1: expected"),
        (["1 1:nan", "-1 1:1"], "holds NaN or infinity"),
        (["1 900000000:1", "-1 1:1"], "at most 268435456 entries"),
    ],
)
def test_files_of_another_format_are_refused(
    tmp_path: Path, rows: list[str], complaint: str
) -> None:
    path = written(tmp_path / "data.txt", rows)
    with pytest.raises(ProblemError, match=complaint) as raised:
        read_libsvm(path)
    assert str(path) in str(raised.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    problem = LogisticRegression(path=tmp_path / "a9a")
    with pytest.raises(ProblemError, match=f"there is no file {tmp_path}/a9a: give the path"):
        problem.model()
