"""Workers whose draws depend on each other (perm-k): who refuses them, and what theory makes of it.

The second moments are exact: the draws of a round are enumerated, and each is a matrix.
"""

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from launch.configuration.catalogue import KINDS
from mlmc_ray.compressors import Lazy, PerLayer, PermK, RandK, TopK
from mlmc_ray.compressors.base import Compressor
from mlmc_ray.methods import (
    ADIANA,
    DIANA,
    EF21BC,
    EF21P,
    EF21PDIANA,
    EF21SGDM,
    EFBV,
    MARINA,
    SVRG,
    CocoEF,
    CompressedSGD,
    DoCoFL,
    ErrorFeedback,
    LocalSGD,
    Method,
    RandDIANA,
    RennalaSGD,
)
from mlmc_ray.methods.shifts.ef_bv import Noise
from mlmc_ray.methods.theory import Setting, effective_workers, joint_variance
from mlmc_ray.problems.constants import Constants

Matrix = npt.NDArray[np.float64]
Draws = list[Matrix]
"""What every worker multiplies its vector by, one matrix of shape (d, d) for each."""

PERM, TOP = PermK(), TopK(k=2)
SETTING = Setting(
    constants=Constants(
        smoothness=10.0, mean_smoothness=12.0, largest_smoothness=15.0, strong_convexity=1.0
    ),
    dim=24,
    num_workers=4,
)


# Who refuses them.

CONTRACTIVE: dict[type[Method], list[Callable[[Compressor], Method]]] = {
    ErrorFeedback: [lambda c: ErrorFeedback(compressor=c)],
    EF21SGDM: [lambda c: EF21SGDM(compressor=c)],
    CocoEF: [lambda c: CocoEF(compressor=c)],
    EF21BC: [
        lambda c: EF21BC(compressor=c, downlink=TOP),
        lambda c: EF21BC(compressor=TOP, downlink=c),
    ],
    EF21P: [lambda c: EF21P(downlink=c)],
    EF21PDIANA: [lambda c: EF21PDIANA(compressor=RandK(k=2), downlink=c)],
    LocalSGD: [
        lambda c: LocalSGD(local_step_size=0.1, local_steps=2, compressor=c, error_feedback=True)
    ],
}


@pytest.mark.parametrize("compressor", [PERM, PerLayer(compressor=PERM)], ids=str)
@pytest.mark.parametrize("make", list(itertools.chain(*CONTRACTIVE.values())))
def test_what_is_contractive_with_one_worker_alone_is_refused(
    make: Callable[[Compressor], Method], compressor: Compressor
) -> None:
    make(TOP)
    with pytest.raises(ValueError, match="needs a contractive compressor, such as top-k"):
        make(compressor)


def test_every_contractive_method_is_among_them() -> None:
    methods = [kind for kind in KINDS[Method].values() if kind.facts.compressor == "contractive"]
    assert methods
    assert set(methods) <= CONTRACTIVE.keys()


@pytest.mark.parametrize("name", ["anchor", "correction"])
@pytest.mark.parametrize("compressor", [PERM, Lazy(compressor=PERM, p=0.5)], ids=str)
def test_what_all_workers_get_alike_is_not_shared_out(name: str, compressor: Compressor) -> None:
    with pytest.raises(ValueError, match=rf"{name} is .*PermK.*: all workers get the same payload"):
        replace(DoCoFL(compressor=PERM), **{name: compressor})  # type: ignore[arg-type]


# Second moments.


def rand_k_draws(dim: int, num_workers: int) -> Iterator[tuple[float, Draws]]:
    """Independent rand-1: every worker keeps one entry, d times as large."""
    kept = [dim * np.diag(row) for row in np.eye(dim)]
    for draws in itertools.product(kept, repeat=num_workers):
        yield dim**-num_workers, list(draws)


def perm_k_draws(dim: int, num_workers: int) -> Iterator[tuple[float, Draws]]:
    """Perm-k for d = M: worker i sends the entry that a permutation gives it."""
    assert dim == num_workers
    for order in itertools.permutations(range(dim)):
        yield 1 / math.factorial(dim), [dim * np.diag(np.eye(dim)[j]) for j in order]


