"""A device that stands in for a GPU on machines without one.

Its tensors hold their numbers in CPU tensors, but say that they are elsewhere: they have no NumPy
array, and an operation that mixes them with tensors of the CPU raises, as it does for a GPU.
"""

from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

OTHER = torch.device("meta")  # any device will do that needs no driver
_BETWEEN_DEVICES = ("aten::_to_copy", "aten::copy_")


class OtherTensor(Tensor):
    """A tensor on the other device."""

    held: Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @staticmethod
    def __new__(cls, held: Tensor) -> "OtherTensor":
        made: OtherTensor = Tensor._make_wrapper_subclass(
            cls,
            held.shape,
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device=OTHER,
        )
        made.held = held
        return made

    def __repr__(self, *, tensor_contents: Any = None) -> str:  # type: ignore[override]
        return f"other({self.held!r})"

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        raise RuntimeError(f"{func} outside of OtherDevice()")


class OtherDevice(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """While it is entered, tensors can be on the other device."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        given = [part for part in tree_flatten((args, kwargs))[0] if isinstance(part, Tensor)]
        others = [part for part in given if isinstance(part, OtherTensor)]
        here = [part for part in given if not isinstance(part, OtherTensor) and part.dim()]
        name = func._schema.name
        if others and here and name not in _BETWEEN_DEVICES:
            raise RuntimeError(f"{name}: expected all tensors on one device")
        device = kwargs.get("device")
        elsewhere = bool(others) if device is None else torch.device(device) == OTHER
        if device is not None:
            kwargs["device"] = torch.device("cpu")
        plain = tree_map(_held, (args, kwargs))
        result = func(*plain[0], **plain[1])
        if func._schema.is_mutable:  # what was passed in is what comes back
            known = {id(part.held): part for part in others}
            return tree_map(lambda part: known.get(id(part), part), result)
        return tree_map(_wrapped, result) if elsewhere else result


def _held(part: Any) -> Any:
    return part.held if isinstance(part, OtherTensor) else part


def _wrapped(part: Any) -> Any:
    return OtherTensor(part) if isinstance(part, Tensor) else part
