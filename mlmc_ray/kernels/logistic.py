"""Probabilities of bits that are learned while they are coded: logistic regression in integers.

A probability is the logistic function of a sum of weights, in units of 2**-16, and a weight is in
units of 2**-16 natural logarithms of the odds. Both tables are made of integers and of decimal
exponentials, whose rounding is specified, so they are the same on every machine.

References:
    Mahoney, "Adaptive weighing of context models for lossless data compression", 2005.
"""

from decimal import Context, Decimal, localcontext

import numpy as np
import numpy.typing as npt

from mlmc_ray.kernels.adaptive_bits import PROBABILITY_BITS
from mlmc_ray.kernels.compiled import compiled

Weights = npt.NDArray[np.int64]
"""Shape (n, 2): weights, and how often each has learned."""
Rates = npt.NDArray[np.int64]
"""Shape (any,): the rate of a weight that has learned 0, 1, ... times; the last from then on."""

WEIGHT_BITS = 16
"""A weight of 2**16 multiplies the odds by e."""
_STEP_BITS = 7  # the table has 2**7 probabilities for every such factor
_HALF_TABLE = 1 << 11
_SHIFT = WEIGHT_BITS - _STEP_BITS
_LEAST = 2  # of 2**16: below, rounding to units of 2**-16 would cost more than it saves
EXACT = Context(prec=40)
"""What decimal tables are computed in, whatever the current context is."""


def _probabilities() -> npt.NDArray[np.int64]:
    """Return 1 / (1 + exp(-x)) for x = -16 to 16 in steps of 2**-7, in units of 2**-16."""
    whole = 1 << PROBABILITY_BITS
    one = 1 << 100
    with localcontext(EXACT):
        ratio = int((Decimal(-1) / (1 << _STEP_BITS)).exp() * one)
    power, upper = one, []
    for _ in range(_HALF_TABLE):
        upper.append(min((whole * one + (one + power) // 2) // (one + power), whole - _LEAST))
        power = power * ratio >> 100
    lower = [whole - probability for probability in upper]
    return np.array([*lower[:0:-1], *upper], dtype=np.int64)


_TABLE = _probabilities()
_CENTRE = _HALF_TABLE - 1
_ROUND = 1 << (_SHIFT - 1)


def weight_of_tail(ratio: Decimal) -> int:
    """Return the weight of the probability exp(-ratio), ``ratio`` being above 0."""
    with localcontext(EXACT):
        tail = (-ratio).exp()
        return round((tail / (1 - tail)).ln() * (1 << WEIGHT_BITS))


def new_weights(weights: npt.NDArray[np.int64]) -> Weights:
    """Return weights, of shape (n,), that have not learned yet."""
    return np.stack([weights, np.zeros_like(weights)], axis=1)


def rates(first: float, last: float, half: int) -> Rates:
    """Return rates that fall from ``first`` to ``last``: to the half in ``half`` steps.

    Args:
        first: the share of an error by which a new weight moves, in natural logarithms of the odds.
        last: that share after many steps, above 0.
        half: the rate is ``first * half / (half + step)``, but at least ``last``.
    """
    top, least = round(first * (1 << WEIGHT_BITS)), round(last * (1 << WEIGHT_BITS))
    falling = top * half // (half + np.arange(top * half // least + 1, dtype=np.int64))
    return np.maximum(falling[: 1 + np.count_nonzero(falling > least)], least)


@compiled
def probability_of(weight: int) -> int:
    """Return the probability of a sum of weights, 2 to 2**16 - 2."""
    place = ((weight + _ROUND) >> _SHIFT) + _CENTRE
    return int(_TABLE[min(max(place, 0), len(_TABLE) - 1)])


@compiled
def correction(bit: bool | int, probability: int) -> int:
    """Return how far a bit was from what its probability expected, in units of 2**-16."""
    return (int(bit) << PROBABILITY_BITS) - probability


@compiled
def learn(weights: Weights, place: int, error: int, falling: Rates) -> None:
    """Move a weight by its rate's share of the ``error`` that ``correction`` says."""
    visits = weights[place, 1]
    weights[place, 0] += (error * falling[visits]) >> WEIGHT_BITS
    weights[place, 1] = min(visits + 1, len(falling) - 1)
