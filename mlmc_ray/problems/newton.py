"""Newton's method, for reference optima."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

_STEPS = 100
_HALVINGS = 40
_SUFFICIENT = 1e-4  # of the decrease that the gradient promises
_ROUNDING = 1e-14  # relative to the values that are compared


def minimise(
    value: Callable[[Array], float],
    gradient: Callable[[Array], Array],
    hessian: Callable[[Array], Array],
    start: Array,
    tolerance: float = 1e-12,
) -> Array:
    """Return the minimiser of a convex function, by damped Newton steps in float64.

    Args:
        value: f(x).
        gradient: shape (d,).
        hessian: shape (d, d), positive definite.
        start: the first x, shape (d,); not modified.
        tolerance: the largest |grad f| to stop at.

    Raises:
        ValueError: the tolerance is not reached, as where there is no minimum.

    References:
        Boyd and Vandenberghe, Convex Optimization, 2004, section 9.5.
    """
    x = start
    for _ in range(_STEPS):
        slope = gradient(x)
        if np.linalg.norm(slope) <= tolerance:
            return x
        try:
            step = np.linalg.solve(hessian(x), slope).astype(np.float64, copy=False)
        except np.linalg.LinAlgError:
            break  # no curvature in some direction
        x = x - _damping(value, x, step, float(slope @ step)) * step
    raise ValueError(
        f"Newton's method ends with a gradient of norm {np.linalg.norm(gradient(x)):.3g}, above "
        f"{tolerance:.3g}: the function may have no minimum"
    )


def _damping(value: Callable[[Array], float], x: Array, step: Array, decrease: float) -> float:
    """Return 1, or the largest power of 1/2 at which the function falls enough."""
    here, damping = value(x), 1.0
    for _ in range(_HALVINGS):
        allowed = here - _SUFFICIENT * damping * decrease + _ROUNDING * abs(here)
        if value(x - damping * step) <= allowed:
            break
        damping /= 2
    return damping
