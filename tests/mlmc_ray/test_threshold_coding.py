import dataclasses
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlmc_ray.kernels import threshold_coding as module
from mlmc_ray.kernels.adaptive_bits import finished, writer
from mlmc_ray.kernels.shared_uniform import shared_uniform
from mlmc_ray.kernels.threshold_bits import code_layer
from mlmc_ray.kernels.threshold_coding import (
    NUM_BINS,
    Blocks,
    bins_of,
    decode_places,
    encode_places,
    num_blocks,
)

Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.uint32]

SOME = settings(max_examples=150, deadline=None)  # the first example compiles


def encode_counts(counts: Sequence[Counts], layers: Sequence[Blocks]) -> bytes:
    places = [np.flatnonzero(every) for every in counts]
    found = [every[there].astype(np.int64) for every, there in zip(counts, places, strict=True)]
    return encode_places(places, found, layers)


def decode_counts(data: bytes, layers: Sequence[Blocks]) -> list[Counts]:
    result = [np.zeros(layer.num_groups, dtype=np.uint32) for layer in layers]
    for every, (places, counts) in zip(result, decode_places(data, layers), strict=True):
        assert places.dtype == counts.dtype == np.int64
        assert (np.diff(places) > 0).all()
        every[places] = counts
    return result


def blocks_of(
    num_groups: int, block_size: int, interleaved: bool, columns: int, ratio: float, seed: int
) -> tuple[Blocks, Floats]:
    """Return blocks whose step is ``ratio`` typical magnitudes, and the thresholds' uniforms."""
    uniforms = shared_uniform(seed, num_blocks(num_groups, block_size))
    blocks = Blocks(
        num_groups=num_groups,
        block_size=block_size,
        interleaved=interleaved,
        order=np.argsort(-uniforms, kind="stable"),
        bins=bins_of((1 - uniforms) * ratio),
        columns=columns,
    )
    return blocks, uniforms


def counts_of(magnitudes: Floats, blocks: Blocks, uniforms: Floats) -> Counts:
    """Return floor(magnitude + u) for magnitudes in units of the step."""
    groups = np.arange(blocks.num_groups)
    block = groups % len(uniforms) if blocks.interleaved else groups // blocks.block_size
    return np.floor(magnitudes + uniforms[block]).astype(np.uint32)


def uneven_layer(ratio: float, block_size: int = 256) -> tuple[Blocks, Counts, Floats]:
    """Return a layer of 300 x 400 groups whose rows and columns have scales of their own."""
    rng = np.random.default_rng(3)
    scales = rng.lognormal(0, 1.5, (300, 1)) * rng.lognormal(0, 1.0, (1, 400))
    scales /= scales.mean()
    magnitudes = (rng.exponential(1, (300, 400)) * scales).ravel() / ratio
    blocks, uniforms = blocks_of(120_000, block_size, True, 400, ratio, 5)
    groups = np.arange(120_000)
    thresholds = (1 - uniforms)[groups % len(uniforms)]
    above = np.exp(-thresholds * ratio / scales.ravel())
    return blocks, counts_of(magnitudes, blocks, uniforms), above


@SOME
@given(
    num_groups=st.integers(1, 700),
    block_size=st.sampled_from([1, 2, 7, 8, 64, 256, 1000]),
    interleaved=st.booleans(),
    columns=st.integers(1, 800),
    ratio=st.sampled_from([1e-3, 0.5, 3.0, 100.0]),
    seed=st.integers(0, 1000),
)
def test_counts_come_back(
    num_groups: int, block_size: int, interleaved: bool, columns: int, ratio: float, seed: int
) -> None:
    blocks, uniforms = blocks_of(num_groups, block_size, interleaved, columns, ratio, seed)
    magnitudes = np.random.default_rng(seed).pareto(1.0, num_groups) / ratio
    counts = counts_of(magnitudes.clip(0, 2.0**32 - 2), blocks, uniforms)
    kept = counts.copy()
    data = encode_counts([counts, counts], [blocks, blocks])
    for back in decode_counts(data, [blocks, blocks]):
        assert back.dtype == np.uint32
        np.testing.assert_array_equal(back, kept)
    np.testing.assert_array_equal(counts, kept)


