"""Looking for NaN and infinity."""

import torch
from torch import Tensor


def all_finite(vector: Tensor) -> bool:
    """Return whether no entry is NaN or infinite.

    ``torch.isfinite`` makes several passes and temporaries of the vector's size; the extremes take
    one pass and none, and a NaN anywhere makes both of them NaN.

    Args:
        vector: shape (d,), any float dtype, any device; not modified.
    """
    if not vector.numel():
        return True
    return bool(torch.isfinite(torch.stack(torch.aminmax(vector))).all())
