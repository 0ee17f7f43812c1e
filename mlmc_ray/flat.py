"""A model's parameters and gradients as contiguous vectors, without copies.

The parameters of the module become views of the vectors: a forward pass reads the parameter vector,
the gradient vector collects what backward passes leave. Buffers stay what they are, and can be
exchanged, since every worker has its own.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from mlmc_ray.kernels.finite import all_finite

CPU = torch.device("cpu")


@dataclass(frozen=True, slots=True)
class Layer:
    """Where one parameter tensor lies in the flat vector: entries ``start`` to ``stop`` - 1."""

    name: str
    shape: tuple[int, ...]
    start: int
    stop: int


class FlatModel:
    """A module whose trainable parameters are views of one float32 vector.

    Args:
        module: on the CPU, unless ``device`` is left out.
        device: where to move parameters and buffers; on the CPU they stay where they are.

    Attributes:
        module: the module; its trainable parameters share memory with the vectors below.
        parameters: shape (d,); trainable parameters in the order of ``named_parameters``.
        gradients: shape (d,); the ``.grad`` of every parameter is a view of it, but between
            ``clear_gradients`` and ``collect_gradients``.
        layers: where each parameter lies.
        num_statistics: length of the vector of running statistics.

    Raises:
        ValueError: a trainable parameter is not float32, or there is none.
    """

    def __init__(self, module: nn.Module, device: torch.device = CPU) -> None:
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
        self._statistics = _statistics_of(module)
        self._shapes = [module.get_buffer(name).shape for name in self._statistics]
        self.num_statistics = sum(shape.numel() for shape in self._shapes)
        if device.type != "cpu":
            buffers = self.buffers()
            module.to(device)
            self.set_buffers(copied(buffers, device))  # those that were one are one again
            trainable = {name: module.get_parameter(name) for name in trainable}
        self.parameters = torch.cat([p.detach().reshape(-1) for p in trainable.values()])
        self.gradients = torch.zeros_like(self.parameters)
        self._views: list[tuple[str, nn.Parameter, Tensor, Tensor]] = []
        for layer, parameter in zip(self.layers, trainable.values(), strict=True):
            span = slice(layer.start, layer.stop)
            parameter.data = self.parameters[span].view(layer.shape)
            parameter.grad = self.gradients[span].view(layer.shape)
            self._views.append((layer.name, parameter, parameter.data, parameter.grad))

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return self.parameters.device

    def views(self) -> dict[str, Tensor]:
        """Return every trainable parameter by name, as a view of the vector."""
        return {name: view for name, _, view, _ in self._views}

    def clear_gradients(self) -> None:
        """Let the next backward pass make every ``.grad`` anew: quicker than adding to zeros."""
        for _, parameter, _, _ in self._views:
            parameter.grad = None

    def collect_gradients(self) -> Tensor:
        """Return ``gradients``, having fetched what lies elsewhere.

        After ``clear_gradients``, or ``module.zero_grad()`` in a loss, a backward pass makes every
        ``.grad`` a tensor of its own. Where it makes none, the gradient is zero.

        Raises:
            ValueError: see ``check_parameters``.
        """
        self.check_parameters()
        for _, parameter, _, view in self._views:
            if parameter.grad is not view:
                if parameter.grad is None:
                    view.zero_()
                else:
                    view.copy_(parameter.grad.to_dense())
                parameter.grad = view
        return self.gradients

    def check_parameters(self) -> None:
        """Refuse a module whose parameters are no longer views of the vector.

        Raises:
            ValueError: names the first parameter that was replaced.
        """
        for name, parameter, view, _ in self._views:
            if parameter.data_ptr() != view.data_ptr() or parameter.dtype != view.dtype:
                raise ValueError(
                    f"the memory of parameter {name} has been replaced, as module.to() and "
                    "parameter.data = ... do: change parameters in place, or a copy of the model"
                )

    def layer_at(self, index: int) -> Layer:
        """Return the layer that entry ``index`` of the vector belongs to."""
        return next(layer for layer in self.layers if layer.start <= index < layer.stop)

    @property
    def layer_sizes(self) -> tuple[int, ...]:
        """Entries of every layer, in the order of the vector."""
        return tuple(layer.stop - layer.start for layer in self.layers)

    @property
    def layer_shapes(self) -> tuple[tuple[int, ...], ...]:
        """Shape of every layer, in the order of the vector."""
        return tuple(layer.shape for layer in self.layers)

    def buffers(self) -> dict[str, Tensor]:
        """Return every buffer by name, persistent or not: the module's own tensors."""
        named = self.module.named_buffers(remove_duplicate=False)
        return {name: buffer.detach() for name, buffer in named}

    def set_buffers(self, buffers: Mapping[str, Tensor]) -> None:
        """Make these tensors the module's buffers; what is not among them becomes None."""
        for name, _ in list(self.module.named_buffers(remove_duplicate=False)):
            if name not in buffers:
                self._set_buffer(name, None)
        for name, buffer in buffers.items():
            self._set_buffer(name, buffer)

    def statistics(self) -> Tensor:
        """Return a copy of the running statistics on the CPU, float32, shape (num_statistics,).

        They are the persistent floating-point buffers, in the order of ``named_buffers``, without
        those that no message could hold at the start: infinite, sparse, or expanded from fewer
        entries.

        Raises:
            ValueError: one of them has got another shape or is not finite.
        """
        values = []
        for name, shape in zip(self._statistics, self._shapes, strict=True):
            buffer = self._buffer(name, shape).detach().reshape(-1).to(torch.float32)
            if not all_finite(buffer):
                raise ValueError(
                    f"buffer {name} is no longer finite; if it holds no running statistics, "
                    "register it with persistent=False"
                )
            values.append(buffer)
        return torch.cat(values).to(CPU) if values else torch.empty(0)

    def set_statistics(self, vector: Tensor) -> None:
        """Copy a vector as ``statistics`` returns it into the buffers.

        Raises:
            ValueError: one of them has got another shape.
        """
        start = 0
        with torch.no_grad():
            for name, shape in zip(self._statistics, self._shapes, strict=True):
                part = vector[start : start + shape.numel()]
                self._buffer(name, shape).copy_(part.view(shape))
                start += shape.numel()

    def _buffer(self, name: str, shape: torch.Size) -> Tensor:
        owner, _, leaf = name.rpartition(".")
        buffer = getattr(self.module.get_submodule(owner), leaf)
        if buffer is None or buffer.shape != shape:
            found = "None" if buffer is None else f"of shape {tuple(buffer.shape)}"
            raise ValueError(
                f"buffer {name} of shape {tuple(shape)} has become {found}; if it holds no running "
                "statistics, register it with persistent=False"
            )
        return cast("Tensor", buffer)

    def _set_buffer(self, name: str, buffer: Tensor | None) -> None:
        owner, _, leaf = name.rpartition(".")
        setattr(self.module.get_submodule(owner), leaf, buffer)


