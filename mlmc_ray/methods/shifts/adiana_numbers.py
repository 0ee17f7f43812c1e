"""How the parameters of ADIANA follow from L, mu, omega and the number of workers.

M is the number of workers that draw independently: the N of ``effective_workers``.
"""

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Numbers:
    """The parameters of ADIANA that follow from L, mu, omega and M.

    Attributes:
        anchor_probability: p, of moving the anchor.
        step_size: eta.
        momentum: theta_1, the weight of z in x.
        anchoring: theta_2, the weight of the anchor w in x.
        long_step: gamma, the step of z.
        memory: beta, the weight of z in its next value.
    """

    anchor_probability: float
    step_size: float
    momentum: float
    anchoring: float
    long_step: float
    memory: float


def original_numbers(smoothness: float, convexity: float, omega: float, workers: float) -> Numbers:
    """Return the parameters of the paper.

    Without noise (omega = 0), p = 1 and eta = 1 / 2L.

    References:
        Li et al., 2020, arXiv:2002.11364, theorem 3.
    """
    p, step = 1.0, 1 / (2 * smoothness)
    if omega:
        half = 0.5 / (1 + omega)
        p = min(1.0, max(half, half * (math.sqrt(workers / (32 * omega)) - 1)))
        noise = 64 * omega * smoothness * (2 * p * (omega + 1) + 1) ** 2
        step = min(step, workers / noise)
    momentum = min(0.25, math.sqrt(step * convexity / p))
    long_step = step / (2 * (momentum + step * convexity))
    return Numbers(p, step, momentum, 0.5, long_step, 1 - long_step * convexity)


def refined_numbers(smoothness: float, convexity: float, omega: float, workers: float) -> Numbers:
    """Return the parameters of a later implementation, for which no proof is at hand.

    p = 1 / (1 + omega), theta_1 = 1 / (3 kappa^1/2), theta_2 = 1 / (3 M^1/2 + 3 M / omega),
    eta = M theta_2 / (120 omega L), written so that omega may be 0.
    """
    share = 1 / (3 * math.sqrt(workers) * omega + 3 * workers)  # theta_2 / omega
    step = workers * share / (120 * smoothness)
    momentum = math.sqrt(convexity / smoothness) / 3
    whole = 2 * momentum + step * convexity
    anchoring = omega * share
    return Numbers(1 / (1 + omega), step, momentum, anchoring, step / whole, 2 * momentum / whole)
