"""The fixed-point ladder: level l adds the l-th binary digit of every entry."""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import torch
from torch import Generator, Tensor

from mlmc_ray.compressors.base import PaperCost
from mlmc_ray.compressors.fixed_point import scale_exponent
from mlmc_ray.kernels.device import array_of, on_cpu
from mlmc_ray.kernels.digits import digit_counts, digit_positions
from mlmc_ray.kernels.tensors import bits as tensors
from mlmc_ray.ladders.base import Levels, check_level, halving_law
from mlmc_ray.payloads import CodesPayload, Payload, ScatteredPayload

_PAPER_LEVELS = 63
_WIDE_DIGITS = 53  # of a float64
_SPARSE = 16  # with fewer than one in so many digits, their places are sent


@dataclass(frozen=True, kw_only=True, slots=True)
class FixedPointLadder:
    """Write |v_j| = S sum_l b_lj 2^-l; level l adds S 2^-l sgn(v_j) b_lj: a ternary vector.

    S is the smallest power of two above every magnitude, and there are as many levels as the
    vector has binary digits below S (24 and the spread of its exponents, for float32), so the last
    level is the vector itself, exactly. The paper has 63 levels, a scale equal to the largest
    magnitude, which itself has no such expansion, and digits below the 63rd that are lost.

    Its own law, p_l = 2^-l / (1 - 2^-L), makes the symbol S (1 - 2^-L) at every level: the
    receiver need not know the level. The variance is then (1 - 2^-L) S |v|_1 - |v|^2.

    References:
        Zukerman et al., 2025, arXiv:2507.05508, section 3.1, lemma 3.3 and appendix C.
    """

    has_own_law: ClassVar[bool] = True

    def levels(self, vector: Tensor, *, generator: Generator | None = None) -> Levels:
        """Return the levels; an entry's digits are read from its own binary representation."""
        return _WideLevels(vector) if vector.dtype == torch.float64 else _SingleLevels(vector)

    def omega(self, dim: int) -> float:
        """sqrt(d): the scale is less than twice the largest magnitude."""
        return math.sqrt(dim)

    def paper_cost(self, dim: int) -> PaperCost:
        """A sign and a digit per entry, the largest entry, and the level."""
        return PaperCost("2 d + 70", 2 * dim + 64 + math.ceil(math.log2(_PAPER_LEVELS)))


class _Levels(ABC):
    """What does not depend on how digits are found."""

    def __init__(self, vector: Tensor) -> None:
        self._vector = vector
        self._exponent = scale_exponent(vector)

    @abstractmethod
    def _count(self) -> Tensor:
        """Return how many entries have a 1 in every digit, shape (L,)."""

    @abstractmethod
    def _positions(self, level: int) -> tuple[Tensor, Tensor]:
        """Return the entries with a 1 in a digit, ascending, and whether each is negative."""

    def increment(self, level: int) -> Payload:
        """See ``Levels.increment``."""
        check_level(level, len(self))
        step, dim = 2.0 ** (self._exponent - level), self._vector.numel()
        indices, negative = self._positions(level)
        signs = 1 - 2 * negative.to(torch.int8)
        if 0 < _SPARSE * len(signs) <= dim:
            return ScatteredPayload(dim, indices, CodesPayload.on_grid(signs, step))
        symbols = torch.zeros_like(self._vector, dtype=torch.int8)
        symbols[indices] = signs
        return CodesPayload.on_grid(symbols, step)

    @cached_property
    def _counts(self) -> Tensor:
        return self._count()

    def __len__(self) -> int:
        return len(self._counts)

    def norms(self) -> Tensor:
        sizes = [2.0 ** (self._exponent - level) for level in range(1, len(self) + 1)]
        return torch.tensor(sizes, dtype=torch.float64) * self._counts.to(torch.float64).sqrt()

    def costs(self) -> Tensor:
        return torch.full((len(self),), 2.0 * self._vector.numel(), dtype=torch.float64)

    def base(self) -> None:
        return None

    def own_law(self) -> Tensor:
        return halving_law(len(self))


class _SingleLevels(_Levels):
    """Of vectors that are float32 or become it exactly."""

    def __init__(self, vector: Tensor) -> None:
        super().__init__(vector.detach().to(torch.float32))

    def _count(self) -> Tensor:
        if on_cpu(self._vector):
            return torch.from_numpy(digit_counts(array_of(self._vector), self._exponent))
        return torch.from_numpy(tensors.digit_counts(self._vector, self._exponent))

    def _positions(self, level: int) -> tuple[Tensor, Tensor]:
        if not on_cpu(self._vector):
            return tensors.digit_positions(self._vector, self._exponent, level)
        places, negative = digit_positions(array_of(self._vector), self._exponent, level)
        return torch.from_numpy(places), torch.from_numpy(negative)


class _WideLevels(_Levels):
    """Of float64: |v_j| = mantissa_j 2^-shift_j S; digit l is bit shift_j - l of the mantissa."""

    def __init__(self, vector: Tensor) -> None:
        super().__init__(vector)
        fractions, exponents = torch.frexp(vector.abs())
        self._mantissas = (fractions * 2.0**_WIDE_DIGITS).to(torch.int64)
        self._shifts = self._exponent - exponents.to(torch.int64) + _WIDE_DIGITS

    def _count(self) -> Tensor:
        present = self._mantissas > 0
        lowest_bits = self._mantissas[present] & -self._mantissas[present]
        last_digits = self._shifts[present] - lowest_bits.to(torch.float64).log2().to(torch.int64)
        levels = range(1, int(last_digits.max()) + 1 if len(last_digits) else 1)
        return torch.tensor([int(self._digits(level).sum()) for level in levels])

    def _digits(self, level: int) -> Tensor:
        places = self._shifts - level
        return (self._mantissas >> places.clamp(0, 62)) & (places >= 0)

    def _positions(self, level: int) -> tuple[Tensor, Tensor]:
        places = torch.nonzero(self._digits(level)).flatten()
        return places, self._vector[places] < 0
