import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from launch.configuration.catalogue import PROBLEMS
from mlmc_ray.errors import NonFiniteError, ProblemError
from mlmc_ray.flat import FlatModel
from mlmc_ray.problems import (
    CIFAR10,
    CIFAR100,
    Digits,
    FashionMNIST,
    LogisticRegression,
    MovieReviews,
    Problem,
    ProblemSource,
    Quadratic,
    TensorShard,
    ThreeWorkers,
    explaining,
)
from mlmc_ray.problems.base import split_evenly
from mlmc_ray.problems.quadratic import Family
from mlmc_ray.problems.replicated import Replicated
from mlmc_ray.seeding import generator_for

ALL_PROBLEMS: list[Problem] = [
    Quadratic(num_functions=3, noise=0.5),
    Digits(),
    Digits(batch_norm=True),
    LogisticRegression(num_functions=3),
    ThreeWorkers(),
    Replicated(problem=ProblemSource("mlmc_ray.problems.digits.Digits")),
]


def test_the_list_is_complete() -> None:
    paths = {f"{type(p).__module__}.{type(p).__qualname__}" for p in ALL_PROBLEMS}
    vision = {f"{cls.__module__}.{cls.__qualname__}" for cls in (CIFAR10, CIFAR100, FashionMNIST)}
    text = f"{MovieReviews.__module__}.{MovieReviews.__qualname__}"
    assert paths | vision | {text} == set(PROBLEMS.values())  # those have files of their own


@pytest.mark.parametrize("problem", ALL_PROBLEMS, ids=str)
def test_a_problem_has_a_loss_with_a_gradient_and_measures(problem: Problem) -> None:
    assert isinstance(problem, Problem)
    torch.manual_seed(0)
    flat = FlatModel(problem.model())
    shard = problem.shard(1, 3, generator_for(0))
    for batch in (shard.sample(5, generator_for(1)), shard.full()):
        loss = problem.loss(flat.module, batch)
        assert loss.shape == ()
        loss.backward()  # type: ignore[no-untyped-call]
    assert bool(flat.gradients.any())
    measures = problem.evaluate(flat.module)
    assert all(type(value) is float for value in measures.values())


def test_constants_of_the_reference_quadratic() -> None:
    problem = Quadratic(num_functions=8, dim=24)
    known = problem.constants(8)
    assert known.strong_convexity == pytest.approx(0.776254, abs=1e-6)
    assert known.smoothness == pytest.approx(4.232793, abs=1e-6)
    assert known.mean_smoothness == pytest.approx(10, abs=1e-9)
    assert known.largest_smoothness == pytest.approx(10, abs=1e-9)
    assert known.sample_smoothness == known.mean_smoothness
    assert known.least_convexity == pytest.approx(0.1, abs=1e-9)
    assert known.convex
    assert known.hessian_variance == pytest.approx(4.101171, abs=1e-6)
    assert problem.smoothness == (known.strong_convexity, known.smoothness, known.mean_smoothness)
    assert np.linalg.norm(problem.optimum) == pytest.approx(1.115587, abs=1e-6)
    matrices, vectors = problem.coefficients
    gradients = matrices @ problem.optimum - vectors
    assert (gradients**2).sum(axis=1).mean() == pytest.approx(27.838673, abs=1e-6)
    minimum = -0.5 * vectors.mean(axis=0) @ problem.optimum
    assert minimum == pytest.approx(-0.847298, abs=1e-6)


@pytest.mark.parametrize("interpolation", [False, True])
def test_the_gradient_at_the_optimum_is_zero(interpolation: bool) -> None:
    problem = Quadratic(num_functions=5, dim=7, interpolation=interpolation, seed=3)
    matrices, vectors = problem.coefficients
    gradients = matrices @ problem.optimum - vectors
    assert np.abs(gradients.mean(axis=0)).max() < 1e-13
    assert (np.abs(gradients).max() < 1e-12) == interpolation


def test_spectra_of_the_functions() -> None:
    matrices, _ = Quadratic(num_functions=3, dim=6, smallest=0.5, largest=4.0).coefficients
    for matrix in matrices:
        assert np.abs(matrix - matrix.T).max() < 1e-14
        spectrum = np.linalg.eigvalsh(matrix)
        assert spectrum[[0, -1]] == pytest.approx([0.5, 4.0], rel=1e-12)