DRAWS = [(RandK(k=1), rand_k_draws), (PERM, perm_k_draws)]
DrawRule = Callable[[int, int], Iterator[tuple[float, Draws]]]


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize(("compressor", "draws_of"), DRAWS)
def test_the_noise_of_the_average_is_exactly_that_of_so_many_workers(
    compressor: Compressor, draws_of: DrawRule, size: int
) -> None:
    """The most that E|mean(C_i(a_i) - a_i)|^2 may be, for a mean|a_i|^2 of 1, is omega / N."""
    setting = replace(SETTING, dim=size, num_workers=size)
    moment = np.zeros((size**2, size**2))
    for probability, draws in draws_of(size, size):
        error = np.hstack([draw - np.eye(size) for draw in draws]) / size
        moment += probability * error.T @ error
    worst = size * np.linalg.eigvalsh(moment).max()
    workers = effective_workers(compressor, size, size)
    assert workers == (size - 1 if compressor == PERM else size)
    omega = setting.omega(compressor)
    assert worst == pytest.approx(omega / workers)
    assert worst == pytest.approx(joint_variance(setting, compressor)[0])
    assert worst == pytest.approx(setting.joint_omega(compressor) / size)
    assert worst == pytest.approx(Noise(0.0, omega).of_average(workers).variance)


def test_of_a_compressor_that_holds_perm_k_nothing_is_assumed() -> None:
    """Workers that all err alike: E|mean of the errors|^2 = omega |v|^2."""
    for inside in (Lazy(compressor=PERM, p=0.5), PerLayer(compressor=PERM)):
        assert effective_workers(inside, 4, 24) == 1
        assert joint_variance(SETTING, inside) == (SETTING.omega(inside), 0.0)
    assert effective_workers(Lazy(compressor=RandK(k=2), p=0.5), 4, 24) == 4
    assert effective_workers(PERM, 1, 24) == 1


@pytest.mark.parametrize(
    "make",
    [
        lambda c: CompressedSGD(compressor=c),
        lambda c: DIANA(compressor=c),
        lambda c: RandDIANA(compressor=c),
        lambda c: SVRG(compressor=c),
        lambda c: EFBV(compressor=c),
        lambda c: ADIANA(compressor=c),
        lambda c: ADIANA(compressor=c, numbers="refined"),
        lambda c: EF21PDIANA(compressor=c, downlink=TopK(k=23)),
    ],
)
def test_perm_k_among_4_takes_the_step_of_3_that_draw_independently(
    make: Callable[[Compressor], Method],
) -> None:
    """Rand-6 of 24 has the omega of perm-k among 4 workers, which is 3."""
    three = replace(SETTING, num_workers=3)
    step = make(PERM).theory(SETTING)
    assert step.value == pytest.approx(make(RandK(k=6)).theory(three).value, rel=1e-12)
    assert step.value < make(RandK(k=6)).theory(SETTING).value
    assert "M - 1 for M with perm-k" in step.formula or "r_av" in step.formula


# Contraction.

Step = Callable[[Method, float, list[Matrix], Draws], list[tuple[float, Matrix]]]


def hessians(size: int) -> list[Matrix]:
    """Of worker i: 5 in direction i, 0.2 in all; so the workers differ as much as they can."""
    return [np.diag(5 * row + 0.2) for row in np.eye(size)]


def setting_of(matrices: list[Matrix]) -> Setting:
    """The constants of the quadratics of these matrices."""
    curvatures = np.linalg.eigvalsh(np.mean(matrices, axis=0))
    each = [np.linalg.norm(matrix, 2) for matrix in matrices]
    constants = Constants(
        smoothness=float(curvatures[-1]),
        mean_smoothness=float(np.linalg.norm(each)) / math.sqrt(len(each)),
        largest_smoothness=float(max(each)),
        strong_convexity=float(curvatures[0]),
    )
    return Setting(constants=constants, dim=len(matrices[0]), num_workers=len(matrices))


def sgd_step(
    method: Method, step: float, matrices: list[Matrix], draws: Draws
) -> list[tuple[float, Matrix]]:
    """x <- x - step mean(C_i A_i x)."""
    estimate = np.mean([c @ a for c, a in zip(draws, matrices, strict=True)], axis=0)
    return [(1.0, np.eye(len(estimate)) - step * estimate)]