@pytest.mark.parametrize("largest", [0, 1, 15, 16, 17, 18, 19, 20, 1 << 16, (1 << 32) - 1])
@pytest.mark.parametrize("block_size", [1, 4])
def test_counts_of_every_size_come_back(largest: int, block_size: int) -> None:
    blocks, _ = blocks_of(9, block_size, False, 9, 1.0, 0)
    counts = np.full(9, largest, dtype=np.uint32)
    counts[::2] = 0
    (back,) = decode_counts(encode_counts([counts], [blocks]), [blocks])
    np.testing.assert_array_equal(back, counts)


def test_places_may_be_read_only_or_strided_views() -> None:
    blocks, counts, _ = uneven_layer(10.0)
    places = np.flatnonzero(counts)
    strided = [np.repeat(part, 2)[::2] for part in (places, counts[places].astype(np.int64))]
    for part in strided:
        part.flags.writeable = False
    data = encode_places([strided[0]], [strided[1]], [blocks])
    assert data == encode_counts([counts], [blocks])


def test_a_block_may_be_larger_than_the_layer() -> None:
    blocks, _ = blocks_of(10, 1 << 40, False, 5, 1.0, 0)
    counts = np.arange(10, dtype=np.uint32)
    (back,) = decode_counts(encode_counts([counts], [blocks]), [blocks])
    np.testing.assert_array_equal(back, counts)


@pytest.mark.parametrize("ratio", [100.0, 10.0, 1.0])
@pytest.mark.parametrize("block_size", [1, 256])
def test_not_knowing_the_scales_takes_a_byte_each(ratio: float, block_size: int) -> None:
    blocks, counts, above = uneven_layer(ratio, block_size)
    positive = np.minimum(counts, 1)
    ideal = -np.log2(np.where(positive == 1, above, 1 - above)).sum() / 8
    size = len(encode_counts([positive], [blocks]))
    assert size < 1.02 * ideal + 700


def test_rows_and_columns_are_told_apart() -> None:
    blocks, counts, _ = uneven_layer(10.0)
    flat = dataclasses.replace(blocks, columns=blocks.num_groups)
    assert len(encode_counts([counts], [blocks])) < 0.8 * len(encode_counts([counts], [flat]))


def test_the_bins_make_zeros_cheap() -> None:
    blocks, counts, _ = uneven_layer(100.0)
    one_bin = dataclasses.replace(blocks, bins=np.full_like(blocks.bins, 50))
    assert len(encode_counts([counts], [blocks])) < 0.9 * len(encode_counts([counts], [one_bin]))


def test_zeros_take_hardly_any_bytes() -> None:
    blocks, _ = blocks_of(1_000_000, 256, True, 1000, 100.0, 1)
    assert len(encode_counts([np.zeros(1_000_000, dtype=np.uint32)], [blocks])) < 200


def test_no_layers_take_no_bytes() -> None:
    assert encode_counts([], []) == b""
    assert decode_counts(b"", []) == []