ALIKE: tuple[Family, ...] = ("equal", "diagonal")


@pytest.mark.parametrize("family", ALIKE)
def test_equal_hessians_have_exact_heterogeneity(family: Family) -> None:
    problem = Quadratic(num_functions=5, dim=6, family=family, heterogeneity=3.0)
    matrices, vectors = problem.coefficients
    assert (matrices == matrices[0]).all()
    assert np.linalg.eigvalsh(matrices[0]) == pytest.approx(np.geomspace(0.1, 10, 6), rel=1e-12)
    for x in np.random.default_rng(1).standard_normal((3, 6)):
        gradients = matrices @ x - vectors
        apart = gradients - gradients.mean(axis=0)
        assert (apart**2).sum(axis=1).mean() == pytest.approx(9, rel=1e-12)
    known = problem.constants(5)
    curved = [known.smoothness, known.mean_smoothness, known.largest_smoothness]
    assert curved == pytest.approx([10, 10, 10], rel=1e-12)
    convexities = [known.strong_convexity, known.least_convexity]
    assert convexities == pytest.approx([0.1, 0.1], rel=1e-12)
    assert known.hessian_variance == pytest.approx(0, abs=1e-14)


@pytest.mark.parametrize("family", [*ALIKE, "tridiagonal"])
def test_without_heterogeneity_all_functions_are_one(family: Family) -> None:
    problem = Quadratic(num_functions=3, dim=5, family=family)
    for coefficients in problem.coefficients:
        assert (coefficients == coefficients[0]).all()


def test_gradient_descent_on_a_diagonal_quadratic_moves_every_coordinate_by_itself() -> None:
    problem = Quadratic(num_functions=2, dim=5, family="diagonal", heterogeneity=1.0)
    matrices, vectors = problem.coefficients
    x, step_size = np.zeros(5), 0.15
    for _ in range(20):
        x = x - step_size * (matrices @ x - vectors).mean(axis=0)
    factors = (1 - step_size * np.geomspace(0.1, 10, 5)) ** 20
    assert x - problem.optimum == pytest.approx(-factors * problem.optimum, rel=1e-9, abs=1e-12)


def test_the_tridiagonal_family_has_a_closed_form_without_heterogeneity() -> None:
    """T x = -e_1 has the solution -(d - j)/(d + 1), j = 0 ... d - 1."""
    least, most = (2 - 2 * math.cos(k * math.pi / 8) for k in (1, 7))
    problem = Quadratic(dim=7, family="tridiagonal", smallest=least / 4, largest=most / 4)
    matrices, vectors = problem.coefficients
    assert matrices[0, :2, :3] == pytest.approx(np.array([[0.5, -0.25, 0], [-0.25, 0.5, -0.25]]))
    assert vectors[3] == pytest.approx([-0.25, 0, 0, 0, 0, 0, 0])
    assert problem.optimum == pytest.approx([-(7 - j) / 8 for j in range(7)], rel=1e-12)


@pytest.mark.parametrize("interpolation", [False, True])
def test_tridiagonal_functions_differ_by_a_multiple(interpolation: bool) -> None:
    problem = Quadratic(
        num_functions=40, family="tridiagonal", heterogeneity=0.5, interpolation=interpolation
    )
    known = problem.constants(40)
    assert known.strong_convexity == pytest.approx(0.1, rel=1e-10)
    assert known.smoothness == pytest.approx(10, rel=1e-12)
    assert known.least_convexity == 0  # a scale is negative: 0.5 n < -1 for some of 40 normal n
    assert known.convex is False
    matrices, vectors = problem.coefficients
    apart = matrices - matrices.mean(axis=0)
    scales = apart[:, 0, 1] / apart[0, 0, 1]
    assert np.abs(apart - scales[:, None, None] * apart[0]).max() < 1e-12
    assert known.hessian_variance == pytest.approx(
        np.linalg.eigvalsh(apart[0])[-1] * np.sqrt((scales**2).mean()), rel=1e-9
    )
    gradients = matrices @ problem.optimum - vectors
    assert (np.abs(gradients).max() < 1e-10) == interpolation


