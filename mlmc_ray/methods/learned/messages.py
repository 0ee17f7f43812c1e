"""What the halves of learned compression have to agree on: phases, positions and values."""

import math
from enum import IntEnum
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mlmc_ray.compressors.base import Context, count_of
from mlmc_ray.kernels.select import largest_entries
from mlmc_ray.payloads import CodesPayload, Message, Payload, ScatteredPayload, SparsePayload

if TYPE_CHECKING:
    from mlmc_ray.methods.learned.method import LearnedCompression

_LARGEST_AMOUNT = torch.finfo(torch.float32).max


class Phase(IntEnum):
    """What the rounds of a phase send."""

    DENSE = 0
    TRAINING = 1
    COMPRESSED = 2


class Layout:
    """Which entries are encoded, and which belong to the layers at the ends."""

    def __init__(self, method: "LearnedCompression", context: Context, dim: int) -> None:
        sizes, edge = context.layer_sizes or (dim,), method.edge_layers
        if len(sizes) <= 2 * edge:
            raise ValueError(
                f"edge_layers is {edge}, and the model has {len(sizes)} parameter tensors: none is "
                f"left to encode; give at most {(len(sizes) - 1) // 2}"
            )
        kept = count_of(method.k, dim) / dim
        self.dim = dim
        self.start, self.stop = sum(sizes[:edge]), dim - sum(sizes[len(sizes) - edge :])
        self.count = max(1, round(kept * (self.stop - self.start)))
        self.innovations = max(1, round(method.innovation * self.count))
        self._edge_count = max(1, round(kept * (dim - self.stop + self.start))) if edge else 0
        # As many entries, with their positions, as the messages of the compressed phase hold.
        position = math.ceil(math.log2(max(2, self.count)))
        code_bits = 16 * self.count / 4 / context.num_workers
        self.alternative = self.innovations + int(code_bits / (32 + position))

    def positions(self, vector: Tensor) -> Tensor:
        """Return where the largest entries to be encoded are, ascending."""
        return largest_entries(vector[self.start : self.stop], self.count) + self.start

    def edges(self, vector: Tensor) -> Payload | None:
        """Return the largest entries of the layers at the ends; None where there are none."""
        if not self._edge_count:
            return None
        ends = torch.cat([vector[: self.start], vector[self.stop :]])
        chosen = largest_entries(ends, self._edge_count)
        indices = torch.where(chosen < self.start, chosen, chosen - self.start + self.stop)
        return SparsePayload(self.dim, indices, ends[chosen])


def positions_payload(dim: int, positions: Tensor) -> Payload:
    """Return ones at some positions, which costs no more than the positions."""
    ones = CodesPayload.on_grid(torch.ones(len(positions), dtype=torch.int8), 1.0)
    return ScatteredPayload(dim, positions, ones)


def read_positions(message: Message, layout: Layout, sender: str) -> Tensor:
    """Return the positions that a message says.

    Raises:
        ValueError: it does not say as many as it should, among the entries that are encoded.
    """
    payload = message.payloads.get("positions")
    fits = isinstance(payload, ScatteredPayload) and payload.dim == layout.dim
    if not isinstance(payload, ScatteredPayload) or not fits:
        raise ValueError(f"{sender} says no positions of {layout.dim} entries")
    indices = payload.indices
    found = f"{len(indices)} positions"
    if len(indices):
        found += f" from {int(indices[0])} to {int(indices[-1])}"
    inside = len(indices) == layout.count and indices[0] >= layout.start
    if not inside or indices[-1] >= layout.stop:
        raise ValueError(
            f"{sender} says {found}, expected {layout.count} from {layout.start} to "
            f"{layout.stop - 1}"
        )
    return indices


def read_amount(report: Message, name: str, worker_id: int) -> float:
    """Return a scalar of a report that is not negative, and no larger than a float32.

    Raises:
        ValueError: it is missing or another number; names the worker and the scalar.
    """
    value = report.scalars.get(name)
    if value is None or not 0 <= value <= _LARGEST_AMOUNT:
        raise ValueError(
            f"report of worker {worker_id}: {name} is {value!r}, expected a number from 0 to "
            f"{_LARGEST_AMOUNT:.6g}; server and workers must run the same method"
        )
    return value


def innovation_of(scaled: Tensor, layout: Layout) -> SparsePayload:
    """Return the largest entries of a worker's scaled values, shape (k,)."""
    indices = largest_entries(scaled, layout.innovations)
    return SparsePayload(len(scaled), indices, scaled[indices])


def scale_down(values: Tensor) -> tuple[Tensor, float]:
    """Return values divided by their largest magnitude, float32, and that."""
    scale = float(values.abs().max())
    return (values / (scale or 1.0)).to(torch.float32), scale
