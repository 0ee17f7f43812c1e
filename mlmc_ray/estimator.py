"""The multilevel Monte Carlo estimator: a ladder and a law over its levels, made unbiased.

Draw a level l with probability p_l and send the increment of that level divided by p_l. Whatever
the ladder and the (positive) probabilities, the expectation is the vector.

References:
    Zukerman, Hamoud and Levy, "Beyond Communication Overhead: A Multilevel Monte Carlo Approach
    for Mitigating Compression Bias in Distributed Learning", ICML 2025, arXiv:2507.05508.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Generator, Tensor

from mlmc_ray.compressors.base import Compressor, Context, PaperCost, RunTime, bound, peak_of
from mlmc_ray.compressors.wrappers.named import named
from mlmc_ray.coordination import Place, place_in
from mlmc_ray.ladders.base import (
    BindableLadder,
    Ladder,
    Levels,
    bound_ladder,
    fixed_generator,
    top_omega,
)
from mlmc_ray.ladders.sums import difference, sum_of
from mlmc_ray.laws import (
    AdaptiveLaw,
    CostAwareLaw,
    GivenLaw,
    LevelLaw,
    OwnLaw,
    check_law,
    inclusion_chances,
    levels_at,
)
from mlmc_ray.observing import note_levels
from mlmc_ray.payloads import Payload, ZeroPayload

__all__ = [
    "MLMC",
    "AdaptiveLaw",
    "CostAwareLaw",
    "GivenLaw",
    "LevelLaw",
    "OwnLaw",
]


@dataclass(frozen=True, kw_only=True, slots=True)
class MLMC:
    """The MLMC estimator, an unbiased compressor.

    With ``AdaptiveLaw`` over ``SegmentedTopKLadder`` it is algorithm 3 of the paper, with
    ``OwnLaw`` over ``FixedPointLadder`` algorithm 2. The payload carries the increments already
    divided by their probabilities, so the receiver needs neither the levels nor the law.

    Attributes:
        ladder: multilevel compressor.
        law: of the levels; it may look at the vector.
        base: sent whatever the level; the ladder is applied to what it leaves of the vector.
        draws: how many levels are drawn, independently and with replacement, and averaged.
        inclusion: every level is sent or not, independently, with probability q_l = min(1, c p_l),
            instead of being drawn. A payload may then hold no level at all.
        expected_levels: sum of the q_l, which determines c.
        coordinated: each of the M workers draws from another M-th of the law, which a shared seed
            gives it, so that a message has the same law and the average of all less noise where
            workers hold similar vectors; it has at most M / (M - 1) times that of independent draws
            where they do not.
        place: of the worker among the others; set by ``bind``, None where it draws alone.

    References:
        Zukerman et al., 2025, arXiv:2507.05508, section 3, algorithms 2 and 3; for ``coordinated``
        see ``mlmc_ray.coordination``.
    """

    ladder: Ladder
    law: LevelLaw = field(default_factory=AdaptiveLaw)
    base: Compressor | None = None
    draws: int = 1
    inclusion: bool = False
    expected_levels: float = 1.0
    coordinated: bool = False
    place: RunTime[Place | None] = None

    def __post_init__(self) -> None:
        if not 1 <= self.draws <= 1 << 20:
            raise ValueError(f"draws is {self.draws!r}: draw at least 1 level, at most 2^20")
        if not self.expected_levels > 0:
            raise ValueError(f"expected_levels is {self.expected_levels!r}: give a positive number")
        if self.inclusion and self.draws != 1:
            raise ValueError(f"draws is {self.draws!r}, but inclusion draws none; leave it out")
        if not self.inclusion and self.expected_levels != 1:
            raise ValueError(
                f"expected_levels is {self.expected_levels!r}, but levels are drawn; set inclusion "
                "to true, or set draws instead"
            )
        check_law(self.law, self.ladder)

    @property
    def unbiased(self) -> bool:
        """True for every ladder and law (lemma 3.2)."""
        return True

    def bind(self, context: Context) -> "MLMC":
        """Return the estimator whose base, ladder and draws know where they are used.

        Where more than one of these may draw what workers share, each has a seed of its own: the
        expectation is the vector only if they are independent.
        """
        several = self.base is not None and isinstance(self.ladder, BindableLadder)

        def inside(name: str) -> Context:
            return named(context, name) if self.coordinated or several else context

        base = None if self.base is None else bound(self.base, inside("base"))
        ladder = bound_ladder(self.ladder, inside("ladder"))
        place = place_in(context) if self.coordinated else None
        same = base is self.base and ladder is self.ladder and place == self.place
        return self if same else replace(self, base=base, ladder=ladder, place=place)

    def compress(self, vector: Tensor, *, generator: Generator) -> Payload:
        """Draw levels and return their increments divided by their probabilities."""
        if not peak_of(vector):
            return ZeroPayload(vector.numel())
        parts, levels = self._split(vector, generator)
        chances = self._chances(levels)
        drawn = self._drawn(chances, vector.numel(), generator)
        note_levels(drawn)
        return self._payload(parts, levels, chances, drawn, vector)

    def probabilities(self, vector: Tensor, *, generator: Generator | None = None) -> Tensor:
        """Return p_l, the chance of a level in a draw, or q_l, that of its being sent.

        Args:
            vector: shape (d,).
            generator: for a base or a ladder that draws; without one they draw from a fixed seed.

        Returns:
            shape (L,), float64.
        """
        return self._chances(self._split(vector, generator or fixed_generator())[1])

    def at_level(self, vector: Tensor, level: int) -> Payload:
        """Return what would be sent if every draw gave ``level`` (1 to L), without drawing."""
        return self.at_levels(vector, [level] * self.draws)

    def at_levels(
        self, vector: Tensor, drawn: Sequence[int], *, generator: Generator | None = None
    ) -> Payload:
        """Return what would be sent if these levels were drawn (``draws`` of them) or included."""
        parts, levels = self._split(vector, generator or fixed_generator())
        return self._payload(parts, levels, self._chances(levels), drawn, vector)

    def variance(self, vector: Tensor, *, generator: Generator | None = None) -> float:
        """Return E|C(v) - v|^2 over the draws of levels, given those of base and ladder.

        With base g, increments D_l and their sum t, which is v - g where the top of the ladder is
        exact: (sum_l |D_l|^2 / p_l - |t|^2) / draws, or sum_l |D_l|^2 (1 - q_l) / q_l for
        inclusion, and |v - g - t|^2 (lemma 3.4).
        """
        parts, levels = self._split(vector, generator or fixed_generator())
        norms = levels.norms()
        chances = self._chances(levels)[: len(norms)]
        energies, chances = norms[norms > 0].square(), chances[norms > 0]
        rest = vector.detach().to(torch.float64, copy=True)
        for part in parts:
            part.add_to(rest, weight=-1.0)
        total = rest if top_omega(self.ladder, len(rest)) == 0 else _sum_of_increments(levels, rest)
        missed = float((rest - total).square().sum())
        if self.inclusion:
            return float((energies * (1 - chances) / chances).sum()) + missed
        return float((energies / chances).sum() - total.square().sum()) / self.draws + missed

    def omega(self, dim: int) -> float | None:
        """(w / n + (1 - 1 / n) t) b for n draws, ((1 + w) / m + t) b for m expected levels.

        w is the bound that the law gives for one draw on this ladder, t the omega of the ladder's
        top g^L, 0 where it is exact, b what the base leaves: 1 - alpha of a contractive base, omega
        of an unbiased one, 1 without. None where one of them is unknown.

        The variance is that given g^L, in expectation, and that of g^L, which all draws share. One
        draw has E sum_l |D_l|^2 / p_l - |v|^2 <= w |v|^2 in all, hence w |v|^2 - E|g^L - v|^2 given
        g^L, of which n draws leave 1 / n. For inclusion q_l >= m p_l wherever q_l < 1, so the
        second moment (1 + w) |v|^2 over m bounds the variance given g^L.

        With coordinated draws it is M / (M - 1) times as much, so that omega / M bounds the
        variance of the workers' average, as for independent draws: see ``Place.excess``.
        """
        draw, left = self.law.omega(self.ladder, dim), _left_by(self.base, dim)
        top = top_omega(self.ladder, dim)
        if draw is None or left is None or top is None:
            return None
        left *= 1 if self.place is None else self.place.excess
        if self.inclusion:
            return left * ((1 + draw) / self.expected_levels + top)
        return left * (draw / self.draws + (1 - 1 / self.draws) * top)

    def alpha(self, dim: int) -> None:
        """None: an unbiased compressor with omega >= 1 need not contract."""
        return None

    def paper_cost(self, dim: int) -> PaperCost | None:
        """The ladder's; None with a base or several levels, which the paper does not have."""
        plain = self.base is None and self.draws == 1 and not self.inclusion
        return self.ladder.paper_cost(dim) if plain else None

    def _split(self, vector: Tensor, generator: Generator) -> tuple[list[Payload], Levels]:
        """Return what is sent in any case, and the levels of the rest."""
        vector = vector.detach()
        parts, rest = [], vector
        if self.base is not None:
            parts = [self.base.compress(vector, generator=generator)]
            rest = difference(vector, parts[0])
        levels = self.ladder.levels(rest, generator=generator)
        lowest = levels.base()
        return (parts if lowest is None else [*parts, lowest]), levels

    def _chances(self, levels: Levels) -> Tensor:
        probabilities = self.law.probabilities(levels)
        if not self.inclusion:
            return probabilities
        return inclusion_chances(probabilities, self.expected_levels)

    def _drawn(self, chances: Tensor, dim: int, generator: Generator) -> list[int]:
        if not chances.any():
            return []
        number = len(chances) if self.inclusion else self.draws
        if self.place is None:
            uniform = torch.rand(number, dtype=torch.float64, generator=generator)
        else:
            uniform = self.place.uniforms(number, dim, generator)
        if self.inclusion:
            return [int(index) + 1 for index in (uniform < chances).nonzero()]
        return levels_at(chances, uniform)

    def _payload(
        self,
        parts: Sequence[Payload],
        levels: Levels,
        chances: Tensor,
        drawn: Sequence[int],
        vector: Tensor,
    ) -> Payload:
        scaled = []
        for level, count in sorted(Counter(drawn).items()):
            if not len(levels) < level <= len(chances):  # else a given law with more levels
                increment = levels.increment(level)
                scaled.append(increment.scaled(count / (self.draws * float(chances[level - 1]))))
        return sum_of([*parts, *scaled], vector.numel())


def _sum_of_increments(levels: Levels, like: Tensor) -> Tensor:
    total = torch.zeros_like(like)
    for level in range(1, len(levels) + 1):
        levels.increment(level).add_to(total)
    return total


def _left_by(base: Compressor | None, dim: int) -> float | None:
    """Return b with E|v - base(v)|^2 <= b |v|^2; None where none is known."""
    if base is None:
        return 1.0
    alpha = base.alpha(dim)
    return base.omega(dim) if alpha is None else 1 - alpha
