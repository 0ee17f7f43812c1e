"""About how many bits payloads take, for laws that weigh variance against cost.

These are sizes of plain fixed-width layouts: what an entropy coder saves is not known before it has
run. Nothing of this enters the ledger, which counts frames.
"""

from mlmc_ray.payloads import (
    CodesPayload,
    ConcatPayload,
    LowRankPayload,
    Payload,
    RotatedPayload,
    ScatteredPayload,
    SeededScatteredPayload,
    SeededSparsePayload,
    SegmentsPayload,
    SparsePayload,
    SumPayload,
    ZeroPayload,
)

VALUE_BITS = 32
_SEED_BITS = 64


def index_bits(dim: int) -> int:
    """Return the bits of one of ``dim`` indices."""
    return (dim - 1).bit_length()


def packed_bits(payload: Payload) -> float:
    """Return about how many bits a payload takes; at least 1."""
    match payload:
        case ZeroPayload():
            return 1
        case SparsePayload():
            return payload.values.numel() * (VALUE_BITS + index_bits(payload.dim))
        case SeededSparsePayload():
            return _SEED_BITS + VALUE_BITS * payload.values.numel()
        case SegmentsPayload():
            indices = index_bits(-(-payload.dim // payload.segment_size))
            return VALUE_BITS * payload.values.numel() + indices * payload.segments.numel()
        case CodesPayload():
            low, high = payload.range()
            width = index_bits(high - low + 1)
            return VALUE_BITS * payload.scales.numel() + width * payload.dim
        case ConcatPayload() | SumPayload():
            return sum(packed_bits(part) for part in payload.parts)
        case ScatteredPayload():
            indices = payload.indices.numel() * index_bits(payload.dim)
            return indices + packed_bits(payload.inner)
        case SeededScatteredPayload() | RotatedPayload():
            return _SEED_BITS + packed_bits(payload.inner)
        case LowRankPayload():
            return VALUE_BITS * (payload.left.numel() + payload.right.numel())
        case _:
            return VALUE_BITS * payload.dim
