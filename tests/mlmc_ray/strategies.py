"""Vectors for property tests."""

import torch
from hypothesis import strategies as st
from torch import Tensor

_TIES_AND_ZEROS = st.sampled_from([0.0, -0.0, 1.0, -1.0, 2.0, -3.0, 0.5])
_ORDINARY = st.floats(-8, 8, width=32, allow_subnormal=False)


def _spread(widest: int) -> st.SearchStrategy[float]:
    """Magnitudes of all sizes within 2^-widest and 2^widest, each an exact normal float32."""
    return st.builds(
        lambda mantissa, exponent: mantissa * 2.0**exponent,
        st.integers(1 - (1 << 24), (1 << 24) - 1),
        st.integers(-widest, widest - 24),
    )


@st.composite
def vectors(
    draw: st.DrawFn, max_dim: int = 10, widest: int = 100, dtype: torch.dtype = torch.float32
) -> Tensor:
    """Draw a vector of float32 values, shape (1 to max_dim,).

    There are ties, zeros, single coordinates and wide ranges of exponents among them, and half of
    them are every second entry of a tensor whose other entries are NaN.

    Args:
        draw: given by hypothesis.
        max_dim: largest dimension.
        widest: magnitudes are 0 or between 2^-widest and 2^widest, or near 1.
        dtype: of the tensor; its values are exact in float32.
    """
    entries = st.one_of(_TIES_AND_ZEROS, _ORDINARY, _spread(widest))
    values = draw(st.lists(entries, min_size=1, max_size=max_dim))
    vector = torch.tensor(values, dtype=torch.float32).to(dtype)
    if not draw(st.booleans()):
        return vector
    strided = torch.full((2 * len(values),), torch.nan, dtype=dtype)
    strided[::2] = vector
    return strided[::2]
