"""The ladder of entropy-constrained quantisers: level l changes from one budget to the next."""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Generator, Tensor

from mlmc_ray.compressors.quantization import ECUQ
from mlmc_ray.compressors.rounding import draw_seed, finite_float32
from mlmc_ray.kernels.common_values import common_values
from mlmc_ray.kernels.rounding import linear_codes
from mlmc_ray.ladders.base import Levels, check_level, fixed_generator
from mlmc_ray.ladders.sizes import VALUE_BITS, packed_bits
from mlmc_ray.ladders.sums import difference, sum_of
from mlmc_ray.payloads import CodesPayload, DensePayload, Grid, Payload, Table

_MOST_PAIRS = 0xFFFF  # whose codes the wire codes by their frequency
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

    References:
        Zukerman et al., 2025, arXiv:2507.05508, appendix G.2, which leaves open what the top is.
    """

    budgets: tuple[int, ...] = (1, 2, 3, 4)
    construction: Literal["identity", "unbiased"] = "identity"

    def __post_init__(self) -> None:
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

    def paper_cost(self, dim: int) -> None:
        """None: the paper does not say what an increment costs."""
        return None

    def _steps(self) -> list[ECUQ]:
        return [ECUQ(bits=bits) for bits in self.budgets]


class _ECUQLevels:
    def __init__(self, vector: Tensor, steps: list[Payload], exact: bool) -> None:
        self._vector = vector
        self._steps = steps
        self._exact = exact  # whether there is a level above the steps

    def __len__(self) -> int:
        return len(self._steps) + self._exact

    def norms(self) -> Tensor:
        before = torch.zeros(self._vector.shape, dtype=torch.float64, device=self._vector.device)
        norms = []
        for step in self._steps:
            after = torch.zeros_like(before)
            step.add_to(after)
            norms.append(float((after - before).norm()))
            before = after
        if self._exact:
            norms.append(float((self._vector.to(torch.float64) - before).norm()))
        return torch.tensor(norms, dtype=torch.float64)

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
        upper, lower = self._steps[level - 1], self._steps[level - 2]
        joint = _joint(upper, lower)
        return joint or sum_of([upper, lower.scaled(-1.0)], self._vector.numel())

    def own_law(self) -> None:
        return None


def _stochastic(vector: Tensor, step: Payload, seed: int) -> Payload:
    """Return the vector rounded stochastically to the grid of an ECUQ step, which goes on for ever.

    Where the grid is finer than the float32 numbers themselves, a coarser one is taken.
    """
    values, largest = finite_float32(vector)
    low, high = torch.aminmax(values)
    if low == high:
        return step  # which is the vector
    width, offset = _grid_of(step)
    widths = torch.tensor([max(width, largest * _FINEST)])
    width, shift = float(widths), offset - math.floor(offset)
    shifted = values.to(torch.float64) - shift * width
    highest = math.ceil(largest / width) + 1
    codes = linear_codes(shifted, widths, len(shifted), highest, seed)
    return CodesPayload(codes, widths, codebook=Grid(shift))


def _joint(upper: Payload, lower: Payload) -> CodesPayload | None:
    """Return the difference of two steps as one code an entry; None where two codes are shorter.

    An upper code leaves few lower ones: those near the one for its point. A pair is numbered by
    the upper code and how far the lower one is from that, and the numbers that occur are the codes.
    """
    if not isinstance(upper, CodesPayload) or not isinstance(lower, CodesPayload):
        return None
    (width, offset), (below, below_offset) = _grid_of(upper), _grid_of(lower)
    first, last = upper.range()
    points = np.arange(first, last + 1) + offset
    nearest = np.rint(points * (width / below) - below_offset).astype(np.int64)
    ranks = upper.codes.long() - first
    off = lower.codes.long() - torch.from_numpy(nearest).to(ranks.device)[ranks]
    least, spread = (int(end) for end in torch.aminmax(off))
    spread -= least - 1
    if len(points) * spread > 4 * _MOST_PAIRS:
        return None
    found = common_values((ranks * spread + (off - least)).to(torch.int32), _MOST_PAIRS)
    if found is None or not _is_shorter(found[1], len(found[0]), upper.codes, lower.codes):
        return None
    rank, far = np.divmod(found[0].cpu().numpy().astype(np.int64), spread)
    entries = points[rank] - (nearest[rank] + far + least + below_offset) * (below / width)
    codes = found[1].to(torch.int8 if len(entries) <= 128 else torch.int32)
    return CodesPayload(codes, upper.scales, codebook=Table(tuple(entries.tolist())))


def _grid_of(step: Payload) -> tuple[float, float]:
    """Return the width of the cells and the offset of the points, in cells."""
    assert isinstance(step, CodesPayload)
    assert isinstance(step.codebook, Grid)
    return float(step.scales), step.codebook.offset


def _is_shorter(pairs: Tensor, num_pairs: int, upper: Tensor, lower: Tensor) -> bool:
    """Compare a table of the pairs with what the two codes tell of each other."""
    told = _entropy(upper) + _entropy(lower) - _entropy(pairs)
    return VALUE_BITS * num_pairs < told * len(pairs)


def _entropy(codes: Tensor) -> float:
    """Return the bits an entry of whole numbers in the best code for their frequencies."""
    counts = torch.bincount(codes.long() - int(codes.min()))
    shares: npt.NDArray[np.float64] = counts[counts > 0].cpu().numpy() / len(codes)
    return float(-(shares * np.log2(shares)).sum())
