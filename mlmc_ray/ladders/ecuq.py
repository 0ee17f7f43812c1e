"""The ladder of entropy-constrained quantisers: level l changes from one budget to the next."""

from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from mlmc_ray.compressors.quantization import ECUQ
from mlmc_ray.ladders.base import Levels, check_level, fixed_generator
from mlmc_ray.ladders.sizes import packed_bits
from mlmc_ray.ladders.sums import difference, sum_of
from mlmc_ray.payloads import DensePayload, Payload


@dataclass(frozen=True, kw_only=True, slots=True)
class ECUQLadder:
    """Step l is ECUQ with ``budgets[l-1]`` bits an entry; a level above them adds the rest.

    The grids are not nested, so an increment carries the codes of both of its steps.
    ``RefinementLadder`` over ``ECUQ`` has one code an entry instead.

    References:
        Zukerman et al., 2025, arXiv:2507.05508, appendix G.2, which has no level above the budgets.
    """

    budgets: tuple[int, ...] = (1, 2, 3, 4)

    def __post_init__(self) -> None:
        if not self.budgets or list(self.budgets) != sorted(set(self.budgets)):
            raise ValueError(f"budgets are {self.budgets!r}: give growing numbers of bits")
        self._steps()  # refuse budgets that ECUQ does not take

    def levels(self, vector: Tensor, *, generator: Generator | None = None) -> Levels:
        """Return the levels, for which all quantisers run at once."""
        source = generator or fixed_generator()
        return _ECUQLevels(
            vector, [step.compress(vector, generator=source) for step in self._steps()]
        )

    def omega(self, dim: int) -> None:
        """None: the steps do not contract."""
        return None

    def paper_cost(self, dim: int) -> None:
        """None: the paper does not say what an increment costs."""
        return None

    def _steps(self) -> list[ECUQ]:
        return [ECUQ(bits=bits) for bits in self.budgets]


class _ECUQLevels:
    def __init__(self, vector: Tensor, steps: list[Payload]) -> None:
        self._vector = vector
        self._steps = steps

    def __len__(self) -> int:
        return len(self._steps) + 1

    def norms(self) -> Tensor:
        before = torch.zeros(self._vector.shape, dtype=torch.float64, device=self._vector.device)
        norms = []
        for step in self._steps:
            after = torch.zeros_like(before)
            step.add_to(after)
            norms.append(float((after - before).norm()))
            before = after
        norms.append(float((self._vector.to(torch.float64) - before).norm()))
        return torch.tensor(norms, dtype=torch.float64)

    def costs(self) -> Tensor:
        bits = [packed_bits(self.increment(level)) for level in range(1, len(self) + 1)]
        return torch.tensor(bits, dtype=torch.float64)

    def base(self) -> None:
        return None

    def increment(self, level: int) -> Payload:
        check_level(level, len(self))
        if level == len(self):
            return DensePayload(difference(self._vector, self._steps[-1]))
        below = self._steps[level - 2 : level - 1] if level > 1 else []
        parts = [self._steps[level - 1], *(step.scaled(-1.0) for step in below)]
        return sum_of(parts, self._vector.numel())

    def own_law(self) -> None:
        return None
