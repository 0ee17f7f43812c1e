"""Groups of entries rounded to multiples of a step, by thresholds that both sides draw."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mlmc_ray.errors import NonFiniteError
from mlmc_ray.kernels.adding import add_groups
from mlmc_ray.kernels.device import on_cpu
from mlmc_ray.payloads.base import Payload, add_entries, check_shape, too_large
from mlmc_ray.payloads.grouping import Grouping, LayerGroups, codebook

MOST_STEPS = (1 << 32) - 1
"""The largest count."""
_LARGEST = torch.finfo(torch.float32).max
_Codebook = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class SharedRoundingPayload(Payload):
    """Some groups of entries: group ``places[r]`` is ``step * counts[r]`` times a unit vector.

    The unit vector is a sign where a group has one entry, and otherwise row ``codes[r] // 2`` of
    ``codebook(seed, grouping, group size)``; an odd code says that it is negative. ``places``
    count the groups of all layers, and are strictly ascending; ``counts`` are 1 or more. All are
    int64. The step is rounded to float32; it may be negative.
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
        codebooks: dict[int, _Codebook] = {}
        for layer in self.grouping.layers():
            low, high = np.searchsorted(places, (layer.first, layer.first + layer.num_groups))
            if low == high:
                continue
            groups, n = places[low:high] - layer.first, layer.group_size
            target = accumulator[layer.start : layer.start + layer.size]
            if n == 1:
                values = torch.from_numpy(factors[low:high].astype(np.float32))
                add_entries(target, torch.from_numpy(groups), values, weight)
                continue
            if n not in codebooks:
                codebooks[n] = codebook(self.seed, self.grouping, n)
            rows = codes[low:high] >> 1
            _add_groups(target, layer, groups, factors[low:high], rows, codebooks[n], weight)

    def first_entries(self) -> Tensor:
        """Return the place in the vector of the first entry of every group that is said."""
        places = self.places.cpu().numpy()
        found = [np.zeros(0, dtype=np.int64)]
        for layer in self.grouping.layers():
            low, high = np.searchsorted(places, (layer.first, layer.first + layer.num_groups))
            found.append(layer.start + layer.entries(places[low:high] - layer.first)[:, 0])
        return torch.from_numpy(np.concatenate(found))

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


def _add_groups(
    target: Tensor,
    layer: LayerGroups,
    groups: npt.NDArray[np.int64],
    factors: npt.NDArray[np.float64],
    rows: npt.NDArray[np.int64],
    directions: _Codebook,
    weight: float,
) -> None:
    """Add multiples of directions to groups of a layer, whose entries the target has."""
    if on_cpu(target, torch.float32, torch.float64):
        starts, apart = layer.strides(groups)
        add_groups(target.numpy(), starts, apart, factors, rows, directions, weight)
        return
    entries = layer.entries(groups)
    there = entries < layer.size
    values = (factors[:, None] * directions[rows])[there].astype(np.float32)
    add_entries(target, torch.from_numpy(entries[there]), torch.from_numpy(values), weight)
