"""One bit an entry: signs, with one magnitude or with one for each sign."""

import math
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from mlmc_ray.compressors.base import PaperCost
from mlmc_ray.compressors.rounding import finite_range
from mlmc_ray.errors import NonFiniteError
from mlmc_ray.kernels.signs import sign_codes
from mlmc_ray.payloads import CodesPayload, Payload, Table, ZeroPayload


@dataclass(frozen=True, kw_only=True, slots=True)
class ScaledSign:
    """Keep the sign of every entry, 0 counting as positive, and the mean of the magnitudes.

    Deterministic and biased: |C(v) - v|^2 = |v|^2 - |v|_1^2 / d.

    References:
        Karimireddy et al., 2019, arXiv:1901.09847.
    """

    @property
    def unbiased(self) -> bool:
        """False."""
        return False

    def compress(self, vector: Tensor, *, generator: Generator) -> Payload:
        """Return one bit per entry; the generator is not used.

        Raises:
            NonFiniteError: there is NaN or infinity, or the mean does not fit float32.
        """
        _, largest = finite_range(vector)
        if largest == 0:
            return ZeroPayload(vector.numel())
        codes, _, positive, negative = sign_codes(vector)
        mean = _rounded((positive - negative) / vector.numel())
        return CodesPayload(codes, torch.tensor([mean]), codebook=Table((-1.0, 1.0)))

    def omega(self, dim: int) -> None:
        """None: biased."""
        return None

    def alpha(self, dim: int) -> float:
        """1/d, attained by one entry that is not zero."""
        return 1 / dim

    def paper_cost(self, dim: int) -> PaperCost:
        """A sign per entry, and the mean."""
        return PaperCost("d + 64", dim + 64)


@dataclass(frozen=True, kw_only=True, slots=True)
class OneBit:
    """Replace the entries >= 0 by their mean, and the entries < 0 by theirs.

    Deterministic and biased, with an error |v|^2 - n_+ m_+^2 - n_- m_-^2 that is at most that of
    ``ScaledSign``; the sum of the entries is kept.

    References:
        Seide et al., "1-Bit Stochastic Gradient Descent and its Application to Data-Parallel
        Distributed Training of Speech DNNs", Interspeech 2014.
    """

    @property
    def unbiased(self) -> bool:
        """False."""
        return False

    def compress(self, vector: Tensor, *, generator: Generator) -> Payload:
        """Return one bit per entry; the generator is not used.

        Raises:
            NonFiniteError: there is NaN or infinity, or a mean does not fit float32.
        """
        _, largest = finite_range(vector)
        if largest == 0:
            return ZeroPayload(vector.numel())
        codes, count, positive, negative = sign_codes(vector)
        upper = _rounded(positive / max(1, count))
        lower = _rounded(negative / max(1, vector.numel() - count))
        return CodesPayload(codes, torch.ones(1), codebook=Table((lower, upper)))

    def omega(self, dim: int) -> None:
        """None: biased."""
        return None

    def alpha(self, dim: int) -> float:
        """1/d, attained by one entry that is not zero."""
        return 1 / dim

    def paper_cost(self, dim: int) -> PaperCost:
        """A sign per entry, and two means."""
        return PaperCost("d + 128", dim + 128)


def _rounded(mean: float) -> float:
    """Return the nearest float32, which adds no more to the error than leaving the entries out.

    Rounded up, a mean of less than 2^-150 would be more than twice itself.

    Raises:
        NonFiniteError: it is above the largest float32.
    """
    nearest = float(torch.tensor(mean, dtype=torch.float64).to(torch.float32))
    if not math.isfinite(nearest):
        raise NonFiniteError(
            f"a mean of {mean:g} does not fit float32, whose largest number is "
            f"{torch.finfo(torch.float32).max:g}"
        )
    return nearest
