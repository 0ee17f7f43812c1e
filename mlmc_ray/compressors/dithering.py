"""Dithering on even levels: unbiased stochastic rounding relative to a norm of the vector."""

import math
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from mlmc_ray.compressors.base import PaperCost, check_whole, is_number
from mlmc_ray.compressors.rounding import check_next, draw_seed, finite_range, wire_steps
from mlmc_ray.kernels.norms import bucket_norms
from mlmc_ray.kernels.rounding import linear_codes
from mlmc_ray.payloads import CodesPayload, Payload, ZeroPayload

_MAX_LEVELS = 32767  # their codes fit 16 bits


@dataclass(frozen=True, kw_only=True, slots=True)
class StandardDithering:
    """Round every |v_j| / |v|_p stochastically to a multiple of 1 / ``levels``, keeping the mean.

    The vector is cut into buckets with a norm each. With N the norm, s the levels and t_j the
    fractional part of s |v_j| / N, the variance is exactly (N/s)^2 sum_j t_j (1 - t_j), where N/s
    is rounded up to float32.

    Attributes:
        levels: s, 1 to 32,767.
        norm: p, at least 1, or infinity.
        bucket_size: entries a bucket; None for one bucket.

    References:
        Alistarh et al., 2017, arXiv:1610.02132; Horvath et al., 2019, arXiv:1905.10988.
    """

    levels: int
    norm: float = 2.0
    bucket_size: int | None = None

    def __post_init__(self) -> None:
        check_levels(self.levels)
        check_norm(self.norm)
        if self.bucket_size is not None:
            check_whole("bucket_size", self.bucket_size, 1, advice=", or nothing for one bucket")

    @property
    def unbiased(self) -> bool:
        """True."""
        return True

    def compress(self, vector: Tensor, *, generator: Generator) -> Payload:
        """Return one code per entry and a scale per bucket.

        Raises:
            NonFiniteError: there is NaN or infinity, or the vector does not fit float32.
        """
        _, largest = finite_range(vector)
        vector = vector.detach()
        if largest == 0:
            return ZeroPayload(vector.numel())
        size = self._bucket(vector.numel())
        if self.norm == math.inf and size == vector.numel():
            norms = torch.tensor([largest], dtype=torch.float64)
        else:
            norms = bucket_norms(vector, size, self.norm).cpu()
            if len(norms) == 1:
                norms.clamp_(min=largest)  # rounding may leave it below
        steps = wire_steps(norms, self.levels)
        if self.norm < math.inf:  # else the largest is a point itself
            check_next(largest, float(steps.max()))
        codes = linear_codes(vector, steps, size, self.levels, draw_seed(generator))
        return CodesPayload(codes, steps, size)

    def omega(self, dim: int) -> float:
        """The least of B^(2/r) / (4 s^2), B^(1/r) / s and two bounds for s = 1.

        r = min(p, 2), and B is the bucket size. With one level the bound is B^(1/r) - 1, and
        (sqrt(B) - 1) / 2 for the maximum norm, which is attained.
        """
        size = self._bucket(dim)
        spread = math.pow(size, 1 / min(self.norm, 2.0))
        if self.levels == 1:
            return (spread - 1) / 2 if self.norm == math.inf else spread - 1
        return min(spread**2 / (4 * self.levels**2), spread / self.levels)

    def alpha(self, dim: int) -> None:
        """None: unbiased."""
        return None

    def paper_cost(self, dim: int) -> PaperCost:
        """A norm per bucket, and one of 2 s + 1 values per entry."""
        width = math.ceil(math.log2(2 * self.levels + 1))
        num_buckets = -(-dim // self._bucket(dim))
        return PaperCost("64 ceil(d/B) + d ceil(log2(2 s + 1))", 64 * num_buckets + width * dim)

    def _bucket(self, dim: int) -> int:
        return dim if self.bucket_size is None else min(dim, self.bucket_size)


@dataclass(frozen=True, kw_only=True, slots=True)
class QSGD:
    """QSGD: standard dithering in buckets, by their Euclidean or maximum norms.

    Attributes:
        levels: s, 1 to 32,767; one level is "2-bit" QSGD.
        bucket_size: entries a bucket.
        norm: 2 or infinity.

    References:
        Alistarh et al., 2017, arXiv:1610.02132.
    """

    levels: int
    bucket_size: int = 512
    norm: float = 2.0

    def __post_init__(self) -> None:
        if self.norm not in (2.0, math.inf):
            raise ValueError(f"norm is {self.norm!r}: give 2 or .inf")
        check_whole("bucket_size", self.bucket_size, 1)
        self._dithering()

    @property
    def unbiased(self) -> bool:
        """True."""
        return True

    def compress(self, vector: Tensor, *, generator: Generator) -> Payload:
        """Return one code per entry and a scale per bucket, as ``StandardDithering`` does."""
        return self._dithering().compress(vector, generator=generator)

    def omega(self, dim: int) -> float:
        """The bound of ``StandardDithering``, at most min(B / s^2, sqrt(B) / s)."""
        return self._dithering().omega(dim)

    def alpha(self, dim: int) -> None:
        """None: unbiased."""
        return None

    def paper_cost(self, dim: int) -> PaperCost:
        """A norm per bucket, and one of 2 s + 1 values per entry."""
        return self._dithering().paper_cost(dim)

    def _dithering(self) -> StandardDithering:
        return StandardDithering(levels=self.levels, norm=self.norm, bucket_size=self.bucket_size)


def check_levels(levels: int) -> None:
    """Refuse a number of levels that is not 1 to 32,767.

    Raises:
        ValueError: quotes the number.
    """
    check_whole("levels", levels, 1, _MAX_LEVELS)


def check_norm(norm: float) -> None:
    """Refuse an order of a norm below 1.

    Raises:
        ValueError: quotes the order.
    """
    if not (is_number(norm) and norm >= 1):
        raise ValueError(f"norm is {norm!r}: give p of the l_p norm, at least 1, or .inf")
