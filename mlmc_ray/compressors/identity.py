"""No compression."""

from dataclasses import dataclass

from torch import Generator, Tensor

from mlmc_ray.compressors.base import PaperCost, check_finite
from mlmc_ray.payloads import DensePayload, Payload


@dataclass(frozen=True, kw_only=True, slots=True)
class Identity:
    """The vector as it is: omega = 0, alpha = 1."""

    @property
    def unbiased(self) -> bool:
        """True: the payload is the vector."""
        return True

    def compress(self, vector: Tensor, *, generator: Generator) -> Payload:
        """Return the vector itself, sharing its memory."""
        check_finite(vector)
        return DensePayload(vector.detach())

    def omega(self, dim: int) -> float:
        """No variance."""
        return 0.0

    def alpha(self, dim: int) -> float:
        """No error."""
        return 1.0

    def paper_cost(self, dim: int) -> PaperCost:
        """One number per entry (arXiv:2507.05508 counts 64 bits each)."""
        return PaperCost("64 d", 64 * dim)
