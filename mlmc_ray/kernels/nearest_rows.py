"""Which row of a codebook is nearest to a vector, up to the sign, the same on every machine."""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mlmc_ray.kernels.compiled import compiled

_Floats = npt.NDArray[np.float64]
_Singles = npt.NDArray[np.float32]
_Ints = npt.NDArray[np.int64]

_TIE = 1e-5  # by which products in float32 are relied on to differ
_MARGIN = 1e-4  # more than they are rounded by
_MAGNITUDE = np.int32(0x7FFFFFFF)


def nearest_rows(units: _Floats, rows: _Singles) -> _Ints:
    """Return the row of largest |<x, row>| for every unit vector x.

    Products in float32 decide where the best stands out; the others are compared in float64.

    Args:
        units: shape (vectors, n); not modified.
        rows: shape (rows, n), unit vectors; not modified.
    """
    best, tied = _stand_out(_products(units, rows).numpy())
    ties = np.flatnonzero(tied)
    best[ties] = np.abs(units[ties] @ rows.T.astype(np.float64)).argmax(axis=1)
    return best


def may_reach(units: _Floats, rows: _Singles, ratios: _Floats) -> npt.NDArray[np.bool_]:
    """Return whether 1 / |<x, row>| may be at least a ratio for every one of some rows.

    Some rows of a codebook rule out vectors that all of its rows would.

    Args:
        units: shape (vectors, n), of norm 1; not modified.
        rows: shape (rows, n), unit vectors; not modified.
        ratios: shape (vectors,): of every vector.
    """
    largest = _products(units, rows).abs_().amax(dim=1).to(torch.float64).numpy()
    return np.asarray(largest * ratios <= 1 + _MARGIN)


def _products(units: _Floats, rows: _Singles) -> Tensor:
    return torch.from_numpy(units.astype(np.float32)) @ torch.from_numpy(rows).T


def _stand_out(products: _Singles) -> tuple[_Ints, npt.NDArray[np.bool_]]:
    """Return where the largest magnitude of every row of ``products`` is, and if others are near.

    Where others are, the place means nothing.
    """
    places = np.empty(len(products), dtype=np.int64)
    tied = np.empty(len(products), dtype=np.bool_)
    _find(products.view(np.int32), places, tied)
    return places, tied


@compiled
def _find(patterns: npt.NDArray[np.int32], places: _Ints, tied: npt.NDArray[np.bool_]) -> None:
    """Do the same with the patterns of float32, which grow with magnitudes but for the sign."""
    limit = np.empty(1, dtype=np.float32)
    for i in range(len(patterns)):
        row = patterns[i]
        largest = np.int32(0)
        for k in range(len(row)):
            largest = max(largest, np.int32(row[k] & _MAGNITUDE))
        limit.view(np.int32)[0] = largest
        limit[0] *= np.float32(1 - _TIE)
        least = limit.view(np.int32)[0]
        number, place = np.int32(0), np.int32(0)
        for k in range(len(row)):
            near = np.int32((row[k] & _MAGNITUDE) >= least)
            number += near
            place += near * np.int32(k)
        places[i] = place
        tied[i] = number > 1
