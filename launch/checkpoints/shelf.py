"""The newest checkpoints of a run."""

import re
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


class Shelf:
    """Keeps the newest checkpoints of a run, and what they need.

    A checkpoint is complete once its snapshot has its name: parts of the history come first, and
    what is no longer needed is deleted last.

    Args:
        store: where the files are; another run must not write there.

    Attributes:
        store: as given.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self._parts: list[Part] = []  # of the newest checkpoint
        self._kept: dict[str, set[str]] = {}  # by snapshot, the oldest first: its parts

    def check_empty(self) -> None:
        """Refuse a place that holds checkpoints.

        Raises:
            ConfigError: names it.
            CheckpointError: it cannot be read.
        """
        if any(map(_is_own, self.store.names())):
            raise ConfigError(
                f"{self.store.place} already holds checkpoints of a run: go on with that by "
                "mlmc-ray train --resume, or give another place"
            )

    def write(self, config: "RunConfig", state: RunState, history: "History", keep: int) -> str:
        """Write a checkpoint, and return the name of its file.

        Args:
            config: in force.
            state: of the engine.
            history: of the rounds so far.
            keep: how many checkpoints are kept.

        Raises:
            CheckpointError: it cannot be written; those before it stay.
        """
        end = mark_of(history)
        parts = kept_parts(self._parts, end)
        parts.append(self._write_part(history, parts[-1].end if parts else Mark(), end))
        name = f"round-{history.round_index:08}.checkpoint"
        self.store.write(name, dumped(snapshot_of(config, state, history, parts)))
        self._kept.pop(name, None)
        self._kept[name] = {part.name for part in parts}
        self._parts = parts
        self._clear(keep)
        return name

    def _write_part(self, history: "History", first: Mark, end: Mark) -> Part:
        pieces = dumped(part_of(history, first))
        name = f"history-{first.metrics:08}-{end.metrics:08}-{digest_of(pieces)}.checkpoint"
        self.store.write(name, pieces)
        return Part(name, end)

    def _clear(self, keep: int) -> None:
        """Delete what no kept checkpoint needs."""
        for name in list(self._kept)[:-keep]:
            del self._kept[name]
        needed = {*self._kept, *(part for parts in self._kept.values() for part in parts)}
        for name in filter(_is_own, self.store.names()):
            if name not in needed:
                self.store.delete(name)

    def newest(self) -> tuple[Saved, list[str]]:
        """Return the newest checkpoint that is whole, to go on from, and what to say of others.

        Raises:
            CheckpointError: there is none; says why.
        """
        found = {int(m[1]): name for name in self.store.names() if (m := _SNAPSHOT.fullmatch(name))}
        notes: list[str] = []
        for round_index in sorted(found, reverse=True):
            name = found[round_index]
            try:
                saved, parts = self._read(name)
            except CheckpointError as error:
                notes.append(f"checkpoint {name} cannot be used: {one_line(error)}")
                continue
            self._parts = parts
            self._kept = {name: {part.name for part in parts}}
            return saved, notes
        raise CheckpointError(
            f"{self.store.place}: there is no checkpoint to go on from"
            + ("".join(f"; {note}" for note in notes) or ": none was written")
        )

    def _read(self, name: str) -> tuple[Saved, list[Part]]:
        snapshot = self._load(name)
        try:
            parts = parts_in(snapshot)
            histories = [self._load(part.name) for part in parts]
            return saved_in(snapshot, histories), parts
        except (LookupError, TypeError, ValueError) as error:
            raise CheckpointError(f"{name} is malformed: {one_line(error)}") from error

    def _load(self, name: str) -> dict[str, Any]:
        data = self.store.read(name)
        if (part := _PART.fullmatch(name)) and digest_of([data[-32:]]) != part[1]:
            raise CheckpointError(
                f"{self.store.place}/{name} holds other rounds than its name says"
            )
        try:
            content: dict[str, Any] = loaded(data)
        except CheckpointError as error:
            raise CheckpointError(f"{self.store.place}/{name} {error}") from error
        return content


def _is_own(name: str) -> bool:
    return bool(_SNAPSHOT.fullmatch(name) or _PART.fullmatch(name))
