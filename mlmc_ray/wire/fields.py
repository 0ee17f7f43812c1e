"""The fields of payloads: how each is written, and read from hostile bytes.

Every ``read_`` function takes the field's name and raises ``WireError`` with it.
"""

import warnings
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mlmc_ray.errors import MlmcRayError, NonFiniteError, WireError
from mlmc_ray.kernels.finite import all_finite
from mlmc_ray.kernels.index_coding import decode_indices, encode_indices
from mlmc_ray.payloads.codes import LARGEST_FLOAT

MAX_DIM = (1 << 31) - 1
"""The largest dimension of a payload, and that ``decode`` accepts unless told otherwise."""
MAX_DEPTH = 6
"""How deep payloads may lie in payloads."""
_FORMATS = (torch.float32, torch.float16, torch.bfloat16)

with warnings.catch_warnings():
    # Values stay in the bytes that msgpack made of them, and whoever writes to some copies them
    # first. Torch says once in a process that such memory is read-only: let that be here.
    warnings.simplefilter("ignore")
    torch.from_numpy(np.frombuffer(bytes(4), dtype="<f4"))


@dataclass(frozen=True, slots=True)
class Limits:
    """What a reader refuses, so that few bytes cannot ask for much memory.

    Attributes:
        max_dim: largest dimension of a payload.
        depth: in how many payloads the present one lies.
    """

    max_dim: int
    depth: int = 0

    def deeper(self) -> "Limits":
        """Return the limits of a payload inside this one."""
        return replace(self, depth=self.depth + 1)


def quote(value: object) -> str:
    """Return what was found in place of a field, in few characters, however deep or long it is."""
    if isinstance(value, list | dict):
        return f"{'an array' if isinstance(value, list) else 'a map'} of {len(value)}"
    if isinstance(value, str | bytes):
        return f"{value[:40]!r}"
    return f"{value!r:.40}"


def check_count(field: str, expected: int, found: int) -> None:
    """Refuse another number of values than expected."""
    if found != expected:
        raise WireError(f"{field}: expected {expected} values, got {found}")


def check_reach(name: str, largest: float, error: type[MlmcRayError]) -> None:
    """Refuse a payload whose entries may become larger than float32 holds."""
    if not largest <= LARGEST_FLOAT:
        raise error(
            f"{name}: its entries may reach {largest:g}, and the largest float32 is "
            f"{LARGEST_FLOAT:g}; scale the vector down before it is compressed"
        )


def value_fields(name: str, values: Tensor) -> list[Any]:
    """Return format and bytes: half precision as it is, anything else as float32."""
    if values.dtype not in _FORMATS[1:]:
        return [0, float_bytes(f"{name}.values", values)]
    raw = values.detach().cpu().contiguous().view(torch.int16).numpy().astype("<i2", copy=False)
    return [_FORMATS.index(values.dtype), raw.view(np.uint8).data]


def read_values(name: str, form: object, value: object) -> Tensor:
    """Return values of a format as ``value_fields`` wrote them."""
    kind = read_integer(f"{name}.format", form, 0, len(_FORMATS) - 1)
    if kind == 0:
        return read_floats(f"{name}.values", value)
    data = read_binary(f"{name}.values", value)
    if len(data) % 2:
        raise WireError(f"{name}.values: {len(data)} bytes are not whole values of two bytes")
    raw = torch.from_numpy(np.frombuffer(data, dtype="<i2").astype(np.int16, copy=False))
    return _finite(f"{name}.values", raw.view(_FORMATS[kind]))


def float_bytes(field: str, values: Tensor) -> memoryview:
    """Return values as little-endian float32.

    Raises:
        NonFiniteError: a float64 value is beyond the largest float32.
    """
    single = values.detach().cpu().to(torch.float32).contiguous()
    if values.dtype == torch.float64 and not all_finite(single):
        check_reach(field, float(values.abs().max()), NonFiniteError)
    array = single.numpy()
    return array.astype("<f4", copy=False).view(np.uint8).data


def index_bytes(field: str, indices: Tensor, size: int) -> bytes:
    """Return strictly ascending indices below ``size`` as an index set."""
    try:
        return encode_indices(indices.cpu().numpy(), size)
    except ValueError as error:
        raise WireError(f"{field}: {error}; sort them, and give each once") from error


def read_dim(name: str, value: object, limits: Limits) -> int:
    """Return the dimension of a payload."""
    return read_integer(f"{name}.dim", value, 1, limits.max_dim)


def read_seed(name: str, value: object) -> int:
    """Return a seed of 64 bits."""
    return read_integer(f"{name}.seed", value, 0, (1 << 64) - 1)


def read_integer(field: str, value: object, low: int, high: int) -> int:
    """Return an integer from ``low`` to ``high``."""
    if type(value) is not int or not low <= value <= high:
        raise WireError(f"{field}: expected an integer from {low} to {high}, got {quote(value)}")
    return value


def read_binary(field: str, value: object) -> bytes:
    """Return binary data."""
    if not isinstance(value, bytes):
        raise WireError(f"{field}: expected binary data, got {quote(value)}")
    return value


def read_floats(field: str, value: object) -> Tensor:
    """Return finite float32 values."""
    data = read_binary(field, value)
    if len(data) % 4:
        raise WireError(f"{field}: {len(data)} bytes are not whole float32 values")
    values = np.frombuffer(data, dtype="<f4").astype(np.float32, copy=False)
    return _finite(field, torch.from_numpy(values))


def _finite(field: str, values: Tensor) -> Tensor:
    if not all_finite(values):
        bad = int((~torch.isfinite(values)).sum())
        raise WireError(f"{field}: {bad} of {len(values)} values are NaN or infinite")
    return values


def read_indices(field: str, value: object, count: int, size: int) -> npt.NDArray[np.int64]:
    """Return ``count`` strictly ascending indices below ``size``."""
    data = read_binary(field, value)
    try:
        return decode_indices(data, count, size)
    except ValueError as error:
        raise WireError(f"{field}: {error}") from error
