"""Compiling the hot loops before the first round, which would otherwise wait for it."""

from collections.abc import Sequence
from contextlib import suppress

import torch

from mlmc_ray.compressors import Compressor, Context, bound
from mlmc_ray.methods import Method
from mlmc_ray.payloads import Message
from mlmc_ray.wire import decode, encode


def warm_up(method: Method, layer_sizes: Sequence[int]) -> None:
    """Send a random vector through a method's compressor and the wire, and forget it.

    What goes wrong is left to the first round, which says where.

    Args:
        method: whose ``compressor`` is used, if it has one.
        layer_sizes: of the model.
    """
    compressor = getattr(method, "compressor", None)
    if not isinstance(compressor, Compressor):
        return
    generator = torch.Generator().manual_seed(0)
    context = Context(generator, layer_sizes=tuple(layer_sizes))
    vector = torch.randn(sum(layer_sizes), generator=generator)
    with suppress(Exception):
        payload = bound(compressor, context).compress(vector, generator=generator)
        decode(encode(Message({"x": payload}))).payloads["x"].add_to(torch.zeros_like(vector))
