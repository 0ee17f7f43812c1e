"""One run of the experiment: training it, and what its file keeps."""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.bytes_to_accuracy.plan import Cell, Contender, Setting
from launch.many.apart import Tell
from launch.session import Session
from launch.summary import summarise
from mlmc_ray.errors import NonFiniteError, RoundError, one_line

_LAST = 5  # evaluations of which the final accuracy is the mean
_AROUND = 1  # evaluations on either side that are averaged with one


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What became of a run; evaluations are from before the first round on.

    Args:
        sent: bytes of the frames that a worker had sent at every evaluation, the mean over workers.
        accuracies: on the test examples, at every evaluation.
        diverged: why the run ended before its last round; None if it did not.
        seconds: of the rounds.

    Raises:
        ValueError: there is no evaluation, or not as many sizes as accuracies.
    """

    sent: tuple[float, ...]
    accuracies: tuple[float, ...]
    diverged: str | None
    seconds: float

    def __post_init__(self) -> None:
        if not self.accuracies or len(self.sent) != len(self.accuracies):
            raise ValueError(
                f"{len(self.sent)} sizes and {len(self.accuracies)} accuracies: give one of each "
                "for every evaluation, at least one"
            )

    @property
    def final(self) -> float | None:
        """The mean of the last accuracies; None if the run diverged."""
        if self.diverged:
            return None
        last = self.accuracies[-_LAST:]
        return sum(last) / len(last)

    def smooth(self) -> list[float]:
        """Return every accuracy averaged with its neighbours, one before and one after it."""
        around = (
            self.accuracies[max(0, at - _AROUND) : at + _AROUND + 1]
            for at in range(len(self.accuracies))
        )
        return [sum(some) / len(some) for some in around]

    def bytes_to(self, target: float) -> float | None:
        """Return what a worker had sent at the first evaluation that reached an accuracy.

        The evaluation is averaged with its neighbours, so that a method with noise does not reach
        by luck what it does not hold; as they lie on both sides, no method is late by it. The one
        before the first round, with nothing sent, does not count.
        """
        pairs = zip(self.sent[1:], self.smooth()[1:], strict=True)
        return next((sent for sent, accuracy in pairs if accuracy >= target), None)


def train(cell: Cell, tell: Tell) -> Outcome:
    """Run a cell from its start.

    Args:
        cell: what to run.
        tell: called with 1 after every round.

    Raises:
        MlmcRayError: the run failed otherwise than by diverging.
    """
    with Session(cell.config()) as session:
        diverged = None
        try:
            session.run(on_round=lambda _: tell(1))
        except (NonFiniteError, RoundError) as error:
            if not summarise(session, error).diverged:
                raise
            diverged = one_line(error)
        evaluated = [metrics for metrics in session.metrics if "test_accuracy" in metrics]
        return Outcome(
            sent=tuple(metrics["uplink_bytes"] / cell.setting.workers for metrics in evaluated),
            accuracies=tuple(metrics["test_accuracy"] for metrics in evaluated),
            diverged=diverged,
            seconds=session.metrics[-1]["seconds"],
        )


def write(cell: Cell, outcome: Outcome, out: Path) -> None:
    """Write the file of a cell: in full, or not at all."""
    path = cell.path(out)
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".part")
    content = {"config": cell.config(), "outcome": asdict(outcome)}
    draft.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    os.replace(draft, path)


def read(cell: Cell, out: Path) -> Outcome | None:
    """Return what was found in a cell; None if it has not been run."""
    path = cell.path(out)
    if not path.exists():
        return None
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))["outcome"]
    lists = {key: tuple(found[key]) for key in ("sent", "accuracies")}
    return Outcome(**{**found, **lists})


def tried(setting: Setting, contender: Contender, seed: int, out: Path) -> dict[float, Outcome]:
    """Return what was found with every step size that has been run, in increasing order."""
    cells = [
        Cell(setting=setting, contender=contender, step_size=step, seed=seed)
        for step in setting.steps
    ]
    found = {cell.step_size: read(cell, out) for cell in cells}
    return {step: outcome for step, outcome in found.items() if outcome}


def best_step(outcomes: Mapping[float, Outcome]) -> float | None:
    """Return the step size with the highest final accuracy; None if all have diverged."""
    finals = {step: outcome.final for step, outcome in outcomes.items()}
    ended = {step: final for step, final in finals.items() if final is not None}
    return max(ended, key=lambda step: ended[step], default=None)
