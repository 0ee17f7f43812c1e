"""The threshold ladder: level l adds a step to all entries that are above a threshold."""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import torch
from torch import Generator, Tensor

from mlmc_ray.compressors.base import check_positive, check_whole
from mlmc_ray.compressors.rounding import draw_seed, float32_below, wire_step
from mlmc_ray.kernels.norms import bucket_norms, magnitude_range
from mlmc_ray.kernels.rounding import linear_codes
from mlmc_ray.ladders.base import Levels, check_level, fixed_generator
from mlmc_ray.payloads import CodesPayload, Payload, ScatteredPayload, ZeroPayload

_MOST_STEPS = 1 << 16
_MOST_CODES = (1 << 31) - 1
_FRAME_BITS = 256  # of a message that says next to nothing, about


@dataclass(frozen=True, kw_only=True, slots=True)
class ThresholdLadder:
    """Level l adds h sgn(v_j) where |v_j| is at least L - l + 1 steps of size h.

    Magnitudes are first rounded to whole steps, q_j = floor(|v_j| / h + w_j) with independent
    uniform w_j of the worker's own. Then C^l(v) = h sgn(v) (q - (L - l))_+ is what lies above a
    threshold that falls with l, and an increment is a set of signs: Top-k with a k of its own at
    every level. C^L(v) = h sgn(v) q is the vector in expectation.

    By default L h is the largest magnitude. With ``rms`` = c it is c times the root mean square of
    the entries, where that is less; the whole multiples of L h in h q are then the base, and the
    levels are those of the rest. With L levels of probability 1 / L an entry would be rounded to
    one of two neighbouring multiples of L h, and by Cauchy-Schwarz the adaptive law has no more
    variance, given q: in expectation at most the sum of (L h)^2 f (1 - f), f being the fraction of
    |v_j| / (L h).

    Levels near the top have few entries and those at the bottom most: ``CostAwareLaw`` takes far
    fewer bits for a given second moment than the adaptive law.

    Attributes:
        steps: L, 1 to 65,536; with one and no ``rms`` this is TernGrad.
        rms: c, positive; None for levels up to the largest magnitude.

    References:
        Zukerman et al., 2025, arXiv:2507.05508, section 3.2, for ladders of Top-k; thresholds in
        place of counts are this project's own. The rounding is that of Wen et al., 2017,
        arXiv:1705.07878.
    """

    has_own_law: ClassVar[bool] = False

    steps: int = 1024
    rms: float | None = None

    def __post_init__(self) -> None:
        check_whole("steps", self.steps, 1, _MOST_STEPS)
        if self.rms is not None:
            check_positive("rms", self.rms)

    def levels(self, vector: Tensor, *, generator: Generator | None = None) -> Levels:
        """Return the levels; the rounding takes one seed from the generator at once.

        Raises:
            NonFiniteError: the step does not fit float32.
            ValueError: the largest magnitude is 2^31 steps or more.
        """
        return _ThresholdLevels(self, vector, draw_seed(generator or fixed_generator()))

    def omega(self, dim: int) -> float:
        """(d^1/2 - 1) / 2, as of TernGrad; with ``rms`` = c, c - 1 from c = 2 on, and c^2/4 below.

        They bound the sum of (L h)^2 f (1 - f) over |v|^2: for ``rms`` as in ``SharedThresholds``.
        """
        if self.rms is None:
            return (math.sqrt(dim) - 1) / 2
        return self.rms - 1 if self.rms >= 2 else self.rms**2 / 4

    def top_omega(self, dim: int) -> float:
        """min(a^2 / 4, a), a = c / L, with c = d^1/2 without ``rms``.

        Between neighbours h <= a |v| / d^1/2 apart the variance is at most h^2 / 4, and h |v_j|.
        """
        part = (math.sqrt(dim) if self.rms is None else self.rms) / self.steps
        return min(part**2 / 4, part)

    def paper_cost(self, dim: int) -> None:
        """None: the ladder is not in the paper."""
        return None


class _ThresholdLevels:
    def __init__(self, ladder: ThresholdLadder, vector: Tensor, seed: int) -> None:
        self._steps, peak = ladder.steps, magnitude_range(vector)[1]
        self._step = _step_of(ladder, vector, peak)
        highest = math.ceil(peak / self._step) if peak else 0
        if highest > _MOST_CODES:
            raise ValueError(
                f"rms is {ladder.rms}, steps is {ladder.steps}: the largest entry is {highest:g} "
                f"steps, and {_MOST_CODES:g} are the most; give a larger rms, or fewer steps"
            )
        self._has_base = highest > self._steps
        widths, highest = torch.tensor([self._step]), max(highest, self._steps)
        self._codes = linear_codes(vector.detach(), widths, len(vector), highest, seed)

    @cached_property
    def _rest(self) -> Tensor:
        """How many steps every entry has that are not in the base: 0 to L."""
        numbers = self._codes.abs()
        return numbers.remainder_(self._steps) if self._has_base else numbers

    @cached_property
    def _sizes(self) -> Tensor:
        """How many entries every increment has, shape (L,), float64, on the CPU."""
        numbers = torch.bincount(self._rest, minlength=self._steps + 1)
        return numbers[1:].flip(0).cumsum(0).to(torch.float64).cpu()

    def __len__(self) -> int:
        return self._steps

    def norms(self) -> Tensor:
        return self._step * self._sizes.sqrt()

    def costs(self) -> Tensor:
        """The entropy of so many places, and a bit for every sign."""
        dim = len(self._codes)
        shares = self._sizes / dim
        places: Tensor = torch.special.entr(shares) + torch.special.entr(1 - shares)
        return dim / math.log(2) * places + self._sizes + _FRAME_BITS

    def base(self) -> Payload | None:
        if not self._has_base:
            return None
        whole = self._codes.div(self._steps, rounding_mode="trunc")
        places = torch.nonzero(whole).flatten()
        return self._at(places, whole[places], self._step * self._steps)

    def increment(self, level: int) -> Payload:
        check_level(level, len(self))
        places = torch.nonzero(self._rest > self._steps - level).flatten()
        return self._at(places, self._codes[places].sign().to(torch.int8), self._step)

    def _at(self, places: Tensor, codes: Tensor, step: float) -> Payload:
        dim = len(self._codes)
        if not len(places):
            return ZeroPayload(dim)
        return ScatteredPayload(dim, places, CodesPayload.on_grid(codes, step))

    def own_law(self) -> None:
        return None


def _step_of(ladder: ThresholdLadder, vector: Tensor, peak: float) -> float:
    """Return h, which float32 holds."""
    if ladder.rms is not None:
        norm = float(bucket_norms(vector.detach(), len(vector), 2))
        longest = ladder.rms * norm / math.sqrt(len(vector))
        if longest < peak:
            return float32_below(longest / ladder.steps)
    return wire_step(peak, ladder.steps)
