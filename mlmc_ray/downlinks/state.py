"""A replica's state as a message, for those who begin to keep one."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from mlmc_ray.downlinks.base import PARAMETERS
from mlmc_ray.errors import RoundError, WireError
from mlmc_ray.payloads import DensePayload, Message, Payload
from mlmc_ray.replica import Replica

_STATISTICS = "buffers"
_AVERAGES, _LACKING = "averages", "lacking"
_DTYPES = {str(dtype): dtype for dtype in (torch.float32, torch.float64, torch.int64, torch.bool)}


def state_message(replica: Replica, *, lacking: bool) -> Message:
    """Return all that a replica remembers: named vectors, and single numbers.

    Args:
        replica: the server's.
        lacking: whether the workers that the message is for lack its running statistics.

    Raises:
        RoundError: the memory of its method holds what neither is.
    """
    state = replica.state_dict()
    payloads: dict[str, Payload] = {PARAMETERS: DensePayload(state["parameters"])}
    if replica.num_averages:
        payloads[_STATISTICS] = DensePayload(replica.statistics)
    scalars = {_AVERAGES: float(replica.num_averages), _LACKING: float(lacking)}
    for key, tensor in _tensors(state):
        if tensor.numel() == 1:
            scalars[key] = float(tensor)
        else:
            payloads[key] = DensePayload(tensor.reshape(-1))
    return Message(payloads, scalars)


def _tensors(state: Mapping[str, Any]) -> Iterator[tuple[str, Tensor]]:
    """Yield what half and optimizer remember, each with its part, name, shape and type."""
    for part, tensors in (("half", state["half"]), ("optimizer", state["optimizer"].get(0, {}))):
        for name, tensor in tensors.items():
            if tensor is None:
                continue
            if not isinstance(tensor, Tensor) or not _fits(tensor):
                what = (
                    f"of shape {tuple(tensor.shape)} and type {tensor.dtype}"
                    if isinstance(tensor, Tensor)
                    else f"which is {tensor!r:.80}"
                )
                raise RoundError(
                    f"downlink is relay, and the {part} remembers {name!r} {what}, which no copy "
                    "can hold: give downlink: full"
                )
            yield f"{part} {name} {'x'.join(map(str, tensor.shape))} {tensor.dtype}", tensor


def _fits(tensor: Tensor) -> bool:
    """Return whether a message holds a tensor exactly."""
    if tensor.numel() == 1 and str(tensor.dtype) in _DTYPES:
        return tensor.dtype != torch.int64 or abs(int(tensor)) <= 1 << 53
    return tensor.numel() > 1 and tensor.dtype == torch.float32


def load_message(replica: Replica, message: Message) -> bool:
    """Let a replica go on from the state in a message.

    Returns:
        Whether the workers that the message is for lack the running statistics.

    Raises:
        WireError: it is no such message; names the field.
    """
    named = {name: payload.to_dense() for name, payload in message.payloads.items()}
    for name, value in message.scalars.items():
        named.setdefault(name, torch.tensor(value, dtype=torch.float64))
    parameters = _checked(named, PARAMETERS, replica.parameters.numel())
    averages = _whole(named, _AVERAGES)
    if averages:
        replica.statistics = _checked(named, _STATISTICS, replica.statistics.numel())
    held = _part(named, "optimizer")
    try:
        replica.load_state_dict(
            {
                "parameters": parameters,
                "half": _part(named, "half"),
                "optimizer": {0: held} if held else {},
                "statistics": averages,
            }
        )
    except (LookupError, ValueError, TypeError, RuntimeError) as error:
        raise WireError(
            f"the method's half cannot go on from what it is to hold: {error}"
        ) from error
    return bool(_whole(named, _LACKING))


def _checked(named: Mapping[str, Tensor], name: str, entries: int) -> Tensor:
    found = named.get(name)
    if found is None or found.numel() != entries:
        number = "nothing" if found is None else f"{found.numel()} entries"
        raise WireError(f"{name}: expected {entries} entries, got {number}")
    return found


def _whole(named: Mapping[str, Tensor], name: str) -> int:
    number = float(_checked(named, name, 1))
    if number < 0 or number != int(number):
        raise WireError(f"{name}: expected a whole number, got {number:g}")
    return int(number)


def _part(named: Mapping[str, Tensor], part: str) -> dict[str, Tensor]:
    """Return the tensors of half or optimizer, by name."""
    tensors = {}
    for key in named:
        if not key.startswith(f"{part} "):
            continue
        try:
            name, shape, dtype = key.removeprefix(f"{part} ").rsplit(" ", 2)
            sizes = [int(size) for size in shape.split("x")] if shape else []
            if min(sizes, default=0) < 0:
                raise ValueError("sizes are at least 0")
            tensors[name] = named[key].reshape(sizes).to(_DTYPES[dtype]).clone()
        except (ValueError, KeyError, TypeError, OverflowError, RuntimeError) as error:
            raise WireError(f"{key!r:.80}: names no tensor of that many entries") from error
    return tensors
