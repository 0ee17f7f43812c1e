"""A model's parameters, gradients and buffers as contiguous vectors, without copies.

The tensors of the module become views of the vectors: a forward pass reads the parameter vector,
a backward pass accumulates into the gradient vector, batch normalisation updates the buffer
vector.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class Layer:
    """Where one parameter tensor lies in the flat vector: entries ``start`` to ``stop`` - 1."""

    name: str
    shape: tuple[int, ...]
    start: int
    stop: int


class FlatModel:
    """A module whose trainable parameters are views of one float32 vector.

    Attributes:
        module: the module; its tensors share memory with the vectors below.
        parameters: shape (d,); trainable parameters in the order of ``named_parameters``.
        gradients: shape (d,); the ``.grad`` of every parameter is a view of it.
        buffers: shape (b,); the persistent float32 buffers, such as running statistics.
        counters: shape (c,), int64; the persistent int64 buffers, such as numbers of batches.
        layers: where each parameter lies.

    Raises:
        ValueError: a trainable parameter is not float32, or there is none.
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        trainable = {n: p for n, p in module.named_parameters() if p.requires_grad}
        if not trainable:
            raise ValueError("the model has no trainable parameter")
        for name, parameter in trainable.items():
            if parameter.dtype != torch.float32:
                raise ValueError(
                    f"parameter {name} is {parameter.dtype}: parameters must be torch.float32"
                )
        self.layers = _layers(trainable)
        self.parameters = _flatten(list(trainable.values()))
        self.gradients = torch.zeros_like(self.parameters)
        self._grads: list[tuple[nn.Parameter, Tensor]] = []
        for layer, parameter in zip(self.layers, trainable.values(), strict=True):
            span = slice(layer.start, layer.stop)
            parameter.data = self.parameters[span].view(layer.shape)
            parameter.grad = self.gradients[span].view(layer.shape)
            self._grads.append((parameter, parameter.grad))
        self.buffers = self._bind_buffers(torch.float32)
        self.counters = self._bind_buffers(torch.int64)

    def collect_gradients(self) -> Tensor:
        """Return ``gradients``, having fetched what a loss put elsewhere.

        ``module.zero_grad()`` in a loss, for one, makes the next ``.grad`` a tensor of its own.
        """
        for parameter, view in self._grads:
            if parameter.grad is not view:
                if parameter.grad is None:
                    view.zero_()
                else:
                    view.copy_(parameter.grad)
                parameter.grad = view
        return self.gradients

    def layer_at(self, index: int) -> Layer:
        """Return the layer that entry ``index`` of the vector belongs to."""
        return next(layer for layer in self.layers if layer.start <= index < layer.stop)

    def _bind_buffers(self, dtype: torch.dtype) -> Tensor:
        """Make the persistent buffers of a dtype views of one vector, and return that."""
        persistent = self.module.state_dict(keep_vars=True)
        bound = {n: b for n, b in self.module.named_buffers() if n in persistent}
        bound = {n: b for n, b in bound.items() if b.dtype == dtype}
        vector = _flatten(list(bound.values())) if bound else torch.empty(0, dtype=dtype)
        for layer, buffer in zip(_layers(bound), bound.values(), strict=True):
            buffer.data = vector[layer.start : layer.stop].view(layer.shape)
        return vector


def _layers(tensors: dict[str, Tensor] | dict[str, nn.Parameter]) -> tuple[Layer, ...]:
    layers, start = [], 0
    for name, tensor in tensors.items():
        layers.append(Layer(name, tuple(tensor.shape), start, start + tensor.numel()))
        start += tensor.numel()
    return tuple(layers)


def _flatten(tensors: list[Tensor] | list[nn.Parameter]) -> Tensor:
    return torch.cat([tensor.detach().reshape(-1) for tensor in tensors])
