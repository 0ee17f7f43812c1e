"""Rounding every entry by itself to a power of a base, and what the quantisers share."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Generator, Tensor

from mlmc_ray.compressors.base import PaperCost, check_finite
from mlmc_ray.errors import NonFiniteError
from mlmc_ray.kernels.norms import magnitude_range
from mlmc_ray.kernels.power_rounding import geometric_codes, natural_codes
from mlmc_ray.payloads import CodesPayload, Payload, Powers, ZeroPayload

MAX_BASE = 1024.0
_LARGEST = float(np.finfo(np.float32).max)
_SMALLEST = 2.0**-149
_NUM_SHORT_POWERS = 127  # and zero: 7 bits


@dataclass(frozen=True, kw_only=True, slots=True)
class UnbiasedRounding:
    """Round every magnitude to one of the two powers of ``base`` around it, keeping the mean.

    Between neighbours a < b the upper one has probability (|t| - a) / (b - a), independently for
    every entry. The grid is base^r to the rounding of one float32 scale, and exactly that for base
    2. The relative variance is at most (base + 1)^2 / (4 base) - 1 for every vector.

    References:
        Beznosikov et al., 2020, arXiv:2002.12410, section 2 (general unbiased rounding).
    """

    base: float = 2.0

    def __post_init__(self) -> None:
        check_base(self.base)

    @property
    def unbiased(self) -> bool:
        """True."""
        return True

    def compress(self, vector: Tensor, *, generator: Generator) -> Payload:
        """Return one code per entry.

        Raises:
            NonFiniteError: there is NaN or infinity, or no power above the largest entry.
        """
        return _rounded(vector, self.base, draw_seed(generator))

    def omega(self, dim: int) -> float:
        """(b + 1)^2 / (4 b) - 1, attained at the harmonic mean of two neighbours."""
        return (self.base + 1) ** 2 / (4 * self.base) - 1

    def alpha(self, dim: int) -> None:
        """None: unbiased."""
        return None

    def paper_cost(self, dim: int) -> PaperCost:
        """A sign and a power per entry, for the powers within the range of float32."""
        return _power_cost(self.base, dim)


@dataclass(frozen=True, kw_only=True, slots=True)
class BiasedRounding:
    """Round every magnitude to the nearest power of ``base``, the lower one on ties.

    Deterministic and biased, with alpha = 4 base / (base + 1)^2. The grid is that of
    ``UnbiasedRounding``.

    References:
        Beznosikov et al., 2020, arXiv:2002.12410, section 2 (general biased rounding).
    """

    base: float = 2.0

    def __post_init__(self) -> None:
        check_base(self.base)

    @property
    def unbiased(self) -> bool:
        """False."""
        return False

    def compress(self, vector: Tensor, *, generator: Generator) -> Payload:
        """Return one code per entry; the generator is not used.

        Raises:
            NonFiniteError: there is NaN or infinity, or no power above the largest entry.
        """
        return _rounded(vector, self.base, None)

    def omega(self, dim: int) -> None:
        """None: biased."""
        return None

    def alpha(self, dim: int) -> float:
        """4 b / (b + 1)^2, attained midway between two neighbours."""
        return 4 * self.base / (self.base + 1) ** 2

    def paper_cost(self, dim: int) -> PaperCost:
        """A sign and a power per entry, for the powers within the range of float32."""
        return _power_cost(self.base, dim)


@dataclass(frozen=True, kw_only=True, slots=True)
class Natural:
    """Natural compression: unbiased rounding to powers of two, with a variance of at most 1/8.

    On float32 it is a rule on bits: a random number below 2^23 that is less than the mantissa adds
    one to the exponent, and the mantissa goes. Magnitudes below 2^-126 are rounded between 0 and
    2^-126, where the bound on the variance does not hold.

    With 8 bits an entry is 0 or one of 127 consecutive powers, the largest that occurs and those
    below it; entries that would be rounded to a lower power get the lowest of them, at most 2^-126
    of the largest. Only such entries are biased.

    Attributes:
        bits: 9, a sign and the exponent as it is, or 8.

    References:
        Horvath et al., 2019, arXiv:1905.10988.
    """

    bits: int = 9

    def __post_init__(self) -> None:
        if self.bits not in (8, 9):
            raise ValueError(f"bits is {self.bits!r}: give 9, or 8 for 127 powers only")

    @property
    def unbiased(self) -> bool:
        """True with 9 bits."""
        return self.bits == 9

    def compress(self, vector: Tensor, *, generator: Generator) -> Payload:
        """Return one code per entry.

        Raises:
            NonFiniteError: there is NaN or infinity, or a magnitude of 2^127 or more.
        """
        payload = self._unclipped(vector, generator)
        return payload if self.unbiased else _clipped(payload)

    def omega(self, dim: int) -> float | None:
        """1/8, attained at 4/3 of a power of two, with 9 bits."""
        return 0.125 if self.unbiased else None

    def alpha(self, dim: int) -> float | None:
        """7/8 with 8 bits; the entries that are biased add less to the error than float64 shows."""
        return None if self.unbiased else 0.875

    def paper_cost(self, dim: int) -> PaperCost:
        """A sign and an exponent per entry."""
        return PaperCost(f"{self.bits} d", self.bits * dim)

    def _unclipped(self, vector: Tensor, generator: Generator) -> Payload:
        if vector.dtype == torch.float64:
            return UnbiasedRounding(base=2.0).compress(vector, generator=generator)
        smallest, largest = finite_range(vector)
        if largest == 0:
            return ZeroPayload(vector.numel())
        if largest >= 2.0**127:
            raise _too_large(largest)
        codes, exponent = natural_codes(vector, smallest, largest, draw_seed(generator))
        return CodesPayload(codes, torch.tensor([2.0**exponent]), codebook=Powers(2.0))


def check_base(base: float) -> None:
    """Refuse a base of powers that is not above 1 and at most ``MAX_BASE``.

    Raises:
        ValueError: quotes the base.
    """
    if not 1 < base <= MAX_BASE:
        raise ValueError(f"base is {base!r}: give a number above 1, at most {MAX_BASE:g}")


def draw_seed(generator: Generator) -> int:
    """Return 62 bits for a kernel's own draws."""
    return int(torch.randint(1 << 62, (), generator=generator))


