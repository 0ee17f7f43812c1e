"""How a vector is cut into groups whose thresholds and directions sender and receiver draw."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mlmc_ray.kernels.shared_uniform import shared_uniform
from mlmc_ray.kernels.sphere_codebook import random_bases
from mlmc_ray.kernels.splitmix import random_bits

MAX_GROUP = 128
"""The most entries of a group."""
MAX_BITS = 12
"""The most bits of a direction."""
MAX_SIDE = (1 << 31) - 1
"""The most rows, columns, and groups that share a threshold."""
MAX_LAYERS = 1 << 13
"""The most layers of a message."""
MAX_TURNS = 1 << 22
"""The most layers of a message, times the workers whose thresholds are spread together."""
MAX_CODEBOOK = 16
"""How many entries a codebook has at most for every entry of the vector."""

_Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, slots=True)
class LayerGroups:
    """One layer in groups: which it is, where it starts, and how it is cut.

    Attributes:
        index: its place among the layers.
        start: its first entry in the vector.
        rows: of the matrix that the layer is.
        columns: of that matrix.
        group_size: entries a group, n.
        first: the number of its first group among those of all layers.
        block: groups that share a threshold.
        interleaved: whether the groups are, and the blocks of groups of one entry: see
            ``kernels.shared_rounding``.
        worker_id: of the sender, among those that draw from the seed.
        num_workers: that draw from the seed.
    """

    index: int
    start: int
    rows: int
    columns: int
    group_size: int
    first: int
    block: int
    interleaved: bool
    worker_id: int
    num_workers: int

    @property
    def size(self) -> int:
        """The entries."""
        return self.rows * self.columns

    @property
    def num_groups(self) -> int:
        """ceil(size / group_size)."""
        return -(-self.size // self.group_size)

    @property
    def group_columns(self) -> int:
        """How many groups a row of the matrix has, about; all if groups run across the rows."""
        if self.group_size > 1 and self.interleaved:
            return self.num_groups
        return max(1, round(self.columns / self.group_size))

    def uniforms(self, seed: int) -> npt.NDArray[np.float64]:
        """Return the u of every block, drawn by the layer's own seed."""
        return shared_uniform(
            int(random_bits(np.uint64(seed), self.index + 1)) >> 1,
            -(-self.num_groups // self.block),
            worker_id=self.worker_id,
            num_workers=self.num_workers,
        )

    def entries(self, groups: _Ints) -> _Ints:
        """Return the places of the entries of some groups in the layer, shape (groups, n).

        Those of the padding are ``size`` or more.
        """
        starts, apart = self.strides(groups)
        return np.asarray(starts[:, None] + apart * np.arange(self.group_size))

    def strides(self, groups: _Ints) -> tuple[_Ints, int]:
        """Return where some groups begin in the layer, and how far their entries are apart."""
        return (groups, self.num_groups) if self.interleaved else (groups * self.group_size, 1)


@dataclass(frozen=True, kw_only=True, slots=True)
class Grouping:
    """How the layers of a vector are cut into groups, and who draws their thresholds.

    Attributes:
        shapes: rows and columns of the matrix that every layer is.
        group_sizes: entries a group, for every layer; a power of two, 1 to ``MAX_GROUP``.
        bits: of a direction, 1 to ``MAX_BITS``; a group of one entry has a sign.
        block: how many groups of one entry share a threshold, 1 to ``MAX_SIDE``; larger ones have
            one each.
        interleaved_entries: the same for layers whose groups have one entry.
        interleaved_groups: whether larger groups are interleaved.
        worker_id: of the sender, 0 to ``num_workers`` - 1.
        num_workers: whose thresholds are spread together, see ``MAX_TURNS``.

    Raises:
        ValueError: a value is out of range; there are no layers, more than ``MAX_LAYERS``, or
            another number of group sizes; a codebook would have less than a basis, or be too large
            for the vector; or there is no such worker.
    """

    shapes: tuple[tuple[int, int], ...]
    group_sizes: tuple[int, ...]
    bits: int
    block: int
    interleaved_entries: bool
    interleaved_groups: bool
    worker_id: int = 0
    num_workers: int = 1

    def __post_init__(self) -> None:
        self._check_layers()
        _check_whole("bits", self.bits, MAX_BITS)
        _check_whole("block", self.block, MAX_SIDE)
        largest = max(self.group_sizes)
        if largest > 1 and not fits(largest, self.bits, self.dim):
            raise ValueError(
                f"directions of {self.bits} bits in {largest} entries: give enough bits for a "
                f"basis, and at most {MAX_CODEBOOK} entries of a codebook for each of the "
                f"{self.dim} of the vector"
            )
        if not 0 <= self.worker_id < self.num_workers <= MAX_TURNS // len(self.shapes):
            raise ValueError(
                f"worker {self.worker_id} of {self.num_workers} with {len(self.shapes)} layers: "
                f"give one of the workers, and at most {MAX_TURNS} layers times workers"
            )

    def _check_layers(self) -> None:
        if not 1 <= len(self.shapes) <= MAX_LAYERS:
            raise ValueError(f"{len(self.shapes)} layers in shapes: give 1 to {MAX_LAYERS}")
        if len(self.group_sizes) != len(self.shapes):
            raise ValueError(
                f"{len(self.group_sizes)} group_sizes for {len(self.shapes)} layers: give one each"
            )
        for side in {side for shape in self.shapes for side in shape}:
            _check_whole("a side in shapes", side, MAX_SIDE)
        for size in set(self.group_sizes):
            _check_whole("a size in group_sizes", size, MAX_GROUP)
            if size & (size - 1):
                raise ValueError(f"a size in group_sizes is {size!r}: give a power of two")

    @property
    def dim(self) -> int:
        """The entries of all layers."""
        return sum(rows * columns for rows, columns in self.shapes)

    @property
    def num_groups(self) -> int:
        """The groups of all layers."""
        return sum(layer.num_groups for layer in self.layers())

    def layers(self) -> Iterator[LayerGroups]:
        """Yield every layer."""
        start = first = 0
        pairs = zip(self.shapes, self.group_sizes, strict=True)
        for index, ((rows, columns), group) in enumerate(pairs):
            layer = LayerGroups(
                index=index,
                start=start,
                rows=rows,
                columns=columns,
                group_size=group,
                first=first,
                block=self.block if group == 1 else 1,
                interleaved=self.interleaved_entries if group == 1 else self.interleaved_groups,
                worker_id=self.worker_id,
                num_workers=self.num_workers,
            )
            yield layer
            start += layer.size
            first += layer.num_groups


def _check_whole(name: str, value: int, high: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= high:
        raise ValueError(f"{name} is {value!r}: give a whole number, 1 to {high}")


def codebook(seed: int, grouping: Grouping, group_size: int) -> npt.NDArray[np.float32]:
    """Return the directions of groups of a size, shape (2^(bits - 1), size), without the negative.

    They are independent of the thresholds of the same seed. Every worker has its own, so that the
    directions of workers with like vectors err each in its own way.
    """
    of_worker = random_bits(np.uint64(seed), -1 - grouping.worker_id)
    key = random_bits(np.uint64(of_worker), -group_size)
    return random_bases(int(key), 1 << (grouping.bits - 1), group_size)


def fits(group_size: int, bits: int, dim: int) -> bool:
    """Return whether a codebook holds a basis and is not too large for a vector."""
    rows = 1 << (bits - 1)
    return group_size <= rows and rows * group_size <= MAX_CODEBOOK * dim
