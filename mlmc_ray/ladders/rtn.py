"""Ladders of round-to-nearest quantisers, made unbiased at the top in one of four ways."""

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Literal, get_args

import torch
from torch import Generator, Tensor

from mlmc_ray.compressors.base import check_whole
from mlmc_ray.compressors.rounding import draw_seed, wire_step
from mlmc_ray.kernels.rounding import linear_codes, nearest_codes
from mlmc_ray.ladders.base import Levels, check_level, fixed_generator
from mlmc_ray.ladders.grid_steps import increment_norms, step_difference
from mlmc_ray.ladders.sizes import VALUE_BITS
from mlmc_ray.ladders.sums import difference
from mlmc_ray.payloads import CodesPayload, DensePayload, Payload, ZeroPayload

_MOST_BITS = 16
Construction = Literal["identity", "unbiased", "nested", "nested-unbiased"]


@dataclass(frozen=True, kw_only=True, slots=True)
class RTNLadder:
    """Step l rounds to the nearest point of a grid whose step shrinks with l; c = max |v_j|.

    The grids of the paper are 2c / (2^l - 1) apart and have 2^l - 1 points: one for l = 1, zero.
    No step is the identity, which an unbiased estimator needs at the top; ``construction`` says
    what is put there.

    - ``"identity"``: a level above the ``bits`` grids adds the rest, every entry as it is.
    - ``"unbiased"``: the finest grid is replaced by stochastic rounding to c / 2^(bits-1), which is
      the vector in expectation.
    - ``"nested"``: grids c 2^(1-l) apart, each of which holds the one before, so that all levels
      but the top are ternary vectors; the top level adds the rest.
    - ``"nested-unbiased"``: nested grids, with the finest replaced as in ``"unbiased"``; all levels
      are ternary vectors.

    Attributes:
        bits: how many grids, 2 to 16.
        construction: see above.

    References:
        Zukerman et al., 2025, arXiv:2507.05508, section 3.2, appendix G.2 and equation 125, which
        leave open what c is and what the top level is.
    """

    has_own_law: ClassVar[bool] = False

    bits: int = 8
    construction: Construction = "identity"

    def __post_init__(self) -> None:
        check_whole("bits", self.bits, 2, _MOST_BITS)
        if self.construction not in get_args(Construction):
            raise ValueError(
                f"construction is {self.construction!r}: choose one of {get_args(Construction)}"
            )

    @property
    def _nested(self) -> bool:
        return self.construction in ("nested", "nested-unbiased")

    @property
    def _exact(self) -> bool:
        """Whether there is a level above all ``bits`` grids."""
        return self.construction in ("identity", "nested")

    def levels(self, vector: Tensor, *, generator: Generator | None = None) -> Levels:
        """Return the levels; the unbiased top takes its one seed from the generator at once."""
        seed = None if self._exact else draw_seed(generator or fixed_generator())
        return _RTNLevels(vector, self.bits, self._nested, seed)

    def omega(self, dim: int) -> float:
        """(sum_l of what norm_l can be)^2 - 1, which grows as log(d)^2.

        Step l is off by at most e_l = min(1, d^1/2 step_l / (2c)) of the norm of the vector, the
        stochastic top by d^1/2 times its step; a level is at most the errors of its two steps.
        """
        return float((1 + 2 * sum(self._errors(dim)) + self._top_error(dim)) ** 2 - 1)

    def paper_cost(self, dim: int) -> None:
        """None: the paper does not say what an increment costs."""
        return None

    def top_omega(self, dim: int) -> float:
        """min(d / (4 s^2), d^1/2 / s) with s = 2^(bits-1) steps up to c; 0 where the top is exact.

        Between neighbours h apart the variance is at most h^2 / 4, and at most h |v_j|.
        """
        steps = 2.0 ** (self.bits - 1)
        return 0.0 if self._exact else min(dim / (4 * steps**2), dim**0.5 / steps)

    def _errors(self, dim: int) -> list[float]:
        levels = range(1, self.bits + self._exact)
        steps = [2.0**level if self._nested else 2.0**level - 1 for level in levels]
        return [min(1, dim**0.5 / step) for step in steps if step > 1]

    def _top_error(self, dim: int) -> float:
        return 0.0 if self._exact else dim**0.5 * 2.0 ** (1 - self.bits)


class _RTNLevels:
    """Step l is rounded to the nearest point, but the top: stochastic codes, or the vector."""

    def __init__(self, vector: Tensor, bits: int, nested: bool, top_seed: int | None) -> None:
        dtype = torch.promote_types(vector.dtype, torch.float32)
        self._vector = vector.detach().to(dtype).contiguous()
        self._bits = bits
        self._nested = nested
        self._top_seed = top_seed
        self._steps: dict[int, Payload] = {}

    def __len__(self) -> int:
        return self._bits + (self._top_seed is None)

    @cached_property
    def _largest(self) -> float:
        low, high = torch.aminmax(self._vector)
        return max(-float(low), float(high))

    def _step(self, level: int) -> Payload:
        if level not in self._steps:
            exact = level > self._bits
            self._steps[level] = DensePayload(self._vector) if exact else self._rounded(level)
        return self._steps[level]

    def _rounded(self, level: int) -> Payload:
        """Return codes with the width that the payload carries, a float32."""
        power, top = 2 ** (level - 1), level == len(self)
        if self._largest == 0 or (power == 1 and not (self._nested or top)):
            return ZeroPayload(len(self._vector))
        if self._nested:  # twice the width of the next, which is exact
            width = wire_step(self._largest, 2 ** (self._bits - 1)) * 2.0 ** (self._bits - level)
        else:
            width = wire_step(self._largest, power if top else power - 0.5)
        if top and self._top_seed is not None:
            widths, dim = torch.tensor([width]), len(self._vector)
            codes = linear_codes(self._vector, widths, dim, power, self._top_seed)
        else:
            highest = power if self._nested else power - 1
            codes = nearest_codes(self._vector, width, 0.0, -highest, highest)
        return CodesPayload.on_grid(codes, width)

    def norms(self) -> Tensor:
        return increment_norms(self._vector, [self._step(n) for n in range(1, len(self) + 1)])

    def costs(self) -> Tensor:
        """The length of a joint code; the table is left aside."""
        bits = [2.0 if self._nested else level for level in range(1, self._bits + 1)]
        top = [VALUE_BITS] if self._top_seed is None else []
        return torch.tensor([*bits, *top], dtype=torch.float64) * len(self._vector)

    def base(self) -> None:
        return None

    def increment(self, level: int) -> Payload:
        check_level(level, len(self))
        upper = self._step(level)
        if level == 1:
            return upper
        lower = self._step(level - 1)
        if isinstance(upper, DensePayload):
            return DensePayload(difference(upper.values, lower))
        if not (self._nested and isinstance(upper, CodesPayload)):
            return step_difference(upper, lower)
        assert isinstance(lower, CodesPayload)
        ternary = upper.codes.to(torch.int32) - 2 * lower.codes.to(torch.int32)
        return CodesPayload(ternary.to(torch.int8), upper.scales)

    def own_law(self) -> None:
        return None
