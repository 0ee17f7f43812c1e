"""Sums and differences of vectors and payloads."""

from collections.abc import Sequence

import torch
from torch import Tensor

from mlmc_ray.payloads import Payload, SumPayload, ZeroPayload


def difference(vector: Tensor, payload: Payload) -> Tensor:
    """Return the vector less a payload, contiguous, float32 or float64."""
    dtype = torch.promote_types(vector.dtype, torch.float32)
    rest = vector.detach().to(dtype).clone(memory_format=torch.contiguous_format)
    payload.add_to(rest, weight=-1.0)
    return rest


def sum_of(parts: Sequence[Payload], dim: int) -> Payload:
    """Return the payload of a sum, as small as it can be."""
    parts = [part for part in parts if not isinstance(part, ZeroPayload)]
    if len(parts) > 1:
        return SumPayload(tuple(parts))
    return parts[0] if parts else ZeroPayload(dim)
