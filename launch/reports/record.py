"""What the files of a run directory say."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from launch.comparing.target import Target
from launch.metrics import Metrics
from mlmc_ray.ledger import Direction


@dataclass(frozen=True, kw_only=True, slots=True)
class Traffic:
    """Totals of a ledger.

    Attributes:
        by_worker: bytes by direction and worker.
        frames: how many by direction.
        paper_bits: of all uplink frames by the paper's formula; None if a frame has none.
        staleness: how many reports answered news of so many rounds before.
    """

    by_worker: Mapping[Direction, Mapping[int, int]]
    frames: Mapping[Direction, int]
    paper_bits: int | None
    staleness: Mapping[int, int]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Timeline:
    """Seconds that workers took from news to report: columns of shape (n,), one entry a turn.

    Workers of one host take their turns one after the other, in the order of the entries.
    """

    round_index: npt.NDArray[np.int64]
    exchange_index: npt.NDArray[np.int64]
    worker_id: npt.NDArray[np.int64]
    host: npt.NDArray[np.int64]
    seconds: npt.NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.seconds)


@dataclass(frozen=True, kw_only=True, slots=True)
class Change:
    """What a run was changed to on its way.

    Attributes:
        round: rounds done by then.
        settings: the new values by key of the configuration.
    """

    round: int
    settings: Mapping[str, Any]

    def __str__(self) -> str:
        new = ", ".join(f"{key} became {value}" for key, value in self.settings.items())
        return f"after round {self.round}: {new or 'nothing changed'}"


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class RunRecord:
    """A run as far as it came.

    Attributes:
        path: the run directory, absolute.
        name: the run's own, or the directory's where the configuration has none.
        config: the resolved configuration; empty where it cannot be read.
        changes: of the configuration on the way, in order; with them it is not what
            ``config`` says any more, and cannot be repeated from it.
        versions: of Python, the packages, the machine.
        metrics: a mapping a round, in order; None where a number was not finite.
        traffic: totals of the ledger.
        timeline: who took how long; empty where it was not recorded.
        observed: what was seen of messages, a mapping for each observed round.
        summary: the row that the run itself wrote at its end; None without one.
        target: what the runs of the comparison were to reach; None without one.
        finished: all rounds are done.
        notes: in plain words, what is missing or could not be read.
    """

    path: Path
    name: str
    config: Mapping[str, Any]
    changes: Sequence[Change]
    versions: Mapping[str, Any]
    metrics: Sequence[Metrics]
    traffic: Traffic
    timeline: Timeline
    observed: Sequence[Mapping[str, Any]]
    summary: Mapping[str, Any] | None
    target: Target | None
    finished: bool
    notes: Sequence[str]

    @property
    def rounds(self) -> int:
        """Rounds done."""
        return int(self.metrics[-1]["round"]) if self.metrics else 0

    @property
    def rounds_wanted(self) -> int | None:
        """Rounds that the configuration asks for, as it is at the end; None if it does not say."""
        return rounds_wanted(self.config, self.changes)


def rounds_wanted(config: Mapping[str, Any], changes: Sequence[Change]) -> int | None:
    """Return the rounds that a configuration asks for after its changes; None if it does not."""
    wanted = {**config, **{key: new for own in changes for key, new in own.settings.items()}}
    rounds = wanted.get("rounds")
    return rounds if isinstance(rounds, int) and not isinstance(rounds, bool) else None
