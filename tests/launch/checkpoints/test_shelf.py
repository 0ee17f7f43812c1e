"""Checkpoints survive crashes while they are written, and damage to what was written."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from launch import Session
from launch.checkpoints.content import Mark, Part, Saved, kept_parts
from launch.checkpoints.frame import digest_of, dumped, loaded
from launch.checkpoints.shelf import Shelf
from launch.checkpoints.store import DirectoryStore, RemoteStore, Store, store_at
from mlmc_ray.errors import CheckpointError, ConfigError

CONFIG: dict[str, Any] = {
    "problem": {"kind": "quadratic", "num_functions": 2, "dim": 8},
    "workers": 2,
    "method": {"kind": "ef21-sgdm", "compressor": {"kind": "top-k", "k": 2}},
    "optimizer": {"kind": "sgd", "step_size": 0.01, "momentum": 0.5},
    "engine": "inline",
    "rounds": 9,
    "observe_every": 2,
    "checkpoints": {"every": 1, "keep": 2},
}


class Writer:
    """Writes checkpoints of one run, round after round."""

    def __init__(self, store: Store) -> None:
        self.shelf = Shelf(store)
        self.session = Session({**CONFIG, "checkpoints": None})

    def write(self) -> None:
        session = self.session
        state = session._engine.state()
        self.shelf.write(session.config, state, session._history)
        self.shelf.clear(2)

    def rounds(self, number: int) -> None:
        for _ in range(number):
            self.session.run(1)
            self.write()


def newest(store: Store) -> tuple[int, Saved, list[str]]:
    saved, notes = Shelf(store).newest()
    return saved.metrics[-1]["round"], saved, notes


@pytest.fixture(params=["directory", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    place = tmp_path / "inner" / "store" if request.param == "directory" else "memory://a/b"
    yield (found := store_at(str(place)))
    for name in found.names():
        found.delete(name)


def test_a_store_keeps_files(store: Store) -> None:
    assert store.names() == []
    store.write("one", [b"ab", memoryview(b"c")])
    store.write("two", [b""])
    store.write("one", [b"new"])
    assert store.names() == ["one", "two"]
    assert store.read("one") == b"new"
    store.delete("two")
    assert store.names() == ["one"]
    assert store.read("two") is None
    store.delete("two")


def test_the_newest_are_kept_and_nothing_else(store: Store) -> None:
    writer = Writer(store)
    sizes = []
    for _ in range(9):
        writer.rounds(1)
        names = store.names()
        assert len([name for name in names if name.startswith("round-")]) <= 2
        sizes.append(len(names))
    assert max(sizes) <= 10
    done, saved, notes = newest(store)
    assert (done, notes) == (9, [])
    assert saved.ledger == writer.session.ledger
    assert saved.metrics == writer.session.metrics
    assert saved.observations == writer.session.observations
    assert list(saved.work) == list(writer.session.work)


def test_a_history_is_in_few_parts_that_are_written_a_few_times() -> None:
    parts: list[Part] = []
    written = 0
    for rounds in range(1, 1025):
        parts = kept_parts(parts, Mark(metrics=rounds))
        first = parts[-1].end.metrics if parts else 0
        written += rounds - first
        parts.append(Part(f"{first}-{rounds}", Mark(metrics=rounds)))
        assert len(parts) <= 11
    assert written <= 1024 * 11


def test_two_checkpoints_of_one_round_are_the_last_one(store: Store) -> None:
    writer = Writer(store)
    writer.rounds(2)
    writer.session.change(["optimizer.step_size=0.5"])
    writer.write()
    done, saved, _ = newest(store)
    assert done == 2
    assert saved.described["optimizer"]["step_size"] == 0.5
    assert [change["round"] for change in saved.changes] == [2]


class _Crash(BaseException):
    """The process ends here."""


class Budget:
    """Ends the process once so many bytes have been written, or files renamed or deleted."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, left: int) -> None:
        self.left = left
        opened, replace, unlink = Path.open, Path.replace, Path.unlink

        def take(amount: int) -> None:
            self.left -= amount
            if self.left < 0:
                raise _Crash

        def open_(path: Path, *arguments: Any, **options: Any) -> Any:
            file: Any = opened(path, *arguments, **options)
            if arguments[:1] != ("wb",):
                return file
            budget = self

            class Counting:
                def __enter__(self) -> "Counting":
                    return self

                def __exit__(self, *_: object) -> None:
                    file.close()

                def writelines(self, pieces: Any) -> None:
                    for piece in pieces:
                        file.write(piece[: max(0, budget.left)])
                        take(len(piece))

                def flush(self) -> None:
                    file.flush()

                def fileno(self) -> int:
                    return int(file.fileno())

            return Counting()

        def replace_(path: Path, target: Path) -> Path:
            take(1)
            return replace(path, target)

        def unlink_(path: Path, *, missing_ok: bool = False) -> None:
            take(1)
            unlink(path, missing_ok=missing_ok)

        monkeypatch.setattr(Path, "open", open_)
        monkeypatch.setattr(Path, "replace", replace_)
        monkeypatch.setattr(Path, "unlink", unlink_)


