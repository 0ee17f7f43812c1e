"""Randomised truncation: the levels of a ladder up to a random one, made unbiased."""

from dataclasses import dataclass, field, replace

from torch import Generator, Tensor

from mlmc_ray.compressors.base import Context, RunTime, check_finite
from mlmc_ray.compressors.wrappers.named import named
from mlmc_ray.coordination import Place, place_in
from mlmc_ray.ladders.base import Ladder, Levels, bound_ladder
from mlmc_ray.ladders.sums import sum_of
from mlmc_ray.laws import AdaptiveLaw, LevelLaw, check_law, draw_levels, levels_at
from mlmc_ray.observing import note_levels
from mlmc_ray.payloads import Payload, ZeroPayload


@dataclass(frozen=True, kw_only=True, slots=True)
class RandomTruncation:
    """Draw a level N and send all levels up to N, each divided by S_l = P(N >= l).

    Unbiased, since level l is sent with probability S_l. It suits levels that can only be read
    together with all below them, such as bit planes.

    Attributes:
        ladder: whose levels are sent up to a random one.
        law: of the level.
        coordinated: each of the M workers draws from another M-th of the law, as for ``MLMC``: the
            law of a message is the same, and the variance of the average at most M / (M - 1) times
            that of independent draws, and no more than that where workers hold the same.
        place: of the worker among the others; set by ``bind``, None where it draws alone.

    References:
        Rhee and Glynn, "Unbiased estimation with square root convergence for SDE models",
        Operations Research, 2015 (the coupled sum estimator); for ``coordinated`` see
        ``mlmc_ray.coordination``.
    """

    ladder: Ladder
    law: LevelLaw = field(default_factory=AdaptiveLaw)
    coordinated: bool = False
    place: RunTime[Place | None] = None

    def __post_init__(self) -> None:
        check_law(self.law, self.ladder)

    @property
    def unbiased(self) -> bool:
        """True for every ladder and law."""
        return True

    def bind(self, context: Context) -> "RandomTruncation":
        """Return the compressor whose ladder and draw know where they are used.

        What the ladder draws by the seed that workers share is independent of the level.
        """
        place = place_in(context) if self.coordinated else None
        inside = named(context, "ladder") if self.coordinated else context
        ladder = bound_ladder(self.ladder, inside)
        same = ladder is self.ladder and place == self.place
        return self if same else replace(self, ladder=ladder, place=place)

    def compress(self, vector: Tensor, *, generator: Generator) -> Payload:
        """Draw a level and return the sum of all up to it, each divided by its chance."""
        check_finite(vector)
        if not vector.any():
            return ZeroPayload(vector.numel())
        levels = self.ladder.levels(vector.detach(), generator=generator)
        probabilities = self.law.probabilities(levels)
        drawn = self._drawn(probabilities, vector.numel(), generator)
        note_levels(drawn)
        return _up_to(max(drawn, default=0), levels, probabilities, vector.numel())

    def probabilities(self, vector: Tensor) -> Tensor:
        """Return P(N = l), shape (L,), float64."""
        return self.law.probabilities(self.ladder.levels(vector))

    def at_level(self, vector: Tensor, level: int) -> Payload:
        """Return what would be sent if N were ``level`` (0 to L), without drawing."""
        levels = self.ladder.levels(vector)
        return _up_to(level, levels, self.law.probabilities(levels), vector.numel())

    def omega(self, dim: int) -> None:
        """None: it depends on the inner products of the increments."""
        return None

    def alpha(self, dim: int) -> None:
        """None: an unbiased compressor with omega >= 1 need not contract."""
        return None

    def paper_cost(self, dim: int) -> None:
        """None: the paper sends one level."""
        return None

    def _drawn(self, probabilities: Tensor, dim: int, generator: Generator) -> list[int]:
        if self.place is None or not probabilities.any():
            return draw_levels(probabilities, 1, generator)
        return levels_at(probabilities, self.place.uniforms(1, dim, generator))


def _up_to(last: int, levels: Levels, probabilities: Tensor, dim: int) -> Payload:
    chances = probabilities.flip(0).cumsum(0).flip(0)
    base = levels.base()
    parts = [] if base is None else [base]
    for level in range(1, min(last, len(levels)) + 1):
        parts.append(levels.increment(level).scaled(1 / float(chances[level - 1])))
    return sum_of(parts, dim)
