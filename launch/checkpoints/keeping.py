"""The checkpoints that a session writes."""

from collections.abc import Callable
from pathlib import Path

from launch.carrying import Past
from launch.checkpoints.places import check_place, new_shelf, place_for
from launch.checkpoints.resuming import Resumed
from launch.checkpoints.settings import KEPT
from launch.configuration.run_config import RunConfig
from launch.engines.base import RunState
from launch.history import History
from mlmc_ray.errors import CheckpointError, ConfigError


class Keeper:
    """Writes the checkpoints of one session.

    Args:
        config: of the session.
        out: its run directory.
        past: from which it goes on, if from one.
        on_note: called with a line about a checkpoint that cannot be written, or deleted.

    Raises:
        ConfigError: there is no place for checkpoints, or another run has some there.
        CheckpointError: the place cannot be read.
    """

    def __init__(
        self,
        config: RunConfig,
        out: Path | None,
        past: Past | None,
        on_note: Callable[[str], None],
    ) -> None:
        self._on_note = on_note
        self._shelf = past.shelf if isinstance(past, Resumed) else new_shelf(config, out)

    def place_for(self, out: Path) -> str | None:
        """Return where the checkpoints are, for a run directory; None if in their place there."""
        return None if self._shelf is None else place_for(self._shelf, out)

    def check(self, config: RunConfig) -> None:
        """Refuse a configuration that wants checkpoints where there is no place for them.

        Raises:
            ConfigError: says what would do.
        """
        check_place(config, self._shelf)

    def write(self, config: RunConfig, state: RunState, history: History) -> str:
        """Write a checkpoint, and return the name of its file.

        Old ones that cannot be deleted are a note.

        Raises:
            CheckpointError: it cannot be written; those before it stay.
            ConfigError: there is no place for it.
        """
        if self._shelf is None:
            raise ConfigError(
                "there is no place for a checkpoint: give Session(..., out=...), or "
                "checkpoints.storage"
            )
        keep = config.checkpoints.keep if config.checkpoints else KEPT
        name = self._shelf.write(config, state, history)
        try:
            self._shelf.clear(keep)
        except CheckpointError as error:
            self._on_note(f"round {history.round_index}: old checkpoints stay: {error}")
        return name

    def write_if_due(
        self, config: RunConfig, state: Callable[[], RunState], history: History
    ) -> bool:
        """Write a checkpoint if the configuration wants one after this round; see ``try_to``."""
        wanted, done = config.checkpoints, history.round_index
        due = wanted is not None and (done % wanted.every == 0 or done == config.rounds)
        return due and self.try_to(config, state, history)

    def try_to(self, config: RunConfig, state: Callable[[], RunState], history: History) -> bool:
        """Write a checkpoint; if it cannot be written, that is a note, and the run goes on.

        Returns:
            Whether it was written.
        """
        try:
            self.write(config, state(), history)
        except CheckpointError as error:
            self._on_note(f"round {history.round_index}: no checkpoint: {error}")
            return False
        return True

    def newest(self) -> tuple[int, RunState]:
        """Return the rounds and the state of the newest checkpoint that can be read.

        Raises:
            CheckpointError: there is none.
        """
        if self._shelf is None:
            raise CheckpointError("there is no place for checkpoints")
        return self._shelf.state()
