"""Frames of groups rounded by shared thresholds against the ideal adaptive code."""

import pytest
import torch
from torch import Tensor

from mlmc_ray.compressors import Context, SharedDirections, SharedThresholds
from mlmc_ray.payloads import Message
from mlmc_ray.seeding import generator_for
from mlmc_ray.wire import encode
from mlmc_ray.wire.ideal import ideal_bits

ROWS, COLUMNS = 600, 1000
CONTEXT = Context(generator_for(0), layer_sizes=(ROWS * COLUMNS,), layer_shapes=((ROWS, COLUMNS),))


def alike() -> Tensor:
    """Return normal entries: rows and columns say nothing."""
    return torch.randn(ROWS * COLUMNS, generator=generator_for(1))


def matrix() -> Tensor:
    """Return entries whose size depends on their row and their column, as gradients have."""
    scales = [torch.randn(side, generator=generator_for(2, side)).exp() for side in (ROWS, COLUMNS)]
    return alike() * torch.outer(*scales).reshape(-1)


@pytest.mark.parametrize("layout", ["interleaved", "contiguous"])
@pytest.mark.parametrize(
    ("kind", "rms"),
    [
        *((SharedThresholds, rms) for rms in (12.0, 6.0, 3.0, 1.0)),
        *((SharedDirections, rms) for rms in (20.0, 10.0, 4.0)),
    ],
)
def test_frames_above_5_kb_are_within_8_per_cent_of_the_ideal_code(
    kind: type[SharedThresholds | SharedDirections], rms: float, layout: str
) -> None:
    for vector in (alike(), matrix()):
        compressor = kind(rms=rms, layout=layout).bind(CONTEXT)  # type: ignore[arg-type]
        payload = compressor.compress(vector, generator=generator_for(3))
        size, ideal = len(encode(Message({"v": payload}))), ideal_bits(payload) / 8
        assert size > 5000
        assert size <= 1.08 * ideal


def test_rows_and_columns_save_what_the_thresholds_do_not_know() -> None:
    compressor = SharedThresholds(rms=10.0).bind(CONTEXT)
    payload = compressor.compress(matrix(), generator=generator_for(3))
    assert len(encode(Message({"v": payload}))) < 0.75 * ideal_bits(payload) / 8