def copied(buffers: Mapping[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    """Return copies on a device; what is one tensor, or shares memory, does so there too.

    Sparse tensors, and others that are more than a view of their memory, are one only if they are
    the same object.
    """
    storages: dict[int, torch.UntypedStorage] = {}
    copies: dict[tuple[object, ...], Tensor] = {}
    placed = {}
    for name, buffer in buffers.items():
        key: tuple[object, ...] = (id(buffer),)
        if plain := _is_plain(buffer):
            memory = (buffer.untyped_storage()._cdata, buffer.storage_offset())
            key = (*memory, buffer.dtype, buffer.shape, buffer.stride())
        if key not in copies:
            copies[key] = (
                _copied_view(buffer, device, storages) if plain else buffer.to(device, copy=True)
            )
        placed[name] = copies[key]
    return placed


def _is_plain(buffer: Tensor) -> bool:
    """Return whether shape, strides and memory are all there is to a tensor."""
    more = buffer.is_conj() or buffer.is_neg() or buffer.is_quantized or buffer.is_nested
    return type(buffer) is Tensor and buffer.layout == torch.strided and not more


def _copied_view(
    buffer: Tensor, device: torch.device, storages: dict[int, torch.UntypedStorage]
) -> Tensor:
    """Return the same view of a copy of the memory; every memory is copied once."""
    storage = buffer.untyped_storage()
    if storage._cdata not in storages:
        entries = torch.empty(0, dtype=torch.uint8, device=buffer.device).set_(storage)
        storages[storage._cdata] = entries.to(device, copy=True).untyped_storage()
    empty = torch.empty(0, dtype=buffer.dtype, device=device)
    place = (buffer.storage_offset(), buffer.shape, buffer.stride())
    return empty.set_(storages[storage._cdata], *place)


def _statistics_of(module: nn.Module) -> list[str]:
    """Return the names of the buffers that hold running statistics."""
    persistent = module.state_dict(keep_vars=True)
    return [
        name
        for name, buffer in module.named_buffers()
        if name in persistent and _is_statistic(buffer)
    ]


def _is_statistic(buffer: Tensor) -> bool:
    if not buffer.is_floating_point() or buffer.layout != torch.strided:
        return False
    expanded = any(s == 0 and n > 1 for s, n in zip(buffer.stride(), buffer.shape, strict=True))
    return not expanded and all_finite(buffer.reshape(-1).to(torch.float32))


def _layers(tensors: Mapping[str, Tensor]) -> tuple[Layer, ...]:
    layers, start = [], 0
    for name, tensor in tensors.items():
        layers.append(Layer(name, tuple(tensor.shape), start, start + tensor.numel()))
        start += tensor.numel()
    return tuple(layers)
