"""Changes of a session that are interrupted on the way, or find something in the way."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import ray
import torch
from ray.util.placement_group import placement_group, remove_placement_group

from launch import Session
from launch.callbacks import Callback
from launch.engines.inline import InlineEngine
from mlmc_ray.errors import ClusterError, ConfigError
from tests.launch.same_runs import EF21, config_of
from tests.launch.test_callbacks_of_changes import Changes


def inline(**changes: Any) -> dict[str, Any]:
    return config_of(EF21, 1, engine="inline", **changes)


class Interrupted:
    """Hears of notes, and is interrupted at the first of a change."""

    def __init__(self) -> None:
        self.armed = False

    def __call__(self, text: str) -> None:
        if self.armed:
            raise KeyboardInterrupt


def test_an_interrupted_note_finds_the_change_made(tmp_path: Path) -> None:
    note, changes = Interrupted(), Changes()
    with Session(inline(), out=tmp_path / "run", on_note=note, callbacks=changes) as session:
        session.run(1)
        note.armed = True
        with pytest.raises(KeyboardInterrupt):
            session.change(workers=2)
        note.armed = False
        assert session.config.workers == 2
        assert [told for _, told in changes.told] == [{"workers": 2}]
        assert (tmp_path / "run" / "changes.jsonl").read_text().count("workers") == 1
        session.run(1)
        assert {entry.worker_id for entry in session.ledger if entry.round_index == 1} == {0, 1}
        session.change(workers=4)
        assert session.config.workers == 4


def test_a_change_that_cannot_be_written_is_told_and_in_force(tmp_path: Path) -> None:
    changes = Changes()
    with Session(inline(), out=tmp_path / "run", callbacks=changes) as session:
        (tmp_path / "run" / "changes.jsonl").mkdir()
        with pytest.raises(ConfigError, match="cannot be written: Is a directory"):
            session.change(workers=2)
        assert session.config.workers == 2
        assert [told for _, told in changes.told] == [{"workers": 2}]
        session.run(1)
        assert {entry.worker_id for entry in session.ledger} == {0, 1}


def test_an_engine_that_is_left_cannot_take_the_new_one_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine in force belongs to the configuration in force, and is closed in the end."""

    class Other(InlineEngine):
        closed = False

        def close(self) -> None:
            self.closed = True

    def interrupt() -> None:
        raise KeyboardInterrupt

    with Session(inline(), out=tmp_path / "run") as session:
        session.run(1)
        others: list[Other] = []

        def start(config: Any, state: Any, on_note: Any) -> Other:
            others.append(Other(config))
            others[-1].load(state)
            return others[-1]

        monkeypatch.setattr("launch.session.start_engine", start)
        monkeypatch.setattr(session._engine, "close", interrupt)
        with pytest.raises(KeyboardInterrupt):
            session.change(engine="ray", workers=2)
        assert (session.config.engine, session.config.workers) == ("ray", 2)
        assert (tmp_path / "run" / "changes.jsonl").read_text().count("workers") == 1
        session.run(1)
    assert [other.closed for other in others] == [True]


def test_a_callback_cannot_change_the_session_while_it_is_changed() -> None:
    class Again(Callback):
        def on_change(self, session: Session, changed: Mapping[str, Any]) -> None:
            session.change(workers=3)

    changes, notes = Changes(), list[str]()
    with Session(inline(), callbacks=[Again(), changes], on_note=notes.append) as session:
        session.change(workers=2)
        assert session.config.workers == 2
        session.change(workers=1)
    assert [told for _, told in changes.told] == [{"workers": 2}, {"workers": 1}]
    assert "RoundError: the session is being changed: change it again after that" in notes[0]


def test_what_a_callback_does_to_its_copy_is_not_seen_by_the_next() -> None:
    class Clears(Callback):
        def on_change(self, session: Session, changed: Mapping[str, Any]) -> None:
            assert isinstance(changed, dict)
            changed["optimizer"].clear()
            changed.clear()

    changes = Changes()
    with Session(inline(), callbacks=[Clears(), changes]) as session:
        session.change(optimizer={"step_size": 0.125})
        expected = session.config.to_mapping()["optimizer"]
    assert changes.told == [(0.125, {"optimizer": expected})]


@pytest.fixture
def four_free(cluster: None) -> Any:
    """Leave four of the cluster's ten processors."""
    group = placement_group([{"CPU": 1.0}] * 6)
    assert group.wait(60)
    yield
    remove_placement_group(group)
    deadline = time.monotonic() + 30
    while ray.available_resources().get("CPU") != 10:  # type: ignore[no-untyped-call]
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.ray
@pytest.mark.usefixtures("four_free")
@pytest.mark.slow
def test_a_session_is_not_in_its_own_way() -> None:
    with (
        Session(config_of(EF21, 2, placement_timeout_s=20)) as session,
        Session(inline()) as alone,
    ):
        session.run(1)
        session.change(actors=1)
        session.run(1)
        with pytest.raises(ClusterError, match="could not be placed within 1 s"):
            session.change(actors=4, placement_timeout_s=1)
        assert session.config.actors == 1
        session.run(1)
        for _ in range(3):
            alone.run(1)
        assert torch.equal(session.parameters(), alone.parameters())
        assert session.ledger == alone.ledger
        assert {work.host for work in session.work} == {0, 1}
