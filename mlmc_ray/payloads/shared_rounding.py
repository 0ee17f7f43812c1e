"""Groups of entries rounded to multiples of a step, by thresholds that both sides draw."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mlmc_ray.errors import NonFiniteError
from mlmc_ray.kernels.shared_uniform import shared_uniform
from mlmc_ray.kernels.sphere_codebook import random_bases
from mlmc_ray.kernels.splitmix import random_bits
from mlmc_ray.payloads.base import Payload, check_shape, too_large

MAX_GROUP = 128
"""The most entries of a group."""
MAX_BITS = 12
"""The most bits of a direction."""
MAX_LAYERS = 1 << 16
"""The most layers of a message."""
MAX_CODEBOOK = 16
"""How many entries a codebook has at most for every entry of the vector."""
MOST_STEPS = (1 << 32) - 1
"""The largest count."""
_LARGEST = torch.finfo(torch.float32).max

_Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class LayerGroups:
    """One layer in groups: which it is, where it starts, and how it is cut.

    Attributes:
        index: its place among the layers.
        start: its first entry in the vector.
        size: how many entries it has.
        group_size: entries a group, n.
        first: the number of its first group among those of all layers.
        block: groups that share a threshold.
        interleaved: see ``kernels.shared_rounding``.
    """

    index: int
    start: int
    size: int
    group_size: int
    first: int
    block: int
    interleaved: bool

    @property
    def num_groups(self) -> int:
        """ceil(size / group_size)."""
        return -(-self.size // self.group_size)

    def uniforms(self, seed: int) -> npt.NDArray[np.float64]:
        """Return the u of every block, drawn by the layer's own seed."""
        own = int(random_bits(np.uint64(seed), self.index + 1)) >> 1
        return shared_uniform(own, -(-self.num_groups // self.block))

    def entries(self, groups: _Ints) -> _Ints:
        """Return the places of the entries of some groups in the layer, shape (groups, n).

        Those of the padding are ``size`` or more.
        """
        offsets = np.arange(self.group_size)
        if self.interleaved:
            return np.asarray(groups[:, None] + offsets * self.num_groups)
        return np.asarray(groups[:, None] * self.group_size + offsets)


@dataclass(frozen=True, slots=True)
class Grouping:
    """How the layers of a vector are cut into groups.

    Attributes:
        sizes: entries of every layer.
        group_sizes: entries a group, for every layer; a power of two, 1 to ``MAX_GROUP``.
        bits: of a direction, 1 to ``MAX_BITS``; a group of one entry has a sign.
        block: how many groups of one entry share a threshold; larger ones have one each.
        interleaved: see ``kernels.shared_rounding``.

    Raises:
        ValueError: a codebook would have less than a basis, or be too large for the vector.
    """

    sizes: tuple[int, ...]
    group_sizes: tuple[int, ...]
    bits: int
    block: int
    interleaved: bool

    def __post_init__(self) -> None:
        largest = max(self.group_sizes)
        if largest > 1 and not fits(largest, self.bits, self.dim):
            raise ValueError(
                f"directions of {self.bits} bits in {largest} entries: give enough bits for a "
                f"basis, and at most {MAX_CODEBOOK} entries of a codebook for each of the "
                f"{self.dim} of the vector"
            )

    @property
    def dim(self) -> int:
        """The entries of all layers."""
        return sum(self.sizes)

    @property
    def num_groups(self) -> int:
        """The groups of all layers."""
        return sum(layer.num_groups for layer in self.layers())

    def layers(self) -> Iterator[LayerGroups]:
        """Yield every layer."""
        first = 0
        starts = accumulate(self.sizes, initial=0)
        layers = zip(starts, self.sizes, self.group_sizes, strict=False)
        for index, (start, size, group) in enumerate(layers):
            block = self.block if group == 1 else 1
            layer = LayerGroups(index, start, size, group, first, block, self.interleaved)
            yield layer
            first += layer.num_groups


@dataclass(frozen=True, slots=True, eq=False)
class SharedRoundingPayload(Payload):
    """Some groups of entries: group ``places[r]`` is ``step * counts[r]`` times a unit vector.

    The unit vector is a sign where a group has one entry, and otherwise row ``codes[r] // 2`` of
    ``codebook(seed, bits, group size)``; an odd code says that it is negative. ``places`` count the
    groups of all layers, and are strictly ascending; ``counts`` are 1 or more. All are int64. The
    step is rounded to float32; it may be negative.
    """

    grouping: Grouping
    seed: int
    step: float
    places: Tensor
    counts: Tensor
    codes: Tensor

    def __post_init__(self) -> None:
        with np.errstate(over="ignore"):
            object.__setattr__(self, "step", float(np.float32(self.step)))

    @property
    def dim(self) -> int:  # type: ignore[override]
        """The entries of all layers."""
        return self.grouping.dim

    def reach(self) -> float:
        """Return a bound of the magnitudes of the entries."""
        return abs(self.step) * int(self.counts.max()) if self.counts.numel() else 0.0

    def add_to(self, accumulator: Tensor, weight: float = 1.0) -> None:
        """Draw the codebooks, then add in O(number of entries of the groups)."""
        check_shape(self, accumulator)
        places, codes = self.places.cpu().numpy(), self.codes.cpu().numpy()
        factors = self.step * self.counts.cpu().numpy().astype(np.float64) * (1 - 2 * (codes & 1))
        codebooks: dict[int, npt.NDArray[np.float32]] = {}
        for layer in self.grouping.layers():
            low, high = np.searchsorted(places, (layer.first, layer.first + layer.num_groups))
            if low == high:
                continue
            values, n = factors[low:high, None], layer.group_size
            if n > 1:
                if n not in codebooks:
                    codebooks[n] = codebook(self.seed, self.grouping.bits, n)
                values = values * codebooks[n][codes[low:high] >> 1]
            entries = layer.entries(places[low:high] - layer.first)
            there = entries < layer.size
            target = accumulator[layer.start : layer.start + layer.size]
            index = torch.from_numpy(entries[there]).to(accumulator.device)
            added = torch.from_numpy(values[there].astype(np.float32)).to(accumulator)
            target.index_add_(0, index, added, alpha=weight)

    def scaled(self, factor: float) -> "SharedRoundingPayload":
        """Scale the step, which is rounded once.

        Raises:
            NonFiniteError: an entry may become larger than float32 holds.
        """
        if not self.reach() * abs(factor) <= _LARGEST:
            raise NonFiniteError(too_large(self.reach(), factor, torch.float32))
        step = self.step * factor
        return SharedRoundingPayload(
            self.grouping, self.seed, step, self.places, self.counts, self.codes
        )


def codebook(seed: int, bits: int, group_size: int) -> npt.NDArray[np.float32]:
    """Return the directions of groups of a size, shape (2^(bits - 1), size), without the negative.

    They are independent of the thresholds of the same seed.
    """
    key = random_bits(np.uint64(seed), -group_size)
    return random_bases(int(key), 1 << (bits - 1), group_size)


def fits(group_size: int, bits: int, dim: int) -> bool:
    """Return whether a codebook holds a basis and is not too large for a vector."""
    rows = 1 << (bits - 1)
    return group_size <= rows and rows * group_size <= MAX_CODEBOOK * dim
