"""The newest checkpoints of a run."""

import re
import uuid
from typing import TYPE_CHECKING, Any

from launch.checkpoints.content import (
    Mark,
    Part,
    Saved,
    kept_parts,
    mark_of,
    part_of,
    parts_in,
    saved_in,
    snapshot_of,
)
from launch.checkpoints.frame import digest_of, dumped, loaded
from launch.checkpoints.store import Store
from launch.engines.base import RunState
from mlmc_ray.errors import CheckpointError, ConfigError, one_line

if TYPE_CHECKING:
    from launch.configuration.run_config import RunConfig
    from launch.history import History

_SNAPSHOT = re.compile(r"round-(\d+)\.checkpoint")
_PART = re.compile(r"history-\d+-\d+-([0-9a-f]{16})\.checkpoint")
_OWNER = "owner"
"""A file that says which shelf writes here."""


class _Unusable(CheckpointError):
    """A checkpoint that is damaged, or lacks a file."""


class Shelf:
    """Keeps the newest checkpoints of a run, and what they need.

    A checkpoint is complete once its snapshot has its name: parts of the history come first, and
    what is no longer needed is deleted last. Only files are deleted that were there when the shelf
    was looked at, or that it wrote. The first checkpoint makes the place its own: a shelf that was
    looked at before, or wrote there, writes no more.

    Args:
        store: where the files are.

    Attributes:
        store: as given.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self._parts: list[Part] = []  # of the newest checkpoint
        self._kept: dict[str, set[str]] = {}  # by snapshot, the oldest first: its parts
        self._known: set[str] = set()  # files that may be deleted
        self._token = uuid.uuid4().hex.encode()
        self._owner: bytes | None = None  # as last seen

    def check_empty(self) -> None:
        """Refuse a place that holds checkpoints.

        Raises:
            ConfigError: names it.
            CheckpointError: it cannot be read.
        """
        names = self._look()
        if names:
            raise ConfigError(
                f"{self.store.place} already holds checkpoints of a run: go on with that by "
                "mlmc-ray train --resume, or give another place"
            )

    def _look(self) -> set[str]:
        """Remember who writes here, and return the files of checkpoints."""
        names = self.store.names()
        self._owner = self.store.read(_OWNER) if _OWNER in names else None
        return set(filter(_is_own, names))

    def check_unchanged(self) -> None:
        """Refuse a place where another run has written since ``newest``.

        Raises:
            CheckpointError: names it; or it cannot be read.
        """
        before = self._owner, self._known
        if (self.store.read(_OWNER), set(filter(_is_own, self.store.names()))) != before:
            raise CheckpointError(
                f"{self.store.place}: another run has written here in the meantime: resume again"
            )

    def write(self, config: "RunConfig", state: RunState, history: "History") -> str:
        """Write a checkpoint, and return the name of its file.

        Args:
            config: in force.
            state: of the engine.
            history: of the rounds so far.

        Raises:
            CheckpointError: it cannot be written, or another run writes here; those before it stay.
        """
        self._take()
        end = mark_of(history)
        parts = kept_parts(self._parts, end)
        parts.append(self._write_part(history, parts[-1].end if parts else Mark(), end))
        name = f"round-{history.round_index:08}.checkpoint"
        self._known.add(name)
        self.store.write(name, dumped(snapshot_of(config, state, history, parts)))
        self._kept.pop(name, None)
        self._kept[name] = {part.name for part in parts}
        self._parts = parts
        return name

    def _take(self) -> None:
        """Make the place this shelf's own, unless another has done so."""
        found = self.store.read(_OWNER)
        if found not in (self._owner, self._token):
            raise CheckpointError(
                f"{self.store.place}: another run goes on here: end one of them, and resume it"
            )
        if found != self._token:
            self.store.write(_OWNER, [self._token])
        self._owner = self._token

    def _write_part(self, history: "History", first: Mark, end: Mark) -> Part:
        pieces = dumped(part_of(history, first))
        name = f"history-{first.metrics:08}-{end.metrics:08}-{digest_of(pieces)}.checkpoint"
        self._known.add(name)
        self.store.write(name, pieces)
        return Part(name, end)

    def clear(self, keep: int) -> None:
        """Delete what is not needed by the newest checkpoints.

        Args:
            keep: how many of them.

        Raises:
            CheckpointError: some files cannot be deleted; the next time they are tried again.
        """
        for name in list(self._kept)[:-keep]:
            del self._kept[name]
        needed = {*self._kept, *(part for parts in self._kept.values() for part in parts)}
        left = []
        for name in sorted(self._known - needed):
            try:
                self.store.delete(name)
                self._known.remove(name)
            except CheckpointError as error:
                left.append(str(error))
        if left:
            raise CheckpointError("; ".join(left))

    def newest(self) -> tuple[Saved, list[str]]:
        """Return the newest checkpoint that is whole, to go on from, and what to say of others.

        Raises:
            CheckpointError: there is none, or the place cannot be read; says why.
        """
        self._known = self._look()
        found = {int(m[1]): name for name in self._known if (m := _SNAPSHOT.fullmatch(name))}
        notes: list[str] = []
        for round_index in sorted(found, reverse=True):
            name = found[round_index]
            try:
                saved, parts = self._read(name)
            except _Unusable as error:
                notes.append(f"checkpoint {name} cannot be used: {one_line(error)}")
                continue
            self._parts = parts
            self._kept = {name: {part.name for part in parts}}
            return saved, notes
        raise CheckpointError(
            f"{self.store.place}: there is no checkpoint to go on from"
            + ("".join(f"; {note}" for note in notes) or ": none was written")
        )

    def state(self) -> tuple[int, RunState]:
        """Return the rounds and the state of the newest own checkpoint that can be read.

        Raises:
            CheckpointError: there is none, or another run writes here.
        """
        if self.store.read(_OWNER) != self._token:
            raise CheckpointError(f"{self.store.place}: another run goes on here")
        reasons = []
        for name in reversed(self._kept):
            try:
                saved, _ = self._read(name)
                return saved.metrics[-1]["round"], saved.state
            except CheckpointError as error:
                reasons.append(str(error))
        raise CheckpointError("; ".join(reasons) or f"{self.store.place}: there is none")

    def _read(self, name: str) -> tuple[Saved, list[Part]]:
        snapshot = self._load(name)
        try:
            parts = parts_in(snapshot)
            for part in parts:
                if not _PART.fullmatch(part.name):
                    raise ValueError(f"{part.name!r:.80} is no part of a history")
            histories = [self._load(part.name) for part in parts]
            return saved_in(snapshot, histories), parts
        except (AttributeError, LookupError, TypeError, ValueError) as error:
            raise _Unusable(f"{name} is malformed: {one_line(error)}") from error

    def _load(self, name: str) -> dict[str, Any]:
        try:
            data = self.store.read(name)
        except CheckpointError as error:
            raise CheckpointError(
                f"{error}: try again, or delete that file to go on from an older checkpoint"
            ) from error
        if data is None:
            raise _Unusable(f"{self.store.place}/{name} is missing")
        if (part := _PART.fullmatch(name)) and digest_of([data[-32:]]) != part[1]:
            raise _Unusable(f"{self.store.place}/{name} holds other rounds than its name says")
        try:
            content: dict[str, Any] = loaded(data)
        except CheckpointError as error:
            raise _Unusable(f"{self.store.place}/{name} {error}") from error
        return content


def _is_own(name: str) -> bool:
    return bool(_SNAPSHOT.fullmatch(name) or _PART.fullmatch(name))
