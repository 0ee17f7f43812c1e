"""Fixed-point truncation: the leading binary digits of every entry, on one common scale."""

import math
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from mlmc_ray.compressors.base import PaperCost, check_whole, peak_of
from mlmc_ray.kernels.device import array_of, on_cpu
from mlmc_ray.kernels.digits import truncate
from mlmc_ray.payloads import CodesPayload, Payload, ZeroPayload

_MAX_PLANES = 31  # codes are int32
_SMALLEST_EXPONENT = -149  # every float32 is a multiple of 2^-149, so a finer step says no more


@dataclass(frozen=True, kw_only=True, slots=True)
class FixedPoint:
    """Keep the first ``planes`` binary digits of every |v_j| / S, truncating towards zero.

    S = 2^(e+1), where e is the largest floor(log2 |v_j|): the smallest power of two above every
    magnitude, so the division is exact. Each entry is off by less than S 2^-planes. One plane is
    the "2-bit fixed point" of the paper: a sign and a digit.

    Args:
        planes: how many binary digits to keep.

    References:
        Zukerman et al., 2025, arXiv:2507.05508, section 3.1; the power-of-two scale instead of
        the maximum makes the expansion exact for every float32 entry, the largest included.
    """

    planes: int

    def __post_init__(self) -> None:
        check_whole("planes", self.planes, 1, _MAX_PLANES)

    @property
    def unbiased(self) -> bool:
        """False: truncation shrinks."""
        return False

    def compress(self, vector: Tensor, *, generator: Generator) -> Payload:
        """Return one code per entry; the generator is not used."""
        if not peak_of(vector):
            return ZeroPayload(vector.numel())
        step = 2.0 ** max(scale_exponent(vector) - self.planes, _SMALLEST_EXPONENT)
        dtype = torch.int8 if self.planes <= 7 else torch.int32
        if on_cpu(vector):
            codes = torch.empty(vector.numel(), dtype=dtype)
            truncate(array_of(vector), 1 / step, codes.numpy())
        else:
            codes = (vector.detach().to(torch.float64) / step).trunc().to(dtype)
        return CodesPayload.on_grid(codes, step)

    def omega(self, dim: int) -> None:
        """None: biased."""
        return None

    def alpha(self, dim: int) -> float:
        """(1 - (2^(planes-1) + 1)^-2) / d: only the largest entry is sure to be kept.

        That entry is at least S/2, so it loses less than 1 part in 2^(planes-1) + 1 of itself.
        """
        return (1 - (2.0 ** (self.planes - 1) + 1) ** -2) / dim

    def paper_cost(self, dim: int) -> PaperCost:
        """A sign and ``planes`` digits per entry, and the scale."""
        return PaperCost("(planes + 1) d + 64", (self.planes + 1) * dim + 64)


def scale_exponent(vector: Tensor) -> int:
    """Return the smallest n with |v_j| < 2^n for every entry of a vector that is not zero."""
    return math.frexp(peak_of(vector))[1]
