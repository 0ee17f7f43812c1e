"""Deterministic quantisation: fewer mantissa bits, or a uniform grid of a number of bits."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Generator, Tensor

from mlmc_ray.compressors.base import PaperCost, check_positive, check_whole
from mlmc_ray.compressors.rounding import finite_float32, finite_range, wire_step
from mlmc_ray.kernels.common_values import common_values
from mlmc_ray.kernels.histograms import entropy_bits
from mlmc_ray.kernels.rounding import nearest_codes, nearest_counts
from mlmc_ray.payloads import CodesPayload, DensePayload, Grid, Payload, Table, ZeroPayload

_MANTISSA_BITS = 23
_HALF_MANTISSA_BITS = 7  # of bfloat16
_MOST_VALUES = 65_535  # that are coded by their frequency on the wire
_LEAST_USES = 8  # of a value on average, so that a table of values costs half a byte an entry
_MAX_BITS = 16
_MAX_STEPS = 20
_MANY = 1 << 17  # entries, from which a pass takes longer than a histogram
_FINE_CELLS = 1 << 16


@dataclass(frozen=True, kw_only=True, slots=True)
class FloatingPoint:
    """Keep sign, exponent and the first ``mantissa_bits`` of the mantissa, truncating towards zero.

    Every normal float32 loses less than 2^-mantissa_bits of itself, less than half at 0 bits.
    Where few values occur they are sent once, with a code per entry that is coded by frequency;
    else the values go as bfloat16 (up to 7 bits) or float32.

    Args:
        mantissa_bits: how many digits of every mantissa to keep.

    References:
        Zukerman et al., 2025, arXiv:2507.05508, section 2.2 and appendix B.
    """

    mantissa_bits: int

    def __post_init__(self) -> None:
        check_whole("mantissa_bits", self.mantissa_bits, 0, _MANTISSA_BITS)

    @property
    def unbiased(self) -> bool:
        """False: truncation shrinks."""
        return False

    def compress(self, vector: Tensor, *, generator: Generator) -> Payload:
        """Return codes or values; the generator is not used.

        Raises:
            NonFiniteError: there is NaN or infinity, or the vector does not fit float32.
        """
        values, largest = finite_float32(vector)
        if largest == 0:
            return ZeroPayload(vector.numel())
        dropped = _MANTISSA_BITS - self.mantissa_bits
        fields = values.contiguous().view(torch.int32) >> dropped
        coded = self._coded(fields, dropped)
        if coded is not None:
            return coded
        truncated = (fields << dropped).view(torch.float32)
        short = self.mantissa_bits <= _HALF_MANTISSA_BITS
        return DensePayload(truncated.to(torch.bfloat16) if short else truncated)

    def omega(self, dim: int) -> None:
        """None: biased."""
        return None

    def alpha(self, dim: int) -> float:
        """1 - 4^-mantissa_bits, or 3/4 at 0 bits; for vectors without subnormal entries."""
        return 1 - 4.0 ** -max(1, self.mantissa_bits)

    def paper_cost(self, dim: int) -> PaperCost:
        """A sign, 8 bits of exponent and the mantissa bits per entry."""
        return PaperCost("(9 + mantissa_bits) d", (9 + self.mantissa_bits) * dim)

    def _coded(self, fields: Tensor, dropped: int) -> CodesPayload | None:
        """Return the values that occur, with a code per entry; None where too many do."""
        most = min(_MOST_VALUES, len(fields) // _LEAST_USES)
        if not most or self.mantissa_bits > 2 * _HALF_MANTISSA_BITS:
            return None
        mask = (1 << (32 - dropped)) - 1
        found = common_values(fields & mask, most)
        if found is None:
            return None
        numbers, codes = found
        entries = (numbers << dropped).view(torch.float32).tolist()
        if len(entries) <= 128:
            codes = codes.to(torch.int8)
        return CodesPayload(codes, torch.ones(1), codebook=Table(tuple(entries)))


@dataclass(frozen=True, kw_only=True, slots=True)
class RTN:
    """Round every entry to the nearest of 2^bits - 1 multiples of a step, even ones on ties.

    With c the largest magnitude the step is 2 c / (2^bits - 1), so that the cells around the points
    tile [-c, c]: no entry is off by more than half a step. One bit is the zero map. ``nested``
    takes the step c 2^(1-bits) instead, 2^bits + 1 points of which the ends are at c; the code of
    an entry is then twice that for one bit fewer, or differs from it by one.

    Attributes:
        bits: 1 to 16.
        nested: whether the grids of different bits are nested.

    References:
        Zukerman et al., 2025, arXiv:2507.05508, appendix G.2, equation 125, where c is left open.
    """

    bits: int
    nested: bool = False

    def __post_init__(self) -> None:
        check_whole("bits", self.bits, 1, _MAX_BITS)

    @property
    def unbiased(self) -> bool:
        """False."""
        return False

    def compress(self, vector: Tensor, *, generator: Generator) -> Payload:
        """Return one code per entry; the generator is not used.

        Raises:
            NonFiniteError: there is NaN or infinity, or the step does not fit float32.
        """
        _, largest = finite_range(vector)
        highest = 2 ** (self.bits - 1) - (not self.nested)
        if largest == 0 or highest == 0:
            return ZeroPayload(vector.numel())
        step = wire_step(largest, highest if self.nested else highest + 0.5)
        codes = nearest_codes(vector, step, 0.0, -highest, highest)
        return CodesPayload.on_grid(codes, step)

    def omega(self, dim: int) -> None:
        """None: biased."""
        return None

    def alpha(self, dim: int) -> float | None:
        """(1 - (2^bits - 1)^-2) / d, and 1/d if nested: only the largest entry is sure to be kept.

        None for the zero map.
        """
        if self.nested:
            return 1 / dim
        return (1 - (2**self.bits - 1) ** -2) / dim if self.bits > 1 else None

    def paper_cost(self, dim: int) -> PaperCost:
        """``bits`` per entry, and the scale."""
        return PaperCost("bits d + 64", self.bits * dim + 64)


@dataclass(frozen=True, kw_only=True, slots=True)
class ECUQ:
    """Round to a uniform grid as fine as an entropy of ``bits`` per entry allows.

    K equal cells cover the range of the entries, each is rounded to the middle of its cell. K is
    the largest found in 20 steps, by doubling and halving, for which the entropy of the codes is
    at most ``bits``; the search ends where it is within ``tolerance`` of that. Not contractive:
    zero need not be a point. K is at most 65,535.

    Attributes:
        bits: 1 to 15.
        tolerance: above 0, in bits.

    References:
        Dorfman, Vargaftik, Ben-Itzhak and Levy, 2023, arXiv:2302.00543 (DoCoFL).
    """

    bits: int
    tolerance: float = 0.1

    def __post_init__(self) -> None:
        check_whole("bits", self.bits, 1, _MAX_BITS - 1)
        check_positive("tolerance", self.tolerance, "a positive number of bits")

    @property
    def unbiased(self) -> bool:
        """False."""
        return False

    def compress(self, vector: Tensor, *, generator: Generator) -> Payload:
        """Return one code per entry; the generator is not used.

        Raises:
            NonFiniteError: there is NaN or infinity, or the vector does not fit float32.
        """
        values = finite_float32(vector)[0].detach()
        low, high = (float(end) for end in torch.aminmax(values))
        if low == high == 0:  # in float32, whatever the vector is
            return ZeroPayload(vector.numel())
        if low == high:
            codes = torch.zeros(len(values), dtype=torch.int8, device=values.device)
            return CodesPayload(codes, torch.tensor([low]), codebook=Grid(1.0))
        num_cells = self._num_cells(values, low, high)
        step, grid = _cells(low, high, num_cells)
        codes = nearest_codes(values, step, grid.offset, 0, num_cells - 1)
        return CodesPayload(codes, torch.tensor([step]), codebook=grid)

    def omega(self, dim: int) -> None:
        """None: biased."""
        return None

    def alpha(self, dim: int) -> None:
        """None: a vector of small entries may grow."""
        return None

    def paper_cost(self, dim: int) -> PaperCost:
        """``bits`` per entry, and the two ends of the range."""
        return PaperCost("bits d + 128", self.bits * dim + 128)

    def _num_cells(self, values: Tensor, low: float, high: float) -> int:
        """Return K, which for a long vector is sought in one fine histogram and then confirmed."""

        def exact(num_cells: int) -> float:
            step, grid = _cells(low, high, num_cells)
            return entropy_bits(nearest_counts(values, step, grid.offset, num_cells)) / len(values)

        if len(values) >= _MANY:
            step, grid = _cells(low, high, _FINE_CELLS)
            fine = nearest_counts(values, step, grid.offset, _FINE_CELLS)
            found = self._most_cells(lambda cells: _merged_entropy(fine, cells))
            entropy = exact(found)
            near = entropy >= self.bits - self.tolerance or exact(found + 1) > self.bits
            if near and entropy <= self.bits:
                return found
        return self._most_cells(exact)

    def _most_cells(self, entropy_of: Callable[[int], float]) -> int:
        """Search for the most cells with an entropy of at most ``bits``, in bits an entry."""
        start = 1 << self.bits  # the entropy is at most log2 of cells
        fits, exceeds, cells = start, _MOST_VALUES + 1, start
        for attempt in range(_MAX_STEPS):
            entropy = entropy_of(cells)
            if entropy > self.bits:
                exceeds = cells
            else:
                fits = max(fits, cells)
                if entropy >= self.bits - self.tolerance:
                    break
            if exceeds - fits <= 1:
                break
            doubled = start + 2**attempt
            growing = exceeds > _MOST_VALUES and doubled < exceeds
            cells = doubled if growing else (fits + exceeds) // 2
        return fits


def _cells(low: float, high: float, num_cells: int) -> tuple[float, Grid]:
    """Return the float32 step of the cells that cover a range, and the grid of their middles."""
    step = wire_step(high - low, num_cells)
    return step, Grid(low / step + 0.5)


def _merged_entropy(fine: npt.NDArray[np.int64], num_cells: int) -> float:
    """Return about the bits an entry of the codes of cells, each made of many fine ones."""
    cells = (np.arange(len(fine)) * 2 + 1) * num_cells // (2 * len(fine))
    counts = np.bincount(cells, weights=fine)
    return entropy_bits(counts.astype(np.int64)) / int(fine.sum())
