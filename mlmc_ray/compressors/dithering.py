"""Dithering: unbiased stochastic rounding of every entry relative to a norm of the vector."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Generator, Tensor

from mlmc_ray.compressors.base import EntryCount, PaperCost, check_count, count_of
from mlmc_ray.compressors.rounding import (
    check_base,
    check_next,
    draw_seed,
    finite_range,
    float32_below,
    geometric_grid,
    wire_step,
    wire_steps,
)
from mlmc_ray.kernels.norms import bucket_norms
from mlmc_ray.kernels.power_rounding import geometric_codes
from mlmc_ray.kernels.rounding import linear_codes, nearest_codes
from mlmc_ray.kernels.select import largest as largest_entries
from mlmc_ray.payloads import CodesPayload, Payload, Powers, ScatteredPayload, ZeroPayload

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
        _check_levels(self.levels)
        _check_norm(self.norm)
        if self.bucket_size is not None and self.bucket_size < 1:
            raise ValueError(
                f"bucket_size is {self.bucket_size!r}: give at least 1, or nothing for one bucket"
            )

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


@dataclass(frozen=True, kw_only=True, slots=True)
class TernGrad:
    """Keep the sign of entry j with probability |v_j| / S, else nothing; S is the maximum.

    The variance is exactly S |v|_1 - |v|^2. With ``clip`` = c, entries are first cut to c times
    the standard deviation of the vector's entries (the paper takes 2.5), unless they are all
    equal: less variance, but biased.

    References:
        Wen et al., 2017, arXiv:1705.07878.
    """

    clip: float | None = None

    def __post_init__(self) -> None:
        if self.clip is not None and not 0 < self.clip < math.inf:
            raise ValueError(
                f"clip is {self.clip!r}: give a positive number of standard deviations, or nothing"
            )

    @property
    def unbiased(self) -> bool:
        """True without clipping."""
        return self.clip is None

    def compress(self, vector: Tensor, *, generator: Generator) -> Payload:
        """Return a code -1, 0 or 1 per entry.

        Raises:
            NonFiniteError: there is NaN or infinity, or the maximum does not fit float32.
        """
        _, scale = finite_range(vector)
        if self.clip is not None:
            deviation = _deviation(vector)
            scale = min(scale, self.clip * deviation) if deviation > 0 else scale
        if scale == 0:
            return ZeroPayload(vector.numel())
        steps = wire_steps(torch.tensor([scale], dtype=torch.float64), 1)
        dim = vector.numel()
        return CodesPayload(linear_codes(vector, steps, dim, 1, draw_seed(generator)), steps)

    def omega(self, dim: int) -> float | None:
        """(sqrt(d) - 1) / 2 without clipping.

        Attained by one entry 1 and d - 1 entries 1 / (1 + sqrt(d)).
        """
        return (math.sqrt(dim) - 1) / 2 if self.clip is None else None

    def alpha(self, dim: int) -> None:
        """None: unbiased, or biased without a bound."""
        return None

    def paper_cost(self, dim: int) -> PaperCost:
        """Two bits per entry, and the scale."""
        return PaperCost("2 d + 64", 2 * dim + 64)


@dataclass(frozen=True, kw_only=True, slots=True)
class ExponentialDithering:
    """Round every |v_j| / |v|_p stochastically to 0 or a power base^-r, keeping the mean.

    The levels are 0, base^(1-s), ..., 1/base, 1. Base 2 is natural dithering.

    Attributes:
        levels: s, 1 to 32,767, of those above 0.
        base: above 1, at most 1024.
        norm: p, at least 1, or infinity.

    References:
        Beznosikov et al., 2020, arXiv:2002.12410; Horvath et al., 2019, arXiv:1905.10988.
    """

    levels: int
    base: float = 2.0
    norm: float = 2.0

    def __post_init__(self) -> None:
        _check_levels(self.levels)
        check_base(self.base)
        _check_norm(self.norm)

    @property
    def unbiased(self) -> bool:
        """True."""
        return True

    def compress(self, vector: Tensor, *, generator: Generator) -> Payload:
        """Return one code per entry and the scale of the smallest level.

        Raises:
            NonFiniteError: there is NaN or infinity, or the norm does not fit float32.
        """
        _, largest = finite_range(vector)
        if largest == 0:
            return ZeroPayload(vector.numel())
        norm = max(largest, float(bucket_norms(vector, vector.numel(), self.norm)))
        lowest = wire_step(norm * math.pow(self.base, 1 - self.levels), 1) or 2.0**-149
        points = geometric_grid(lowest, self.base, norm)
        if len(points) > self.levels:  # a power was rounded down, so that the last stays below
            lowest = float(np.nextafter(np.float32(lowest), np.float32(math.inf)))
            points = geometric_grid(lowest, self.base, norm)
        codes = geometric_codes(vector, points, draw_seed(generator))
        return CodesPayload(codes, torch.tensor([lowest]), codebook=Powers(self.base))

    def omega(self, dim: int) -> float:
        """(b + 1/b + 2) / 4 - 1 + e min(1, e) with e = d^(1/min(p, 2)) b^(1-s)."""
        lost = math.pow(dim, 1 / min(self.norm, 2.0)) * math.pow(self.base, 1 - self.levels)
        return (self.base + 1 / self.base + 2) / 4 - 1 + lost * min(1.0, lost)

    def alpha(self, dim: int) -> None:
        """None: unbiased."""
        return None

    def paper_cost(self, dim: int) -> PaperCost:
        """The norm, and a sign and a level per entry."""
        width = 1 + math.ceil(math.log2(self.levels + 1))
        return PaperCost("64 + d (1 + ceil(log2(s + 1)))", 64 + width * dim)


@dataclass(frozen=True, kw_only=True, slots=True)
class TopKDithering:
    """Keep the k largest entries, dithered exponentially and shrunk by 1 / (1 + omega).

    Shrinking, with the omega that the dithering has in k dimensions, makes it contractive:
    alpha = k / (d (1 + omega)).

    Attributes:
        k: how many entries to keep.
        levels: of the dithering.
        base: of the dithering.
        norm: of the dithering.

    References:
        Beznosikov et al., 2020, arXiv:2002.12410.
    """

    k: EntryCount
    levels: int
    base: float = 2.0
    norm: float = 2.0

    def __post_init__(self) -> None:
        check_count("k", self.k)
        self._dithering()

    @property
    def unbiased(self) -> bool:
        """False."""
        return False

    def compress(self, vector: Tensor, *, generator: Generator) -> Payload:
        """Return the indices of the kept entries and a code for each."""
        _, largest = finite_range(vector)
        dim = vector.numel()
        if largest == 0:
            return ZeroPayload(dim)
        k = count_of(self.k, dim)
        indices = largest_entries(vector.abs(), k)
        dithered = self._dithering().compress(vector[indices], generator=generator)
        return ScatteredPayload(dim, indices, dithered.scaled(1 / (1 + self._inner_omega(dim))))

    def omega(self, dim: int) -> None:
        """None: biased."""
        return None

    def alpha(self, dim: int) -> float:
        """k / (d (1 + omega)) with the dithering's omega in k dimensions."""
        return count_of(self.k, dim) / dim / (1 + self._inner_omega(dim))

    def paper_cost(self, dim: int) -> PaperCost:
        """The norm, and a sign and a level per kept entry; no indices are counted."""
        bits = self._dithering().paper_cost(count_of(self.k, dim)).bits
        return PaperCost("64 + k (1 + ceil(log2(s + 1)))", bits)

    def _dithering(self) -> ExponentialDithering:
        return ExponentialDithering(levels=self.levels, base=self.base, norm=self.norm)

    def _inner_omega(self, dim: int) -> float:
        return self._dithering().omega(count_of(self.k, dim))


