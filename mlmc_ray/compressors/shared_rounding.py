"""Rounding to multiples of a step, by thresholds that sender and receiver draw from one seed."""

import math
from dataclasses import dataclass, replace
from typing import Literal, TypeVar

import numpy as np
import torch
from torch import Generator, Tensor

from mlmc_ray.compressors.base import (
    Context,
    RunTime,
    check_positive,
    check_whole,
    is_whole,
    peak_of,
)
from mlmc_ray.compressors.rounding import draw_seed
from mlmc_ray.compressors.shared_groups import LARGEST, Plan, Rule
from mlmc_ray.errors import NonFiniteError
from mlmc_ray.payloads import Payload, ZeroPayload
from mlmc_ray.payloads.shared_rounding import (
    MAX_BITS,
    MAX_GROUP,
    MOST_STEPS,
    SharedRoundingPayload,
)

_Self = TypeVar("_Self", bound="_SharedRounding")


@dataclass(frozen=True, kw_only=True, slots=True)
class _SharedRounding:
    """What the two kinds share: how the step is found, and how layers are cut.

    Attributes:
        step: the step itself.
        rms: the step over the root mean square of the entries.
        bits_per_value: the step is that at which an ideal code takes so many bits an entry.
        layout: of groups and blocks in a layer.
        layer_sizes: set by ``bind``; while there are none, the vector is one layer.
    """

    step: float | None = None
    rms: float | None = None
    bits_per_value: float | None = None
    layout: Literal["interleaved", "contiguous"] = "interleaved"
    layer_sizes: RunTime[tuple[int, ...]] = ()

    def __post_init__(self) -> None:
        rules = {"step": self.step, "rms": self.rms, "bits_per_value": self.bits_per_value}
        given = {name: value for name, value in rules.items() if value is not None}
        if len(given) != 1:
            raise ValueError(f"{sorted(given) or 'nothing'} is given: give one of {sorted(rules)}")
        for name, value in given.items():
            check_positive(name, value)
        if self.layout not in ("interleaved", "contiguous"):
            raise ValueError(f"layout is {self.layout!r}: give 'interleaved' or 'contiguous'")
        for size in self.layer_sizes:
            check_whole("an entry of layer_sizes", size, 1)

    @property
    def unbiased(self) -> bool:
        """True."""
        return True

    def bind(self: _Self, context: Context) -> _Self:
        """Return the compressor that knows the layers that have entries."""
        return replace(self, layer_sizes=tuple(size for size in context.layer_sizes if size))

    def compress(self, vector: Tensor, *, generator: Generator) -> Payload:
        """Return the groups whose count is not zero; the vector is read on the host.

        Raises:
            NonFiniteError: there is NaN or infinity, or what is decoded may not fit float32.
            ValueError: the layers do not add up to the vector, or an entry is too many steps.
        """
        peak = peak_of(vector)
        if not peak:
            return ZeroPayload(vector.numel())
        return self.with_seed(vector, draw_seed(generator))

    def with_seed(self, vector: Tensor, seed: int) -> Payload:
        """Return the payload of a vector that is not zero that a given seed makes, undrawn."""
        plan = Plan(self._rule(), vector)
        step = plan.step()
        grouping = plan.grouping(step)
        found = [plan.rounded(layer, step, seed) for layer in grouping.layers()]
        places, counts, codes = (np.concatenate(column) for column in zip(*found, strict=True))
        if not len(places):
            return ZeroPayload(vector.numel())
        largest = float(counts.max())
        if largest > MOST_STEPS:
            raise ValueError(f"the step {step:g} is below 2^-32 of an entry: give a larger one")
        if not largest * step <= LARGEST:
            raise NonFiniteError(
                f"{largest:g} steps of {step:g} may not fit float32, whose largest number is "
                f"{LARGEST:g}: scale the vector down"
            )
        tensors = (torch.from_numpy(part).to(vector.device) for part in (places, counts, codes))
        where, steps, which = (part.to(torch.int64) for part in tensors)
        return SharedRoundingPayload(grouping, seed, step, where, steps, which)

    def expected_error(self, vector: Tensor, seed: int) -> float:
        """Return E|C(v) - v|^2 over the thresholds, given the codebooks of a seed.

        It is the sum over groups of step^2 f (1 - f) + S^2 - |x|^2, f being the fraction of
        S / step. What it adds for the padding of groups nobody sees. For n = 1 the seed does not
        matter.

        Args:
            vector: shape (d,), not zero; not modified.
            seed: of the codebooks.
        """
        plan = Plan(self._rule(), vector)
        step = plan.step()
        error = 0.0
        for layer in plan.grouping(step).layers():
            magnitudes, squares = plan.magnitudes(layer, seed)
            fraction = np.modf(magnitudes / step)[0]
            terms = step**2 * fraction * (1 - fraction) + magnitudes**2 - squares
            error += float(terms.sum())
        return error

    def omega(self, dim: int) -> float | None:
        """With n the largest group, c sqrt(n) - 1 for c = ``rms`` >= 2 sqrt(n), else n - 1 + c^2/4.

        None without ``rms``. A direction has S <= sqrt(n)|x|, as its codebook holds a basis; and
        f (1 - f) <= h(S / step) with h(a) = a - a^2 up to 1/2 and 1/4 beyond, which is concave in
        a^2, so that Jensen's inequality bounds the sum. For n = 1 equal entries attain it.
        """
        if self.rms is None:
            return None
        n = self._rule().largest_group
        if self.rms >= 2 * math.sqrt(n):
            return self.rms * math.sqrt(n) - 1
        return n - 1 + self.rms**2 / 4

    def alpha(self, dim: int) -> None:
        """None: unbiased."""
        return None

    def paper_cost(self, dim: int) -> None:
        """None: there is no formula."""
        return None

    def _rule(self, largest_group: int = 1, bits: int = 1, block: int = 256) -> Rule:
        return Rule(
            step=self.step,
            rms=self.rms,
            bits_per_value=self.bits_per_value,
            interleaved=self.layout == "interleaved",
            layer_sizes=self.layer_sizes,
            largest_group=largest_group,
            bits=bits,
            block=block,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class SharedThresholds(_SharedRounding):
    """Round magnitudes to q = floor(|v| / step + u) steps, with u shared by both sides.

    The entries of a layer lie in blocks that have one u each. It is (pi(b) + U) / B for block b of
    B, with pi a random permutation and U uniform, so that every u is uniform, hence E q = |v| /
    step exactly, and thresholds are evenly spread over [0, 1), which keeps the size of the message
    and its norm steady. Both sides draw them from a seed in the message, so that they cost nothing
    and tell the receiver where to expect entries. The variance is the sum of step^2 f (1 - f), f
    being the fraction of |v| / step.

    Give exactly one of ``step``, ``rms`` and ``bits_per_value``.

    Attributes:
        step: the step itself.
        rms: the step over the root mean square of the entries.
        bits_per_value: bits an entry that an ideal code takes, headers not counted.
        layout: "interleaved": entry j of a layer is in block j modulo B; "contiguous": a block is
            a run of entries, which costs less where magnitudes differ by place, but whose errors
            have a common sign where neighbours have.
        block: entries that share a threshold.
        layer_sizes: set by ``bind``; while there are none, the vector is one layer.

    References:
        The rounding is that of TernGrad, Wen et al., 2017, arXiv:1705.07878; the shared thresholds
        are this project's own, near to No and Weissman, 2014, arXiv:1406.6730.
    """

    block: int = 256

    def __post_init__(self) -> None:
        super(SharedThresholds, self).__post_init__()
        check_whole("block", self.block, 1, (1 << 31) - 1)

    def _rule(self, largest_group: int = 1, bits: int = 1, block: int = 256) -> Rule:
        return super(SharedThresholds, self)._rule(block=self.block)


@dataclass(frozen=True, kw_only=True, slots=True)
class SharedDirections(_SharedRounding):
    """Send groups of entries as random directions, with magnitudes rounded by shared thresholds.

    For a group x of n entries c is the unit vector of largest <x, c> in a codebook of 2^bits that
    both sides draw, S = |x|^2 / <x, c>, and the group becomes q step c with q = floor(S / step +
    u). The codebook is made of independent random bases and of their negatives: its law is that of
    any of its rotations, so E[S c] is parallel to x, and <S c, x> = |x|^2 in every draw; hence the
    mean is x exactly, but for the rounding of the codebook to float32. Given the codebook the
    variance is the sum of step^2 f (1 - f) + S^2 - |x|^2, f being the fraction of S / step.

    Groups of a layer are halved while its mean S would be above 0.8 steps, while it has fewer
    entries than that, and while the codebook has more than 16 entries for each of the vector;
    below 4 its entries are rounded one by one, as by ``SharedThresholds``.

    Give exactly one of ``step``, ``rms`` and ``bits_per_value``.

    Attributes:
        step: the step itself.
        rms: the step over the root mean square of the entries.
        bits_per_value: bits an entry that an ideal code takes, headers not counted.
        layout: "interleaved": group g of G has the entries g, g + G, g + 2 G of a layer;
            "contiguous": a group is a run of entries.
        group_size: the largest n, a power of two from 2 to 128.
        bits: of a direction, 4 to 12; enough for a basis, 2^(bits - 1) >= ``group_size``.
        layer_sizes: set by ``bind``; while there are none, the vector is one layer.

    References:
        Sakrison, 1968; Dai et al., 2019, arXiv:1911.04655; Gandikota et al., 2019,
        arXiv:1911.07971; the scale is that of Vargaftik et al., 2021, arXiv:2105.08339.
    """

    group_size: int = 64
    bits: int = 10

    def __post_init__(self) -> None:
        super(SharedDirections, self).__post_init__()
        check_whole("bits", self.bits, 4, MAX_BITS)
        size = self.group_size
        if not (is_whole(size) and 2 <= size <= MAX_GROUP and size & (size - 1) == 0):
            raise ValueError(f"group_size is {size!r}: give a power of two, 2 to {MAX_GROUP}")
        if size > 1 << (self.bits - 1):
            raise ValueError(
                f"bits is {self.bits}: give at least {size.bit_length()} for groups of {size}"
            )

    def _rule(self, largest_group: int = 1, bits: int = 1, block: int = 256) -> Rule:
        return super(SharedDirections, self)._rule(self.group_size, self.bits)
