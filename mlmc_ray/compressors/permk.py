"""PermK: the workers share out the entries among themselves."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Generator, Tensor

from mlmc_ray.compressors.base import (
    Context,
    PaperCost,
    RunTime,
    check_finite,
    check_whole,
    is_whole,
)
from mlmc_ray.kernels.device import at_least_single
from mlmc_ray.kernels.partition import block_size, random_block
from mlmc_ray.payloads import DensePayload, Payload, ZeroPayload
from mlmc_ray.payloads.base import scaled_values
from mlmc_ray.payloads.permuted import PermutedBlockPayload


@dataclass(frozen=True, kw_only=True, slots=True)
class PermK:
    """Send one of B = min(d, M) blocks of a random partition, M being the number of workers.

    All workers draw the partition and who sends which block from one seed. A block is sent M/c
    times as large, where c workers send it: c = 1 where d >= M, and M/d where d divides M. So each
    worker is unbiased, and the mean over the workers of one common vector is that vector. Where d
    is below M and does not divide it, c is M/d rounded up for some blocks and down for others,
    which keeps both; this case is ours.

    The fields are set by ``bind``; with one worker it sends everything.

    References:
        Szlendak, Tyurin, Richtarik, 2021, arXiv:2110.03300.
    """

    worker_id: RunTime[int] = 0
    num_workers: RunTime[int] = 1
    seed: RunTime[int] = 0

    def __post_init__(self) -> None:
        check_whole("num_workers", self.num_workers, 1)
        if not (is_whole(self.worker_id) and 0 <= self.worker_id < self.num_workers):
            raise ValueError(
                f"worker_id is {self.worker_id!r}: give 0 to num_workers - 1, which is "
                f"{self.num_workers - 1}"
            )
        check_whole("seed", self.seed, 0, (1 << 64) - 1)

    def bind(self, context: Context) -> "PermK":
        """Return the compressor of this worker and round."""
        return replace(
            self,
            worker_id=context.worker_id,
            num_workers=context.num_workers,
            seed=context.shared_seed,
        )

    @property
    def unbiased(self) -> bool:
        """True."""
        return True

    def compress(self, vector: Tensor, *, generator: Generator) -> Payload:
        """Return the entries of this worker's block; the generator is not used."""
        check_finite(vector)
        vector = vector.detach()
        dim = vector.numel()
        if self.num_workers == 1:
            return DensePayload(vector) if vector.any() else ZeroPayload(dim)
        num_blocks = min(dim, self.num_workers)
        block = self._place() % num_blocks
        indices = torch.from_numpy(random_block(self.seed, dim, num_blocks, block))
        kept = at_least_single(vector[indices.to(vector.device)])
        if not kept.any():
            return ZeroPayload(dim)
        sharing = block_size(self.num_workers, num_blocks, block)
        values = scaled_values(kept, self.num_workers / sharing)
        return PermutedBlockPayload(dim, self.seed, num_blocks, block, values)

    def omega(self, dim: int) -> float:
        """M - 1 where d >= M, d - 1 where d divides M, else M/floor(M/d) - 1."""
        return self.num_workers / (self.num_workers // min(dim, self.num_workers)) - 1

    def alpha(self, dim: int) -> float | None:
        """None: unbiased; 1 with one worker, which sends everything."""
        return 1.0 if self.num_workers == 1 else None

    def paper_cost(self, dim: int) -> PaperCost:
        """d/M numbers, rounded up."""
        return PaperCost("64 d/M", 64 * -(-dim // self.num_workers))

    def _place(self) -> int:
        """Return this worker's place in a random order of all, the same for every worker."""
        keys = np.random.Philox(key=self.seed).random_raw(self.num_workers)
        return int(np.argsort(keys, kind="stable")[self.worker_id])
