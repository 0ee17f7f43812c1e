"""What a payload would cost under an ideal code: the yardstick for the frames.

An index set costs log2 of the number of sets of its size, a stream of symbols its length times its
empirical entropy (of order zero, the histogram being free), a float its width.
"""

import math

import numpy as np
import torch
from torch import Tensor

from mlmc_ray.payloads import (
    CodesPayload,
    ConcatPayload,
    DensePayload,
    LowRankPayload,
    Payload,
    PermutedBlockPayload,
    RotatedPayload,
    ScatteredPayload,
    SeededScatteredPayload,
    SeededSparsePayload,
    SegmentsPayload,
    SharedRoundingPayload,
    SparsePayload,
    SumPayload,
)

_TOGETHER = 256  # groups that are a block of their own
_NEAREST = 32  # blocks


def subset_bits(dim: int, size: int) -> float:
    """Return log2 C(dim, size)."""
    logs = math.lgamma(dim + 1) - math.lgamma(size + 1) - math.lgamma(dim - size + 1)
    return logs / math.log(2)


def entropy_bits(symbols: Tensor) -> float:
    """Return the number of symbols times their empirical entropy."""
    counts = torch.unique(symbols, return_counts=True)[1].to(torch.float64)
    return float(-(counts * (counts / counts.sum()).log2()).sum())


def ideal_bits(payload: Payload) -> float:
    """Return the bits of a payload under an ideal code, headers and seeds not counted."""
    match payload:
        case (
            DensePayload(values)
            | SeededSparsePayload(values=values)
            | PermutedBlockPayload(values=values)
        ):
            return _float_bits(values)
        case SparsePayload(dim, indices, values):
            return subset_bits(dim, len(indices)) + _float_bits(values)
        case SegmentsPayload(dim, size, segments, values):
            return subset_bits(-(-dim // size), len(segments)) + _float_bits(values)
        case CodesPayload(codes=codes, scales=scales):
            return entropy_bits(codes) + _float_bits(scales)
        case ConcatPayload(parts) | SumPayload(parts):
            return sum(map(ideal_bits, parts))
        case ScatteredPayload(dim, indices, inner):
            return subset_bits(dim, len(indices)) + ideal_bits(inner)
        case SeededScatteredPayload(inner=inner) | RotatedPayload(inner=inner):
            return ideal_bits(inner)
        case SharedRoundingPayload():
            return _shared_bits(payload)
        case LowRankPayload(left, right):
            return _float_bits(left) + _float_bits(right)
    return 0.0


def _shared_bits(payload: SharedRoundingPayload) -> float:
    """Count the places of every block as a set, whose size its threshold says something about.

    A size costs the entropy of those of the 32 blocks with the nearest thresholds. Blocks of one
    group are taken 256 together, in the order of their thresholds.
    """
    bits = entropy_bits(payload.counts) + 32
    places = payload.places.cpu().numpy()
    for layer in payload.grouping.layers():
        low, high = np.searchsorted(places, (layer.first, layer.first + layer.num_groups))
        every = np.arange(layer.num_groups)
        number = -(-layer.num_groups // layer.block)
        blocks = every % number if layer.interleaved else every // layer.block
        order = np.argsort(layer.uniforms(payload.seed))
        if layer.block == 1:
            blocks[order] = every // _TOGETHER
            order = np.arange(-(-layer.num_groups // _TOGETHER))
        sizes = np.bincount(blocks)
        sent = np.bincount(blocks[places[low:high] - layer.first], minlength=len(sizes))
        bits += sum(map(subset_bits, sizes.tolist(), sent.tolist()))
        near = np.array_split(sent[order], -(-len(order) // _NEAREST))
        bits += sum(entropy_bits(torch.from_numpy(part)) for part in near)
        bits += int(high - low) * (payload.grouping.bits if layer.group_size > 1 else 1)
    return bits


def _float_bits(values: Tensor) -> float:
    width = 16 if values.dtype in (torch.float16, torch.bfloat16) else 32
    return float(width * np.prod(values.shape))
