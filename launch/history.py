"""What a session remembers of its rounds, and writes down as they end."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from launch.carrying import Past
from launch.checkpoints.repeated import append_repeated, write_repeated
from launch.checkpoints.resuming import Resumed
from launch.configuration.run_config import RunConfig
from launch.engines.base import RunState
from launch.metrics import Metrics, measure_names
from launch.observations import observation_of, relative_error
from launch.run_directory import RunDirectory, writing
from mlmc_ray.errors import ConfigError, ProblemError
from mlmc_ray.ledger import DIRECTIONS, Entry, Ledger
from mlmc_ray.rounds import RoundResult, Timeline


class History:
    """The rounds of one run so far.

    Args:
        layers: their names, for what is observed.
        past: of another session, or of the same run, to go on from.

    Attributes:
        metrics: see ``Session``, as are ledger, work and observations.
        ledger: every frame.
        work: how long every worker took for every exchange.
        observations: what was seen in the rounds that were observed.
        changes: of the configuration; see ``changes.jsonl``.
        repeated: frames of rounds that were lost with a process and run again.
        seconds: that the rounds took on the wall.
        directory: where all of it is written to; None if nowhere.
    """

    def __init__(self, layers: Sequence[str], past: Past | None) -> None:
        self._layers = layers
        self.metrics: list[Metrics] = [dict(metrics) for metrics in past.metrics] if past else []
        self.ledger = Ledger(past.ledger if past else ())
        self.work = Timeline(past.work if past else ())
        self.observations: list[dict[str, Any]] = list(past.observations) if past else []
        self.seconds = past.seconds if past else 0.0
        resumed = past if isinstance(past, Resumed) else None
        self.changes: list[dict[str, Any]] = list(resumed.changes) if resumed else []
        self.repeated = resumed.repeated if resumed else Ledger()
        self.directory: RunDirectory | None = None

    @property
    def round_index(self) -> int:
        """Rounds done so far."""
        return int(self.metrics[-1]["round"])

    def check_measures(self, measures: Mapping[str, float]) -> None:
        """Refuse other measures than those of the first evaluation.

        Raises:
            ProblemError: names both.
        """
        first = next(filter(None, map(measure_names, self.metrics)), list(measures))
        if sorted(measures) != sorted(first):
            raise ProblemError(
                f"problem: evaluate returned {list(measures)}, and at first {first}: "
                "return the same measures every time"
            )

    def past(self, config: RunConfig, state: RunState) -> Past:
        """Return a copy of all of it, with what else a session remembers."""
        return Past(
            config=config,
            state=state,
            metrics=tuple(self.metrics),
            ledger=self.ledger.frozen(),
            work=self.work.frozen(),
            observations=tuple(self.observations),
            seconds=self.seconds,
        )

    def write_to(
        self,
        path: Path,
        config: Mapping[str, Any],
        past: Past | None,
        on_note: Callable[[str], None],
    ) -> None:
        """Write all rounds to a directory from now on, those of the past at once.

        Raises:
            ConfigError: the directory already holds another run, or cannot be written.
            CheckpointError: the past is not the newest checkpoint any more.
        """
        if isinstance(past, Resumed) and past.directory == path:
            self.directory = RunDirectory(path, config, past, on_note)
            self.repeated = self.directory.repeated
        else:
            self.directory = RunDirectory(path, config)
            with writing(path):
                write_repeated(path, self.repeated)
        if past is not None:
            self.directory.write_past(past)
        if self.changes:
            self.directory.write_changes(self.changes)

    def write_place(self, place: str | None) -> None:
        """Write where the checkpoints are, if anything is written; None if with the rest."""
        if self.directory is not None:
            self.directory.write_place(place)

    def write_change(self, changed: Mapping[str, Any]) -> None:
        """Write what has changed after the last round, if anything has."""
        if not changed:
            return
        change = {"round": self.round_index, "changes": dict(changed)}
        self.changes.append(change)
        if self.directory is not None:
            self.directory.write_changes([change])

    def write_model(self, state: Callable[[], Mapping[str, Any]]) -> Path:
        """Write the model's ``state_dict``, which is asked for, and return the file's path.

        Raises:
            ConfigError: nothing is written of the run, or the file cannot be.
        """
        if self.directory is None:
            raise ConfigError("the session has no run directory: give Session(..., out=...)")
        return self.directory.write_model(state())

    def metrics_of(self, result: RoundResult) -> Metrics:
        """Return the metrics of a round that ends now, but for measures and bytes."""
        metrics: Metrics = {"round": self.round_index + 1, "seconds": round(self.seconds, 6)}
        if result.clock_s is not None:
            metrics["clock_s"] = result.clock_s
        if result.losses:
            metrics["train_loss"] = sum(result.losses.values()) / len(result.losses)
        metrics["gradients"] = self.metrics[-1].get("gradients", 0) + result.num_gradients
        error = relative_error(result)
        if error is not None:
            metrics["relative_error"] = error
        return metrics

    def add(self, metrics: Metrics, result: RoundResult) -> None:
        """Remember a round, and write it down.

        Args:
            metrics: of the round; the bytes are added.
            result: of the round.

        Raises:
            ConfigError: it cannot be written.
        """
        self.ledger.extend(result.ledger)
        self.work.extend(result.work)
        self._remember_repeated(list(result.repeated))
        sizes = {f"{name}_bytes": self.ledger.frame_bytes(name) for name in DIRECTIONS}
        self.metrics.append({**metrics, **sizes})
        seen = observation_of(metrics["round"], result, self._layers)
        if seen is not None:
            self.observations.append(seen)
        if self.directory is not None:
            self.directory.write_round(self.metrics[-1], result.ledger, result.work, seen)

    def repeat(self, result: RoundResult) -> bool:
        """Remember the frames of a round that was run again.

        Returns:
            Whether they are those of the first time, as far as that is known.

        Raises:
            ConfigError: they cannot be written.
        """
        entries = list(result.ledger)
        self._remember_repeated([*result.repeated, *entries])
        done = entries[0].round_index if entries else self.round_index
        if done >= self.round_index:  # the first time it was not completed
            return True
        rounds = self.ledger.column("round_index")
        first, last = np.searchsorted(rounds, [done, done + 1])
        known = self.ledger.frame_bytes
        return last - first == len(entries) and all(
            known(way, round_index=done) == result.ledger.frame_bytes(way) for way in DIRECTIONS
        )

    def _remember_repeated(self, entries: Sequence[Entry]) -> None:
        self.repeated.extend(entries)
        if entries and self.directory is not None:
            with writing(self.directory.path):
                append_repeated(self.directory.path, entries)

    def close(self) -> None:
        """Close the files; may be called twice."""
        if self.directory is not None:
            self.directory.close()
