"""State as bytes and back: tensors, numbers, strings and their containers, and nothing else."""

import io
from typing import Any

import torch


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
