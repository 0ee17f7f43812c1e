"""Every process makes the first copy for itself, and is sent one where it makes another."""

from collections import Counter
from typing import Any

import pytest
import torch

from launch import Session
from launch.engines.base import worker_plan
from tests.launch.test_downlinks import (
    CHANGING,
    EXACT,
    SPARSE,
    Hosts,
    assert_ends_like,
    config_of,
    partly,
    run,
    settings_of,
)

NUM_PARAMETERS, NUM_STATISTICS = 805, 200


def hosted(
    config: dict[str, Any], notes: list[str], *groups: tuple[int, ...]
) -> tuple[Session, Hosts]:
    """Return a session whose workers are in several processes, and notes of its rounds."""

    def on_note(note: str) -> None:
        if note.startswith("round "):
            notes.append(note)

    session = Session(config, on_note=on_note)
    hosts = Hosts(worker_plan(session.config), *groups)
    session._engine._host = hosts  # type: ignore[attr-defined]
    return session, hosts


def sizes_of(session: Session, round_index: int) -> list[int]:
    return [
        e.frame_bytes
        for e in session.ledger
        if (e.round_index, e.direction) == (round_index, "downlink")
    ]


@pytest.mark.parametrize("downlink", CHANGING, ids=str)
@pytest.mark.parametrize("servers", [1, 3])
def test_no_process_is_sent_a_copy(downlink: Any, servers: int) -> None:
    config = config_of(SPARSE, downlink, servers=servers)
    expected = run(config_of(SPARSE, "full" if downlink in EXACT else downlink, servers=servers))
    notes: list[str] = []
    session, _ = hosted(config, notes, (0, 2), (1,), (3,))
    session.run()
    assert_ends_like(session, expected)
    assert notes == []
    first = sizes_of(session, 0)
    assert len(first) == 4 * servers
    if downlink == "relay":
        assert set(first) == {14}
    else:  # with running statistics, and a few bytes of each server
        assert sum(first) < 4 * (4 * NUM_STATISTICS + 100 * servers)


@pytest.mark.parametrize("kind", ["ef21-sgdm", "diana", "marina", "scaffnew"])
@pytest.mark.parametrize("downlink", EXACT)
def test_methods_with_a_memory_begin_at_the_start_too(downlink: str, kind: str) -> None:
    notes: list[str] = []
    session, _ = hosted(config_of(settings_of(kind), downlink), notes)
    session.run()
    assert_ends_like(session, run(config_of(settings_of(kind))))
    assert notes == []


@pytest.mark.parametrize("downlink", CHANGING, ids=str)
@pytest.mark.parametrize("entry", [0, NUM_PARAMETERS - 1])
def test_a_process_that_starts_elsewhere_asks_once(downlink: Any, entry: int) -> None:
    notes: list[str] = []
    config = config_of(SPARSE, downlink)
    session, hosts = hosted(config, notes)
    hosts.hosts[1]._model.parameters.view(torch.int32)[entry] ^= 1
    session.run()
    assert_ends_like(session, run(config))
    assert notes == [
        "round 0: workers [1, 3] have no copy of the parameters, or not that of the server: they "
        "are sent a full one"
    ]
    counts = Counter((e.round_index, e.worker_id) for e in session.ledger)
    assert [counts[0, i] for i in range(4)] == [2, 4, 2, 4]
    assert {counts[r, i] for r in range(1, 7) for i in range(4)} == {2}
    short, long = sorted(sizes_of(session, 0))[:4], sorted(sizes_of(session, 0))[4:]
    assert max(short) < 4 * NUM_PARAMETERS < min(long)
    assert len(long) == 2


@pytest.mark.parametrize("downlink", CHANGING, ids=str)
def test_a_process_with_other_statistics_gets_those_of_the_server(downlink: Any) -> None:
    notes: list[str] = []
    config = config_of(SPARSE, downlink)
    session, hosts = hosted(config, notes)
    model = hosts.hosts[1]._model
    model.set_statistics(model.statistics() + 1)
    session.run()
    assert_ends_like(session, run(config))
    assert len(notes) == (downlink == "relay")  # whose news say them by a digest


@pytest.mark.parametrize("downlink", CHANGING, ids=str)
def test_a_process_that_is_late_makes_its_copy_then(downlink: Any) -> None:
    notes: list[str] = []
    config = partly(5, downlink)
    session, _ = hosted(config, notes, *((i,) for i in range(8)))
    session.run()
    assert_ends_like(session, run(partly(5, "full") if downlink in EXACT else config))
    assert notes == []
    first = {i: min(e.round_index for e in session.ledger if e.worker_id == i) for i in range(8)}
    assert max(first.values()) > 2
    assert max(e.frame_bytes for e in session.ledger) < 4 * NUM_PARAMETERS


@pytest.mark.parametrize("downlink", CHANGING, ids=str)
def test_a_late_process_that_starts_elsewhere_asks_once(downlink: Any) -> None:
    notes: list[str] = []
    config = partly(5, downlink)
    session, hosts = hosted(config, notes, *((i,) for i in range(8)))
    session.run(1)
    late = min(set(range(8)) - {e.worker_id for e in session.ledger})
    hosts.hosts[late]._model.parameters[3] += 1.0
    session.run()
    assert_ends_like(session, run(config))
    (note,) = notes
    assert f"workers [{late}] have no copy" in note


@pytest.mark.parametrize("downlink", CHANGING, ids=str)
def test_a_copy_that_is_lost_before_all_workers_had_news_is_asked_for(downlink: Any) -> None:
    """The model is not at the start any more, which shows where changes are added to it."""
    notes: list[str] = []
    config = partly(5, downlink)
    session = Session(config, on_note=notes.append)
    session.run(2)
    session._engine._host._inbox.forget()  # type: ignore[attr-defined]
    session.run()
    assert_ends_like(session, run(config))
    told = [] if downlink == "delta" else ["round 2: workers [2, 4]"]  # delta says entries anew
    assert [note.partition(" have")[0] for note in notes] == told
