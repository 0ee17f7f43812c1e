"""Groups of entries rounded to multiples of a step, by thresholds that both sides draw."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mlmc_ray.errors import NonFiniteError
from mlmc_ray.payloads.base import Payload, check_shape, too_large
from mlmc_ray.payloads.grouping import Grouping, codebook

MOST_STEPS = (1 << 32) - 1
"""The largest count."""
_LARGEST = torch.finfo(torch.float32).max


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
        codebooks: dict[int, npt.NDArray[np.float32]] = {}
        for layer in self.grouping.layers():
            low, high = np.searchsorted(places, (layer.first, layer.first + layer.num_groups))
            if low == high:
                continue
            values, n = factors[low:high, None], layer.group_size
            if n > 1:
                if n not in codebooks:
                    codebooks[n] = codebook(self.seed, self.grouping, n)
                values = values * codebooks[n][codes[low:high] >> 1]
            entries = layer.entries(places[low:high] - layer.first)
            there = entries < layer.size
            target = accumulator[layer.start : layer.start + layer.size]
            index = torch.from_numpy(entries[there]).to(accumulator.device)
            added = torch.from_numpy(values[there].astype(np.float32)).to(accumulator)
            target.index_add_(0, index, added, alpha=weight)

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
