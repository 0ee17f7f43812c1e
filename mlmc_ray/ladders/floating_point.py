"""The floating-point ladder: signs and exponents always, and one binary digit of the fractions."""

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import torch
from torch import Generator, Tensor

from mlmc_ray.compressors.base import PaperCost, check_finite
from mlmc_ray.kernels import exponents
from mlmc_ray.kernels.device import array_of, on_cpu
from mlmc_ray.kernels.fraction_counts import FRACTION_BITS
from mlmc_ray.kernels.tensors import bits as tensors
from mlmc_ray.ladders.base import Levels, check_level, halving_law
from mlmc_ray.payloads import CodesPayload, Payload, Powers

_MESSAGE_BITS = 10  # per entry: sign, exponent, digit


@dataclass(frozen=True, kw_only=True, slots=True)
class FloatingPointLadder:
    """Write v_j = sgn 2^e_j (1 + sum_l m_lj 2^-l); level l adds sgn 2^(e_j - l) m_lj.

    The base is sgn 2^e_j, which the derivation of the paper uses although its text says that the
    base is zero. There are 23 levels, those of float32, to which other vectors are rounded first.
    Subnormal entries have no leading 1: their base is zero, their exponent -126.

    Its own law, p_l = 2^-l / (1 - 2^-23), makes the estimate sgn 2^e_j (1 + (1 - 2^-23) m_lj), so
    the receiver need not know the level; entry by entry it has the law of natural compression. The
    variance is sum_j 4^e_j ((1 - 2^-23) f_j - f_j^2) with f_j = sum_l m_lj 2^-l.

    References:
        Zukerman et al., 2025, arXiv:2507.05508, appendix B and lemma B.1; equation 33 subtracts
        the norm of the vector where that of the vector less the base is meant.
    """

    has_own_law: ClassVar[bool] = True

    def levels(self, vector: Tensor, *, generator: Generator | None = None) -> Levels:
        """Return the levels; digits are read from the float32 representation."""
        return _FloatingPointLevels(vector)

    def omega(self, dim: int) -> float:
        """1/8, attained near f = 1/3, for vectors without subnormal entries."""
        return 0.125

    def paper_cost(self, dim: int) -> PaperCost:
        """A sign, 11 bits of exponent and a digit per entry, and the level, for float64."""
        return PaperCost("13 d + 6", 13 * dim + 6)


class _FloatingPointLevels:
    def __init__(self, vector: Tensor) -> None:
        self._vector = vector.detach().to(torch.float32).contiguous()
        if vector.dtype == torch.float64:
            check_finite(self._vector)  # float64 has larger numbers
        self._compiled = on_cpu(vector)

    def __len__(self) -> int:
        return FRACTION_BITS

    @cached_property
    def _range(self) -> tuple[int, int]:
        if self._compiled:
            return exponents.exponent_range(array_of(self._vector))
        return tensors.exponent_range(self._vector)

    def norms(self) -> Tensor:
        if self._compiled:
            energies = exponents.digit_energies(array_of(self._vector))
        else:
            energies = tensors.digit_energies(self._vector)
        return torch.from_numpy(energies).sqrt()

    def costs(self) -> Tensor:
        bits = float(_MESSAGE_BITS * self._vector.numel())
        return torch.full((len(self),), bits, dtype=torch.float64)

    def base(self) -> Payload:
        lowest, highest = self._range
        if self._compiled:
            codes = torch.from_numpy(
                exponents.exponent_codes(array_of(self._vector), lowest, highest)
            )
        else:
            codes = tensors.exponent_codes(self._vector, lowest, highest)
        return _powers(codes, 2.0**lowest)

    def increment(self, level: int) -> Payload:
        check_level(level, len(self))
        lowest, highest = self._range
        if self._compiled:
            codes = torch.from_numpy(
                exponents.digit_codes(array_of(self._vector), lowest, highest, level)
            )
        else:
            codes = tensors.digit_codes(self._vector, lowest, highest, level)
        return _powers(codes, 2.0 ** (lowest - level))

    def own_law(self) -> Tensor:
        return halving_law(len(self))


def _powers(codes: Tensor, scale: float) -> CodesPayload:
    return CodesPayload(codes, torch.tensor([scale]), codebook=Powers(2.0))
