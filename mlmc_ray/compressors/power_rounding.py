"""Rounding every entry by itself to a power of a base; natural compression is base two."""

import math
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from mlmc_ray.compressors.base import PaperCost, check_vector
from mlmc_ray.compressors.rounding import (
    check_base,
    draw_seed,
    finite_range,
    float32_below,
    geometric_grid,
    too_large,
)
from mlmc_ray.kernels.power_rounding import geometric_codes, natural_codes
from mlmc_ray.payloads import CodesPayload, Payload, Powers, ZeroPayload

_NUM_SHORT_POWERS = 127  # and zero: 7 bits


@dataclass(frozen=True, kw_only=True, slots=True)
class UnbiasedRounding:
    """Round every magnitude to one of the two powers of ``base`` around it, keeping the mean.

    Between neighbours a < b the upper one has probability (|t| - a) / (b - a), independently for
    every entry. The grid is base^r to the rounding of one float32 scale, and exactly that for base
    2. The relative variance is at most (base + 1)^2 / (4 base) - 1 for every vector.

    Args:
        base: of the powers, above 1 and at most 1024.

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

    Args:
        base: of the powers, above 1 and at most 1024.

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
        check_vector(vector)
        if vector.dtype == torch.float64:
            return UnbiasedRounding(base=2.0).compress(vector, generator=generator)
        smallest, largest = finite_range(vector)
        if largest == 0:
            return ZeroPayload(vector.numel())
        if largest >= 2.0**127:
            raise too_large(largest)
        codes, exponent = natural_codes(vector, smallest, largest, draw_seed(generator))
        return CodesPayload(codes, torch.tensor([2.0**exponent]), codebook=Powers(2.0))


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


def _power_cost(base: float, dim: int) -> PaperCost:
    num_powers = math.floor(253 / math.log2(base)) + 1  # from 2^-126 to 2^127
    bits = 1 + math.ceil(math.log2(num_powers + 1))
    return PaperCost(f"{bits} d", bits * dim)
