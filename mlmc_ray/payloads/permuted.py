"""The entries of one block of a random partition, which need not be sent."""

from dataclasses import dataclass

import torch
from torch import Tensor

from mlmc_ray.kernels.partition import random_block
from mlmc_ray.payloads.base import Payload, check_shape, scaled_values
from mlmc_ray.payloads.plain import SparsePayload


@dataclass(frozen=True, slots=True, eq=False)
class PermutedBlockPayload(Payload):
    """The entries of one block of a partition that all machines draw from ``seed``.

    ``values`` are in ascending order of index; the indices are
    ``random_block(seed, dim, num_blocks, block)``, so that there are
    ``block_size(dim, num_blocks, block)`` of them.
    """

    dim: int
    seed: int
    num_blocks: int
    block: int
    values: Tensor

    def indices(self) -> Tensor:
        """Draw the indices, int64, strictly ascending."""
        return torch.from_numpy(random_block(self.seed, self.dim, self.num_blocks, self.block))

    def add_to(self, accumulator: Tensor, weight: float = 1.0) -> None:
        """Add in O(number of entries).

        The indices take O(dim) to draw for the first block of a partition, less for each that
        follows: see ``kernels.partition``.
        """
        check_shape(self, accumulator)
        SparsePayload(self.dim, self.indices(), self.values).add_to(accumulator, weight)

    def scaled(self, factor: float) -> "PermutedBlockPayload":
        """Scale the values."""
        values = scaled_values(self.values, factor)
        return PermutedBlockPayload(self.dim, self.seed, self.num_blocks, self.block, values)
