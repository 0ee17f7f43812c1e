"""What a message says about a vector: one class per representation.

A payload can add itself to a vector without the compressor that made it, so a worker may change
its compressor at any round and the receiver does not care. Floating-point fields keep the dtype of
the vector they came from; on the wire they are float32, or half precision where they are that.
"""

from mlmc_ray.payloads.base import Message, Payload
from mlmc_ray.payloads.codes import Codebook, CodesPayload, Grid, Powers, Table
from mlmc_ray.payloads.grouping import Grouping
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
    ZeroPayload,
)
from mlmc_ray.payloads.reach import reach
from mlmc_ray.payloads.shared_rounding import SharedRoundingPayload

__all__ = [
    "Codebook",
    "CodesPayload",
    "ConcatPayload",
    "DensePayload",
    "Grid",
    "Grouping",
    "LowRankPayload",
    "Message",
    "Payload",
    "PermutedBlockPayload",
    "Powers",
    "RotatedPayload",
    "ScatteredPayload",
    "SeededScatteredPayload",
    "SeededSparsePayload",
    "SegmentsPayload",
    "SharedRoundingPayload",
    "SparsePayload",
    "SumPayload",
    "Table",
    "ZeroPayload",
    "reach",
]