def test_constants_are_those_of_the_gradients() -> None:
    """On random pairs: no difference of gradients exceeds its bound, and some come near."""
    problem = Quadratic(num_functions=3, dim=2, seed=1)
    matrices, _ = problem.coefficients
    known = problem.constants(3)
    directions = np.random.default_rng(0).standard_normal((2000, 2))
    directions /= np.linalg.norm(directions, axis=1)[:, None]
    changes = np.einsum("ijk,nk->nij", matrices, directions)
    squares = (changes**2).sum(axis=2).mean(axis=1)
    mean = np.linalg.norm(changes.mean(axis=1), axis=1)
    assert mean.max() == pytest.approx(known.smoothness, rel=1e-4)
    assert known.hessian_variance is not None
    assert (squares - mean**2).max() == pytest.approx(known.hessian_variance**2, rel=1e-4)
    assert np.sqrt(squares).max() <= known.mean_smoothness


def test_constants_of_the_three_workers() -> None:
    problem = ThreeWorkers(start=2.0)
    known = problem.constants(3)
    assert known.strong_convexity == pytest.approx(7 / 6, rel=1e-12)
    assert known.smoothness == pytest.approx(103 / 6, rel=1e-12)
    assert known.mean_smoothness == known.largest_smoothness == pytest.approx(34.5, rel=1e-12)
    assert known.least_convexity == pytest.approx(0.5, rel=1e-12)
    start = problem.evaluate(problem.model())
    assert start == pytest.approx({"gap": 7, "squared_distance": 12}, rel=1e-12)  # 7/12 |x|^2


@pytest.mark.parametrize("step_size", [0.01, 0.5])
def test_top_1_diverges_on_the_three_workers(step_size: float) -> None:
    problem = ThreeWorkers(start=3.0)
    flat = FlatModel(problem.model())
    for _ in range(10):
        average = torch.zeros(3)
        for worker_id in range(3):
            shard = problem.shard(worker_id, 3, generator_for(0))
            flat.gradients.zero_()
            problem.loss(flat.module, shard.full()).backward()  # type: ignore[no-untyped-call]
            largest = flat.gradients.abs().argmax()
            average[largest] += flat.gradients[largest] / 3
        flat.parameters.sub_(average, alpha=step_size)
    expected = 3 * (1 + 11 * step_size / 6) ** 10
    assert flat.parameters.tolist() == pytest.approx([expected] * 3, rel=1e-5)


@pytest.mark.parametrize("start", [0.0, math.nan])
def test_the_three_workers_do_not_start_at_the_optimum(start: float) -> None:
    with pytest.raises(ValueError, match=f"start is {start}: give a number other than 0"):
        ThreeWorkers(start=start)


def test_the_three_workers_are_three() -> None:
    with pytest.raises(ValueError, match="there are 4 workers, and 3 functions: give workers: 3"):
        ThreeWorkers().shard(0, 4, generator_for(0))


def gradient_of(problem: Quadratic, at: Tensor, batch: Any) -> Tensor:
    flat = FlatModel(problem.model())
    flat.parameters.copy_(at)
    problem.loss(flat.module, batch).backward()  # type: ignore[no-untyped-call]
    return flat.gradients


def test_the_gradient_of_the_loss_is_ax_minus_b() -> None:
    problem = Quadratic(num_functions=3, dim=6)
    matrices, vectors = problem.coefficients
    at = torch.arange(6, dtype=torch.float32)
    for worker_id in range(3):
        shard = problem.shard(worker_id, 3, generator_for(0))
        gradient = gradient_of(problem, at, shard.full())
        expected = matrices[worker_id] @ at.numpy() - vectors[worker_id]
        assert gradient.numpy() == pytest.approx(expected, rel=1e-5, abs=1e-5)


@pytest.mark.parametrize("batch_size", [1, 4])
def test_the_variance_of_the_gradient_noise(batch_size: int) -> None:
    """n |g - grad|^2 / (sigma^2 / batch) is chi-squared with n d degrees of freedom.

    Its relative error is above 6 standard deviations with a probability below 1e-8.
    """
    sigma, dim, n = 3.0, 24, 400
    problem = Quadratic(num_functions=2, dim=dim, noise=sigma)
    shard = problem.shard(0, 2, generator_for(0))
    generator = generator_for(7)
    at = torch.zeros(dim)
    exact = gradient_of(problem, at, shard.full())
    noises = [
        gradient_of(problem, at, shard.sample(batch_size, generator)) - exact for _ in range(n)
    ]
    variance = torch.stack(noises).double().square().sum(dim=1).mean().item()
    margin = 6 * math.sqrt(2 / (n * dim))
    assert margin < 0.1
    assert variance == pytest.approx(sigma**2 / batch_size, rel=margin)


