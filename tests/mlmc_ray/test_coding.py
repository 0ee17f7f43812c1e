import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlmc_ray.kernels.index_coding import decode_indices, encode_indices
from mlmc_ray.kernels.symbol_coding import decode_symbols, encode_symbols

Ints = npt.NDArray[np.int64]
Symbols = npt.NDArray[np.unsignedinteger[Any]]

SOME = settings(max_examples=100, deadline=None)  # the first example compiles
OVER = 1.03  # the size that is promised, in ideal sizes
SEEDS = st.integers(0, 1 << 32)


def random_indices(density: float, dim: int, start: int = 0) -> Ints:
    rng = np.random.default_rng(round(1 / density))
    return np.unique(rng.integers(0, dim, round(-dim * math.log1p(-density)))) + start


def random_symbols(probabilities: list[float], count: int) -> Symbols:
    rng = np.random.default_rng(len(probabilities))
    limits = np.cumsum(probabilities)[:-1] / sum(probabilities)
    dtype = np.uint8 if len(probabilities) <= 256 else np.uint16
    return np.searchsorted(limits, rng.random(count)).astype(dtype)


def subset_bytes(count: int, dim: int) -> float:
    """Return log2 C(dim, count) / 8."""
    nats = math.lgamma(dim + 1) - math.lgamma(count + 1) - math.lgamma(dim - count + 1)
    return nats / math.log(2) / 8


def entropy_bytes(symbols: Symbols) -> float:
    counts = np.unique(symbols, return_counts=True)[1]
    return float((counts * np.log2(len(symbols) / counts)).sum()) / 8


def assert_indices_come_back(indices: Ints, dim: int) -> None:
    data = encode_indices(indices, dim)
    assert len(data) <= 1 + math.ceil(dim / 8)
    decoded = decode_indices(data, len(indices), dim)
    assert decoded.dtype == np.int64
    np.testing.assert_array_equal(decoded, indices)


def assert_symbols_come_back(symbols: Symbols, alphabet: int) -> None:
    decoded = decode_symbols(encode_symbols(symbols, alphabet), len(symbols), alphabet)
    assert decoded.dtype == (np.uint8 if alphabet <= 256 else np.uint16)
    np.testing.assert_array_equal(decoded, symbols)


# -- index sets --------------------------------------------------------------------------------


@given(data=st.data(), dim=st.integers(1, 300))
@SOME
def test_small_index_sets_come_back(data: st.DataObject, dim: int) -> None:
    chosen = data.draw(st.sets(st.integers(0, dim - 1)))
    assert_indices_come_back(np.array(sorted(chosen), dtype=np.int64), dim)


@given(seed=SEEDS, densities=st.lists(st.sampled_from([1e-3, 0.02, 0.3, 0.7, 0.999]), max_size=3))
@SOME
def test_index_sets_of_mixed_density_come_back(seed: int, densities: list[float]) -> None:
    rng = np.random.default_rng(seed)
    parts = [rng.random(int(rng.integers(1, 3000))) < density for density in densities]
    mask = np.concatenate([[False], *parts])
    assert_indices_come_back(np.flatnonzero(mask), len(mask))


@given(
    chosen=st.sets(st.integers(0, (1 << 56) - 1), max_size=600),
    low=st.integers(0, 55),
)
@SOME
def test_huge_gaps_come_back(chosen: set[int], low: int) -> None:
    indices = np.unique(np.array([c >> low if c % 2 else c for c in chosen], dtype=np.int64))
    assert_indices_come_back(indices, 1 << 56)


@pytest.mark.parametrize(
    "indices", [[], [0], [999], [0, 999], [998, 999], list(range(1000)), list(range(999))]
)
def test_index_sets_at_the_ends_come_back(indices: list[int]) -> None:
    assert_indices_come_back(np.array(indices, dtype=np.int64), 1000)


SPARSE_DENSITIES = [1e-5, 1e-4, 1e-3, 0.01, 0.05, 0.1, 0.2, 0.21, 0.25, 0.9]
DENSE_DENSITIES = [0.3, 0.33, 0.35, 0.38, 0.4, 0.42, 0.45, 0.5, 0.6, 0.7]


@pytest.mark.parametrize("density", SPARSE_DENSITIES)
def test_an_index_set_takes_its_entropy(density: float) -> None:
    dim = 1_000_000 if density > 1e-4 else 20_000_000
    indices = random_indices(density, dim)
    assert len(encode_indices(indices, dim)) <= OVER * subset_bytes(len(indices), dim)
    assert_indices_come_back(indices, dim)


