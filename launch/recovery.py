"""Where a session goes on from when actors of its run are lost, and for how often it tries."""

from collections.abc import Callable

from launch.configuration.run_config import RunConfig
from launch.engines.base import RunState
from mlmc_ray.errors import CheckpointError, LostError, RoundError


class Recovery:
    """What a session needs to run lost rounds again.

    It goes on from the newest checkpoint, where there is one since the session began or was
    changed last; else from that beginning, whose state is kept in memory.

    Args:
        on_note: called with a line about a checkpoint that cannot be read.

    Attributes:
        rounds: how many the engine has done; the history may lack the last of them.
    """

    def __init__(self, on_note: Callable[[str], None]) -> None:
        self._on_note = on_note
        self._first = 0
        self._state: RunState | None = None
        self._newest: Callable[[], tuple[int, RunState]] | None = None
        self._written: set[int] = set()  # the rounds of checkpoints since the beginning
        self._tries = 0
        self.rounds = 0

    def begin(self, config: RunConfig, rounds: int, state: RunState | None) -> None:
        """Note where a session begins, or begins anew with another configuration.

        Args:
            config: of the session.
            rounds: done.
            state: then; None at the start of a run.
        """
        self._first = self.rounds = rounds
        recovers = config.engine == "ray" and config.restarts
        self._state = state if recovers else None  # it may be large
        self._newest, self._written = None, set()

    def written(self, rounds: int, newest: Callable[[], tuple[int, RunState]]) -> None:
        """Note that a checkpoint has been written.

        Args:
            rounds: done by then.
            newest: returns the rounds and the state of the newest one that can be read.
        """
        self._written.add(rounds)
        self._newest = newest

    def done(self) -> None:
        """Note that the engine has done a round more."""
        self.rounds += 1
        self._tries = 0

    def point(self) -> tuple[int, RunState | None]:
        """Return where to go on from: the rounds done there, and the state; None for the start."""
        if self._newest is not None:
            try:
                rounds, state = self._newest()
                if rounds in self._written:  # and not one of before a change
                    return rounds, state
            except CheckpointError as error:
                self._on_note(f"the newest checkpoint cannot be used: {error}")
        return self._first, self._state

    def count(self, config: RunConfig, error: LostError) -> None:
        """Count a loss, or refuse to go on if there were too many in a row.

        Raises:
            RoundError: there were.
        """
        if self._tries < config.restarts:
            self._tries += 1
            return
        if not self._tries:
            raise error
        raise RoundError(given_up(str(error), self._tries)) from error


def given_up(reason: str, restarts: int) -> str:
    """Return what to say of a round that was tried too often."""
    return (
        f"{reason}; given up after restarts = {restarts}: look whether the task ends its process, "
        "or needs more memory than there is"
    )
