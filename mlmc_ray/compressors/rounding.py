"""What quantisers share: the range of a vector, and scales and grids that float32 holds."""

import math

import numpy as np
import numpy.typing as npt
import torch
from torch import Generator, Tensor

from mlmc_ray.compressors.base import check_finite, check_vector, is_number
from mlmc_ray.errors import NonFiniteError
from mlmc_ray.kernels.norms import magnitude_range
from mlmc_ray.kernels.powers import powers

MAX_BASE = 1024.0
_MOST_POWERS = 65_535
_LARGEST = float(np.finfo(np.float32).max)
_SMALLEST = 2.0**-149


def check_base(base: float) -> None:
    """Refuse a base of powers that is not above 1 and at most ``MAX_BASE``.

    Raises:
        ValueError: quotes the base.
    """
    if not (is_number(base) and 1 < base <= MAX_BASE):
        raise ValueError(f"base is {base!r}: give a number above 1, at most {MAX_BASE:g}")


def draw_seed(generator: Generator) -> int:
    """Return 62 bits for a kernel's own draws."""
    return int(torch.randint(1 << 62, (), generator=generator))


def finite_range(vector: Tensor) -> tuple[float, float]:
    """Return the smallest magnitude that is not zero and the largest, and refuse NaN and infinity.

    Raises:
        ValueError: see ``check_vector``.
        NonFiniteError: says how many entries, and where the first of them is.
    """
    check_vector(vector)
    smallest, largest = magnitude_range(vector)
    if not math.isfinite(largest):
        check_finite(vector)
    return smallest, largest


def finite_float32(vector: Tensor) -> tuple[Tensor, float]:
    """Return the vector in float32, and its largest magnitude.

    Raises:
        NonFiniteError: there is NaN or infinity, or the vector does not fit float32.
    """
    _, largest = finite_range(vector)
    values = vector.to(torch.float32)
    if largest > _LARGEST and not bool(torch.isfinite(values).all()):
        raise too_large(largest)
    return values, largest


def wire_steps(reaches: Tensor, multiple: float) -> Tensor:
    """Return the float32 steps of which ``multiple`` reach at least as far as they must.

    Args:
        reaches: any shape, float64, not negative.
        multiple: how many steps, positive.

    Raises:
        NonFiniteError: a step is above the largest float32.
    """
    steps = (reaches / multiple).to(torch.float32)
    short = steps.to(torch.float64) * multiple < reaches
    steps = torch.where(short, torch.nextafter(steps, torch.tensor(math.inf)), steps)
    if not bool(torch.isfinite(steps).all()):
        raise NonFiniteError(
            f"a scale of {float(reaches.max()) / multiple:g} does not fit float32, whose largest "
            f"number is {_LARGEST:g}"
        )
    return steps


def wire_step(reach: float, multiple: float) -> float:
    """Return what ``wire_steps`` does for one number."""
    return float(wire_steps(torch.tensor(reach, dtype=torch.float64), multiple))


def float32_below(number: float) -> float:
    """Return the largest float32 that is at most a positive number, or the smallest above zero."""
    nearest = np.float32(min(number, _LARGEST))
    if float(nearest) > number:  # as float64: NumPy would round the number to float32 first
        nearest = np.nextafter(nearest, np.float32(0))
    return max(float(nearest), _SMALLEST)


def check_next(largest: float, step: float) -> None:
    """Refuse a magnitude that may be rounded up, by less than ``step``, to more than float32 holds.

    Raises:
        NonFiniteError: quotes the magnitude.
    """
    if largest + step > _LARGEST:
        raise too_large(largest)


def geometric_grid(lowest: float, base: float, top: float) -> npt.NDArray[np.float64]:
    """Return the points lowest * base^r from r = 0 to the first that is at least ``top``.

    They are what ``Powers(base)`` decodes with the scale ``lowest``.

    Raises:
        NonFiniteError: the last is above the largest float32.
        ValueError: there are more than ``_MOST_POWERS``, the base is too close to 1.
    """
    if top <= _LARGEST:
        count = max(0, math.ceil(math.log(top / lowest) / math.log(base))) + 2
        if count > _MOST_POWERS:
            least = math.exp(math.log(top / lowest) / (_MOST_POWERS - 3))
            raise ValueError(
                f"base is {base!r}: magnitudes from {lowest:g} to {top:g} need {count:,} of its "
                f"powers, and {_MOST_POWERS:,} are the most; give a base of at least "
                f"{1 + math.ceil(1e5 * (least - 1) + 1) / 1e5:g}"
            )
        points = lowest * powers(base, count)
        points = points[: int(np.searchsorted(points, top)) + 1]
        if points[-1] <= _LARGEST:
            return points
    raise too_large(top)


def too_large(magnitude: float) -> NonFiniteError:
    """Return the error for a magnitude that may be rounded up beyond float32."""
    return NonFiniteError(
        f"an entry of magnitude {magnitude:g} may be rounded up to more than {_LARGEST:g}, the "
        "largest float32"
    )
