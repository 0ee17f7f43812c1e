"""Rounding vectors to codes: stochastically or to the nearest point of a grid.

A stochastic rounding takes one seed. Entry j uses the 64 bits that splitmix64 makes of the seed and
j, so the result does not depend on how the work is cut, and the CPU's loops and the tensor
operations of other devices give the same codes.

References:
    Steele, Lea and Flood, "Fast Splittable Pseudorandom Number Generators", OOPSLA 2014.
"""

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mlmc_ray.kernels.compiled import compiled

_Array = npt.NDArray[Any]

_GOLDEN, _MIX_1, _MIX_2 = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
_GAMMA_64 = np.uint64(_GOLDEN)
_MIX_1_64 = np.uint64(_MIX_1)
_MIX_2_64 = np.uint64(_MIX_2)
_S11, _S27, _S30, _S31 = np.uint64(11), np.uint64(27), np.uint64(30), np.uint64(31)
_UNIT = 2.0**-53


def magnitude_range(vector: Tensor) -> tuple[float, float]:
    """Return the smallest magnitude that is not zero (infinity if there is none), and the largest.

    Args:
        vector: shape (d,), d at least 1, any float dtype, any device; not modified.

    Returns:
        The largest is infinite or NaN where the vector holds infinity or NaN.
    """
    if vector.device.type != "cpu":
        magnitudes = vector.abs()
        positive = magnitudes.where(magnitudes > 0, math.inf)
        return float(positive.min()), float(magnitudes.max())
    array = _array(vector)
    bits = _bits(array)
    mask = np.iinfo(bits.dtype).max
    ends = np.array(_bit_range(bits, mask), dtype=bits.dtype)
    smallest, largest = ends.view(array.dtype).tolist()
    return (smallest if largest != 0 else math.inf), largest


def linear_codes(
    vector: Tensor, steps: Tensor, bucket_size: int, highest: int, seed: int
) -> Tensor:
    """Round |v_j| / step stochastically to a whole number of at most ``highest``, with v_j's sign.

    Args:
        vector: shape (d,), finite, any float dtype; not modified.
        steps: float32, one for every ``bucket_size`` entries, on any device; 0 makes codes 0.
        bucket_size: entries a bucket, at least 1.
        highest: the largest code; larger magnitudes are cut.
        seed: 0 to 2**64 - 1.

    Returns:
        The codes, in the smallest of int8, int16 and int32 that holds them, on the vector's device.
    """
    if vector.device.type == "cpu":
        codes = np.empty(vector.numel(), dtype=_dtype_for(highest))
        values = steps.cpu().numpy()
        _linear(_array(vector), values, bucket_size, highest, np.uint64(seed), codes)
        return torch.from_numpy(codes)
    return linear_codes_of_tensors(vector, steps, bucket_size, highest, seed)


def linear_codes_of_tensors(
    vector: Tensor, steps: Tensor, bucket_size: int, highest: int, seed: int
) -> Tensor:
    """Do what ``linear_codes`` does with tensor operations, on any device."""
    spread = steps.to(vector.device, torch.float64).repeat_interleave(bucket_size)
    heights = vector.abs().to(torch.float64) / spread[: vector.numel()]
    heights = heights.nan_to_num_(0.0, posinf=0.0).clamp_(max=highest)
    floors = heights.floor()
    codes = floors + (uniforms(seed, vector.numel(), vector.device) < heights - floors)
    return codes.mul_(vector.sign()).to(_torch_dtype_for(highest))


def nearest_codes(vector: Tensor, step: float, offset: float, low: int, high: int) -> Tensor:
    """Return the whole number nearest to v_j / step - offset, even ones on ties, in [low, high].

    Args:
        vector: shape (d,), finite, any float dtype, any device; not modified.
        step: positive.
        offset: taken away before rounding.
        low: the smallest code.
        high: the largest code.

    Returns:
        The codes, in the smallest of int8, int16 and int32 that holds them, on the vector's device.
    """
    if vector.device.type == "cpu":
        codes = np.empty(vector.numel(), dtype=_dtype_for(max(-low, high)))
        _nearest(_array(vector), step, offset, low, high, codes)
        return torch.from_numpy(codes)
    heights = vector.to(torch.float64).div_(step).sub_(offset).round_().clamp_(low, high)
    return heights.to(_torch_dtype_for(max(-low, high)))


def nearest_counts(vector: Tensor, step: float, offset: float, num_codes: int) -> _Array:
    """Count how often ``nearest_codes`` from 0 to ``num_codes`` - 1 gives each of them; int64."""
    if vector.device.type == "cpu":
        counts = np.zeros(num_codes, dtype=np.int64)
        _count_nearest(_array(vector), step, offset, counts)
        return counts
    codes = nearest_codes(vector, step, offset, 0, num_codes - 1)
    return torch.bincount(codes, minlength=num_codes).cpu().numpy()


