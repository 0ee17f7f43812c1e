import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlmc_ray.ledger import DIRECTIONS, Entry, Ledger


def small_ledger() -> Ledger:
    """Two rounds of two workers, sizes written by hand."""
    ledger = Ledger()
    for round_index in range(2):
        for worker_id in range(2):
            ledger.record(round_index, worker_id, "downlink", b"12345678", 512)
        ledger.record(round_index, 0, "uplink", b"abc", 100)
        ledger.record(round_index, 1, "uplink", b"abcde" * (round_index + 1), 20)
    return ledger


def test_totals_by_direction() -> None:
    ledger = small_ledger()
    assert ledger.frame_bytes("downlink") == 4 * 8
    assert ledger.frame_bytes("uplink") == (3 + 5) + (3 + 10)
    assert len(ledger) == 8


def test_totals_by_round_and_worker() -> None:
    ledger = small_ledger()
    assert ledger.frame_bytes("uplink", round_index=0) == 8
    assert ledger.frame_bytes("uplink", round_index=1) == 13
    assert ledger.frame_bytes("uplink", worker_id=0) == 6
    assert ledger.frame_bytes("uplink", worker_id=1) == 15
    assert ledger.frame_bytes("uplink", round_index=1, worker_id=1) == 10
    assert ledger.frame_bytes("downlink", round_index=0, worker_id=1) == 8
    assert ledger.frame_bytes("uplink", round_index=2) == 0


def test_an_empty_ledger() -> None:
    assert [Ledger().frame_bytes(direction) for direction in DIRECTIONS] == [0, 0]
    assert Ledger().paper_bits("uplink") == 0
    assert list(Ledger()) == []


def test_paper_bits_are_kept_apart() -> None:
    ledger = small_ledger()
    assert ledger.paper_bits("uplink") == 240
    assert ledger.paper_bits("downlink") == 4 * 512
    ledger.record(2, 0, "uplink", b"", 7)
    assert ledger.paper_bits("uplink") == 247
    assert ledger.frame_bytes("uplink") == 21


def test_paper_bits_are_unknown_if_one_frame_has_none() -> None:
    ledger = small_ledger()
    ledger.record(2, 0, "uplink", b"1234")
    assert ledger.paper_bits("uplink") is None
    assert ledger.paper_bits("downlink") == 4 * 512
    assert ledger.frame_bytes("uplink") == 25


def test_a_view_of_bytes_counts_like_bytes() -> None:
    ledger = Ledger()
    ledger.record(0, 0, "uplink", memoryview(b"12345678")[2:])
    assert list(ledger) == [Entry(0, 0, "uplink", 6, None)]


ENTRIES = st.builds(
    Entry,
    st.integers(0, 3),
    st.integers(0, 3),
    st.sampled_from(DIRECTIONS),
    st.integers(0, 1000),
    st.none() | st.integers(0, 1000),
)


@given(entries=st.lists(ENTRIES), more=st.lists(ENTRIES))
@settings(max_examples=50)
def test_totals_are_sums_of_entries(entries: list[Entry], more: list[Entry]) -> None:
    ledger = Ledger(entries)
    ledger.extend(Ledger(more))
    assert list(ledger) == entries + more
    assert ledger == Ledger(entries + more)
    for direction in DIRECTIONS:
        sizes = [e.frame_bytes for e in entries + more if e.direction == direction]
        assert ledger.frame_bytes(direction) == sum(sizes)
        by_round = [ledger.frame_bytes(direction, round_index=r) for r in range(4)]
        by_worker = [ledger.frame_bytes(direction, worker_id=w) for w in range(4)]
        assert sum(by_round) == sum(by_worker) == sum(sizes)


def test_equality_is_of_entries_in_order() -> None:
    assert small_ledger() == small_ledger()
    assert Ledger(reversed(list(small_ledger()))) != small_ledger()
    assert Ledger([Entry(0, 0, "uplink", 1, None)]) != Ledger([Entry(0, 0, "uplink", 1, 8)])
    assert Ledger() != []
    with pytest.raises(TypeError):
        hash(Ledger())


def test_sums_of_a_part_go_beyond_64_bits_as_totals_do() -> None:
    most = 2**63 - 1
    ledger = Ledger([Entry(0, worker_id, "uplink", most, None) for worker_id in range(3)])
    assert ledger.frame_bytes("uplink", round_index=0) == ledger.frame_bytes("uplink") == 3 * most


def test_sizes_are_not_negative() -> None:
    ledger = Ledger()
    with pytest.raises(ValueError, match=r"^frame_bytes: got -1, expected 0 or more$"):
        ledger.extend([Entry(0, 0, "uplink", -1, None)])
    assert len(ledger) == ledger.frame_bytes("uplink") == 0


def test_a_ledger_can_be_extended_by_itself() -> None:
    ledger = small_ledger()
    entries = list(ledger)
    ledger.extend(ledger)
    assert list(ledger) == entries * 2
    assert ledger.frame_bytes("uplink") == 2 * (3 + 5 + 3 + 10)


def test_a_ledger_is_packed_and_unpacked() -> None:
    ledger = small_ledger()
    again = Ledger.unpacked(ledger.packed())
    assert again == ledger
    for direction in DIRECTIONS:
        assert again.frame_bytes(direction) == ledger.frame_bytes(direction)
        assert again.paper_bits(direction) == ledger.paper_bits(direction)
    assert list(Ledger.unpacked(ledger.packed(2))) == list(ledger)[2:]
    again.extend(Ledger.unpacked(ledger.packed(1)))
    assert again.frame_bytes("uplink") == Ledger(again).frame_bytes("uplink")
    assert again.paper_bits("downlink") == Ledger(again).paper_bits("downlink")


def test_sums_of_what_was_packed_are_exact() -> None:
    ledger = Ledger([Entry(2**63 - 1, 2**31 - 1, "downlink", 2**62, 2**63 - 1)] * 2)
    again = Ledger.unpacked(ledger.packed())
    assert again.frame_bytes("downlink") == 2**63
    assert again.paper_bits("downlink") == 2**64 - 2
    assert again.paper_bits("uplink") == 0


@pytest.mark.parametrize(
    ("index", "value"), [(12, 2), (20, 0x80), (28, 0x80)], ids=["direction", "bytes", "bits"]
)
def test_packed_rows_that_are_none_are_refused(index: int, value: int) -> None:
    packed = bytearray(small_ledger().packed())
    packed[index] = value
    with pytest.raises(ValueError, match="a row has no direction, or less than 0 bytes or bits"):
        Ledger.unpacked(bytes(packed))
    with pytest.raises(ValueError, match="got 28 bytes, and a row has 29"):
        Ledger.unpacked(bytes(28))
