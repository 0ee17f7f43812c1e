"""Steps of ladders on evenly spaced grids: how far they are apart, and their joint codes."""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mlmc_ray.kernels.common_values import common_values
from mlmc_ray.kernels.differences import difference_energy
from mlmc_ray.kernels.histograms import entropy_bits
from mlmc_ray.kernels.rounding import nearest_codes
from mlmc_ray.ladders.sizes import VALUE_BITS
from mlmc_ray.ladders.sums import sum_of
from mlmc_ray.payloads import CodesPayload, DensePayload, Grid, Payload, Table, ZeroPayload

_MOST_PAIRS = 0xFFFF  # whose codes the wire codes by their frequency
_Ints = npt.NDArray[np.integer[Any]]


def increment_norms(vector: Tensor, steps: Sequence[Payload]) -> Tensor:
    """Return the norms of the first step and of every step less the one before.

    Args:
        vector: shape (d,); says where the steps are.
        steps: codes on a ``Grid`` with one scale, dense values, or zero.

    Returns:
        shape (len(steps),), float64, on the CPU.
    """
    zero = torch.zeros(len(vector), dtype=torch.int8, device=vector.device), 0.0
    energies = []
    for lower, upper in itertools.pairwise([zero, *(_multiples(step, zero) for step in steps)]):
        energies.append(difference_energy(*upper, *lower))
    return torch.tensor(energies, dtype=torch.float64).sqrt()


def step_difference(upper: Payload, lower: Payload) -> Payload:
    """Return the difference of two steps: joint codes where that is shorter, else both codes.

    Args:
        upper: codes on a ``Grid`` with one scale, or zero.
        lower: the same.
    """
    if isinstance(upper, CodesPayload) and isinstance(lower, CodesPayload):
        joint = _joint_codes(upper, lower)
        if joint is not None:
            return joint
    return sum_of([upper, lower.scaled(-1.0)], upper.dim)


def grid_of(step: CodesPayload) -> tuple[float, float]:
    """Return the width of the cells and the offset of the points, in cells."""
    assert isinstance(step.codebook, Grid)
    return float(step.scales), step.codebook.offset


def _multiples(step: Payload, zero: tuple[Tensor, float]) -> tuple[Tensor, float]:
    """Return numbers, and of what they are multiples."""
    match step:
        case ZeroPayload():
            return zero
        case DensePayload(values):
            return values, 1.0
        case CodesPayload(codes):
            width, offset = grid_of(step)
            return (codes.to(torch.float64).add_(offset) if offset else codes), width
    raise TypeError(f"a step is {type(step).__name__}: codes, dense values or zero are known")


def _joint_codes(upper: CodesPayload, lower: CodesPayload) -> CodesPayload | None:
    """Return the difference as one code an entry; None where two codes are shorter.

    An upper code leaves few lower ones: those near the one for its point. A pair is numbered by
    the upper code and how far the lower one is from that, and the numbers that occur are the codes.
    """
    (width, offset), (below, below_offset) = grid_of(upper), grid_of(lower)
    first, last = upper.range()
    low, high = lower.range()

    def nearest(codes: Tensor) -> Tensor:
        """Return the lower codes of the points nearest to those of upper ones."""
        shift = below_offset - offset * (width / below)
        return nearest_codes(codes, below / width, shift, low, high)

    off = lower.codes.to(torch.int32, copy=True).sub_(nearest(upper.codes))
    least, spread = (int(end) for end in torch.aminmax(off))
    spread -= least - 1
    if (last - first + 1) * spread > 4 * _MOST_PAIRS:
        return None
    numbers = upper.codes.to(torch.int32, copy=True).sub_(first).mul_(spread)
    found = common_values(numbers.add_(off).sub_(least), _MOST_PAIRS)
    if found is None:
        return None
    pairs, codes = found
    uppers, far = pairs // spread + first, pairs % spread
    lowers = (nearest(uppers) + far + least).cpu().numpy()
    heights = uppers.cpu().numpy() + offset
    counts = torch.bincount(codes).cpu().numpy()
    if not _is_shorter(counts, uppers.cpu().numpy() - first, lowers - low):
        return None
    entries = heights - (lowers + below_offset) * (below / width)
    short = codes.to(torch.int8 if len(entries) <= 128 else torch.int32)
    return CodesPayload(short, upper.scales, codebook=Table(tuple(entries.tolist())))


def _is_shorter(counts: npt.NDArray[np.int64], uppers: _Ints, lowers: _Ints) -> bool:
    """Compare a table of the pairs with what the two codes tell of each other.

    Args:
        counts: how often each pair occurs.
        uppers: the upper code of each pair, from 0.
        lowers: the lower code of each pair, from 0.
    """
    separate = sum(entropy_bits(np.bincount(codes, weights=counts)) for codes in (uppers, lowers))
    return VALUE_BITS * len(counts) < separate - entropy_bits(counts)
