"""Rounding to multiples of a step, by thresholds that sender and receiver draw from one seed."""

import math
from dataclasses import dataclass, replace
from typing import Literal, TypeVar

import torch
from torch import Generator, Tensor

from mlmc_ray.compressors.base import (
    Context,
    RunTime,
    check_positive,
    check_whole,
    peak_of,
)
from mlmc_ray.compressors.low_rank import sides_of
from mlmc_ray.compressors.rounding import draw_seed
from mlmc_ray.compressors.shared_groups import Layers, Rounding
from mlmc_ray.compressors.shared_plans import LARGEST, STEPS, Plan, Rule, largest_group
from mlmc_ray.errors import NonFiniteError
from mlmc_ray.payloads import Payload, ZeroPayload
from mlmc_ray.payloads.grouping import Grouping
from mlmc_ray.payloads.shared_rounding import MOST_STEPS, SharedRoundingPayload
from mlmc_ray.seeding import seed_for

_Self = TypeVar("_Self", bound="SharedRounding")
Layout = Literal["interleaved", "contiguous"]
BLOCK = 256
"""Entries that share a threshold, where nothing else is said."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Drawing:
    """Who draws the thresholds of a round.

    Attributes:
        seed: of the round, shared by the workers.
        worker_id: 0 to ``num_workers`` - 1.
        num_workers: how many draw from the seed.
    """

    seed: int
    worker_id: int
    num_workers: int


@dataclass(frozen=True, kw_only=True, slots=True)
class SharedRounding:
    """What the two kinds share: how the step is found, and how layers are cut."""

    step: float | None = None
    rms: float | None = None
    peak: float | None = None
    bits_per_value: float | None = None
    message_bytes: int | None = None
    target_omega: float | None = None
    layout: Layout = "interleaved"
    coordinated: bool = False
    layer_shapes: RunTime[tuple[tuple[int, int], ...]] = ()
    drawing: RunTime[Drawing | None] = None

    def __post_init__(self) -> None:
        given = {name: value for name, value in self._given().items() if value is not None}
        if len(given) != 1:
            raise ValueError(
                f"{sorted(given) or 'nothing'} is given: give one of {sorted(STEPS)} (null takes "
                "one out)"
            )
        for name, value in given.items():
            check_positive(name, value)
        if self.message_bytes is not None:
            check_whole("message_bytes", self.message_bytes, 1)
        if self.layout not in ("interleaved", "contiguous"):
            raise ValueError(f"layout is {self.layout!r}: give 'interleaved' or 'contiguous'")
        if not isinstance(self.coordinated, bool):
            raise ValueError(f"coordinated is {self.coordinated!r}: give true or false")
        for side in (side for shape in self.layer_shapes for side in shape):
            check_whole("a side in layer_shapes", side, 1)

    @property
    def unbiased(self) -> bool:
        """True."""
        return True

    def bind(self: _Self, context: Context) -> _Self:
        """Return the compressor that knows the layers, and where coordinated, whose draws it is."""
        known = len(context.layer_shapes) == len(context.layer_sizes)
        shapes = context.layer_shapes if known else [(size,) for size in context.layer_sizes]
        drawing = None
        if self.coordinated and context.num_workers > 1 and context.worker_id >= 0:
            seed = seed_for(context.shared_seed, "thresholds")
            drawing = Drawing(
                seed=seed, worker_id=context.worker_id, num_workers=context.num_workers
            )
        return replace(
            self,
            layer_shapes=tuple(sides_of(shape) for shape in shapes if math.prod(shape)),
            drawing=drawing,
        )

    def compress(self, vector: Tensor, *, generator: Generator) -> Payload:
        """Return the groups whose count is not zero; the vector is read on the host.

        Raises:
            NonFiniteError: there is NaN or infinity, or what is decoded may not fit float32.
            ValueError: the layers do not add up to the vector, an entry is too many steps, or no
                message is as short as wanted.
        """
        peak = peak_of(vector)
        if not peak:
            return ZeroPayload(vector.numel())
        seed = draw_seed(generator)
        return self.with_seed(vector, seed if self.drawing is None else self.drawing.seed)

    def with_seed(self, vector: Tensor, seed: int) -> Payload:
        """Return the payload of a vector that is not zero that a given seed makes, undrawn."""
        layers, step, grouping = self._cut(vector)
        places, counts, codes = Rounding(layers, grouping, step, seed).sent()
        if not len(places):
            return ZeroPayload(vector.numel())
        largest = int(counts.max())
        if largest > MOST_STEPS:
            raise ValueError(f"the step {step:g} is below 2^-32 of an entry: give a larger one")
        if not largest * step <= LARGEST:
            raise NonFiniteError(
                f"{largest:g} steps of {step:g} may not fit float32, whose largest number is "
                f"{LARGEST:g}: scale the vector down"
            )
        tensors = (torch.from_numpy(part).to(vector.device) for part in (places, counts, codes))
        return SharedRoundingPayload(grouping, seed, step, *tensors)

    def expected_error(self, vector: Tensor, seed: int) -> float:
        """Return E|C(v) - v|^2 over the thresholds, given the codebooks of a seed.

        It is the sum over groups of step^2 f (1 - f) + S^2 - |x|^2, f being the fraction of
        S / step. What it adds for the padding of groups nobody sees. For n = 1 the seed does not
        matter.

        Args:
            vector: shape (d,), not zero; not modified.
            seed: of the codebooks.
        """
        layers, step, grouping = self._cut(vector)
        return Rounding(layers, grouping, step, seed).expected_error()

    def omega(self, dim: int) -> float | None:
        """With n the largest group, c sqrt(n) - 1 for c = ``rms`` >= 2 sqrt(n), else n - 1 + c^2/4.

        A direction has S <= sqrt(n)|x|, as its codebook holds a basis; and f (1 - f) <= h(S / step)
        with h(a) = a - a^2 up to 1/2 and 1/4 beyond, which is concave in a^2, so that Jensen's
        inequality bounds the sum. For n = 1 equal entries attain it. With c = ``peak`` >= 1 and
        n = 1 it is c (1 + sqrt(d)) / 2 - 1: the error is at most step |v|_1 - |v|^2, and
        max|v| |v|_1 <= |v|^2 (1 + sqrt(d)) / 2. For other steps None.
        """
        rule = self._rule()
        n = largest_group(rule.largest_group, rule.bits, dim)
        if self.peak is not None and n == 1 and self.peak >= 1:
            return self.peak * (1 + math.sqrt(dim)) / 2 - 1
        if self.rms is None:
            return None
        if self.rms >= 2 * math.sqrt(n):
            return self.rms * math.sqrt(n) - 1
        return n - 1 + self.rms**2 / 4

    def alpha(self, dim: int) -> None:
        """None: unbiased."""
        return None

    def paper_cost(self, dim: int) -> None:
        """None: there is no formula."""
        return None

    def _given(self) -> dict[str, float | None]:
        return {name: getattr(self, name) for name in STEPS}

    def _cut(self, vector: Tensor) -> tuple[Layers, float, Grouping]:
        """Return the layers of a vector, the step, and the groups."""
        rule = self._rule()
        layers = Layers(vector, rule.shapes, rule.interleaved_groups)
        return layers, *Plan(rule, layers).cut()

    def _rule(self) -> Rule:
        """Return what is asked for, as if groups had one entry and blocks one group."""
        step, value = next((name, x) for name, x in self._given().items() if x is not None)
        drawing = self.drawing or Drawing(seed=0, worker_id=0, num_workers=1)
        interleaved = self.layout == "interleaved"
        return Rule(
            step=step,
            value=value,
            shapes=self.layer_shapes,
            interleaved_entries=interleaved,
            interleaved_groups=interleaved,
            worker_id=drawing.worker_id,
            num_workers=drawing.num_workers,
        )
