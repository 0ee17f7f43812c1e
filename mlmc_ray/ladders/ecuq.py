"""The ladder of entropy-constrained quantisers: level l changes from one budget to the next."""

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Generator, Tensor

from mlmc_ray.compressors.base import check_whole
from mlmc_ray.compressors.quantization import ECUQ
from mlmc_ray.compressors.rounding import draw_seed, finite_float32
from mlmc_ray.kernels.device import at_least_single
from mlmc_ray.kernels.rounding import linear_codes
from mlmc_ray.ladders.base import Levels, check_level, fixed_generator
from mlmc_ray.ladders.grid_steps import grid_of, increment_norms, step_difference
from mlmc_ray.ladders.sizes import packed_bits
from mlmc_ray.ladders.sums import difference
from mlmc_ray.payloads import CodesPayload, DensePayload, Grid, Payload

_FINEST = 2.0**-24  # of the largest magnitude: finer grids tell no float32 numbers apart


@dataclass(frozen=True, kw_only=True, slots=True)
class ECUQLadder:
    """Step l is ECUQ with ``budgets[l-1]`` bits an entry, and the top is exact or unbiased.

    No budget is the identity, which an unbiased estimator needs at the top; ``construction`` says
    what is put there, as for ``RTNLadder``.

    - ``"identity"``: a level above the budgets adds the rest, every entry as it is.
    - ``"unbiased"``: the step of the largest budget is replaced by stochastic rounding to the two
      points of its grid around every entry, which is the vector in expectation. The outermost
      points are half a cell inside the range, so the grid goes on by one point on either side.

    The grids are not nested, so an increment carries the codes of both of its steps: as one code an
    entry for the pair, with a table of what the pairs stand for, or as two codes where that is
    shorter. ``RefinementLadder`` over ``ECUQ`` has one code an entry and no table.

    Args:
        budgets: bits an entry of every level, increasing.
        construction: what is above the budgets: the rest as it is, or unbiased rounding.

    References:
        Zukerman et al., 2025, arXiv:2507.05508, appendix G.2, which leaves open what the top is.
    """

    has_own_law: ClassVar[bool] = False

    budgets: tuple[int, ...] = (1, 2, 3, 4)
    construction: Literal["identity", "unbiased"] = "identity"

    def __post_init__(self) -> None:
        for bits in self.budgets:
            check_whole("budgets", bits, 1)
        if not self.budgets or list(self.budgets) != sorted(set(self.budgets)):
            raise ValueError(f"budgets are {self.budgets!r}: give growing numbers of bits")
        if self.construction not in ("identity", "unbiased"):
            raise ValueError(
                f"construction is {self.construction!r}: choose 'identity' or 'unbiased'"
            )
        self._steps()  # refuse budgets that ECUQ does not take

    def levels(self, vector: Tensor, *, generator: Generator | None = None) -> Levels:
        """Return the levels, for which all quantisers run at once.

        The unbiased top takes its one seed from the generator.
        """
        source = generator or fixed_generator()
        steps = [step.compress(vector, generator=source) for step in self._steps()]
        exact = self.construction == "identity"
        if not exact:
            steps[-1] = _stochastic(vector, steps[-1], draw_seed(source))
        return _ECUQLevels(vector, steps, exact)

    def omega(self, dim: int) -> None:
        """None: the steps do not contract."""
        return None

    def top_omega(self, dim: int) -> float | None:
        """0 where the top is exact; None where its grid depends on the vector."""
        return 0.0 if self.construction == "identity" else None

    def paper_cost(self, dim: int) -> None:
        """None: the paper does not say what an increment costs."""
        return None

    def _steps(self) -> list[ECUQ]:
        return [ECUQ(bits=bits) for bits in self.budgets]


class _ECUQLevels:
    def __init__(self, vector: Tensor, steps: list[Payload], exact: bool) -> None:
        self._vector = at_least_single(vector.detach())
        self._steps = steps
        self._exact = exact  # whether there is a level above the steps

    def __len__(self) -> int:
        return len(self._steps) + self._exact

    def norms(self) -> Tensor:
        top = [DensePayload(self._vector.contiguous())] if self._exact else []
        return increment_norms(self._vector, [*self._steps, *top])

    def costs(self) -> Tensor:
        bits = [packed_bits(self.increment(level)) for level in range(1, len(self) + 1)]
        return torch.tensor(bits, dtype=torch.float64)

    def base(self) -> None:
        return None

    def increment(self, level: int) -> Payload:
        check_level(level, len(self))
        if level > len(self._steps):
            return DensePayload(difference(self._vector, self._steps[-1]))
        if level == 1:
            return self._steps[0]
        return step_difference(self._steps[level - 1], self._steps[level - 2])

    def own_law(self) -> None:
        return None


def _stochastic(vector: Tensor, step: Payload, seed: int) -> Payload:
    """Return the vector rounded stochastically to the grid of an ECUQ step, which goes on for ever.

    Where the grid is finer than the float32 numbers themselves, a coarser one is taken.
    """
    values, _ = finite_float32(vector)
    low, high = (float(end) for end in torch.aminmax(values))
    if low == high or not isinstance(step, CodesPayload):
        return step  # which is the vector
    width, offset = grid_of(step)
    largest = max(-low, high)
    widths = torch.tensor([max(width, largest * _FINEST)])
    width, shift = float(widths), offset - math.floor(offset)
    shifted = values.to(torch.float64) - shift * width
    highest = math.ceil(largest / width) + 1
    codes = linear_codes(shifted, widths, len(shifted), highest, seed)
    return CodesPayload(codes, widths, codebook=Grid(shift))
