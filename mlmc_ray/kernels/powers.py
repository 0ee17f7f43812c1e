"""Powers of a base, to the same bit on every machine."""

import numpy as np
import numpy.typing as npt


def powers(base: float, count: int) -> npt.NDArray[np.float64]:
    """Return base^0, base^1, ..., shape (count,), float64; infinite beyond its range.

    Those of 2 are exact; of any other base each is the one before times the base, rounded once.
    ``numpy.power`` would leave the last bit to the mathematics library of the machine.

    Args:
        base: above 1.
        count: at least 0.
    """
    if base == 2:
        with np.errstate(over="ignore"):
            exact: npt.NDArray[np.float64] = np.ldexp(1.0, np.arange(count))
        return exact
    factors = np.full(count, base, dtype=np.float64)
    factors[:1] = 1.0
    with np.errstate(over="ignore"):
        return np.multiply.accumulate(factors)