def test_a_crash_at_any_byte_leaves_the_checkpoint_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the last byte and the end it leaves the new one; either way it can be gone on."""
    found = []
    writer = Writer(DirectoryStore(tmp_path / "whole"))
    writer.rounds(3)
    files = {name: writer.shelf.store.read(name) or b"" for name in writer.shelf.store.names()}
    writer.shelf = Shelf(writer.shelf.store)
    writer.shelf.newest()
    with pytest.MonkeyPatch.context() as patch:
        budget = Budget(patch, 1 << 40)
        writer.rounds(1)
        total = (1 << 40) - budget.left
    slack = 40  # bytes: numbers of seconds have more digits or fewer
    for left in [*range(0, total - slack, 83), *range(total - slack, total), total + slack]:
        store = DirectoryStore(tmp_path / f"left-{left}")
        for name, data in files.items():
            store.write(name, [data])
        other = Writer(store)
        other.session = writer.session
        other.shelf.newest()
        with monkeypatch.context() as patch:
            Budget(patch, left)
            try:
                other.write()
            except _Crash:
                assert left < total + slack
            else:
                assert left >= total - slack
        done, saved, notes = newest(store)
        assert notes == []
        assert len(saved.metrics) == done + 1
        found.append(done)
        again = Writer(store)
        again.session = writer.session
        again.shelf.newest()
        again.write()
        assert newest(store)[0] == 4
        assert len([name for name in store.names() if name.startswith("round-")]) <= 2
    assert set(found) == {3, 4}
    early = found[: -slack - 1]
    assert early == sorted(early)


def test_a_file_cut_short_at_its_place_is_passed_over(store: Store) -> None:
    """As some storages leave it, which do not rename."""
    writer = Writer(store)
    writer.rounds(3)
    data = store.read("round-00000003.checkpoint") or b""
    for length in range(0, len(data), 97):
        store.write("round-00000003.checkpoint", [data[:length]])
        done, _, (note,) = newest(store)
        assert done == 2
        assert note.startswith("checkpoint round-00000003.checkpoint cannot be used: ")
    store.write("round-00000003.checkpoint", [data])
    assert newest(store)[0] == 3


def test_damage_anywhere_is_never_gone_on_from(store: Store) -> None:
    writer = Writer(store)
    writer.rounds(3)
    right = {2: newest_of(store, 2), 3: newest_of(store, 3)}
    found: set[int] = set()
    for name in store.names():
        data = store.read(name) or b""
        for index in range(0, len(data), 53):
            damaged = bytearray(data)
            damaged[index] ^= 4
            store.write(name, [bytes(damaged)])
            with suppress(CheckpointError):
                done, saved, notes = newest(store)
                assert (shown(saved), bool(notes)) == (right[done], done == 2)
                found.add(done)
        store.write(name, [data])
    assert found == {2, 3}  # where the damage is to what the newest one does not need


def newest_of(store: Store, rounds: int) -> str:
    return shown(Shelf(store)._read(f"round-{rounds:08}.checkpoint")[0])


def shown(saved: Saved) -> str:
    tables = {name: list(getattr(saved, name)) for name in ("ledger", "work", "repeated")}
    return str({**saved._asdict(), **tables})


def test_parts_of_another_history_are_refused(store: Store) -> None:
    writer = Writer(store)
    writer.rounds(2)
    first, second, *_ = (name for name in store.names() if name.startswith("history"))
    store.write(first, [store.read(second) or b""])
    with pytest.raises(CheckpointError, match="holds other rounds than its name says"):
        newest(store)
    store.delete(first)
    with pytest.raises(CheckpointError, match=f"cannot be used: .*{first} is missing"):
        newest(store)


def test_the_next_checkpoint_takes_the_place_of_a_damaged_one(store: Store) -> None:
    writer = Writer(store)
    writer.rounds(3)
    store.write("round-00000003.checkpoint", [b"damaged"])
    store.write("notes.txt", [b"somebody else's"])
    other = Writer(store)
    assert other.shelf.newest()[1]
    other.session = writer.session
    other.rounds(2)
    assert newest(store)[::2] == (5, [])
    assert not {"round-00000003.checkpoint", "round-00000002.checkpoint"} & set(store.names())
    assert "notes.txt" in store.names()


def test_there_is_none(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no checkpoint to go on from: none was written"):
        newest(DirectoryStore(tmp_path / "nowhere"))


def test_a_place_with_checkpoints_is_not_written_over(store: Store) -> None:
    Writer(store).rounds(1)
    with pytest.raises(ConfigError, match="already holds checkpoints of a run: go on with that"):
        Shelf(store).check_empty()


def test_urls_that_fsspec_does_not_know_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"checkpoints at nothing://x: .*give a URL that fsspec"):
        store_at("nothing://x")
    assert isinstance(store_at("memory://x"), RemoteStore)


def test_without_fsspec_its_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "fsspec.core", None)
    with pytest.raises(ConfigError, match=r"need fsspec: pip install 'mlmc-ray\[storage\]'"):
        store_at("memory://x")


def test_a_directory_that_cannot_be_written_says_why(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match="file/x/name: cannot be written: Not a directory"):
        DirectoryStore(tmp_path / "file" / "x").write("name", [b""])


# Two runs at one place.


def contents(store: Store) -> dict[str, bytes | None]:
    return {name: store.read(name) for name in store.names()}


def test_of_two_runs_that_begin_at_one_place_the_second_writes_nothing(store: Store) -> None:
    one, other = Writer(store), Writer(store)
    for writer in (one, other):
        writer.shelf.check_empty()
    one.rounds(3)
    before = contents(store)
    with pytest.raises(CheckpointError, match="another run goes on here: end one of them"):
        other.rounds(1)
    assert contents(store) == before
    one.rounds(2)
    assert newest(store)[0] == 5


def test_a_run_that_was_gone_on_with_elsewhere_writes_no_more(store: Store) -> None:
    one, other = Writer(store), Writer(store)
    one.rounds(3)
    other.shelf.newest()
    one.rounds(1)  # nobody else has written yet
    other.session = one.session
    other.rounds(1)
    before = contents(store)
    with pytest.raises(CheckpointError, match="another run goes on here"):
        one.rounds(1)
    assert contents(store) == before
    assert newest(store)[0] == 5


def test_files_that_came_later_are_not_deleted(store: Store) -> None:
    writer = Writer(store)
    writer.rounds(2)
    store.write("round-00000001.checkpoint", [b"of another run"])
    foreign = "history-00000000-00000001-0123456789abcdef.checkpoint"
    store.write(foreign, [b"of another run"])
    writer.rounds(3)
    assert foreign in store.names()


def test_a_place_that_has_changed_since_it_was_read_is_noticed(store: Store) -> None:
    writer = Writer(store)
    writer.rounds(2)
    shelf = Shelf(store)
    shelf.newest()
    shelf.check_unchanged()
    writer.rounds(1)
    with pytest.raises(CheckpointError, match="in the meantime: resume again"):
        shelf.check_unchanged()


def test_files_that_cannot_be_deleted_are_tried_again(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = Writer(store)
    writer.rounds(2)

    def refuse(name: str) -> None:
        raise CheckpointError(f"{name} stays")

    with monkeypatch.context() as patch:
        patch.setattr(store, "delete", refuse)
        with pytest.raises(CheckpointError, match=r"round-00000001.checkpoint stays"):
            writer.rounds(1)
    assert "round-00000001.checkpoint" in store.names()
    writer.rounds(1)
    assert "round-00000001.checkpoint" not in store.names()


# What cannot be read.


def test_a_storage_that_is_down_is_not_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    store = RemoteStore("memory://down")

    def down(*_: object, **__: object) -> None:
        raise OSError("connection refused")

    for name in ("ls", "info"):
        monkeypatch.setattr(store._files, name, down)
    with pytest.raises(CheckpointError, match="memory://down: cannot be read: connection refused"):
        Shelf(store).check_empty()


@pytest.mark.parametrize("kind", ["round-00000003", "history-"])
def test_what_cannot_be_read_now_is_no_reason_to_take_an_older_one(
    kind: str, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    Writer(store).rounds(3)
    read = store.read

    def failing(name: str) -> bytes | None:
        if name.startswith(kind):
            raise CheckpointError(f"{name}: cannot be read: timed out")
        return read(name)

    monkeypatch.setattr(store, "read", failing)
    with pytest.raises(CheckpointError, match="cannot be read: timed out: try again, or delete"):
        newest(store)


# Files with a right checksum, of somebody who knows the format.


def change_part(name: Any) -> Any:
    def change(snapshot: dict[str, Any]) -> None:
        snapshot["parts"][0][0] = name

    return change


MALFORMED: dict[str, tuple[Any, str]] = {
    "a part elsewhere": (change_part("../../secret"), "'../../secret' is no part of a history"),
    "a part that is no name": (change_part(5), "expected string"),
    "a mark of words": (lambda s: s["parts"][0][1].__setitem__(1, "9"), "parts.ledger is '9'"),
    "no parts": (lambda s: s.update(parts=[]), "no round"),
    "a list of settings": (lambda s: s.update(config=[1]), r"config is \[1\], and a dict is"),
    "no name": (lambda s: s["config"].pop("name"), "'name'"),
    "settings of bytes": (lambda s: s["config"].update(name=b"x"), "config.name is b'x'"),
    "a server of numbers": (lambda s: s.update(servers=[3]), r"servers\[0\] is 3"),
    "workers in a list": (lambda s: s.update(workers=[]), r"workers is \[\]"),
    "a worker of numbers": (lambda s: s["workers"].update({0: 1}), r"workers\[0\] is 1"),
    "seconds in words": (lambda s: s.update(seconds="2"), "seconds is '2'"),
    "frames in words": (lambda s: s.update(repeated="2"), "repeated is '2'"),
    "no time": (lambda s: s.pop("time"), "'time'"),
}


@pytest.mark.parametrize("why", MALFORMED)
def test_malformed_snapshots_are_refused(why: str, tmp_path: Path) -> None:
    change, said = MALFORMED[why]
    store = DirectoryStore(tmp_path)
    Writer(store).rounds(1)
    name = "round-00000001.checkpoint"
    snapshot = loaded(store.read(name) or b"")
    change(snapshot)
    store.write(name, dumped(snapshot))
    with pytest.raises(CheckpointError, match=f"cannot be used: .*{said}"):
        newest(store)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"metrics": []}, "has no round"),
        ({"metrics": [7]}, r"metrics\[0\] is 7"),
        ({"metrics": [{}]}, "'round'"),
        ({"metrics": [{"round": "1"}]}, "metrics.round is '1'"),
        ({"observations": 3}, "observations is 3"),
        ({"changes": ["x"]}, r"changes\[0\] is 'x'"),
        ({"ledger": "x"}, "ledger is 'x'"),
        ({"work": b"x"}, "got 1 bytes, and a row has"),
    ],
)
def test_malformed_parts_are_refused(content: dict[str, Any], said: str, tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path)
    Writer(store).rounds(1)
    snapshot = loaded(store.read("round-00000001.checkpoint") or b"")
    (part,) = snapshot["parts"]
    pieces = dumped({**loaded(store.read(part[0]) or b""), **content})
    part[0] = f"history-0-1-{digest_of(pieces)}.checkpoint"
    store.write(part[0], pieces)
    store.write("round-00000001.checkpoint", dumped(snapshot))
    with pytest.raises(CheckpointError, match=f"cannot be used: .*{said}"):
        newest(store)
