"""Groups of a vector on their way into a message: their magnitudes, and what is sent of them."""

import math
from functools import cache

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mlmc_ray.kernels.device import array_of
from mlmc_ray.kernels.nearest_rows import may_reach, nearest_rows
from mlmc_ray.kernels.norms import bucket_norms
from mlmc_ray.kernels.shared_rounding import group_entries, group_squares, sent_entries
from mlmc_ray.payloads.grouping import Grouping, LayerGroups, codebook
from mlmc_ray.payloads.shared_rounding import MOST_STEPS

Array = npt.NDArray[np.floating]
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_CHUNK = 8192  # groups whose products with a codebook are taken at once


class Layers:
    """A vector as the matrices that its layers are, and the squares of their groups.

    Args:
        vector: shape (d,); not modified.
        shapes: rows and columns of every layer; none if the vector is one layer.
        interleaved: whether groups of more than one entry are.

    Attributes:
        dim: d.
        shapes: as given, or of the one layer.
        energies: the sum of squares of every layer.
    """

    def __init__(
        self, vector: Tensor, shapes: tuple[tuple[int, int], ...], interleaved: bool
    ) -> None:
        values: Array = array_of(vector.detach().cpu())
        self.dim = len(values)
        self.shapes = shapes or ((1, self.dim),)
        self._interleaved = interleaved
        sizes = [rows * columns for rows, columns in self.shapes]
        if sum(sizes) != self.dim:
            raise ValueError(
                f"layer_shapes hold {sum(sizes)} entries, and the vector has {self.dim}"
            )
        self._parts = np.split(values, np.cumsum(sizes)[:-1])
        norms = (bucket_norms(torch.from_numpy(part), len(part), 2) for part in self._parts)
        self.energies = [float(norm) ** 2 for norm in norms]
        self._squares: dict[tuple[int, int], Floats] = {}

    @property
    def energy(self) -> float:
        """The sum of squares of the vector."""
        return sum(self.energies)

    @property
    def rms(self) -> float:
        """The root mean square of the entries."""
        return math.sqrt(self.energy / self.dim)

    @property
    def peak(self) -> float:
        """The largest magnitude."""
        return max(float(np.abs(part).max()) for part in self._parts)

    def part(self, index: int) -> Array:
        """Return the entries of a layer."""
        return self._parts[index]

    def squares(self, index: int, group_size: int) -> Floats:
        """Return the sum of squares of every group of a layer; not to be modified."""
        key = (index, group_size)
        if key not in self._squares:
            part = self._parts[index]
            if self._interleaved or group_size <= 4 or group_size & 1:
                number = -(-len(part) // group_size)
                found = group_squares(part, group_size, number, self._interleaved)
            else:
                halves = self.squares(index, group_size // 2)
                found = np.add.reduceat(halves, np.arange(0, len(halves), 2))
            self._squares[key] = found
        return self._squares[key]


class Rounding:
    """What is sent of a vector whose layers are cut into groups.

    Args:
        layers: of the vector.
        grouping: of the layers.
        step: positive.
        seed: of thresholds and codebooks.
    """

    def __init__(self, layers: Layers, grouping: Grouping, step: float, seed: int) -> None:
        self._layers = layers
        self._grouping = grouping
        self._step = step
        self._seed = seed
        self._codebooks = cache(lambda size: codebook(seed, grouping, size))

    def sent(self) -> tuple[Ints, Ints, Ints]:
        """Return the groups sent, in the numbers of all layers; their counts, and their codes.

        A count of ``MOST_STEPS`` + 1 stands for all that is more.
        """
        found = [self._sent(layer) for layer in self._grouping.layers()]
        if len(found) == 1:
            return found[0]
        places, counts, codes = (np.concatenate(column) for column in zip(*found, strict=True))
        return places, counts, codes

    def expected_error(self) -> float:
        """Return E|C(v) - v|^2 over the thresholds: see ``SharedThresholds.expected_error``."""
        error = 0.0
        for layer in self._grouping.layers():
            squares = self._layers.squares(layer.index, layer.group_size)
            magnitudes = np.sqrt(squares)
            if layer.group_size > 1:
                there = np.flatnonzero(squares)
                least = np.zeros(len(there))
                magnitudes[there] = self._directions(layer, there, squares[there], least)[1]
            fraction = np.modf(magnitudes / self._step)[0]
            terms = self._step**2 * fraction * (1 - fraction) + magnitudes**2 - squares
            error += float(terms.sum())
        return error

    def _sent(self, layer: LayerGroups) -> tuple[Ints, Ints, Ints]:
        uniforms, step = layer.uniforms(self._seed), self._step
        if layer.group_size == 1:
            places, counts, signs = sent_entries(
                self._layers.part(layer.index), step, uniforms, layer.block, layer.interleaved
            )
            return layer.first + places, counts, signs
        squares, least = self._layers.squares(layer.index, layer.group_size), (1 - uniforms) * step
        bound = np.sqrt(squares * layer.group_size) * (1 + 1e-6)
        near = np.flatnonzero((bound >= least) & (squares > 0))
        groups, magnitudes, codes = self._directions(layer, near, squares[near], least[near])
        counts = np.minimum(np.floor(magnitudes / step + uniforms[groups]), MOST_STEPS + 1)
        sent = counts > 0
        return layer.first + groups[sent], counts[sent].astype(np.int64), codes[sent]

    def _directions(
        self, layer: LayerGroups, groups: Ints, squares: Floats, least: Floats
    ) -> tuple[Ints, Floats, Ints]:
        """Return some groups, S and the codes of their best directions.

        Args:
            layer: of the groups.
            groups: ascending, none of which is zero.
            squares: |x|^2 of these.
            least: below which S is not needed; groups with such an S may be left out.
        """
        rows, part = self._codebooks(layer.group_size), self._layers.part(layer.index)
        found = []
        for start in range(0, max(1, len(groups)), _CHUNK):
            some = groups[start : start + _CHUNK]
            entries = group_entries(
                part, some, layer.group_size, layer.num_groups, layer.interleaved
            )
            norms = np.sqrt(squares[start : start + _CHUNK])
            units = entries / norms[:, None]
            ratios = least[start : start + _CHUNK] / norms
            kept = np.flatnonzero(may_reach(units, rows[: layer.group_size], ratios))
            units = units[kept]
            best = nearest_rows(units, rows)
            cosines = np.einsum("ij,ij->i", units, rows[best].astype(np.float64))
            found.append((some[kept], norms[kept] / np.abs(cosines), 2 * best + (cosines < 0)))
        kept, magnitudes, codes = (np.concatenate(column) for column in zip(*found, strict=True))
        return kept, magnitudes, codes
