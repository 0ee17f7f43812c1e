"""Entries rounded by shared thresholds, against the definition."""

import numpy as np
import numpy.typing as npt
import pytest

from mlmc_ray.kernels.shared_rounding import sent_entries

Floats = npt.NDArray[np.floating]
LAYOUTS = pytest.mark.parametrize("interleaved", [True, False])


def defined(
    values: Floats, step: float, uniforms: npt.NDArray[np.float64], block: int, interleaved: bool
) -> list[npt.NDArray[np.int64]]:
    """Return places, counts and signs as the definition says."""
    entries = np.arange(len(values))
    of_entry = entries % len(uniforms) if interleaved else entries // block
    counts = np.floor(np.abs(values.astype(np.float64)) / step + uniforms[of_entry])
    places = np.flatnonzero(counts)
    steps = np.minimum(counts[places], 2.0**32).astype(np.int64)
    return [places, steps, (values[places] < 0).astype(np.int64)]


def check(values: Floats, step: float, block: int, interleaved: bool, seed: int = 0) -> int:
    """Compare both, and return how many entries are sent."""
    rng = np.random.default_rng(seed)
    number = -(-len(values) // block)
    uniforms = (rng.permutation(number) + rng.random()) / number
    kept = values.copy()
    found = sent_entries(values, step, uniforms, block, interleaved)
    for got, expected in zip(
        found, defined(values, step, uniforms, block, interleaved), strict=True
    ):
        assert got.dtype == np.int64
        np.testing.assert_array_equal(got, expected)
    np.testing.assert_array_equal(values, kept)
    return len(found[0])


@LAYOUTS
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("block", [1, 3, 256, 5000, 1 << 30])
@pytest.mark.parametrize("dim", [1, 7, 8, 9, 4095, 4096, 4097, 20_011])
def test_entries_are_those_of_the_definition(
    dim: int, block: int, dtype: type[np.floating], interleaved: bool
) -> None:
    values = np.random.default_rng(dim).standard_normal(dim).astype(dtype)
    for step in (1e-3, 0.7, 3.0, 50.0):
        check(values, step, block, interleaved)


@LAYOUTS
def test_none_or_all_may_be_sent(interleaved: bool) -> None:
    assert check(np.zeros(10_000, dtype=np.float32), 1.0, 256, interleaved) == 0
    assert check(np.full(10_000, -1e-9, dtype=np.float32), 1e30, 256, interleaved) == 0
    assert check(np.full(10_000, -3.0, dtype=np.float32), 1.0, 256, interleaved) == 10_000


@LAYOUTS
@pytest.mark.parametrize("step", [2.0**-149, 3e-45, 1e-42, 1e-38, 3e38])
def test_the_ends_of_float32(step: float, interleaved: bool) -> None:
    units = np.random.default_rng(1).integers(0, 9, 9000).astype(np.float32)
    check(units * np.float32(2.0**-149), step, 16, interleaved)
    check(units.astype(np.float64) * 2.0**-151, step, 16, interleaved)
    check(units * np.float32(4e37), step, 16, interleaved)


@LAYOUTS
def test_entries_at_their_threshold(interleaved: bool) -> None:
    """Magnitudes of (1 - u) step, and their neighbours in float32."""
    for step in (1.0, 0.1, 1e-41):
        uniforms = (np.random.default_rng(2).permutation(500) + 0.3) / 500
        exact = ((1 - uniforms) * step).astype(np.float32)
        parts = [np.nextafter(exact, np.float32(0)), exact, np.nextafter(exact, np.float32(1))]
        values = np.concatenate(parts) if interleaved else np.stack(parts, axis=1).ravel()
        found = sent_entries(values, step, uniforms, 3, interleaved)
        for got, expected in zip(
            found, defined(values, step, uniforms, 3, interleaved), strict=True
        ):
            np.testing.assert_array_equal(got, expected)


def test_room_grows_where_the_sample_misleads() -> None:
    values = np.full(300_000, 1.0, dtype=np.float32)
    values[:: 300_000 // 4096] = 0
    assert check(values, 0.5, 256, True) > 290_000


def test_counts_are_cut_off_at_what_no_message_holds() -> None:
    check(np.array([1e30, -1e30, 2.0**32, 2.0**31], dtype=np.float32), 1.0, 2, True)
    check(np.array([1e300]), 1e-3, 1, True)
