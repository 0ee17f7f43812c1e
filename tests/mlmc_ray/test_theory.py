"""What step sizes by theory need of the problem, and what they promise."""

from dataclasses import replace

import numpy as np
import pytest

from launch.configuration.catalogue import KINDS
from mlmc_ray.compressors import Identity, RandK, TopK
from mlmc_ray.methods import (
    DASHA,
    DASHAMVR,
    EF21BC,
    EF21P,
    EFBV,
    MARINA,
    PPMARINA,
    TAMUNA,
    VRMARINA,
    AdaptiveShadowheart,
    AsyncSGD,
    CompressedScaffnew,
    CompressedSGD,
    DASHAPage,
    DataParallelSGD,
    MarinaP,
    Method,
    PartialParticipation,
    PowerSGDMethod,
    RennalaSGD,
    Scaffnew,
    Shadowheart,
)
from mlmc_ray.methods.base import has_theory
from mlmc_ray.methods.downlinks.ef21_p import EF21PDIANA
from mlmc_ray.methods.error_feedback.ef21 import EF21SGDM
from mlmc_ray.methods.shifts.adiana import ADIANA
from mlmc_ray.methods.shifts.diana import DIANA, RandDIANA
from mlmc_ray.methods.shifts.svrg import SVRG
from mlmc_ray.methods.theory import Setting
from mlmc_ray.problems import Quadratic
from mlmc_ray.problems.quadratic_families import Array

INDEFINITE = Quadratic(
    num_functions=8, dim=24, family="tridiagonal", heterogeneity=5.0, seed=15, interpolation=True
)
SETTING = Setting(constants=Quadratic(num_functions=8).constants(8), dim=24, num_workers=8)
FLAT = replace(SETTING, constants=replace(SETTING.constants, strong_convexity=0.0))
RAND = RandK(k=1)
NEED_CONVEX: list[Method] = [
    CompressedSGD(compressor=RAND),
    DIANA(compressor=RAND),
    RandDIANA(compressor=RAND),
    SVRG(compressor=RAND),
    ADIANA(compressor=RAND),
    EF21PDIANA(compressor=RAND, downlink=TopK(k=12)),
]


@pytest.mark.parametrize("method", NEED_CONVEX, ids=lambda method: type(method).__name__)
def test_a_function_that_is_not_convex_is_refused(method: Method) -> None:
    unlike = replace(SETTING, constants=INDEFINITE.constants(8))
    with pytest.raises(ValueError, match=r"functions that are all convex, .*: give numbers"):
        method.theory(unlike)
    step = method.theory(SETTING)
    assert "convex f_i" in step.guarantee or "convex losses" in step.guarantee
    unknown = replace(SETTING, constants=replace(SETTING.constants, convex=None))
    assert method.theory(unknown) == step


def next_moment(problem: Quadratic, step: float, moment: Array) -> Array:
    """E e e' after a round of compressed SGD with Rand-1, where the workers share the optimum."""
    matrices, _ = problem.coefficients
    dim = matrices.shape[1]
    kept = np.eye(dim) - step * matrices.mean(axis=0)
    each = matrices @ moment @ matrices
    diagonals = np.diag(np.einsum("ijj->j", each))
    noise = dim * diagonals - each.sum(axis=0)
    result: Array = kept @ moment @ kept + (step / len(matrices)) ** 2 * noise
    return result


def test_the_step_for_convex_functions_diverges_on_others() -> None:
    known = INDEFINITE.constants(8)
    convex = replace(SETTING, constants=replace(known, convex=True))
    step = CompressedSGD(compressor=RAND).theory(convex).value
    moment, growth = np.eye(24), 0.0
    for _ in range(200):
        moment = next_moment(INDEFINITE, step, moment / np.linalg.norm(moment))
        growth = float(np.linalg.norm(moment))
    assert growth == pytest.approx(1.0177, abs=1e-4)


def test_theory_for_non_convex_functions_takes_them() -> None:
    unlike = replace(SETTING, constants=INDEFINITE.constants(8))
    for method in (DataParallelSGD(), EF21SGDM(compressor=TopK(k=6), momentum=1)):
        assert method.theory(unlike).value > 0


