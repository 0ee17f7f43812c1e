"""A replica's state as a message, for those who begin to keep one."""

from typing import Any

import torch
from torch import Tensor

from mlmc_ray.downlinks.base import PARAMETERS
from mlmc_ray.errors import RoundError, WireError
from mlmc_ray.payloads import DensePayload, Message, Payload
from mlmc_ray.replica import Replica

_AVERAGES, _STATISTICS = "averages", "buffers"
_DTYPES = {str(dtype): dtype for dtype in (torch.float32, torch.float64, torch.int64, torch.bool)}


def state_message(replica: Replica) -> Message:
    """Return all that a replica remembers: named vectors, and single numbers.

    Raises:
        RoundError: the memory of its method holds what neither is.
    """
    state = replica.state_dict()
    payloads: dict[str, Payload] = {PARAMETERS: DensePayload(state["parameters"])}
    if replica.num_averages:
        payloads[_STATISTICS] = DensePayload(replica.statistics)
    scalars = {_AVERAGES: float(replica.num_averages)}
    for part, tensors in (("half", state["half"]), ("optimizer", state["optimizer"].get(0, {}))):
        for name, tensor in tensors.items():
            if tensor is None:
                continue
            shape = "x".join(map(str, tensor.shape))
            key = f"{part} {name} {shape} {tensor.dtype}"
            if tensor.numel() == 1:
                scalars[key] = float(tensor)
            elif tensor.dtype == torch.float32 and tensor.numel():
                payloads[key] = DensePayload(tensor.reshape(-1))
            else:
                raise RoundError(
                    f"downlink is relay, and the {part} remembers {name} of shape "
                    f"{tuple(tensor.shape)} and type {tensor.dtype}, which no copy can hold: give "
                    "downlink: full"
                )
    return Message(payloads, scalars)


def load_message(replica: Replica, message: Message) -> None:
    """Let a replica go on from the state in a message.

    Raises:
        WireError: it is no such message; names the field.
    """
    named: dict[str, Tensor] = {
        name: payload.to_dense() for name, payload in message.payloads.items()
    }
    named |= {
        name: torch.tensor(value, dtype=torch.float64) for name, value in message.scalars.items()
    }
    _check(named, PARAMETERS, replica.parameters.numel())
    averages = int(_check(named, _AVERAGES, 1))
    if averages:
        replica.statistics = _check(named, _STATISTICS, replica.statistics.numel())
    state: dict[str, Any] = {
        "parameters": named[PARAMETERS],
        "half": _part(named, "half"),
        "optimizer": {0: held} if (held := _part(named, "optimizer")) else {},
        "statistics": averages,
    }
    replica.load_state_dict(state)


def _check(named: dict[str, Tensor], name: str, entries: int) -> Tensor:
    found = named.get(name)
    if found is None or found.numel() != entries:
        number = "nothing" if found is None else f"{found.numel()} entries"
        raise WireError(f"{name}: expected {entries} entries, got {number}")
    return found


def _part(named: dict[str, Tensor], part: str) -> dict[str, Tensor]:
    """Return the tensors of half or optimizer, by name."""
    tensors = {}
    for key in named:
        if not key.startswith(f"{part} "):
            continue
        try:
            _, name, shape, dtype = key.split(" ")
            sizes = [int(size) for size in shape.split("x")] if shape else []
            tensors[name] = named[key].reshape(sizes).to(_DTYPES[dtype]).clone()
        except (ValueError, KeyError, RuntimeError) as error:
            raise WireError(f"{key!r:.80}: names no tensor of that many entries") from error
    return tensors
