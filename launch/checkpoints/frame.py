r"""Plain values and tensors as one file, which loads without running code.

    magic          8 bytes: \x89MLMC\r\n\x1a
    version        u32
    header bytes   u64
    header         JSON, UTF-8: the values, with tensors and bytes by place in the memories
    memories       the bytes of tensors, end to end
    checksum       BLAKE2b of all before it, 32 bytes

Numbers are little-endian. Values are None, booleans, integers, floats (exact, infinities and NaN
too), strings, bytes, lists, tuples, mappings with such keys, and dense CPU tensors; what shared
memory shares it again.
"""

import hashlib
import json
import math
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mlmc_ray.errors import CheckpointError, one_line

VERSION = 1
_MAGIC = b"\x89MLMC\r\n\x1a"
_HEAD = struct.Struct("<8sIQ")
_DIGEST_BYTES = 32
_DTYPES = {
    str(dtype).removeprefix("torch."): dtype
    for dtype in (
        *(torch.float16, torch.bfloat16, torch.float32, torch.float64),
        *(torch.int8, torch.uint8, torch.int16, torch.int32, torch.int64),
        *(torch.bool, torch.complex64, torch.complex128),
    )
}

Piece = bytes | memoryview


def dumped(value: Any) -> list[Piece]:
    """Return a file, in pieces that may share memory with tensors of the value.

    Raises:
        CheckpointError: something in the value is none of what a file holds; says where.
    """
    writer = _Writer()
    header = json.dumps(writer.plain(value, "$"), separators=(",", ":")).encode()
    pieces: list[Piece] = [_HEAD.pack(_MAGIC, VERSION, len(header)), header, *writer.memories]
    return [*pieces, _digest(pieces)]


def digest_of(pieces: Sequence[Piece]) -> str:
    """Return what tells a file from others, in 16 letters."""
    return bytes(pieces[-1]).hex()[:16]


def loaded(data: bytes) -> Any:
    """Return the value of a file; what is allocated is no more than a few times its size.

    Raises:
        CheckpointError: it is no such file, is damaged or cut short, or is of a newer version.
    """
    if len(data) < _HEAD.size + _DIGEST_BYTES:
        raise CheckpointError(f"is cut short: it has {len(data)} bytes")
    magic, version, header_bytes = _HEAD.unpack_from(data)
    if magic != _MAGIC:
        raise CheckpointError(f"is no checkpoint: it begins with {magic!r}")
    body = memoryview(data)[:-_DIGEST_BYTES]
    if _digest([body]) != data[-_DIGEST_BYTES:]:
        raise CheckpointError("is damaged or cut short: its checksum is that of other bytes")
    if version != VERSION:
        raise CheckpointError(f"is of version {version}, and version {VERSION} can be read here")
    start = _HEAD.size + header_bytes
    if start > len(body):
        raise CheckpointError(f"is malformed: it has no room for a header of {header_bytes} bytes")
    try:
        reader = _Reader(body[start:])
        return reader.value(json.loads(bytes(body[_HEAD.size : start])))
    except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise CheckpointError(f"is malformed: {one_line(error)}") from error


def _digest(pieces: Sequence[Piece]) -> bytes:
    digest = hashlib.blake2b(digest_size=_DIGEST_BYTES)
    for piece in pieces:
        digest.update(piece)
    return digest.digest()


