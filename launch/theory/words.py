"""What is said of a step size by theory besides its formula: its constants, and proximal steps."""

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from launch.configuration.run_config import RunConfig
from mlmc_ray.compressors import Compressor
from mlmc_ray.methods import DIANA, DataParallelSGD, Method
from mlmc_ray.methods.theory import Setting, StepSize, for_full_gradients
from mlmc_ray.optimizers import ProximalSGD

_SYMBOLS = re.compile(r"L~|\w+")


def with_values(step: StepSize, method: Method, setting: Setting) -> StepSize:
    """Return a step size with the values of the constants in its formula.

    Args:
        step: of the method.
        method: whose.
        setting: where.
    """
    constants = setting.constants
    values = {
        "L": constants.smoothness,
        "L~": constants.mean_smoothness,
        "L_max": constants.largest_smoothness,
        "L_pm": constants.hessian_variance,
        "L_examples": constants.sample_smoothness,
        "mu": constants.strong_convexity,
        "mu_min": constants.least_convexity,
        "omega": _bound_of(method, setting.omega, ("compressor", "downlink")),
        "alpha": _bound_of(method, setting.alpha, ("downlink", "compressor")),
        "M": setting.num_workers,
    }
    named = set(_SYMBOLS.findall(step.formula))
    shown = [
        f"{name} = {value:.4g}"
        for name, value in values.items()
        if name in named and value is not None
    ]
    return replace(step, values=", ".join(shown))


def for_proximal_steps(step: StepSize, config: RunConfig, setting: Setting) -> StepSize:
    """Return a step size with what is guaranteed of it where the optimizer takes proximal steps.

    Gradient descent and DIANA have a proof for a strongly convex f (Horvath et al., 2019,
    arXiv:1904.05115): the bounds of a step hold at the x* that minimises f with the two terms.
    """
    optimizer, method = config.optimizer, config.method
    if not isinstance(optimizer, ProximalSGD) or not (optimizer.l1 or optimizer.l2):
        return step
    minimiser = "x* of the objective with l1 and l2"
    progress = ""
    if isinstance(method, DataParallelSGD):
        progress = f"|x - x*|^2 shrinks by 1 - step mu a round, {minimiser}"
    elif isinstance(method, DIANA) and method.refresh is None:
        progress = (
            f"E|x - x*|^2 shrinks by max(1 - step mu, 1 - alpha / 2) a round, {minimiser}, for "
            "convex f_i"
        )
    if not progress or not setting.constants.strong_convexity:
        return replace(step, guarantee="no guarantee is known with proximal steps")
    return for_full_gradients(replace(step, guarantee=progress), setting)


def _bound_of(
    method: Any, bound: Callable[[Compressor], float], names: tuple[str, ...]
) -> float | None:
    """Return a constant of the first of a method's compressors of which one is known."""
    inner = getattr(method, "method", method)  # of partial participation
    for name in names:
        compressor = getattr(inner, name, None)
        if compressor is None:
            continue
        try:
            return bound(compressor)
        except ValueError:
            continue
    return None
