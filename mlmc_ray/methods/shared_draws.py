"""What the server and all workers draw alike, without sending it: coins, and who takes part."""

import numpy as np
import torch

from mlmc_ray.compressors.base import Context
from mlmc_ray.seeding import generator_for


def shared_coin(context: Context, purpose: str, probability: float) -> bool:
    """Toss the coin that everyone who asks in this round, for this purpose, sees alike.

    Args:
        context: of the server or of a worker.
        purpose: a name; coins of different names are independent of each other.
        probability: of True.
    """
    generator = generator_for(context.shared_seed, "coin", purpose)
    return bool(torch.rand((), dtype=torch.float64, generator=generator) < probability)


def drawn_workers(context: Context, participants: int) -> list[int]:
    """Draw so many workers uniformly without replacement, ascending; alike on all sides.

    Raises:
        ValueError: there are fewer workers.
    """
    if participants > context.num_workers:
        raise ValueError(
            f"participants is {participants}, and there are {context.num_workers} workers: ask at "
            "most that many"
        )
    draws = np.random.Generator(np.random.Philox(context.shared_seed))
    return sorted(draws.choice(context.num_workers, participants, replace=False).tolist())