def test_the_bytes_do_not_change_between_machines() -> None:
    layers = [blocks_of(40, 8, True, 10, 3.0, 1)[0], blocks_of(12, 1, False, 12, 3.0, 2)[0]]
    counts = [np.arange(40, dtype=np.uint32) // 13, np.arange(12, dtype=np.uint32) % 5 * 7]
    assert encode_counts(counts, layers).hex() == (
        "fcda6c07d56524d59d86154f35a223f7204b02db7c8fbfd08e27e4d6fd9f7773ac80"
    )


def test_bins_are_quarters_of_doublings() -> None:
    edges = [2.0**exponent * (1 + quarter / 4) for exponent in (-10, 0, 5) for quarter in range(4)]
    found = bins_of(np.array(edges))
    np.testing.assert_array_equal(found, [0, 1, 2, 3, 40, 41, 42, 43, 60, 61, 62, 63])
    np.testing.assert_array_equal(bins_of(np.nextafter(edges[1:], 0)), found[1:] - 1)
    np.testing.assert_array_equal(bins_of(np.array([0.0, 5e-324, 1e300])), [0, 0, NUM_BINS - 1])


def test_damaged_bytes_are_refused_or_are_other_counts() -> None:
    blocks, uniforms = blocks_of(3000, 64, True, 50, 10.0, 4)
    magnitudes = np.random.default_rng(0).pareto(1.5, 3000) / 10
    counts = counts_of(magnitudes, blocks, uniforms)
    data = encode_counts([counts], [blocks])
    rng = np.random.default_rng(1)
    for _ in range(200):
        mutated = bytearray(data)
        mutated[rng.integers(len(data))] ^= 1 << rng.integers(8)
        for other in (bytes(mutated), data[: rng.integers(len(data))], rng.bytes(len(data))):
            try:
                (back,) = decode_counts(other, [blocks])
            except ValueError:
                continue
            assert encode_counts([back], [blocks]) == other


@pytest.mark.parametrize("count", [1 << 32, (1 << 32) + 15, 1 << 33])
def test_counts_beyond_32_bits_are_refused(count: int) -> None:
    blocks, _ = blocks_of(1, 1, False, 1, 1.0, 0)
    state, words = writer(), np.empty(20, np.uint32)
    layout, model = module._layout(blocks), module._model(blocks, module._new_tail())
    groups, counts = np.array([0, -1]), np.array([count, 0])  # an honest writer refuses them
    code_layer(state, words, True, groups, counts, layout, model)
    with pytest.raises(ValueError, match="layer 0: a count is not below"):
        decode_counts(finished(state, words), [blocks])


@pytest.mark.parametrize("data", [b"", b"\xff" * 9, b"\xff" * 100_000, b"\0", b"\1" * 1000])
def test_hostile_bytes_end_soon(data: bytes) -> None:
    blocks, _ = blocks_of(20_000, 64, True, 50, 10.0, 4)
    began = time.perf_counter()
    try:
        decode_counts(data, [blocks])
    except ValueError:
        assert data
    assert time.perf_counter() - began < 10


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"block_size": 0}, "block_size=0"),
        ({"columns": 0}, "columns=0"),
        ({"num_groups": 0}, "num_groups=0"),
        ({"order": np.arange(3)}, "order: expected 4 of int64, got shape"),
        ({"order": np.array([0, 1, 2, 2])}, "block 3 of 4 is missing"),
        ({"order": np.array([0, 1, 2, 9])}, "block 3 of 4 is missing"),
        ({"bins": np.zeros(4, dtype=np.int64)}, "bins: expected 4 of uint8"),
        ({"bins": np.full(4, NUM_BINS, dtype=np.uint8)}, "bins: expected 0 to 63, got 64"),
    ],
)
def test_blocks_that_do_not_fit_are_refused(change: dict[str, Any], said: str) -> None:
    blocks, _ = blocks_of(16, 4, True, 4, 1.0, 0)
    with pytest.raises(ValueError, match=said):
        dataclasses.replace(blocks, **change)


@pytest.mark.parametrize(
    ("places", "counts", "said"),
    [
        ([3], [1, 1], r"got shape \(1,\) of int64 and shape \(2,\) of int64"),
        ([3], [1.5], "of float64"),
        ([3, 16], [1, 1], "places: expected 0 to 15, got 3 to 16"),
        ([-1, 3], [1, 1], "places: expected 0 to 15, got -1 to 3"),
        ([3], [0], r"counts: expected 1 to 2\*\*32 - 1, got 0 to 0"),
        ([3], [1 << 32], "counts: expected"),
        ([3, 3], [1, 1], "places: sort them, and give each once"),
        ([7, 3], [1, 1], "places: sort them, and give each once"),
    ],
)
def test_counts_that_do_not_fit_are_refused(
    places: list[int], counts: list[int], said: str
) -> None:
    blocks, _ = blocks_of(16, 4, True, 4, 1.0, 0)
    with pytest.raises(ValueError, match=said):
        encode_places([np.array(places)], [np.array(counts)], [blocks])