@dataclass(frozen=True, kw_only=True, slots=True)
class SparseDithering:
    """Round every entry to a multiple of 2 |v| sqrt(nu / d), near the limit of bits and variance.

    No contractive compressor of b bits does better than (1 - alpha) 4^(b/d) = 1, and no unbiased
    one than omega = 1 / (4^(b/d) - 1). Rounding stochastically has omega <= nu and on average at
    most d / (2 sqrt(nu)) entries that are not zero; rounding to the nearest has alpha = 1 - nu.

    Attributes:
        nu: relative variance or error, positive; below 1 where biased.
        unbiased: round stochastically, not to the nearest.

    References:
        Albasyoni et al., 2020, arXiv:2010.03246 (the limit, and an operator of this kind).
    """

    nu: float
    unbiased: bool = True

    def __post_init__(self) -> None:
        if not 0 < self.nu < math.inf:
            raise ValueError(f"nu is {self.nu!r}: give a positive number")
        if not self.unbiased and self.nu >= 1:
            raise ValueError(f"nu is {self.nu!r}: without unbiased it is an error, below 1")

    def compress(self, vector: Tensor, *, generator: Generator) -> Payload:
        """Return one code per entry.

        Raises:
            NonFiniteError: there is NaN or infinity, or the vector does not fit float32.
            ValueError: the codes take more than 31 bits, ``nu`` is too small.
        """
        _, largest = finite_range(vector)
        if largest == 0:
            return ZeroPayload(vector.numel())
        dim = vector.numel()
        step = self._step(float(bucket_norms(vector, dim, 2.0)), dim)
        check_next(largest, step)
        highest = math.ceil(largest / step)
        if highest >= 1 << 31:
            raise ValueError(f"nu is {self.nu!r}: codes up to {highest} do not fit 31 bits")
        if self.unbiased:
            steps = torch.tensor([step])
            codes = linear_codes(vector, steps, dim, highest, draw_seed(generator))
        else:
            codes = nearest_codes(vector, step, 0.0, -highest, highest)
        return CodesPayload.on_grid(codes, step)

    def omega(self, dim: int) -> float | None:
        """The least of nu and 2 sqrt(nu) when unbiased."""
        return min(self.nu, 2 * math.sqrt(self.nu)) if self.unbiased else None

    def alpha(self, dim: int) -> float | None:
        """1 - nu when rounded to the nearest."""
        return None if self.unbiased else 1 - self.nu

    def paper_cost(self, dim: int) -> PaperCost:
        """The least that any compressor of this variance or error can take, in the worst case."""
        rate = math.log2(1 + 1 / self.nu) if self.unbiased else -math.log2(self.nu)
        return PaperCost("the lower bound", math.ceil(rate * dim / 2))

    def _step(self, norm: float, dim: int) -> float:
        """Return a step rounded down, which keeps the bounds."""
        return float32_below(2 * norm * math.sqrt(self.nu / dim))


def _check_levels(levels: int) -> None:
    if not 1 <= levels <= _MAX_LEVELS:
        raise ValueError(f"levels is {levels!r}: give 1 to {_MAX_LEVELS}")


def _check_norm(norm: float) -> None:
    if not norm >= 1:
        raise ValueError(f"norm is {norm!r}: give p of the l_p norm, at least 1, or .inf")


def _deviation(vector: Tensor) -> float:
    """Return the standard deviation of the entries, as one population."""
    dim = vector.numel()
    deviations = vector.to(torch.float64) - vector.sum(dtype=torch.float64) / dim
    return float(bucket_norms(deviations, dim, 2.0)) / math.sqrt(dim)
