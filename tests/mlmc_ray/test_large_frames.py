"""Frames whose binary fields msgpack does not write itself: the same bytes all the same."""

import msgpack
import pytest
import torch

from mlmc_ray.payloads import DensePayload, Message
from mlmc_ray.wire import WIRE_VERSION, decode, encode

AROUND_64_KIB = [(1 << 14) - 1, 1 << 14, (1 << 14) + 1, 100_000]  # float32 values


@pytest.mark.parametrize("size", [0, 1, 63, 64, *AROUND_64_KIB])
@pytest.mark.parametrize("step", [1, 2])
def test_a_frame_is_what_msgpack_would_write(size: int, step: int) -> None:
    values = torch.randn(size * step, generator=torch.Generator().manual_seed(size))[::step]
    frame = encode(Message({"gradient": DensePayload(values)}, {"weight": 0.5}))
    data = values.numpy().astype("<f4").tobytes()
    assert frame == msgpack.packb([WIRE_VERSION, {"gradient": [1, 0, data]}, {"weight": 0.5}])
    assert torch.equal(decode(frame).payloads["gradient"].to_dense(), values)
