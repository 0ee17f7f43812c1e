"""Ladders of round-to-nearest quantisers, made unbiased at the top in one of three ways."""

import itertools
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import torch
from torch import Generator, Tensor

from mlmc_ray.kernels.differences import difference_energy
from mlmc_ray.kernels.rounding import linear_codes, nearest_codes
from mlmc_ray.ladders.base import Levels, check_level, fixed_generator
from mlmc_ray.ladders.sizes import VALUE_BITS, index_bits
from mlmc_ray.payloads import CodesPayload, DensePayload, Payload, SumPayload, Table

_MOST_BITS = 16


@dataclass(frozen=True, kw_only=True, slots=True)
class RTNLadder:
    """Step l rounds to the nearest point of a grid whose step shrinks with l; c = max |v_j|.

    The grids of the paper are 2c / (2^l - 1) apart and have 2^l - 1 points: one for l = 1, zero.
    No step is the identity, which an unbiased estimator needs at the top; ``construction`` says
    what is put there.

    - ``"identity"``: a level above the ``bits`` grids adds the rest, every entry as it is.
    - ``"unbiased"``: the finest grid is replaced by stochastic rounding to c / 2^(bits-1), which is
      the vector in expectation. No level is longer than two codes an entry.
    - ``"nested"``: grids c 2^(1-l) apart, each of which holds the one before, so that all levels
      but the top are ternary vectors; the top level adds the rest.

    Attributes:
        bits: how many grids, 2 to 16.
        construction: see above.

    References:
        Zukerman et al., 2025, arXiv:2507.05508, section 3.2, appendix G.2 and equation 125, which
        leave open what c is and what the top level is.
    """

    bits: int = 8
    construction: Literal["identity", "unbiased", "nested"] = "identity"

    def __post_init__(self) -> None:
        if not 2 <= self.bits <= _MOST_BITS:
            raise ValueError(f"bits is {self.bits!r}: give 2 to {_MOST_BITS}")
        if self.construction not in ("identity", "unbiased", "nested"):
            raise ValueError(
                f"construction is {self.construction!r}: choose 'identity', 'unbiased' or 'nested'"
            )

    def levels(self, vector: Tensor, *, generator: Generator | None = None) -> Levels:
        """Return the levels; the unbiased top takes its one seed from the generator at once."""
        if self.construction != "unbiased":
            return _RTNLevels(vector, self.bits, self.construction == "nested", None)
        seed = int(torch.randint(1 << 62, (), generator=generator or fixed_generator()))
        return _RTNLevels(vector, self.bits - 1, False, seed)

    def omega(self, dim: int) -> float:
        """(sum_l of what norm_l can be)^2 - 1, which grows as log(d)^2.

        Step l is off by at most e_l = min(1, d^1/2 step_l / (2c)) of the norm of the vector, the
        stochastic top by d^1/2 times its step; a level is at most the errors of its two steps.
        """
        return float((1 + 2 * sum(self._errors(dim)) + self._top_error(dim)) ** 2 - 1)

    def paper_cost(self, dim: int) -> None:
        """None: the paper does not say what an increment costs."""
        return None

    def _errors(self, dim: int) -> list[float]:
        if self.construction == "nested":
            return [min(1, dim**0.5 * 2.0**-level) for level in range(1, self.bits + 1)]
        last = self.bits + (self.construction == "identity")
        return [min(1, dim**0.5 / (2**level - 1)) for level in range(2, last)]

    def _top_error(self, dim: int) -> float:
        return float(dim**0.5 * 2.0 ** (1 - self.bits)) if self.construction == "unbiased" else 0.0