def geometric_codes(vector: Tensor, points: npt.NDArray[np.float64], seed: int | None) -> Tensor:
    """Round every |v_j| to 0 or a point, stochastically or to the nearest, with v_j's sign.

    Args:
        vector: shape (d,), finite, any float dtype, any device; not modified.
        points: ascending and positive; larger magnitudes are cut to the last.
        seed: 0 to 2**64 - 1; None for the nearest, the lower on ties.

    Returns:
        0, or plus or minus one more than the position of the point, in the smallest of int8, int16
        and int32 that holds them, on the vector's device.
    """
    if vector.device.type != "cpu":
        return geometric_codes_of_tensors(vector, points, seed)
    array = _array(vector)
    wide = array.dtype == np.float64
    mantissa_bits, bias, num_exponents = (52, 1023, 2048) if wide else (23, 127, 256)
    starts = np.empty(num_exponents + 1, dtype=np.int64)
    octaves = np.ldexp(1.0, np.arange(num_exponents - 1) - bias)
    starts[:-2] = np.searchsorted(points, octaves, side="right")
    starts[0], starts[-2:] = 0, len(points)
    codes = np.empty(len(array), dtype=_dtype_for(len(points)))
    draw = np.uint64(0 if seed is None else seed)
    _geometric(array, _bits(array), mantissa_bits, points, starts, draw, seed is None, codes)
    return torch.from_numpy(codes)


def geometric_codes_of_tensors(
    vector: Tensor, points: npt.NDArray[np.float64], seed: int | None
) -> Tensor:
    """Do what ``geometric_codes`` does with tensor operations, on any device."""
    grid = torch.from_numpy(np.concatenate(([0.0], points))).to(vector.device)
    magnitudes = vector.abs().to(torch.float64).clamp_(max=float(points[-1]))
    below = torch.searchsorted(grid, magnitudes, right=True).sub_(1).clamp_(max=len(points) - 1)
    low, high = grid[below], grid[below + 1]
    heights = (magnitudes - low) / (high - low)
    nearest = seed is None
    up = heights > 0.5 if nearest else uniforms(seed or 0, len(vector), vector.device) < heights
    return ((below + up) * vector.sign()).to(_torch_dtype_for(len(points)))


def natural_codes(vector: Tensor, smallest: float, largest: float, seed: int) -> tuple[Tensor, int]:
    """Round float32 magnitudes stochastically to powers of two, by their bits.

    With exponent field E and mantissa field m, E goes up by one with probability m / 2^23, exactly;
    below 2^-126 this rounds between 0 and 2^-126.

    Args:
        vector: shape (d,), float32 or narrower, on the CPU; not modified.
        smallest: the smallest magnitude that is not zero.
        largest: the largest magnitude, below 2^127.
        seed: 0 to 2**64 - 1.

    Returns:
        Codes q that stand for sgn(q) 2^(|q| - 1 + e), 0 for 0, and e.
    """
    fields = np.array([smallest, largest], dtype=np.float32).view(np.int32) >> 23
    first, last = max(1, int(fields[0])), int(fields[1]) + 1
    codes = np.empty(vector.numel(), dtype=_dtype_for(last - first + 1))
    _natural(_bits(_array(vector)), first - 1, np.uint64(seed), codes)
    return torch.from_numpy(codes), first - 127


def sign_codes(vector: Tensor) -> tuple[Tensor, int, float, float]:
    """Return codes 1 where v_j >= 0 and else 0, how many are 1, and both groups' sums (float64)."""
    if vector.device.type == "cpu":
        codes = np.empty(vector.numel(), dtype=np.int8)
        count, positive, negative = _signs(_array(vector), codes)
        return torch.from_numpy(codes), count, positive, negative
    values = vector.to(torch.float64)
    chosen = vector >= 0
    sums = values.clamp(min=0).sum(), values.clamp(max=0).sum()
    return chosen.to(torch.int8), int(chosen.sum()), float(sums[0]), float(sums[1])


def common_values(leading: Tensor, most: int) -> tuple[Tensor, Tensor] | None:
    """Return the distinct numbers of a tensor, ascending, and the place of every entry among them.

    Args:
        leading: shape (d,), int32, from 0 to a few million; not modified.
        most: how many distinct numbers there may be.

    Returns:
        int32, and int32 of shape (d,); None where there are more distinct numbers.
    """
    if leading.device.type != "cpu":
        distinct, places = torch.unique(leading, return_inverse=True)
        return (distinct, places.to(torch.int32)) if len(distinct) <= most else None
    array = leading.contiguous().numpy()
    present = np.zeros(int(array.max()) + 1, dtype=np.bool_)
    _mark(array, present)
    found = np.flatnonzero(present)
    if len(found) > most:
        return None
    ranks = np.cumsum(present, dtype=np.int32) - np.int32(1)
    numbers = torch.from_numpy(found.astype(np.int32))
    return numbers, torch.from_numpy(np.take(ranks, array))