def finite_range(vector: Tensor) -> tuple[float, float]:
    """Return the smallest magnitude that is not zero and the largest, and refuse NaN and infinity.

    Raises:
        ValueError: the vector is empty.
        NonFiniteError: says how many entries, and where the first of them is.
    """
    smallest, largest = magnitude_range(vector)
    if not (vector.numel() and math.isfinite(largest)):
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
        raise _too_large(largest)
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
        raise _too_large(largest)


def geometric_grid(lowest: float, base: float, top: float) -> npt.NDArray[np.float64]:
    """Return the points lowest * base^r from r = 0 to the first that is at least ``top``.

    They are what ``Powers(base)`` decodes with the scale ``lowest``.

    Raises:
        NonFiniteError: the last is above the largest float32.
    """
    if top <= _LARGEST:
        count = max(0, math.ceil(math.log(top / lowest) / math.log(base))) + 2
        points = lowest * np.power(base, np.arange(count, dtype=np.float64))
        points = points[: int(np.searchsorted(points, top)) + 1]
        if points[-1] <= _LARGEST:
            return points
    raise _too_large(top)


def _rounded(vector: Tensor, base: float, seed: int | None) -> Payload:
    smallest, largest = finite_range(vector)
    if largest == 0:
        return ZeroPayload(vector.numel())
    lowest = _power_below(smallest, base)
    codes = geometric_codes(vector, geometric_grid(lowest, base, largest), seed)
    return CodesPayload(codes, torch.tensor([lowest]), codebook=Powers(base))


def _clipped(payload: Payload) -> Payload:
    """Raise the powers of two below the 127 largest to the least of those."""
    if not isinstance(payload, CodesPayload):
        return payload
    too_many = max(map(abs, payload.range())) - _NUM_SHORT_POWERS
    if too_many <= 0:
        return payload
    ranks = (payload.codes.abs() - too_many).clamp_(min=1).to(torch.int8)
    codes = ranks * payload.codes.sign().to(torch.int8)
    return CodesPayload(codes, payload.scales * 2.0**too_many, codebook=payload.codebook)


def _power_below(smallest: float, base: float) -> float:
    """Return a power of the base, at most ``smallest``, rounded down to float32 but not to zero."""
    exponent = math.floor(math.log(smallest) / math.log(base))
    while base**exponent > smallest:
        exponent -= 1
    return float32_below(base**exponent)


def _too_large(magnitude: float) -> NonFiniteError:
    return NonFiniteError(
        f"an entry of magnitude {magnitude:g} may be rounded up to more than {_LARGEST:g}, the "
        "largest float32"
    )


def _power_cost(base: float, dim: int) -> PaperCost:
    num_powers = math.floor(253 / math.log2(base)) + 1  # from 2^-126 to 2^127
    bits = 1 + math.ceil(math.log2(num_powers + 1))
    return PaperCost(f"{bits} d", bits * dim)