class _RTNLevels:
    """Steps 0 (zero) to ``num_grids``, and the top: stochastic codes, or the vector itself."""

    def __init__(self, vector: Tensor, num_grids: int, nested: bool, top_seed: int | None) -> None:
        dtype = torch.promote_types(vector.dtype, torch.float32)
        self._vector = vector.detach().to(dtype).contiguous()
        self._num_grids = num_grids
        self._nested = nested
        self._top_seed = top_seed
        self._steps: dict[int, _Step] = {}

    def __len__(self) -> int:
        return self._num_grids + 1

    @cached_property
    def _largest(self) -> float:
        low, high = torch.aminmax(self._vector)
        return max(-float(low), float(high))

    def _step(self, level: int) -> "_Step":
        if level not in self._steps:
            self._steps[level] = self._grid(level) if level <= self._num_grids else self._top()
        return self._steps[level]

    def _grid(self, level: int) -> "_Step":
        highest = int(2.0 ** (level - 1)) - (0 if self._nested else 1)
        if level == 0 or highest == 0 or self._largest == 0:
            return _Step(torch.zeros_like(self._vector, dtype=torch.int8), 0.0, 0)
        width = self._largest / (highest if self._nested else highest + 0.5)
        return _Step(nearest_codes(self._vector, width, 0.0, -highest, highest), width, highest)

    def _top(self) -> "_Step":
        if self._top_seed is None:
            return _Step(self._vector, 1.0, 0)
        highest = 2**self._num_grids
        width = np.float32(self._largest) / np.float32(highest)
        if float(width) * highest < self._largest:  # rounded down
            width = np.nextafter(width, np.float32(np.inf))
        widths, dim = torch.tensor([width]), len(self._vector)
        codes = linear_codes(self._vector, widths, dim, highest, self._top_seed)
        return _Step(codes, float(width), highest)

    def norms(self) -> Tensor:
        steps = [self._step(level) for level in range(len(self) + 1)]
        energies = [
            difference_energy(upper.codes, upper.width, lower.codes, lower.width)
            for lower, upper in itertools.pairwise(steps)
        ]
        return torch.tensor(energies, dtype=torch.float64).sqrt()

    def costs(self) -> Tensor:
        """The length of a joint code; the table is left aside."""
        grids = [2.0] * self._num_grids if self._nested else range(1, self._num_grids + 1)
        top = VALUE_BITS if self._top_seed is None else 2 * self._num_grids + 1
        return torch.tensor([*grids, top], dtype=torch.float64) * len(self._vector)

    def base(self) -> None:
        return None

    def increment(self, level: int) -> Payload:
        check_level(level, len(self))
        upper, lower = self._step(level), self._step(level - 1)
        if level == len(self) and self._top_seed is None:
            rest = self._vector.to(torch.float64) - lower.codes * lower.width
            return DensePayload(rest.to(self._vector.dtype))
        if lower.highest == 0:
            return CodesPayload.on_grid(upper.codes, upper.width)
        if self._nested:
            ternary = upper.codes.to(torch.int32) - 2 * lower.codes.to(torch.int32)
            return CodesPayload.on_grid(ternary.to(torch.int8), upper.width)
        if level <= self._num_grids and _joint_is_shorter(upper, lower):
            return _joint(upper, lower)
        parts = (upper.codes, upper.width), (lower.codes, -lower.width)
        return SumPayload(tuple(CodesPayload.on_grid(codes, width) for codes, width in parts))

    def own_law(self) -> None:
        return None


@dataclass(frozen=True, slots=True, eq=False)
class _Step:
    """A vector as ``width`` times ``codes`` of magnitude up to ``highest``."""

    codes: Tensor
    width: float
    highest: int


def _joint_is_shorter(upper: _Step, lower: _Step) -> bool:
    """Compare the table of ``_joint`` with what separate codes take more."""
    entries = 2 * (upper.highest + lower.highest) + 1
    separate = index_bits(2 * upper.highest + 1) + index_bits(2 * lower.highest + 1)
    return VALUE_BITS * entries < (separate - index_bits(entries)) * upper.codes.numel()


def _joint(upper: _Step, lower: _Step) -> CodesPayload:
    """Return the difference of two grids as one code an entry: the sum of their two codes.

    Both codes grow with v_j, but never at the same place, so the sum determines them: of
    3 2^(l-1) - 3 possible sums each belongs to one pair.
    """
    places = [step.width * (np.arange(step.highest) + 0.5) for step in (upper, lower)]
    grows_upper = np.argsort(np.concatenate(places)) < upper.highest
    values = np.cumsum(grows_upper) - np.cumsum(~grows_upper) * (lower.width / upper.width)
    table = Table((*(-values[::-1]).tolist(), 0.0, *values.tolist()))
    sums = upper.codes.to(torch.int32) + lower.codes + len(values)
    codes = sums.to(torch.int16) if len(table.entries) < 1 << 15 else sums
    return CodesPayload(codes, torch.tensor([upper.width]).to(torch.float32), codebook=table)
