"""The checkpoints that a session writes."""

from collections.abc import Callable
from pathlib import Path

from launch.carrying import Past
from launch.checkpoints.places import check_place, new_shelf
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

    Raises:
        ConfigError: there is no place for checkpoints, or another run has some there.
        CheckpointError: the place cannot be read.
    """

    def __init__(self, config: RunConfig, out: Path | None, past: Past | None) -> None:
        self._shelf = past.shelf if isinstance(past, Resumed) else new_shelf(config, out)

    def check(self, config: RunConfig) -> None:
        """Refuse a configuration that wants checkpoints where there is no place for them.

        Raises:
            ConfigError: says what would do.
        """
        check_place(config, self._shelf)

    def write(self, config: RunConfig, state: RunState, history: History) -> str:
        """Write a checkpoint, and return the name of its file.

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
        return self._shelf.write(config, state, history, keep)

    def write_if_due(
        self, config: RunConfig, state: Callable[[], RunState], history: History
    ) -> str | None:
        """Write a checkpoint if the configuration wants one after this round.

        A run does not end where one cannot be written.

        Returns:
            What is to be said; None if all is well.
        """
        wanted, done = config.checkpoints, history.round_index
        if wanted is None or (done % wanted.every and done != config.rounds):
            return None
        try:
            self.write(config, state(), history)
        except CheckpointError as error:
            return f"round {done}: no checkpoint: {error}"
        return None
