"""How large the entries of a vector may become, known without building it."""

import torch

from mlmc_ray.kernels.finite import scan
from mlmc_ray.payloads.base import Payload
from mlmc_ray.payloads.codes import CodesPayload
from mlmc_ray.payloads.nested import (
    ConcatPayload,
    LowRankPayload,
    RotatedPayload,
    ScatteredPayload,
    SeededScatteredPayload,
    SumPayload,
)
from mlmc_ray.payloads.permuted import PermutedBlockPayload
from mlmc_ray.payloads.plain import (
    DensePayload,
    SeededSparsePayload,
    SegmentsPayload,
    SparsePayload,
)
from mlmc_ray.payloads.shared_rounding import SharedRoundingPayload


def reach(payload: Payload) -> float:
    """Return a bound of every magnitude that occurs while a payload is added to zeros.

    The terms of a sum are assumed to have their largest entries at one place; undoing a rotation
    adds up to dim entries before it divides; an entry of a product of factors is at most the
    product of the norms of two rows (Cauchy-Schwarz).
    """
    match payload:
        case (
            DensePayload(values)
            | SparsePayload(values=values)
            | SeededSparsePayload(values=values)
            | SegmentsPayload(values=values)
            | PermutedBlockPayload(values=values)
        ):
            return scan(values)[1]
        case CodesPayload() | SharedRoundingPayload():
            return payload.reach()
        case ConcatPayload(parts):
            return max(map(reach, parts))
        case SumPayload(parts):
            return sum(map(reach, parts))
        case ScatteredPayload(inner=inner) | SeededScatteredPayload(inner=inner):
            return reach(inner)
        case RotatedPayload(inner=inner):
            return inner.dim * reach(inner)
        case LowRankPayload(left, right):
            return _longest_row(left) * _longest_row(right)
    return 0.0


def _longest_row(factor: torch.Tensor) -> float:
    return float(torch.linalg.vector_norm(factor.to(torch.float64), dim=1).max())
