"""Compression with an error that is kept and sent later."""

from torch import Tensor

from mlmc_ray.compressors.base import Compressor, Context, bound
from mlmc_ray.observing import observed
from mlmc_ray.payloads import Payload


def compressed_with_error(
    memory: dict[str, Tensor], vector: Tensor, compressor: Compressor, context: Context
) -> Payload:
    """Return C(v + e), and set e <- v + e - C(v + e).

    Args:
        memory: of a worker half; "error" is e, shape (d,), and zero where there is none yet.
        vector: v, shape (d,); not modified.
        compressor: C, not yet bound.
        context: of the worker in this round.
    """
    corrected = vector + memory["error"] if "error" in memory else vector
    sent = observed(bound(compressor, context)).compress(corrected, generator=context.generator)
    memory["error"] = corrected.clone()  # what is sent may share memory with corrected
    sent.add_to(memory["error"], weight=-1)
    return sent
