"""Seeds of their own for several compressors that draw, alike for all workers, in one round."""

from dataclasses import replace

from mlmc_ray.compressors.base import Context
from mlmc_ray.seeding import seed_for


def named(context: Context, *names: int | str) -> Context:
    """Return the context of one of several compressors, or of one of several uses of one.

    A compressor that is unbiased over its draws may only be given a vector that is independent of
    them. What another one has left over is not, if both draw from the same shared seed.

    Args:
        context: what they share.
        names: of this one; the same on all workers. Others have an independent shared seed.
    """
    return replace(context, shared_seed=seed_for(context.shared_seed, *names))
