"""The shape of a payload, and messages made of payloads."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass

import torch
from torch import Tensor


class Payload(ABC):
    """Something said, exactly and compactly, about a vector of shape (dim,)."""

    dim: int

    @abstractmethod
    def add_to(self, accumulator: Tensor, weight: float = 1.0) -> None:
        """Add ``weight`` times the vector to ``accumulator`` (shape (dim,), modified in place)."""

    @abstractmethod
    def scaled(self, factor: float) -> "Payload":
        """Return the payload of ``factor`` times the vector."""

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


def scaled_values(values: Tensor, factor: float) -> Tensor:
    """Round each product once; a factor such as 1/p may be too large for the values' dtype."""
    return (values.to(torch.float64) * factor).to(values.dtype)


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