class _Writer:
    """Makes the header, and gathers the memories."""

    def __init__(self) -> None:
        self.memories: list[Piece] = []
        self._end = 0
        self._places: dict[int, tuple[int, int]] = {}  # by storage
        self._kept: list[torch.UntypedStorage] = []  # so that none is freed, and taken for another

    def plain(self, value: Any, place: str) -> Any:
        if value is None or type(value) in (bool, int, float, str):
            return value
        if isinstance(value, list):
            return [self.plain(item, f"{place}[{i}]") for i, item in enumerate(value)]
        if type(value) is tuple:
            return {"tuple": [self.plain(item, f"{place}[{i}]") for i, item in enumerate(value)]}
        if isinstance(value, dict):
            pairs = [
                [self.plain(key, f"{place} keys"), self.plain(item, f"{place}.{key}")]
                for key, item in value.items()
            ]
            return {"dict": pairs}
        if isinstance(value, bytes):
            return {"bytes": self._add(value)}
        if isinstance(value, Tensor):
            return {"tensor": self._tensor(value, place)}
        raise CheckpointError(
            f"{place} is of {type(value).__module__}.{type(value).__qualname__}, which a "
            "checkpoint does not hold: remember tensors, numbers and strings"
        )

    def _add(self, memory: Piece) -> tuple[int, int]:
        place = (self._end, len(memory))
        self.memories.append(memory)
        self._end += len(memory)
        return place

    def _tensor(self, tensor: Tensor, place: str) -> list[Any]:
        name = str(tensor.dtype).removeprefix("torch.")
        dense = tensor.layout == torch.strided and tensor.device.type == "cpu"
        bare = not (tensor.is_conj() or tensor.is_neg() or tensor.is_quantized or tensor.is_nested)
        if type(tensor) is not Tensor or name not in _DTYPES or not (dense and bare):
            raise CheckpointError(
                f"{place} is a {type(tensor).__name__} of {tensor.dtype}, {tensor.layout} on "
                f"{tensor.device}, and a checkpoint holds dense tensors on the CPU, of "
                f"{list(_DTYPES)}"
            )
        storage = tensor.untyped_storage()
        if tensor.numel() * tensor.itemsize > storage.nbytes():  # entries that are one in memory
            storage = (tensor := tensor.contiguous()).untyped_storage()
        if storage._cdata not in self._places:
            self._kept.append(storage)
            memory = torch.empty(0, dtype=torch.uint8).set_(storage).numpy()
            self._places[storage._cdata] = self._add(memory.data)
        where = self._places[storage._cdata]
        return [*where, name, tensor.storage_offset(), list(tensor.shape), list(tensor.stride())]


class _Reader:
    """Makes values of a header and the memories."""

    def __init__(self, memories: memoryview) -> None:
        self._memories = memories
        self._storages: dict[int, Tensor] = {}  # by where they begin
        self._left = len(memories)  # bytes that may still be copied

    def value(self, plain: Any) -> Any:
        if isinstance(plain, list):
            return [self.value(item) for item in plain]
        if not isinstance(plain, dict):
            return plain
        ((kind, content),) = plain.items()
        if kind == "tuple":
            return tuple(self.value(item) for item in content)
        if kind == "dict":
            return {self.value(key): self.value(item) for key, item in content}
        if kind == "bytes":
            return bytes(self._take(*content))
        if kind == "tensor":
            return self._tensor(*content)
        raise ValueError(f"{kind!r} is no kind of value")

    def _memory(self, start: int, num_bytes: int) -> memoryview:
        if not 0 <= start <= start + num_bytes <= len(self._memories):
            raise ValueError(f"{num_bytes} bytes from {start} on are more than there are")
        return self._memories[start : start + num_bytes]

    def _take(self, start: int, num_bytes: int) -> memoryview:
        """Return memory to be copied; all of it together is no more than there is."""
        memory = self._memory(start, num_bytes)
        self._left -= num_bytes
        if self._left < 0:
            raise ValueError(f"some of the {num_bytes} bytes from {start} on are used twice")
        return memory

    def _tensor(
        self, start: int, num_bytes: int, name: str, offset: int, shape: Any, stride: Any
    ) -> Tensor:
        dtype = _DTYPES[name]
        key = start if num_bytes else -1 - len(self._storages)  # no part of what begins here
        if key not in self._storages:
            memory = np.frombuffer(self._take(start, num_bytes), np.uint8)
            self._storages[key] = torch.from_numpy(memory.copy())
        storage = self._storages[key].untyped_storage()
        if len(shape) != len(stride) or min([offset, *shape, *stride]) < 0:
            raise ValueError(f"no tensor has offset {offset}, shape {shape} and strides {stride}")
        last = offset + sum((n - 1) * step for n, step in zip(shape, stride, strict=True))
        needed = max(last + 1, math.prod(shape)) if math.prod(shape) else 0
        if needed * dtype.itemsize > storage.nbytes():
            raise ValueError(f"a tensor of shape {shape} does not fit into {num_bytes} bytes")
        return torch.empty(0, dtype=dtype).set_(storage, offset, tuple(shape), tuple(stride))
