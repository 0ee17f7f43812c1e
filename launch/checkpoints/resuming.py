"""Runs that go on from a checkpoint."""

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launch.carrying import Past
from launch.checkpoints.places import shelf_in
from launch.checkpoints.settings import Checkpoints, check_same_storage
from launch.checkpoints.shelf import Shelf
from launch.configuration.run_config import RunConfig, load_config
from launch.configuration.unchanging import MAY_DIFFER
from launch.configuration.yaml_text import plain
from launch.engines.base import RunState
from launch.run_directory import held
from launch.versions import versions
from mlmc_ray.errors import ConfigError
from mlmc_ray.ledger import Ledger


@dataclass(frozen=True, kw_only=True, slots=True)
class Resumed(Past):
    """What a checkpoint says of a run, to go on from.

    Attributes:
        described: the configuration at the checkpoint, as a plain mapping.
        shelf: where the checkpoint is, and the next ones will be.
        directory: of the run, in which it is gone on with; None if there is none.
        changes: see ``changes.jsonl``.
        repeated: frames of rounds that were run again before.
        notes: what is to be said, a line each.
    """

    described: Mapping[str, Any]
    shelf: Shelf
    directory: Path | None
    changes: tuple[dict[str, Any], ...]
    repeated: Ledger
    notes: tuple[str, ...]

    @property
    def rounds(self) -> int:
        """Rounds done."""
        return int(self.metrics[-1]["round"])

    def carried_to(self, config: RunConfig) -> tuple[RunState, Sequence[str]]:
        """Return the whole state, for a configuration that changes nothing of the result.

        Raises:
            ConfigError: see ``changed_to``.
        """
        self.changed_to(config)
        return self.state, self.notes

    def changed_to(self, config: RunConfig) -> dict[str, Any]:
        """Return the keys that differ in the configuration with which the run goes on.

        Raises:
            ConfigError: one of them would make another run of it, or there are too few rounds;
                names all of them.
        """
        given = plain(config.to_mapping())
        before = {name: self.described.get(name) for name in given}
        changed = {name: given[name] for name in given if given[name] != before[name]}
        if wrong := [name for name in changed if name not in MAY_DIFFER]:
            pairs = (
                line for name in wrong for line in _differences(name, before[name], given[name])
            )
            raise ConfigError(
                f"the configuration is not that of the checkpoint: {'; '.join(pairs)}: leave "
                "that as before, or begin another run"
            )
        before_it = self.described.get("checkpoints")
        check_same_storage(Checkpoints(**before_it) if before_it else None, config.checkpoints)
        if config.schedule is not None:
            if "rounds" in changed:
                raise ConfigError(
                    f"rounds is {given['rounds']}, was {before['rounds']}, and schedule goes by "
                    "it: leave it as before, and give session.change(rounds=...) what is to be "
                    "another run from here on"
                )
        elif config.rounds < self.rounds:
            raise ConfigError(
                f"rounds is {config.rounds}, and the checkpoint is of round {self.rounds}: give at "
                "least as many"
            )
        return changed


def resumed(
    source: "str | Path",
    config: "str | Path | Mapping[str, Any] | RunConfig | None",
    overrides: Sequence[str],
    out: "str | Path | None",
) -> Resumed:
    """Return the newest checkpoint of a run that can be used.

    Args:
        source: a run directory, or where its checkpoints are.
        config: of the run, if that in the checkpoint cannot be made here; else None.
        overrides: ``a.b=c`` settings.
        out: see ``Session.resume``.

    Raises:
        CheckpointError: there is none.
        ConfigError: a run directory goes on in itself and nowhere else, or the configuration
            cannot be used.
        ProblemError: the problem cannot be imported.
    """
    shelf, directory = shelf_in(source)
    if directory is not None and out is not None:
        raise ConfigError(f"{directory} is a run directory, and the run goes on there: leave out")
    with nullcontext() if directory is None else held(directory):
        saved, notes = shelf.newest()
        if directory is not None:
            notes += _lost_changes(directory, len(saved.changes))
    notes += _other_versions(saved.versions)
    named = "name=" + json.dumps(saved.described["name"])
    loaded = load_config(saved.described if config is None else config, [named, *overrides])
    rounds = saved.metrics[-1]["round"]
    return Resumed(
        config=loaded,
        state=saved.state,
        metrics=tuple(saved.metrics),
        ledger=saved.ledger,
        work=saved.work,
        observations=tuple(saved.observations),
        seconds=saved.seconds,
        described=plain(saved.described),
        shelf=shelf,
        directory=directory,
        changes=tuple(saved.changes),
        repeated=saved.repeated,
        notes=(*notes, f"goes on after round {rounds}, from {shelf.store.place}"),
    )


def directory_of(past: Past | None) -> Path | None:
    """Return the directory in which a run goes on; None if it goes on in none, or is another."""
    return past.directory if isinstance(past, Resumed) else None


def _lost_changes(directory: Path, known: int) -> Iterator[str]:
    """Yield what to say of changes that were made after the checkpoint."""
    path = directory / "changes.jsonl"
    if not path.exists():
        return
    with path.open(encoding="utf-8", errors="replace") as file:
        for line in itertools.islice(file, known, None):
            yield f"a change after the checkpoint is dropped; make it again: {line.strip()}"


def _other_versions(before: Mapping[str, str]) -> list[str]:
    """Return what to say if the checkpoint was written with other versions."""
    now = versions()
    names = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    if not names:
        return []
    found = "; ".join(
        f"{name} was {before.get(name)!r}, and is {now.get(name)!r}" for name in names
    )
    return [f"the checkpoint was written with other versions, and bits may differ: {found}"]


def _differences(place: str, before: Any, given: Any) -> Iterator[str]:
    """Yield what every key that differs is, and was."""
    if isinstance(before, dict) and isinstance(given, dict):
        for name in {**before, **given}:
            yield from _differences(f"{place}.{name}", before.get(name), given.get(name))
    elif before != given:
        yield f"{place} is {given!r}, was {before!r}"
