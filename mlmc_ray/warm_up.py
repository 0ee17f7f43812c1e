"""Compiling and importing before the first round, which would otherwise wait for it."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import fields, is_dataclass

import torch
from torch import nn

from mlmc_ray.compressors import Compressor, Context, bound
from mlmc_ray.methods import Method
from mlmc_ray.optimizers import Optimizer
from mlmc_ray.payloads import Message
from mlmc_ray.payloads.plain import sum_payloads
from mlmc_ray.wire import decode, encode


def warm_up(method: Method, layer_sizes: Sequence[int]) -> None:
    """Send a random vector through a method's compressors and the wire, and forget it.

    What goes wrong is left to the first round, which says where.

    Args:
        method: every field of it that is a compressor is used, and those of a method in it.
        layer_sizes: of the model.
    """
    generator = torch.Generator().manual_seed(0)
    context = Context(generator, layer_sizes=tuple(layer_sizes))
    vector = torch.randn(sum(layer_sizes), generator=generator)
    names: list[str] = [x.name for x in fields(method)] if is_dataclass(method) else []
    for compressor in [getattr(method, name) for name in names]:
        if isinstance(compressor, Method):
            warm_up(compressor, layer_sizes)
        elif isinstance(compressor, Compressor):
            with suppress(Exception):
                payload = bound(compressor, context).compress(vector, generator=generator)
                message = decode(encode(Message({"x": payload})))
                message.payloads["x"].add_to(torch.zeros_like(vector))
                sum_payloads(torch.empty_like(vector), [message.payloads["x"]], 1.0)


def warm_up_optimizer(optimizer: Optimizer) -> None:
    """Let an optimizer take a step: torch imports much with the first, for some seconds."""
    number = nn.Parameter(torch.zeros(1))
    number.grad = torch.zeros(1)
    optimizer.build(number).step()
