"""Rows packed end to end: they come back as they were, and cost as many bytes as they say."""

import pickle
import tracemalloc

import numpy as np
import pytest

from mlmc_ray.ledger import Entry, Ledger
from mlmc_ray.rounds import Timeline, Work

WORK = [Work(r, 0, i, i % 2, r + i / 7) for r in range(3) for i in range(4)]
ENTRIES = [Entry(r, i, "uplink", 10 * i, None) for r in range(700) for i in range(3)]


def test_rows_come_back_as_they_were() -> None:
    timeline = Timeline(WORK)
    assert list(timeline) == WORK
    assert len(timeline) == len(WORK)
    assert (timeline[0], timeline[5], timeline[-1]) == (WORK[0], WORK[5], WORK[-1])
    assert [type(number) for number in timeline[1]] == [int, int, int, int, float]
    with pytest.raises(IndexError):
        timeline[len(WORK)]


def test_more_rows_than_are_read_at_once_come_in_order() -> None:
    assert list(Ledger(ENTRIES)) == ENTRIES


def test_a_table_can_grow_while_it_is_read() -> None:
    timeline = Timeline(WORK)
    rows = iter(timeline)
    first, column = next(rows), timeline.column("seconds")
    timeline.extend(WORK)
    assert [first, *rows][: len(WORK)] == WORK
    assert column.tolist() == [work.seconds for work in WORK]


def test_a_column_is_a_copy() -> None:
    timeline = Timeline(WORK)
    column = timeline.column("worker_id")
    assert column.dtype == np.int32
    column[:] = 9
    assert list(timeline) == WORK
    assert Timeline().column("worker_id").shape == (0,)


def test_another_table_is_taken_over_as_it_is() -> None:
    timeline = Timeline(WORK[:5])
    timeline.extend(Timeline(WORK[5:]))
    assert timeline == Timeline(WORK)
    assert timeline != Timeline(reversed(WORK))


@pytest.mark.parametrize("rows", [Timeline(WORK), Ledger(ENTRIES)])
def test_a_frozen_copy_stays_as_it_is(rows: Timeline | Ledger) -> None:
    frozen, before = rows.frozen(), list(rows)
    again = type(rows)()
    again.extend(frozen)  # type: ignore[arg-type]
    again.extend(frozen)  # type: ignore[arg-type]
    assert list(frozen) == before
    assert list(again) == [*before, *before]
    with pytest.raises(TypeError, match="a frozen table takes no more rows"):
        frozen.extend(before[:1])  # type: ignore[arg-type]


def test_totals_of_a_frozen_ledger_stay_as_they_are() -> None:
    ledger = Ledger([Entry(0, 0, "uplink", 3, 8)])
    frozen = ledger.frozen()
    ledger.record(0, 1, "uplink", b"abc", None)
    assert (frozen.frame_bytes("uplink"), frozen.paper_bits("uplink")) == (3, 8)
    assert (ledger.frame_bytes("uplink"), ledger.paper_bits("uplink")) == (6, None)


@pytest.mark.parametrize(
    ("entry", "text"),
    [
        (Entry(2**63, 0, "uplink", 1, None), "round_index: got 9223372036854775808, expected an"),
        (Entry(0, 2**31, "uplink", 1, None), r"worker_id: got 2147483648, .* to 2\^31 - 1"),
        (Entry(0, 0, "uplink", 2**63, None), "frame_bytes: got 9223372036854775808"),
        (Entry(0, 0, "uplink", 1, 2**63), r"paper_bits: got 9223372036854775808, .* 2\^63 - 1"),
        (Entry(0, 0, "uplink", 1, 1.5), "paper_bits: got 1.5, expected an integer"),  # type: ignore[arg-type]
        (Entry(0, 0, "uplink", 1, -1), "paper_bits: got -1, expected None or a number of bits"),
        (Entry(0, 0, "up", 1, None), r"direction: got 'up', expected one of \['uplink', "),  # type: ignore[arg-type]
    ],
)
def test_what_does_not_fit_is_named_and_leaves_the_ledger_as_it_was(
    entry: Entry, text: str
) -> None:
    ledger = Ledger([Entry(0, 0, "uplink", 2, 2**63 - 1)])
    with pytest.raises(ValueError, match=text):
        ledger.extend([entry])
    assert ledger == Ledger([Entry(0, 0, "uplink", 2, 2**63 - 1)])
    assert ledger.frame_bytes("uplink") == 2


def test_the_largest_numbers_are_exact() -> None:
    ledger = Ledger([Entry(2**63 - 1, 2**31 - 1, "downlink", 2**62, 2**63 - 1)] * 2)
    assert ledger.paper_bits("downlink") == 2**64 - 2
    assert ledger.frame_bytes("downlink") == 2**63
    assert ledger[1].paper_bits == 2**63 - 1


def test_a_ledger_travels_in_about_its_own_size() -> None:
    ledger = Ledger(ENTRIES)
    sent = pickle.dumps(ledger, protocol=5)
    assert len(sent) < 29 * len(ENTRIES) + 500
    again: Ledger = pickle.loads(sent)
    assert again == ledger
    again.extend(ENTRIES)
    assert len(again) == 2 * len(ENTRIES)
    assert again.frame_bytes("uplink") == 2 * ledger.frame_bytes("uplink")


def test_an_entry_takes_no_more_than_forty_bytes_of_memory() -> None:
    of_a_round = Ledger(ENTRIES[:16])
    tracemalloc.start()
    try:
        ledger = Ledger()
        for _ in range(2000):
            ledger.extend(of_a_round)
        used, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert used / len(ledger) < 40