def bucket_norms(vector: Tensor, bucket_size: int, order: float) -> Tensor:
    """Return the l_p norm of every ``bucket_size`` entries, float64, on the vector's device.

    Args:
        vector: shape (d,), finite, any float dtype, any device; not modified.
        bucket_size: entries a bucket, at least 1; the last bucket may be shorter.
        order: p, at least 1.
    """
    if vector.device.type == "cpu" and order == 2:
        norms = np.empty(-(-vector.numel() // bucket_size))
        _euclidean_norms(_array(vector), bucket_size, norms)
        return torch.from_numpy(norms)
    num_whole = vector.numel() // bucket_size * bucket_size
    parts = [vector[:num_whole].reshape(-1, bucket_size), vector[None, num_whole:]]
    return torch.cat([_row_norms(part, order) for part in parts if part.numel()])


def uniforms(seed: int, count: int, device: torch.device) -> Tensor:
    """Return the ``count`` uniform numbers in [0, 1) of a seed: multiples of 2^-53, float64."""
    z = torch.arange(count, device=device).mul_(_signed(_GOLDEN)).add_(_signed(seed))
    z = (z ^ _logical_shift(z, 30)).mul_(_signed(_MIX_1))
    z = (z ^ _logical_shift(z, 27)).mul_(_signed(_MIX_2))
    z = z ^ _logical_shift(z, 31)
    return _logical_shift(z, 11).to(torch.float64).mul_(_UNIT)


def _row_norms(rows: Tensor, order: float) -> Tensor:
    largest = rows.abs().amax(dim=1).to(torch.float64)
    if order == math.inf:
        return largest
    divisors = torch.where(largest > 0, largest, 1.0)  # their powers cannot overflow
    ratios = rows.to(torch.float64) / divisors[:, None]
    norms: Tensor = torch.linalg.vector_norm(ratios, ord=order, dim=1)
    return norms * divisors


def _signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value


def _logical_shift(values: Tensor, places: int) -> Tensor:
    return (values >> places) & ((1 << (64 - places)) - 1)


def _array(vector: Tensor) -> _Array:
    """Return the entries on the CPU, contiguous, float32 or float64."""
    values = vector.detach()
    if values.dtype not in (torch.float32, torch.float64):
        values = values.to(torch.float32)
    array: _Array = values.contiguous().numpy()
    return array


def _bits(array: _Array) -> _Array:
    return array.view(np.int32 if array.dtype == np.float32 else np.int64)


def _dtype_for(highest: int) -> type[np.signedinteger[Any]]:
    return np.int8 if highest <= 127 else np.int16 if highest <= 32767 else np.int32


def _torch_dtype_for(highest: int) -> torch.dtype:
    return torch.int8 if highest <= 127 else torch.int16 if highest <= 32767 else torch.int32


@compiled
def _random_bits(seed: np.uint64, j: int) -> np.uint64:
    z = seed + np.uint64(j) * _GAMMA_64
    z = (z ^ (z >> _S30)) * _MIX_1_64
    z = (z ^ (z >> _S27)) * _MIX_2_64
    return z ^ (z >> _S31)


@compiled
def _bit_range(bits: _Array, mask: int) -> tuple[int, int]:
    """Return the least of the fields that are not 0 under the mask, or 0, and the largest."""
    least, most = mask, bits[0] & mask
    for j in range(len(bits)):
        field = bits[j] & mask
        most = max(most, field)
        least = min(least, (field - 1) & mask)  # 0 becomes the mask, which is the largest
    return (least + 1) & mask, most


@compiled
def _linear(
    array: _Array,
    steps: npt.NDArray[np.float32],
    bucket_size: int,
    highest: int,
    seed: np.uint64,
    codes: _Array,
) -> None:
    for bucket in range(len(steps)):
        start = bucket * bucket_size
        end = min(len(array), start + bucket_size)
        if steps[bucket] == 0:
            codes[start:end] = 0
        else:
            step, limit = np.float64(steps[bucket]), np.float64(highest)
            _linear_bucket(array[start:end], step, limit, seed, start, codes[start:end])


@compiled
def _linear_bucket(
    array: _Array, step: float, highest: float, seed: np.uint64, start: int, codes: _Array
) -> None:
    for j in range(len(array)):  # a loop this plain is vectorised
        uniform = np.float64(np.int64(_random_bits(seed, start + j) >> _S11)) * _UNIT
        height = min(abs(np.float64(array[j])) / step, highest)
        floor = np.int64(height)
        code = floor + (uniform < height - np.float64(floor))
        codes[j] = -code if array[j] < 0 else code


@compiled
def _nearest(array: _Array, step: float, offset: float, low: int, high: int, codes: _Array) -> None:
    for j in range(len(array)):
        height = np.rint(np.float64(array[j]) / step - offset)
        codes[j] = np.int32(min(max(height, np.float64(low)), np.float64(high)))


@compiled
def _count_nearest(
    array: _Array, step: float, offset: float, counts: npt.NDArray[np.int64]
) -> None:
    highest = np.float64(len(counts) - 1)
    for j in range(len(array)):
        height = np.rint(np.float64(array[j]) / step - offset)
        counts[np.int64(min(max(height, 0.0), highest))] += 1


@compiled
def _mark(numbers: npt.NDArray[np.int32], present: npt.NDArray[np.bool_]) -> None:
    for number in numbers:
        present[number] = True


@compiled
def _geometric(
    array: _Array,
    bits: _Array,
    mantissa_bits: int,
    points: npt.NDArray[np.float64],
    starts: npt.NDArray[np.int64],
    seed: np.uint64,
    nearest: bool,
    codes: _Array,
) -> None:
    mask = len(starts) - 2
    for j in range(len(array)):
        magnitude = abs(np.float64(array[j]))
        exponent = np.int64(bits[j] >> mantissa_bits) & mask
        below, above = starts[exponent], starts[exponent + 1]
        while below < above:  # find how many points are at most the magnitude
            middle = (below + above) // 2
            if points[middle] <= magnitude:
                below = middle + 1
            else:
                above = middle
        if below < len(points):
            low = points[below - 1] if below > 0 else 0.0
            height = (magnitude - low) / (points[below] - low)
            uniform = 0.5
            if not nearest:
                uniform = np.float64(np.int64(_random_bits(seed, j) >> _S11)) * _UNIT
            below += uniform < height
        codes[j] = -below if array[j] < 0 else below


@compiled
def _natural(
    bits: npt.NDArray[np.int32], before_first: int, seed: np.uint64, codes: _Array
) -> None:
    for j in range(len(bits)):
        field = np.int64(bits[j])
        mantissa = field & 0x7FFFFF
        draw = np.int64(_random_bits(seed, j) >> np.uint64(41))
        exponent = ((field >> 23) & 0xFF) + (draw < mantissa)
        code = exponent - before_first if exponent > before_first else 0
        codes[j] = -code if field < 0 else code


@compiled
def _signs(array: _Array, codes: npt.NDArray[np.int8]) -> tuple[int, float, float]:
    for j in range(len(array)):
        codes[j] = array[j] >= 0
    whole = len(array) // 4 * 4
    p0 = p1 = p2 = p3 = n0 = n1 = n2 = n3 = 0.0  # four sums, to add without waiting for each other
    for j in range(0, whole, 4):
        a, b = np.float64(array[j]), np.float64(array[j + 1])
        c, d = np.float64(array[j + 2]), np.float64(array[j + 3])
        p0, p1, p2, p3 = p0 + max(a, 0.0), p1 + max(b, 0.0), p2 + max(c, 0.0), p3 + max(d, 0.0)
        n0, n1, n2, n3 = n0 + min(a, 0.0), n1 + min(b, 0.0), n2 + min(c, 0.0), n3 + min(d, 0.0)
    for j in range(whole, len(array)):
        p0 += max(np.float64(array[j]), 0.0)
        n0 += min(np.float64(array[j]), 0.0)
    return _count_ones(codes), (p0 + p1) + (p2 + p3), (n0 + n1) + (n2 + n3)


@compiled
def _count_ones(codes: npt.NDArray[np.int8]) -> int:
    count = 0
    for j in range(len(codes)):
        count += codes[j]
    return count


@compiled
def _euclidean_norms(array: _Array, bucket_size: int, norms: npt.NDArray[np.float64]) -> None:
    for bucket in range(len(norms)):
        start = bucket * bucket_size
        end = min(len(array), start + bucket_size)
        whole = start + (end - start) // 4 * 4
        s0 = s1 = s2 = s3 = 0.0
        for j in range(start, whole, 4):
            a, b = np.float64(array[j]), np.float64(array[j + 1])
            c, d = np.float64(array[j + 2]), np.float64(array[j + 3])
            s0, s1, s2, s3 = s0 + a * a, s1 + b * b, s2 + c * c, s3 + d * d
        for j in range(whole, end):
            s0 += np.float64(array[j]) * np.float64(array[j])
        norms[bucket] = math.sqrt((s0 + s1) + (s2 + s3))