def test_without_noise_a_sample_is_the_function() -> None:
    shard = Quadratic(num_functions=2).shard(0, 2, generator_for(0))
    for one, all_of_it in zip(shard.sample(1, generator_for(0)), shard.full(), strict=True):
        assert torch.equal(one, all_of_it)


def test_measures_of_a_quadratic() -> None:
    problem = Quadratic(num_functions=2, dim=4)
    flat = FlatModel(problem.model())
    assert not flat.parameters.any()
    start = problem.evaluate(flat.module)
    assert start["squared_distance"] == pytest.approx((problem.optimum**2).sum(), rel=1e-12)
    _, vectors = problem.coefficients
    gap = 0.5 * vectors.mean(axis=0) @ problem.optimum
    assert start["gap"] == pytest.approx(gap, rel=1e-12)
    flat.parameters.copy_(torch.from_numpy(problem.optimum))
    assert problem.evaluate(flat.module)["squared_distance"] < 1e-12


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"num_functions": 0}, "num_functions is 0"),
        ({"dim": 1}, "dim is 1"),
        ({"smallest": 0.0}, r"smallest is 0\.0"),
        ({"smallest": 2.0, "largest": 1.0}, r"largest is 1\.0"),
        ({"noise": -1.0}, r"noise is -1\.0"),
        ({"noise": math.nan}, "noise is nan"),
        ({"largest": math.inf}, "largest is inf"),
        ({"family": "q1"}, r"family is 'q1': give one of \['random', 'equal'"),
        ({"family": "equal", "heterogeneity": -1}, "heterogeneity is -1: give 0 or more"),
        ({"heterogeneity": 1}, "family is 'random', whose functions differ anyway"),
        (
            {"family": "equal", "heterogeneity": 1, "interpolation": True},
            "interpolation is true: equal Hessians with one optimum are one function",
        ),
        ({"family": "diagonal", "heterogeneity": 1, "num_functions": 1}, "num_functions is 1"),
    ],
)
def test_impossible_quadratics_are_refused(options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        Quadratic(**options)


def test_a_quadratic_has_one_function_a_worker() -> None:
    complaint = "num_functions is 4 and there are 3 workers"
    with pytest.raises(ValueError, match=complaint):
        Quadratic(num_functions=4).shard(0, 3, generator_for(0))
    with pytest.raises(ValueError, match=complaint):
        Quadratic(num_functions=4).constants(3)


def test_tridiagonal_functions_need_an_average_with_a_minimum() -> None:
    problem = Quadratic(num_functions=1, family="tridiagonal", heterogeneity=1e3, seed=1)
    assert problem.constants(1).smoothness == pytest.approx(10)
    with pytest.raises(ValueError, match=r"heterogeneity is 1000\.0, with which the average"):
        _ = Quadratic(num_functions=1, family="tridiagonal", heterogeneity=1e3, seed=4).coefficients


@pytest.mark.parametrize(("num_examples", "num_workers"), [(10, 3), (5, 5), (7, 1)])
def test_examples_are_dealt_once_each(num_examples: int, num_workers: int) -> None:
    examples = torch.arange(num_examples)
    shards = [
        split_evenly((examples, -examples), i, num_workers, generator_for(0))
        for i in range(num_workers)
    ]
    dealt = torch.cat([shard.full()[0] for shard in shards])
    assert dealt.sort().values.tolist() == examples.tolist()
    sizes = [len(shard.full()[0]) for shard in shards]
    assert max(sizes) - min(sizes) <= 1
    assert all(torch.equal(shard.tensors[0], -shard.tensors[1]) for shard in shards)


def test_more_workers_than_examples_are_refused() -> None:
    with pytest.raises(ValueError, match="2 examples cannot be dealt to 3 workers"):
        split_evenly((torch.arange(2),), 0, 3, generator_for(0))


def test_a_sample_draws_rows_of_all_tensors_alike() -> None:
    rows = torch.arange(5)
    shard = TensorShard((rows, rows * 10))
    first, second = shard.sample(200, generator_for(0))
    assert torch.equal(first * 10, second)
    assert set(first.tolist()) == set(range(5))
    assert torch.equal(shard.sample(200, generator_for(0))[0], first)


def test_shards_of_digits_are_disjoint_and_cover_the_training_images() -> None:
    problem = Digits()
    whole = problem.shard(0, 1, generator_for(0))
    shards = [problem.shard(i, 4, generator_for(0)) for i in range(4)]
    rows = [
        (*image.flatten().tolist(), label)
        for shard in shards
        for image, label in zip(shard.tensors[0], shard.tensors[1].tolist(), strict=True)
    ]
    everything = [
        (*image.flatten().tolist(), label)
        for image, label in zip(whole.tensors[0], whole.tensors[1].tolist(), strict=True)
    ]
    assert len(rows) == 1437
    assert sorted(rows) == sorted(everything)
    assert len(set(rows)) == len(rows)  # no image occurs twice, so the shards are disjoint


def test_the_network_for_digits() -> None:
    torch.manual_seed(0)
    assert len(FlatModel(Digits().model()).parameters) == 38_282
    normalised = FlatModel(Digits(batch_norm=True).model())
    assert normalised.num_statistics == 96
    measures = Digits().evaluate(Digits().model())
    assert 0 <= measures["accuracy"] < 0.5
    assert measures["loss"] == pytest.approx(math.log(10), abs=0.3)


class Incomplete:
    def model(self) -> nn.Module:
        return nn.Linear(1, 1)

    def loss(self, model: nn.Module, batch: Any) -> Tensor:
        return torch.zeros(())

    evaluate = 3


class Failing:
    def __init__(self, size: int = 0) -> None:
        raise ZeroDivisionError("no size")


class Refusing:
    def __init__(self, size: int) -> None:
        raise ValueError(f"size is {size}")


def test_a_source_makes_the_problem() -> None:
    options: Mapping[str, Any] = {"num_functions": 2, "dim": 3}
    source = ProblemSource("mlmc_ray.problems.quadratic.Quadratic", options)
    assert source.load() == Quadratic(num_functions=2, dim=3)
    assert source.factory() is Quadratic


@pytest.mark.parametrize(
    ("path", "options", "complaint"),
    [
        ("quadratic", {}, "'quadratic' is not a dotted path: give module.Class"),
        ("no.such.module.Task", {}, "cannot import 'no.such.module': ModuleNotFoundError"),
        ("mlmc_ray.problems.Nothing", {}, "module 'mlmc_ray.problems' has no 'Nothing'"),
        (f"{__name__}.Incomplete", {}, r"Incomplete lacks \['shard', 'evaluate'\]"),
        (
            f"{__name__}.Failing",
            {"size": 7},
            r"ZeroDivisionError while making .*Failing\(size=7\): no size .*test_problems\.py",
        ),
        (f"{__name__}.Failing", {"sise": 7}, r"TypeError while making .*'sise'"),
        (
            "mlmc_ray.problems.Quadratic",
            {"dim": 0},
            "^problem: num_functions is 4 and dim is 0: give at least 1 and at least 2$",
        ),
        (
            f"{__name__}.Refusing",
            {"size": 0},
            r"ValueError while making .*: size is 0 .*test_problems\.py",
        ),
        (
            "mlmc_ray.problems.Quadratic",
            {"dim": "x"},
            "^(?!.*<string>)problem: TypeError while making .*supported",
        ),
    ],
)
def test_a_source_that_fails_says_where(path: str, options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ProblemError, match=complaint):
        ProblemSource(path, options).load()


def test_a_source_looks_in_its_search_paths(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "my_task_of_the_tests.py").write_text(
        "from mlmc_ray.problems import Quadratic as Mine\n"
    )
    (tmp_path / "my_broken_task.py").write_text("1 / 0\n")
    source = ProblemSource("my_task_of_the_tests.Mine", {"dim": 2}, (str(tmp_path),))
    assert source.load() == Quadratic(dim=2)
    with pytest.raises(ProblemError, match=f"ZeroDivisionError.*looked in {tmp_path}"):
        ProblemSource("my_broken_task.Mine", {}, (str(tmp_path),)).load()


def test_errors_of_the_library_pass_through() -> None:
    with pytest.raises(NonFiniteError, match="a NaN"), explaining("computing"):
        raise NonFiniteError("a NaN")
