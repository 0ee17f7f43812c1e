"""State as bytes and back: tensors, numbers, strings and their containers, and nothing else."""

import io
from typing import Any

import torch
from torch import Tensor


def saved(state: Any) -> bytes:
    """Return a state as ``torch.save`` writes it."""
    file = io.BytesIO()
    torch.save(state, file)
    return file.getvalue()


def loaded(data: bytes | memoryview) -> Any:
    """Return the state that ``saved`` wrote; nothing else is made of the bytes.

    Raises:
        pickle.UnpicklingError: they hold objects of other classes.
    """
    return torch.load(io.BytesIO(data), weights_only=True)


def written(frame: bytes) -> Tensor:
    """Return a frame as part of a state: shape (bytes,), uint8."""
    return torch.frombuffer(bytearray(frame), dtype=torch.uint8)


def read(frame: Tensor) -> bytes:
    """Return the frame of which ``written`` made part of a state."""
    return frame.numpy().tobytes()