def shifted_step(
    method: Method, step: float, matrices: list[Matrix], draws: Draws
) -> list[tuple[float, Matrix]]:
    """On (x, h_1, ..., h_M): the shift moves by lambda, the estimate by nu, of C_i(A_i x - h_i)."""
    setting = setting_of(matrices)
    omega = setting.omega(method.compressor)  # type: ignore[attr-defined]
    shift, estimate = 1 / (1 + omega), 1.0
    if isinstance(method, EFBV):
        estimate = 1 / (1 + setting.joint_omega(method.compressor) / len(draws))
    size, workers = len(matrices[0]), len(matrices)
    gradients = np.hstack([np.vstack(matrices), -np.eye(size * workers)])
    messages = np.vstack([c @ a for c, a in zip(draws, np.vsplit(gradients, workers), strict=True)])
    shifts = np.hstack([np.zeros((size * workers, size)), np.eye(size * workers)])
    mean = np.hstack(workers * [np.eye(size)]) / workers
    point = np.eye(size, size * (1 + workers)) - step * mean @ (shifts + estimate * messages)
    return [(1.0, np.vstack([point, shifts + shift * messages]))]


def marina_step(
    method: Method, step: float, matrices: list[Matrix], draws: Draws
) -> list[tuple[float, Matrix]]:
    """On (x, g): x <- x - step g, then g <- A x, or g + mean(C_i A_i (change of x))."""
    size, mean = len(matrices[0]), np.mean(matrices, axis=0)
    p = 1 / (1 + setting_of(matrices).omega(method.compressor))  # type: ignore[attr-defined]
    change = -step * np.mean([c @ a for c, a in zip(draws, matrices, strict=True)], axis=0)
    eye, zero = np.eye(size), np.zeros((size, size))
    exact = np.block([[eye, -step * eye], [mean, -step * mean]])
    moved = np.block([[eye, -step * eye], [zero, eye + change]])
    return [(p, exact), (1 - p, moved)]


def second_moment_factor(outcomes: list[tuple[float, Matrix]]) -> float:
    """Return the spectral radius of z z' -> E T z z' T'."""
    assert sum(probability for probability, _ in outcomes) == pytest.approx(1)
    operator = sum(probability * np.kron(each, each) for probability, each in outcomes)
    return float(np.abs(np.linalg.eigvals(operator)).max())


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize(("compressor", "draws_of"), DRAWS)
@pytest.mark.parametrize(
    ("make", "operator", "learns"),
    [
        (CompressedSGD, sgd_step, False),
        (DIANA, shifted_step, True),
        (EFBV, shifted_step, True),
        (MARINA, marina_step, False),
    ],
)
def test_the_step_of_theory_contracts_in_exact_second_moment(
    make: Callable[..., Method],
    operator: Step,
    learns: bool,
    compressor: Compressor,
    draws_of: DrawRule,
    size: int,
) -> None:
    """At least as fast as is said: by 1 - step mu, or as the shifts are learned where slower."""
    matrices = hessians(size)
    setting = setting_of(matrices)
    method = make(compressor=compressor)
    step = method.theory(setting).value
    outcomes = [
        (probability * share, matrix)
        for probability, draws in draws_of(size, size)
        for share, matrix in operator(method, step, matrices, draws)
    ]
    claimed = 1 - step * (setting.constants.strong_convexity or 0.0)
    if learns:  # the shifts, by half of 1 / (1 + omega)
        claimed = max(claimed, 1 - 0.5 / (1 + setting.omega(compressor)))
    assert second_moment_factor(outcomes) <= claimed + 1e-12


def test_repeated_draws_would_not_contract_where_new_ones_do() -> None:
    """Rennala's batch from one worker of 12: its step holds for draws of each report alone."""
    size, batch = 12, 12
    curvatures = np.eye(size)
    setting = setting_of(size * [curvatures])
    step = RennalaSGD(batch=batch, compressor=PERM).theory(setting).value
    one = [(1 / size, size * np.diag(row)) for row in np.eye(size)]
    second = sum(p * np.kron(c, c) for p, c in one)
    eye = np.eye(size**2)
    new = (1 - 2 * step) * eye + step**2 * (second / batch + (1 - 1 / batch) * eye)
    same = (1 - 2 * step) * eye + step**2 * second
    assert np.abs(np.linalg.eigvals(new)).max() <= 1 - step
    assert np.abs(np.linalg.eigvals(same)).max() > 1