@pytest.mark.parametrize(
    ("method", "promise"),
    [
        (DataParallelSGD(), "the mean of |grad f|^2 over T rounds is at most 2 (f(x0) - inf f)"),
        (CompressedSGD(compressor=RAND), "the mean of E f(x) - f* over T rounds is O(1/T), to a"),
        (DIANA(compressor=RAND), "the mean of E f(x) - f* over T rounds is O(1 / (step T)), for"),
        (SVRG(compressor=RAND), "the mean of E f(x) - f* over T rounds is O(1 / (step T)), for"),
        (EF21SGDM(compressor=TopK(k=6), momentum=1), "the mean of |grad f|^2 over T rounds is at"),
        (EFBV(compressor=TopK(k=6)), "the mean of |grad f|^2 over T rounds is O(1 / (step T)), wi"),
        (RennalaSGD(batch=4), "the mean of |grad f|^2 over T steps is at most 2 (f(x0) - inf f)"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Method) else "",
)
def test_without_strong_convexity_the_rate_is_one_over_t(method: Method, promise: str) -> None:
    assert promise in method.theory(FLAT).guarantee
    assert "shrinks by" in method.theory(SETTING).guarantee


EF21 = EF21SGDM(compressor=TopK(k=6), momentum=1)
FOR_FULL_GRADIENTS: list[Method] = [
    DataParallelSGD(),
    CompressedSGD(compressor=RAND),
    EF21,
    EFBV(compressor=RAND),
    DIANA(compressor=RAND),
    RandDIANA(compressor=RAND),
    ADIANA(compressor=RAND),
    EF21P(downlink=TopK(k=6)),
    EF21PDIANA(compressor=RAND, downlink=TopK(k=6)),
    EF21BC(compressor=TopK(k=6), downlink=TopK(k=6)),
    MarinaP(downlink=RAND),
    AsyncSGD(),
    RennalaSGD(batch=4),
    PartialParticipation(method=EF21, participants=3),
    Scaffnew(),
    CompressedScaffnew(),
    TAMUNA(participants=3),
]
ALWAYS_FULL: list[Method] = [
    MARINA(compressor=RAND),
    PPMARINA(compressor=RAND, participants=3),
    DASHA(compressor=RAND),
]
FOR_BATCHES: dict[str, Method] = {
    "with batches as configured": SVRG(compressor=RAND),
    "with batches as configured, to a floor that the": VRMARINA(compressor=RAND, mega_batch=9),
    "O(1 / (step T)), with batches as configured": DASHAPage(compressor=RAND, p_page=0.5),
    "as configured, to a floor that is low where b": DASHAMVR(compressor=RAND, noise_momentum=0.5),
    "with batches as configured, where a worker has m": DIANA(compressor=RAND, refresh=0.1),
    "gradients have no more than the noise that is set": Shadowheart(
        compressor=Identity(), compute_s=1.0, message_s=1.0, noise=1.0
    ),
}
BATCHES = replace(
    SETTING, batch_size=2, constants=replace(SETTING.constants, sample_smoothness=20.0)
)


def test_every_theory_is_in_one_of_the_lists() -> None:
    listed = {type(method) for method in [*FOR_FULL_GRADIENTS, *ALWAYS_FULL, *FOR_BATCHES.values()]}
    listed.add(AdaptiveShadowheart)  # whose step is that of Shadowheart
    assert listed == {cls for cls in KINDS[Method].values() if has_theory(cls)}
    assert not has_theory(PowerSGDMethod)


@pytest.mark.parametrize("method", FOR_FULL_GRADIENTS, ids=lambda method: type(method).__name__)
def test_guarantees_say_what_minibatches_leave_of_them(method: Method) -> None:
    full = method.theory(SETTING)
    assert full.guarantee.endswith(", with full gradients")
    floor = f"{full.guarantee}; with minibatches, as here, to a floor that their noise leaves"
    assert method.theory(BATCHES) == replace(full, guarantee=floor)


@pytest.mark.parametrize(
    "method",
    [method for method in FOR_FULL_GRADIENTS if not isinstance(method, ADIANA)],
    ids=lambda method: type(method).__name__,
)
def test_guarantees_without_strong_convexity_say_so_too(method: Method) -> None:
    assert method.theory(FLAT).guarantee.endswith(", with full gradients")


@pytest.mark.parametrize("setting", [SETTING, FLAT, BATCHES], ids=["mu > 0", "mu = 0", "batches"])
@pytest.mark.parametrize("method", ALWAYS_FULL, ids=lambda method: type(method).__name__)
def test_methods_on_full_gradients_anywhere_say_so(method: Method, setting: Setting) -> None:
    assert method.theory(setting).guarantee.endswith("which it takes whatever the batch size")


@pytest.mark.parametrize("words", FOR_BATCHES)
def test_methods_for_minibatches_say_what_holds(words: str) -> None:
    assert words in FOR_BATCHES[words].theory(BATCHES).guarantee


def test_the_rate_without_strong_convexity_holds() -> None:
    """The sum of E f(x) - f* is at most |x0 - x*|^2 / (2 step^2 L) where workers share x*."""
    problem = Quadratic(num_functions=8, smallest=1e-6, interpolation=True)
    known = replace(problem.constants(8), strong_convexity=0.0)
    step = CompressedSGD(compressor=RAND).theory(replace(SETTING, constants=known)).value
    mean = problem.coefficients[0].mean(axis=0)
    moment, total = np.outer(problem.optimum, problem.optimum), 0.0
    start = float(np.trace(moment))
    for _ in range(2000):
        total += 0.5 * float(np.sum(mean * moment))
        moment = next_moment(problem, step, moment)
    assert 0 < total <= start / (2 * step**2 * known.smoothness)
