"""How many gradients and messages of every worker fit into a round of Shadowheart SGD.

References:
    Tyurin, Pozzi, Ilin and Richtarik, 2024, arXiv:2402.04785.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

MOST_GRADIENTS = 1 << 20
"""For one report."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What a round of Shadowheart asks of the workers; the tuples have an entry for each.

    Attributes:
        equilibrium_s: t*.
        gradients: b_i.
        messages: m_i.
        weights: w_i.
    """

    equilibrium_s: float
    gradients: tuple[int, ...]
    messages: tuple[int, ...]
    weights: tuple[float, ...]

    @property
    def active(self) -> list[int]:
        """The workers that have time for a gradient and a message."""
        return [i for i, m in enumerate(self.messages) if m and self.gradients[i]]

    @property
    def total(self) -> float:
        """The sum of w_i m_i b_i over the active workers, by which the estimate is divided."""
        return sum(self.weights[i] * self.messages[i] * self.gradients[i] for i in self.active)


@lru_cache(maxsize=8)
def plan_for(
    compute_s: tuple[float, ...],
    message_s: tuple[float, ...],
    omega: float,
    noise: float,
    max_messages: int,
) -> Plan:
    """Return the plan of workers of some speeds; see ``Shadowheart`` for the arguments.

    Raises:
        ValueError: there is no finite t*.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        equilibrium_s = equilibrium_time(compute_s, message_s, omega, noise)
    if not math.isfinite(equilibrium_s):
        raise ValueError(
            f"no round is long enough: noise is {noise:g}, omega is {omega:g}, compute_s is up to "
            f"{max(compute_s):g} and message_s up to {max(message_s):g}: give smaller numbers"
        )
    gradients = tuple(min(MOST_GRADIENTS, math.floor(equilibrium_s / h)) for h in compute_s)
    most = max_messages if omega else 1
    messages = tuple(min(most, math.floor(equilibrium_s / tau)) for tau in message_s)
    return weighted(equilibrium_s, gradients, messages, omega, noise)


def weighted(
    equilibrium_s: float,
    gradients: tuple[int, ...],
    messages: tuple[int, ...],
    omega: float,
    noise: float,
) -> Plan:
    """Return the plan of some numbers of gradients and messages, with its weights.

    Raises:
        ValueError: the settings are too large for any.
    """
    spreads = [
        b * omega + omega * noise + m * noise for b, m in zip(gradients, messages, strict=True)
    ]
    if not all(map(math.isfinite, spreads)):
        raise ValueError(f"noise is {noise:g} and omega is {omega:g}: give smaller numbers")
    return Plan(
        equilibrium_s=equilibrium_s,
        gradients=gradients,
        messages=messages,
        weights=tuple(1 / spread if spread else 1.0 for spread in spreads),
    )


def equilibrium_time(
    compute_s: tuple[float, ...], message_s: tuple[float, ...], omega: float, noise: float
) -> float:
    """Return t*, the shortest time in which the workers together say enough.

    With the workers in ascending order of max(h, tau), it is the least over j of
    max(h_j, tau_j, s(j)), where s(j) solves, for the first j workers,

        sum_i 1 / (2 tau_i omega + 4 tau_i h_i omega n / s + 2 h_i n) = 1 / s.

    Args:
        compute_s: h_i, above 0.
        message_s: tau_i, above 0, as many.
        omega: of the compressor, at least 0.
        noise: n, at least 0.
    """
    h, tau = np.array(compute_s), np.array(message_s)
    slowest = np.maximum(h, tau)
    order = np.argsort(slowest, kind="stable")
    best = math.inf
    for count in range(1, len(order) + 1):
        first, limit = order[:count], float(slowest[order[count - 1]])
        if limit >= best:
            break
        linear = 2 * tau[first] * omega + 2 * h[first] * noise
        constant = 4 * tau[first] * h[first] * omega * noise
        best = min(best, max(limit, _enough(linear, constant)))
    return best


def _enough(linear: npt.NDArray[np.float64], constant: npt.NDArray[np.float64]) -> float:
    """Return s with sum s^2 / (linear s + constant) = 1, by bisection; the sum is not below 1."""
    if not linear.all():
        return 0.0
    low, high = 0.0, 1.0

    def falls_short(s: float) -> bool:
        return bool((s / (linear + constant / s)).sum() < 1)

    while falls_short(high):
        high *= 2
    while low < (middle := (low + high) / 2) < high:
        low, high = (middle, high) if falls_short(middle) else (low, middle)
    return high
