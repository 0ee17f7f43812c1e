"""One file of a checkpoint: what goes in comes out, and nothing comes out of another."""

import json
import math
import tracemalloc
from typing import Any

import pytest
import torch
from torch import Tensor

from launch.checkpoints.frame import _HEAD, _digest, digest_of, dumped, loaded
from mlmc_ray.errors import CheckpointError

DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16, torch.int32, torch.int64]
VALUE: dict[str, Any] = {
    "none": None,
    "numbers": [True, 3, -(2**80), 0.1, -math.inf, 5e-324],
    "words": ("ä\ud800", b"\x00\xff", ()),
    "by number": {0: {"step": torch.tensor(3.0)}, -1: []},
    "vector": torch.arange(6, dtype=torch.float32)[1:5],
    "matrix": torch.arange(6).reshape(2, 3).T,
    "empty": torch.empty(0, 3),
}


def file_of(value: Any) -> bytes:
    return b"".join(dumped(value))


def assert_same(one: Any, other: Any) -> None:
    assert type(one) is type(other)
    if isinstance(one, Tensor):
        assert one.dtype == other.dtype
        assert one.stride() == other.stride()
        assert torch.equal(one, other)
    elif isinstance(one, dict):
        assert list(one) == list(other)
        for key in one:
            assert_same(one[key], other[key])
    elif isinstance(one, list | tuple):
        for pair in zip(one, other, strict=True):
            assert_same(*pair)
    else:
        assert one == other


def test_what_goes_in_comes_out() -> None:
    assert_same(VALUE, loaded(file_of(VALUE)))
    assert math.isnan(loaded(file_of([math.nan]))[0])


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_type_keeps_its_bits(dtype: torch.dtype) -> None:
    tensor = torch.randn(9, generator=torch.Generator().manual_seed(1)).mul(99).to(dtype)
    assert_same(tensor, loaded(file_of(tensor)))


def test_what_shares_memory_shares_it_again_and_is_written_once() -> None:
    whole = torch.zeros(1000)
    value = {"whole": whole, "part": whole[3:5], "same": whole}
    assert len(file_of(value)) < 5000
    read = loaded(file_of(value))
    read["part"][0] = 7
    assert read["whole"][3] == read["same"][3] == 7
    read["whole"].add_(1)  # nothing is read-only


def test_entries_that_are_one_in_memory_are_written_out() -> None:
    one = torch.arange(2.0)
    for tensor in (one[:1].expand(9), one.expand(3, 2), one.as_strided((2, 2), (0, 1))):
        assert torch.equal(loaded(file_of(tensor)), tensor)


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (
            {"half": {"x": object()}},
            r"\$.half.x is of builtins.object, which a checkpoint does not",
        ),
        ([torch.eye(2).to_sparse()], r"\$\[0\] is a Tensor of torch.float32, torch.sparse_coo on"),
        ([torch.nn.Parameter(torch.ones(1))], r"\$\[0\] is a Parameter of"),
        ([torch.empty(3, device="meta")], "on meta, and a checkpoint holds dense tensors on the"),
    ],
)
def test_what_it_cannot_hold_is_named(value: Any, name: str) -> None:
    with pytest.raises(CheckpointError, match=name):
        dumped(value)


SMALL = file_of({"a": [1, 2.5, (b"xy",)], "b": torch.arange(3), "c": torch.ones(2)[:1]})


def test_every_flipped_bit_is_found() -> None:
    for index in range(len(SMALL)):
        for bit in (0, 3, 7):
            damaged = bytearray(SMALL)
            damaged[index] ^= 1 << bit
            with pytest.raises(CheckpointError):
                loaded(bytes(damaged))


def test_every_file_that_is_cut_short_or_too_long_is_found() -> None:
    for length in range(len(SMALL)):
        with pytest.raises(CheckpointError):
            loaded(SMALL[:length])
    with pytest.raises(CheckpointError, match="is damaged or cut short"):
        loaded(SMALL + b"\x00")


def test_files_that_differ_have_other_digests() -> None:
    assert digest_of(dumped([1])) == digest_of(dumped([1])) != digest_of(dumped([2]))


def forged(header: bytes, memories: bytes = b"", *, version: int = 1, extra: int = 0) -> bytes:
    """A file with a right checksum, of somebody who knows the format."""
    head = _HEAD.pack(SMALL[:8], version, len(header) + extra)
    return b"".join([head, header, memories, _digest([head, header, memories])])


FORGED: dict[str, Any] = {
    "a kind that is none": {"code": "print()"},
    "two kinds": {"tuple": [], "dict": []},
    "bytes from elsewhere": {"bytes": [0, 99]},
    "bytes before the first": {"bytes": [-4, 4]},
    "a tensor that does not fit": {"tensor": [0, 8, "float32", 0, [3], [1]]},
    "a tensor of much": {"tensor": [0, 8, "float32", 0, [1 << 40], [1]]},
    "a tensor beyond numbers": {"tensor": [0, 8, "float32", 0, [1 << 90], [0]]},
    "strides that leave it": {"tensor": [0, 8, "float32", 0, [2, 2], [1, 9]]},
    "a negative stride": {"tensor": [0, 8, "float32", 1, [2], [-1]]},
    "bytes twice": [{"bytes": [0, 8]}, {"bytes": [0, 1]}],
    "memories that overlap": [
        {"tensor": [0, 8, "uint8", 0, [8], [1]]},
        {"tensor": [1, 7, "uint8", 0, [7], [1]]},
    ],
    "much of one entry": {"tensor": [0, 8, "float32", 0, [1 << 40], [0]]},
    "rows that overlap": {"tensor": [0, 8, "float32", 0, [2, 2], [0, 1]]},
    "an offset beyond it": {"tensor": [0, 8, "float32", 2, [1], [1]]},
    "an infinite offset": {"tensor": [0, 8, "float32", math.inf, [1], [1]]},
    "an unknown type": {"tensor": [0, 8, "quint8", 0, [1], [1]]},
    "a part too few": {"tensor": [0, 8, "float32", 0, [1]]},
    "a key that is none": {"dict": [[[1], 2]]},
}


@pytest.mark.parametrize("why", FORGED)
def test_what_is_forged_is_refused(why: str) -> None:
    data = forged(json.dumps(FORGED[why]).encode(), bytes(8))
    with pytest.raises(CheckpointError, match=r"^is malformed: "):
        loaded(data)


def test_other_headers_are_refused() -> None:
    for data, reason in (
        (forged(b"[]", version=2), "is of version 2, and version 1 can be read here"),
        (forged(b"[]", extra=1 << 60), "has no room for a header"),
        (forged(b"[" * 100_000), "is malformed: maximum recursion depth"),
        (forged(b"\xff"), "is malformed: "),
        (forged(b"nothing"), "is malformed: "),
        (b"x" * 99, "is no checkpoint: it begins with b'xxxxxxxx'"),
    ):
        with pytest.raises(CheckpointError, match=reason):
            loaded(data)


def test_claims_of_much_allocate_little() -> None:
    claim = {"tensor": [0, 1 << 40, "float32", 0, [1 << 38], [1]]}
    data = forged(json.dumps([claim] * 9).encode(), bytes(8))
    tracemalloc.start()
    with pytest.raises(CheckpointError):
        loaded(data)
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()
