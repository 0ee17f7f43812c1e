"""Quantising after a random rotation, which makes every vector look like Gaussian noise."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Generator, Tensor

from mlmc_ray.compressors.base import PaperCost, check_finite, check_vector, is_number, peak_of
from mlmc_ray.compressors.rounding import draw_seed
from mlmc_ray.errors import NonFiniteError
from mlmc_ray.kernels.centroids import nearest_centroids
from mlmc_ray.kernels.device import array_of, at_least_single, on_cpu
from mlmc_ray.kernels.hadamard import rotate
from mlmc_ray.kernels.norms import bucket_norms
from mlmc_ray.kernels.subset import random_subset
from mlmc_ray.kernels.tensors import hadamard as tensors
from mlmc_ray.payloads import (
    CodesPayload,
    ConcatPayload,
    Payload,
    RotatedPayload,
    SeededScatteredPayload,
    Table,
    ZeroPayload,
)

_LARGEST = float(np.finfo(np.float32).max)
_ORDINARY_EXPONENT = 40  # of magnitudes whose squares and sums are far from float32's ends

# The positive halves of the quantisers of least mean squared error for N(0, 1), by bits.
# Max, 1960, "Quantizing for minimum distortion", table I, with more digits.
_HALVES: dict[int, tuple[float, ...]] = {
    1: (0.7978845608,),
    2: (0.4527800398, 1.5104176087),
    3: (0.2450941791, 0.7560052489, 1.3439092613, 2.1519457046),
    4: (
        *(0.1283950, 0.3880482, 0.6567590, 0.9423403),
        *(1.2562309, 1.6180460, 2.0690167, 2.7325896),
    ),
}
_MAX_BITS = max(_HALVES)
_TABLES = {
    bits: Table((*(-value for value in reversed(half)), *half)) for bits, half in _HALVES.items()
}


@dataclass(frozen=True, kw_only=True, slots=True)
class DRIVE:
    """Send the signs of the randomly rotated vector z = Rv, and one scale: R^-1 sgn(z) times it.

    The scale |v|^2 / |z|_1 keeps <C(v), v> = |v|^2 in every draw. With a uniformly random rotation
    it is unbiased, with a relative error that tends to pi/2 - 1 = 0.5708. The rotation here is a
    randomised Hadamard transform, for which both are nearly so where many entries matter. Few
    entries give a z of few values, and then a bias and an error that do not vanish with the
    dimension: of two entries alone the smaller comes out as 0, and the error is up to 1. In any
    case the error is below d |v|^2.

    The scale |z|_1 / d has the least error, |v|^2 - |z|_1^2 / d, which tends to 1 - 2/pi = 0.3634
    times |v|^2; it shrinks.

    For d a power of two a single entry is recovered exactly. For other d two transforms overlap
    (``kernels.hadamard``), and what only the first and what also the second has mixed may differ in
    size, so these two ranges of z have a scale each. All the above then holds for each range, and
    hence for the vector, except that a single entry is not recovered exactly.

    Attributes:
        unbiased: whether the scale is |v|^2 / |z|_1.

    References:
        Vargaftik et al., 2021, arXiv:2105.08339.
    """

    unbiased: bool = True

    def compress(self, vector: Tensor, *, generator: Generator) -> Payload:
        """Return one bit per entry.

        Raises:
            NonFiniteError: there is NaN or infinity, or what is decoded may not fit float32.
        """
        check_vector(vector)
        return _rotated(vector, draw_seed(generator), 1, unbiased=self.unbiased)

    def omega(self, dim: int) -> None:
        """None: 0.5708 is a limit and no bound, and there is a small bias."""
        return None

    def alpha(self, dim: int) -> float | None:
        """1/d with the scale of least error, since |z|_1 is at least |v|."""
        return None if self.unbiased else 1 / dim

    def paper_cost(self, dim: int) -> PaperCost:
        """A sign per entry, and the scale."""
        return PaperCost("d + 64", dim + 64)


@dataclass(frozen=True, kw_only=True, slots=True)
class EDEN:
    """Send each entry of the randomly rotated vector z = Rv as the nearest of 2^bits centroids.

    The centroids c are those of least mean squared error D for N(0, 1), to which sqrt(d) z / |v|
    comes close; the scale |v|^2 / <c, z> keeps <C(v), v> = |v|^2 in every draw. One bit is
    ``DRIVE``; as there, a d that is no power of two has two ranges with a scale each, whatever the
    rate. Vectors of few entries come out biased at every rate. Where many entries matter the
    relative error tends to D/(1 - D): 0.5708, 0.1331, 0.0358 and 0.0096 for 1 to 4 bits.

    Between whole rates the first entries of z (of each range, where there are two) get one bit more
    than the others. The paper draws which; but the entries of a range are equally distributed and
    mix the same entries of v, so it does not matter, and no draw has to be repeated or sent.

    Below 1 bit, k = bits d entries are drawn, and kept d/k times as large, at one bit each: the
    relative error tends to (d/k) pi/2 - 1, and <C(v), v> = |v|^2 holds in expectation only.

    Attributes:
        bits: the mean number of bits an entry, above 0, up to 4.

    References:
        Vargaftik et al., 2022, arXiv:2108.08842.
    """

    bits: float

    def __post_init__(self) -> None:
        if not (is_number(self.bits) and 0 < self.bits <= _MAX_BITS):
            raise ValueError(f"bits is {self.bits!r}: give a rate above 0, up to {_MAX_BITS}")

    @property
    def unbiased(self) -> bool:
        """True, nearly: see the class."""
        return True

    def compress(self, vector: Tensor, *, generator: Generator) -> Payload:
        """Return the codes.

        Raises:
            NonFiniteError: there is NaN or infinity, or what is decoded may not fit float32.
        """
        check_vector(vector)
        dim, seed = vector.numel(), draw_seed(generator)
        if self.bits >= 1:
            return _rotated(vector, seed, self.bits)
        check_finite(vector)
        size, place_seed = max(1, round(self.bits * dim)), draw_seed(generator)
        places = torch.from_numpy(random_subset(place_seed, dim, size))
        kept = vector[places.to(vector.device)]
        inner = _rotated(kept, seed, 1, gain=dim / size)
        if isinstance(inner, ZeroPayload):
            return ZeroPayload(dim)
        return SeededScatteredPayload(dim, place_seed, inner)

    def omega(self, dim: int) -> None:
        """None: the limit of the error is no bound, and there is a small bias."""
        return None

    def alpha(self, dim: int) -> None:
        """None: the scale is the unbiased one."""
        return None

    def paper_cost(self, dim: int) -> PaperCost:
        """``bits`` per entry, and the scale."""
        return PaperCost("bits d + 64", round(self.bits * dim) + 64)


def at_ordinary_scale(vector: Tensor, peak: float) -> tuple[Tensor, float]:
    """Return a vector divided by a power of two, and that power: 1 where squares do no harm.

    Args:
        vector: shape (d,), any float dtype; not modified.
        peak: its largest magnitude, positive.
    """
    exponent = math.frexp(peak)[1]
    if abs(exponent) <= _ORDINARY_EXPONENT:
        return vector, 1.0
    factor = 2.0 ** max(exponent, -1021)
    return (vector.to(torch.float64) / factor).to(at_least_single(vector).dtype), factor


def _rotated(
    vector: Tensor, seed: int, bits: float, *, unbiased: bool = True, gain: float = 1.0
) -> Payload:
    """Return the centroids of the rotated vector, with the scale that makes it unbiased or not.

    Args:
        vector: shape (d,), any float dtype, any device; not modified.
        seed: of the rotation.
        bits: the mean number of bits an entry, 1 to 4.
        unbiased: take the scale |z|^2 / <c, z>; not <c, z> / |c|^2, which is for one bit only.
        gain: the result is for ``gain`` times the vector.
    """
    dim, peak = vector.numel(), peak_of(vector)
    if not peak:
        return ZeroPayload(dim)
    ordinary, factor = at_ordinary_scale(vector.detach(), peak)
    rotated = _rotation(ordinary.to(torch.float32), seed)
    mixed_once = dim - (1 << (dim.bit_length() - 1))  # the entries that one transform has mixed
    parts: list[Payload] = []
    for part in (rotated[:mixed_once], rotated[mixed_once:]):
        if len(part):
            parts += _quantized(part, bits, unbiased, factor * gain)
    # Undoing the rotation adds up to d entries before it divides.
    reaches = (_reach(part) for part in parts if isinstance(part, CodesPayload))
    if not dim * max(reaches, default=0.0) <= _LARGEST:
        raise NonFiniteError(
            f"{dim} entries of up to {peak:g} may not fit float32 once rotated, whose largest "
            f"number is {_LARGEST:g}"
        )
    return RotatedPayload(seed, parts[0] if len(parts) == 1 else ConcatPayload(tuple(parts)))


def _rotation(vector: Tensor, seed: int) -> Tensor:
    """Return the rotated vector, float32, on the same device: the same bits on every device."""
    if on_cpu(vector):
        return torch.from_numpy(rotate(array_of(vector), seed))
    return tensors.rotate(vector, seed)


def _quantized(values: Tensor, bits: float, unbiased: bool, factor: float) -> list[Payload]:
    """Return ``factor`` times what stands for the values: first the finer codes, then the others.

    Both have one scale in common.
    """
    energy = float(bucket_norms(values, len(values), 2)) ** 2
    if not energy:
        return [ZeroPayload(len(values))]
    low = math.floor(bits)
    finer, unit = round((bits - low) * len(values)), math.sqrt(energy / len(values))
    coded, product = [], 0.0
    for part, width in ((values[:finer], low + 1), (values[finer:], low)):
        if not len(part):
            continue
        table = _TABLES[width]
        codes, inner = nearest_centroids(part, np.asarray(table.entries), unit)
        product += inner
        coded.append((codes, table))
    one_bit = _TABLES[1].entries[-1]
    scale = factor * (energy / product if unbiased else product / (len(values) * one_bit**2))
    scales = torch.tensor([scale], dtype=torch.float64).to(torch.float32)
    return [CodesPayload(codes, scales, codebook=table) for codes, table in coded]


def _reach(payload: CodesPayload) -> float:
    """Return a bound of the magnitudes that a payload stands for; the last code is the largest."""
    assert isinstance(payload.codebook, Table)
    return float(payload.scales) * payload.codebook.entries[-1]
