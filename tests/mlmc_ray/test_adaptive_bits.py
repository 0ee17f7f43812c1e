import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlmc_ray.kernels.adaptive_bits import (
    State,
    Words,
    check_end,
    code_bit,
    finished,
    keep,
    reader,
    resumed,
    writer,
)
from mlmc_ray.kernels.compiled import compiled
from mlmc_ray.kernels.logistic import (
    WEIGHT_BITS,
    correction,
    learn,
    new_weights,
    probability_of,
    rates,
)

Ints = npt.NDArray[np.int64]

SOME = settings(max_examples=200, deadline=None)  # the first example compiles
WHOLE = 1 << 16
EXTREME = st.sampled_from([1, 2, WHOLE // 2, WHOLE - 2, WHOLE - 1])
BITS = st.lists(st.tuples(st.integers(0, 1), st.one_of(EXTREME, st.integers(1, WHOLE - 1))))


@compiled
def _write(state: State, words: Words, bits: Ints, probabilities: Ints) -> None:
    coder = resumed(state)
    for i in range(len(bits)):
        coder, _ = code_bit(coder, words, True, bits[i], probabilities[i])
    keep(coder, state)


@compiled
def _read(state: State, words: Words, bits: Ints, probabilities: Ints) -> None:
    coder = resumed(state)
    for i in range(len(bits)):
        coder, bit = code_bit(coder, words, False, 0, probabilities[i])
        bits[i] = bit
    keep(coder, state)


def encode(bits: Ints, probabilities: Ints) -> bytes:
    state, words = writer(), np.empty(len(bits) // 2 + 1, dtype=np.uint32)
    _write(state, words, bits, probabilities)
    return finished(state, words)


def decode(data: bytes, probabilities: Ints) -> Ints:
    state, words = reader(data)
    bits = np.empty(len(probabilities), dtype=np.int64)
    _read(state, words, bits, probabilities)
    check_end(state, data)
    return bits


def ideal_bits(bits: Ints, probabilities: Ints) -> float:
    ones = probabilities / WHOLE
    return float(-np.log2(np.where(bits == 1, ones, 1 - ones)).sum())


def random_bits(count: int, seed: int) -> tuple[Ints, Ints]:
    rng = np.random.default_rng(seed)
    probabilities = rng.choice([3, 600, 20000, 65000, WHOLE - 1], count).astype(np.int64)
    return (rng.random(count) * WHOLE < probabilities).astype(np.int64), probabilities


@SOME
@given(BITS)
def test_bits_come_back_whatever_was_expected(pairs: list[tuple[int, int]]) -> None:
    bits = np.array([bit for bit, _ in pairs], dtype=np.int64)
    probabilities = np.array([probability for _, probability in pairs], dtype=np.int64)
    data = encode(bits, probabilities)
    assert 8 * len(data) <= ideal_bits(bits, probabilities) + 9
    np.testing.assert_array_equal(decode(data, probabilities), bits)


@pytest.mark.parametrize("seed", range(3))
def test_the_size_is_the_entropy(seed: int) -> None:
    bits, probabilities = random_bits(200_000, seed)
    ideal = ideal_bits(bits, probabilities)
    assert abs(8 * len(encode(bits, probabilities)) - ideal) < 1e-4 * ideal + 16


def test_a_carry_goes_through_words_of_ones() -> None:
    # Every 0 at probability 1 / 2 adds half of what is left: the start comes near 1 from below.
    zeros = np.zeros(200, dtype=np.int64)
    even = np.full(200, WHOLE // 2, dtype=np.int64)
    carrying = 0
    for last in range(100, 200):
        bits = zeros.copy()
        bits[0], bits[last:] = 1, 0
        for tail in ([1, 1], [0, 1], [0, 0]):
            bits[-2:] = tail
            probabilities = even.copy()
            probabilities[last] = WHOLE - 1
            data = encode(bits, probabilities)
            carrying += b"\xff\xff\xff\xff" in data
            np.testing.assert_array_equal(decode(data, probabilities), bits)
    assert carrying


def test_nothing_takes_no_bytes() -> None:
    nothing = np.empty(0, dtype=np.int64)
    assert encode(nothing, nothing) == b""
    assert len(decode(b"", nothing)) == 0


def test_every_sequence_has_one_code() -> None:
    bits, probabilities = random_bits(3000, 7)
    data = encode(bits, probabilities)
    rng = np.random.default_rng(1)
    found = {data}
    for _ in range(300):
        mutated = bytearray(data)
        mutated[rng.integers(len(data))] ^= 1 << rng.integers(8)
        for other in (bytes(mutated), data[: rng.integers(len(data))]):
            try:
                back = decode(other, probabilities)
            except ValueError:
                continue
            assert encode(back, probabilities) == other  # it is the code of other bits
            assert other in found or not np.array_equal(back, bits)


@pytest.mark.parametrize("more", [b"\0", b"\1", bytes(8), b"\1" * 100])
def test_bytes_past_the_end_are_refused(more: bytes) -> None:
    bits, probabilities = random_bits(3000, 8)
    with pytest.raises(ValueError, match="bytes are"):
        decode(encode(bits, probabilities) + bytes(8) + more, probabilities)


def test_probabilities_are_the_logistic_function() -> None:
    for weight in range(-20 << WEIGHT_BITS, 20 << WEIGHT_BITS, 4099):
        exact = WHOLE / (1 + math.exp(-weight / (1 << WEIGHT_BITS)))
        # half a step of the table, 2**-8, and rounding to units, of which 2 are the least
        assert abs(probability_of(weight) - exact) <= exact * (1 - exact / WHOLE) / 240 + 2
        assert 2 <= probability_of(weight) <= WHOLE - 2
    for weight in range(0, 20 << WEIGHT_BITS, 1 << 9):
        assert probability_of(weight) + probability_of(-weight) == WHOLE


def test_a_weight_learns_the_share_of_ones() -> None:
    weights = new_weights(np.zeros(3, dtype=np.int64))
    falling = rates(0.5, 0.002, 5)
    assert falling[0] == WHOLE // 2
    assert falling[5] == WHOLE // 4
    assert falling[-1] == round(0.002 * WHOLE)
    assert (np.diff(falling) <= 0).all()
    rng = np.random.default_rng(0)
    for bit in rng.random(20_000) < 0.1:
        learn(weights, 1, correction(bool(bit), probability_of(weights[1, 0])), falling)
    assert abs(probability_of(weights[1, 0]) / WHOLE - 0.1) < 0.02
    assert weights[1, 1] == len(falling) - 1
    assert not weights[[0, 2]].any()