@pytest.mark.parametrize(
    "density",
    [
        pytest.param(density, marks=[] if density in (0.3, 0.5, 0.7) else [pytest.mark.slow])
        for density in DENSE_DENSITIES
    ],
)
def test_a_dense_index_set_takes_its_entropy(density: float) -> None:
    dim = 1_000_003
    indices = random_indices(density, dim)
    assert len(encode_indices(indices, dim)) <= 1.005 * subset_bytes(len(indices), dim)
    assert_indices_come_back(indices, dim)


def test_two_densities_take_the_entropy_of_both() -> None:
    half = 1_000_000
    sparse, dense = random_indices(0.001, half), random_indices(0.2, half, start=half)
    ideal = subset_bytes(len(sparse), half) + subset_bytes(len(dense), half)
    assert len(encode_indices(np.concatenate([sparse, dense]), 2 * half)) <= OVER * ideal


def test_small_index_sets_cost_two_bytes_more_than_their_entropy() -> None:
    dim = 1_000_000
    rng = np.random.default_rng(0)
    for count in range(1, 51):
        sizes = [
            len(encode_indices(np.sort(rng.choice(dim, count, replace=False)), dim))
            for _ in range(2)
        ]
        assert sum(sizes) / 2 <= 2.5 + subset_bytes(count, dim)


def test_half_of_all_indices_take_a_bitmap() -> None:
    indices = np.flatnonzero(np.random.default_rng(0).random(1001) < 0.5)
    assert len(encode_indices(indices, 1001)) == 1 + 126


def test_indices_out_of_order_or_range_are_refused() -> None:
    more_than_half = [0, 1, 1, 3, 4, 5, 6]
    for wrong in ([1, 1], [2, 1], [-1, 3], [3, 10], [4, 3, 5, 9], more_than_half, [5] * 10):
        with pytest.raises(ValueError, match=r"ascending|not in"):
            encode_indices(np.array(wrong), 10)
    with pytest.raises(ValueError, match="count <= dim"):
        decode_indices(b"", 3, 2)


