"""The shape of a payload, and messages made of payloads."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass

import torch
from torch import Tensor

from mlmc_ray.errors import NonFiniteError
from mlmc_ray.kernels.adding import add_at
from mlmc_ray.kernels.device import on_cpu
from mlmc_ray.kernels.finite import all_finite, scan


class Payload(ABC):
    """Something said, exactly and compactly, about a vector of shape (dim,)."""

    dim: int

    @abstractmethod
    def add_to(self, accumulator: Tensor, weight: float = 1.0) -> None:
        """Add ``weight`` times the vector to ``accumulator`` (shape (dim,), modified in place)."""

    @abstractmethod
    def scaled(self, factor: float) -> "Payload":
        """Return the payload of ``factor`` times the vector.

        Raises:
            NonFiniteError: an entry may become larger than its dtype holds.
        """

    def to_dense(self) -> Tensor:
        """Return the vector, shape (dim,), on its device; may share memory with the payload."""
        dense = torch.zeros(self.dim, device=device_of(self))
        self.add_to(dense)
        return dense


@dataclass(frozen=True, slots=True)
class Message:
    """What one side tells the other in a round: a few named payloads and scalars."""

    payloads: Mapping[str, Payload]
    scalars: Mapping[str, float] = field(default_factory=dict)


def device_of(payload: Payload) -> torch.device:
    """Return where a payload's tensors are, also those of the payloads in it.

    Small ones, such as scales, may be on the host all the same: a device other than the CPU counts.
    A payload without tensors is on the CPU.
    """
    found = torch.device("cpu")
    waiting: list[object] = [payload]
    while waiting and found.type == "cpu":
        part = waiting.pop()
        if isinstance(part, Tensor):
            found = part.device
        elif isinstance(part, tuple):
            waiting.extend(part)
        elif isinstance(part, Payload) and is_dataclass(part):
            waiting.extend(getattr(part, field.name) for field in fields(part))
    return found


def scaled_values(values: Tensor, factor: float | Tensor) -> Tensor:
    """Round each product once; a factor such as 1/p may be too large for the values' dtype.

    Args:
        values: any shape and float dtype; not modified.
        factor: a number, or float64 numbers of the same shape on the same device.

    Raises:
        NonFiniteError: a product does not fit the dtype.
    """
    scaled = (values.to(torch.float64) * factor).to(values.dtype)
    if not all_finite(scaled.reshape(-1)):
        largest = float(torch.as_tensor(factor).abs().max())
        raise NonFiniteError(too_large(scan(values.reshape(-1))[1], largest, values.dtype))
    return scaled


def too_large(largest: float, factor: float, dtype: torch.dtype) -> str:
    """Return what to say where a scaled vector does not fit its dtype."""
    return (
        f"values of up to {largest:g}, scaled by up to {abs(factor):g}, may become infinite: the "
        f"largest {str(dtype).removeprefix('torch.')} is {torch.finfo(dtype).max:g}; scale the "
        "vector down"
    )


def add_entries(accumulator: Tensor, indices: Tensor, values: Tensor, weight: float) -> None:
    """Add ``weight`` times ``values[r]`` to entry ``indices[r]``, in O(number of entries).

    Args:
        accumulator: shape (d,), any float dtype, any device; modified in place.
        indices: shape (k,), int64, each at most once, any device.
        values: shape (k,), any float dtype, any device; not modified.
        weight: rounded to the dtype of the accumulator, as the values are.

    Raises:
        IndexError: an index is out of range.
    """
    values = values.to(accumulator)
    if on_cpu(accumulator, torch.float32, torch.float64):
        add_at(accumulator.numpy(), indices.cpu().numpy(), values.numpy(), weight)
    else:
        accumulator.index_add_(0, indices.to(accumulator.device), values, alpha=weight)


def check_shape(payload: Payload, accumulator: Tensor) -> None:
    """Refuse an accumulator of another shape than the payload's vector.

    Raises:
        ValueError: names both shapes.
    """
    if accumulator.shape != (payload.dim,):
        raise ValueError(
            f"a payload of dimension {payload.dim} cannot be added to a vector of shape "
            f"{tuple(accumulator.shape)}"
        )