PATTERNS = [[0, 4], [0, 2, 4], [1, 2, 3], [0, 4, 6]]  # bits that are set in a byte
INDEX_SETS = {
    "few": ([3, 70, 71, 5000], 10_000),
    "blocks": ([*range(0, 30_000, 31), *range(30_000, 200_000, 491)], 200_000),
    "long gaps": ([*range(300), 900_000, *range(2_000_000, 2_000_300)], 3_000_000),
    "complement": ([j for j in range(1000) if j % 13], 1000),
    "bitmap": ([j for j in range(1001) if j * j % 7 < 2], 1001),
    "coded bitmap": ([8 * i + j for i in range(999) for j in PATTERNS[i**3 // 7 % 4]], 7989),
}


@pytest.mark.parametrize("name", INDEX_SETS)
def test_shortened_or_lengthened_index_sets_are_refused(name: str) -> None:
    indices, dim = INDEX_SETS[name]
    data = encode_indices(np.array(indices), dim)
    for length in range(len(data)):
        with pytest.raises(ValueError):
            decode_indices(data[:length], len(indices), dim)
    with pytest.raises(ValueError):
        decode_indices(data + b"\0", len(indices), dim)


def check_indices(data: bytes, count: int, dim: int) -> None:
    try:
        decoded = decode_indices(data, count, dim)
    except ValueError:
        return
    assert len(decoded) == count
    assert (np.diff(decoded, prepend=-1, append=dim) > 0).all()


@given(
    name=st.sampled_from(sorted(INDEX_SETS)),
    place=st.integers(0),
    inserted=st.binary(max_size=3),
    removed=st.integers(0, 3),
)
@SOME
def test_a_mutated_index_set_is_refused_or_valid(
    name: str, place: int, inserted: bytes, removed: int
) -> None:
    indices, dim = INDEX_SETS[name]
    data = encode_indices(np.array(indices), dim)
    place %= len(data)
    mutated = data[:place] + inserted + data[place + removed :]
    check_indices(mutated, len(indices), dim)


@given(data=st.binary(max_size=40), count=st.integers(0, 400), more=st.integers(0, 1 << 55))
@SOME
def test_any_bytes_are_refused_or_an_index_set(data: bytes, count: int, more: int) -> None:
    for dim in (count, count + more % 50, count + more):
        check_indices(data, count, dim)


@pytest.mark.parametrize(
    ("data", "count", "dim", "reason"),
    [
        ("", 3, 10, "at least 1 byte"),
        ("00", 3, 10, "too few"),
        ("7f0000", 3, 100, "unknown code parameter"),
        ("000000", 3, 100, "expected 1 bytes"),
        ("0010", 3, 10, "not zero"),
        ("007f00", 3, 9, "not below"),
        ("00ffffff00", 1, 100, "short code"),
        ("8000", 3, 10, "not coded by those"),
        ("ff0700", 4, 10, "expected 4 indices, got 3"),
        ("ff0700", 2, 10, "expected 2 indices, got more"),
        ("ff0000", 2, 10, "expected 2 indices, got 0"),
        ("fe" + "00" * 12, 3, 800, "12 bytes are too few for a coded bitmap of 100"),
        ("fe240000", 3, 10, "unknown first byte 36 of a rANS code"),
        ("fe", 3, 10, "too few"),
        ("ff07", 3, 10, "a bitmap of 2 bytes"),
        ("ff0380", 3, 10, "not zero"),
    ],
)
def test_malformed_index_sets_give_a_reason(data: str, count: int, dim: int, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        decode_indices(bytes.fromhex(data), count, dim)


def test_a_bitmap_of_far_too_many_indices_is_refused() -> None:
    with pytest.raises(ValueError, match="expected 1 indices, got more"):
        decode_indices(b"\xff" * 1_000_001, 1, 8_000_000)


def test_a_golden_index_set() -> None:
    data = encode_indices(np.array([3, 70, 71, 5000]), 10_000)
    assert data.hex() == "120c2004c02f20"


# -- streams of symbols ------------------------------------------------------------------------


@given(data=st.data(), alphabet=st.sampled_from([1, 2, 3, 4, 5, 7, 16, 17, 256, 257, 1000, 65535]))
@SOME
def test_small_streams_come_back(data: st.DataObject, alphabet: int) -> None:
    symbols = data.draw(st.lists(st.integers(0, alphabet - 1), max_size=200))
    dtype = np.uint8 if alphabet <= 256 else np.uint16
    assert_symbols_come_back(np.array(symbols, dtype=dtype), alphabet)


@given(
    seed=SEEDS,
    alphabet=st.sampled_from([2, 3, 4, 5, 9, 16, 100, 256, 511, 65535]),
    decay=st.sampled_from([0.01, 0.3, 1.0, 3.0, 30.0, 1e3, 1e9]),
    count=st.integers(1, 20_000),
)
@SOME
def test_long_streams_come_back(seed: int, alphabet: int, decay: float, count: int) -> None:
    draws = np.random.default_rng(seed).exponential(decay, count) % alphabet
    dtype = np.uint8 if alphabet <= 256 else np.uint16
    assert_symbols_come_back(draws.astype(dtype), alphabet)


GEOMETRIC = {f"geometric {a}": [0.8 ** min(j, 60) for j in range(a)] for a in (5, 9, 16, 256, 511)}
UNIFORM = {f"uniform {a}": [1.0] * a for a in (5, 9, 16, 256, 511)}
TERNARY = {
    f"ternary {p}": [1 - p, 0.6 * p, 0.4 * p] for p in (0.01, 0.05, 0.15, 0.35, 0.5, 0.65, 0.8)
}
LAWS = GEOMETRIC | UNIFORM | TERNARY | {"wide": [1 / (1 + j) for j in range(20_000)]}


@pytest.mark.parametrize("count", [60_000, 1_000_003])
@pytest.mark.parametrize("name", LAWS)
def test_a_stream_takes_its_entropy(name: str, count: int) -> None:
    alphabet = len(LAWS[name])
    symbols = random_symbols(LAWS[name], count)
    data = encode_symbols(symbols, alphabet)
    ideal = entropy_bytes(symbols)
    if ideal > 10_000 and (name != "wide" or count > 500_000):
        assert len(data) <= OVER * ideal
    np.testing.assert_array_equal(decode_symbols(data, count, alphabet), symbols)


def test_the_header_of_a_small_stream_is_small() -> None:
    assert encode_symbols(np.zeros(0, dtype=np.uint8), 3) == b""
    assert encode_symbols(np.zeros(9, dtype=np.uint8), 1) == b""
    assert len(encode_symbols(np.full(1000, 2, dtype=np.uint8), 3)) == 2
    assert len(encode_symbols(np.array([0, 1, 2, 0, 1], dtype=np.uint8), 3)) == 2
    assert len(encode_symbols(np.arange(16, dtype=np.uint8), 16)) == 9
    assert len(encode_symbols(random_symbols([0.9, 0.05, 0.05], 1000), 3)) < 87


def test_symbols_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match="below 3, got 3"):
        encode_symbols(np.array([3], dtype=np.uint8), 3)
    for alphabet in (0, 65536):
        with pytest.raises(ValueError, match="1 to 65535"):
            encode_symbols(np.zeros(1, dtype=np.uint16), alphabet)
    with pytest.raises(ValueError, match="at least 0"):
        decode_symbols(b"", -1, 3)


CONSTANT, FIXED, SPARSE, SPLIT, RANS = range(5)
STREAMS: dict[str, tuple[list[float], int, int]] = {
    "constant": ([0.0, 1.0, 0.0], 50, CONSTANT),
    "fixed": ([1.0] * 11, 50, FIXED),
    "five in a byte": ([1.0] * 3, 52, FIXED),
    "sparse": ([0.97, 0.01, 0.02], 1000, SPARSE),
    "sparse bits": ([0.01, 0.99], 1000, SPARSE),
    "one lane": ([0.5, 0.1, 0.1, 0.3], 1003, RANS),
    "four lanes": ([0.8, 0.1, 0.1], 4999, RANS),
    "split": ([1.0 / (1 + j // 300) for j in range(3000)], 3000, SPLIT),
}


@pytest.mark.parametrize("name", STREAMS)
def test_shortened_or_lengthened_streams_are_refused(name: str) -> None:
    law, count, mode = STREAMS[name]
    data = encode_symbols(random_symbols(law, count), len(law))
    assert data[0] & 7 == mode
    for length in range(len(data)):
        with pytest.raises(ValueError):
            decode_symbols(data[:length], count, len(law))
    with pytest.raises(ValueError):
        decode_symbols(data + b"\0", count, len(law))


def check_symbols(data: bytes, count: int, alphabet: int) -> None:
    try:
        decoded = decode_symbols(data, count, alphabet)
    except ValueError:
        return
    assert len(decoded) == count
    assert count == 0 or decoded.max() < alphabet


@given(
    name=st.sampled_from(sorted(STREAMS)),
    place=st.integers(0),
    inserted=st.binary(max_size=3),
    removed=st.integers(0, 3),
)
@settings(SOME, max_examples=300)
def test_a_mutated_stream_is_refused_or_valid(
    name: str, place: int, inserted: bytes, removed: int
) -> None:
    law, count, _ = STREAMS[name]
    data = encode_symbols(random_symbols(law, count), len(law))
    place %= len(data) if place % 2 else min(len(data), 24)  # the headers as often as the rest
    check_symbols(data[:place] + inserted + data[place + removed :], count, len(law))


@given(
    first=st.sampled_from([FIXED, SPARSE, SPLIT, *range(RANS, 256, 8)]),
    rest=st.binary(max_size=60),
    count=st.integers(0, 100),
    alphabet=st.sampled_from([1, 2, 3, 6, 16, 200, 300, 65535]),
)
@settings(SOME, max_examples=300)
def test_any_bytes_are_refused_or_a_stream(
    first: int, rest: bytes, count: int, alphabet: int
) -> None:
    check_symbols(bytes([first]) + rest, count, alphabet)


@pytest.mark.parametrize(
    ("data", "count", "alphabet", "reason"),
    [
        ("00", 0, 3, "expected 0 bytes"),
        ("", 4, 3, "expected 1 more bytes"),
        ("0003", 4, 3, "expected a symbol below 3"),
        ("000101", 4, 3, "left over"),
        ("0f", 4, 3, "unknown first byte 15"),
        ("84", 4, 3, "unknown first byte 132"),
        ("2402", 4, 17, "unknown first byte 36"),
        ("01f3", 5, 3, "above 242"),
        ("0151", 4, 3, "unused digits"),
        ("01ff", 2, 9, "below 9, got 15"),
        ("0110", 1, 9, "unused bits"),
        ("02000500", 4, 3, "1 to 4 other symbols"),
        ("02000102010202", 4, 3, "unknown first byte 2"),
        ("030000", 4, 300, "cannot split 0 bits"),
        ("03010101", 4, 300, "unknown first byte 1 of a rANS code"),
        ("0401", 4, 3, "2 or more of 3 symbols"),
        ("04ffffffffffffffffff", 4, 3, "more than nine bytes"),
    ],
)
def test_malformed_streams_give_a_reason(data: str, count: int, alphabet: int, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        decode_symbols(bytes.fromhex(data), count, alphabet)


def test_a_golden_stream() -> None:
    cubes = np.arange(100) ** 3
    symbols = np.array([3, 50, 120, 199], dtype=np.uint8)[cubes // 7 % 4]
    data = encode_symbols(symbols, 200)
    assert data.hex() == (
        "0404050a8cbdaa1c0613124eb83c02a3a2ff294bf85f23142289065b82ac04aeb5f319578a2f818ee6"
    )
