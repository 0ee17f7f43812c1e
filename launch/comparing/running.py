"""One run: in this process, alone or beside others, or in a process of its own."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launch.callbacks import Callback
from launch.carrying import Past
from launch.comparing.ended import Ended
from launch.comparing.writing import write_results
from launch.configuration.run_config import RunConfig, load_config
from launch.display.figures import draw, title_of
from launch.display.terminal import RunProgress
from launch.many.apart import Tell
from launch.metrics import Metrics, main_measure, measure_names
from launch.observations import levels_in
from launch.session import Session
from launch.summary import Summary, summarise
from launch.theory.step_size import describe_step
from mlmc_ray.errors import MlmcRayError, NonFiniteError, ProblemError, RoundError, one_line


@dataclass(frozen=True, kw_only=True, slots=True)
class Watcher:
    """Who is told of a run.

    Attributes:
        note: called with lines of text.
        begin: called once it has begun, with its metrics, which grow with its rounds; an error
            here ends it.
        callback: told of its rounds.
    """

    note: Callable[[str], None]
    begin: Callable[[list[Metrics]], None]
    callback: Callback


def run_one(
    config: RunConfig, out: Path, progress: RunProgress, *, past: Past | None = None
) -> tuple[Summary, list[Metrics]]:
    """Run a configuration into a directory, and save the model.

    Args:
        config: the run.
        out: its directory.
        progress: is told of every round.
        past: from which it goes on, if from one.

    Returns:
        The row, and the metrics.

    Raises:
        RoundError, NonFiniteError, ProblemError: a round failed.
    """

    def begin(metrics: list[Metrics]) -> None:
        progress.begin(main_measure({config.name: measure_names(metrics[0])}))

    def note(line: str) -> None:
        progress.note(f"{config.name}: {line}")

    watcher = Watcher(note=note, begin=begin, callback=progress)
    ended = run_watched(config, out, watcher, past=past)
    return ended.summary, list(ended.metrics)


def run_watched(
    config: RunConfig,
    out: Path,
    watcher: Watcher,
    *,
    alone: bool = True,
    past: Past | None = None,
) -> Ended:
    """Run a configuration into a directory, and save the model.

    Args:
        config: the run.
        out: its directory.
        watcher: is told of it.
        alone: whether an error in its rounds is raised; else it is told, and is in the row.
        past: from which it goes on, if from one.

    Raises:
        RoundError, NonFiniteError, ProblemError: a round failed, and the run is alone.
    """
    session = Session(
        config, out=out, on_note=watcher.note, callbacks=[watcher.callback], past=past
    )
    failure: MlmcRayError | None = None
    try:
        with session:
            if session.theory:
                watcher.note(describe_step(session.theory))
            watcher.begin(session.metrics)
            session.run()
            session.save()
    except (RoundError, NonFiniteError, ProblemError) as error:
        if alone:
            raise
        failure = error
        watcher.note(f"{one_line(error)}: the run ends here")
    summary = summarise(session, failure)
    figures = {"figure.png": draw({config.name: session.metrics}, title_of([config]))}
    write_results(out, [summary.to_mapping()], figures)
    levels = levels_in(session.observations)
    return Ended(summary=summary, metrics=session.metrics, levels=levels)


@dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """A run, as plain values that can go to another process.

    Attributes:
        config: plain mapping of the configuration.
        out: its directory.
    """

    config: dict[str, Any]
    out: Path


def run_task(task: Task, tell: Tell) -> Ended:
    """Run a task beside others, in a process of its own.

    Args:
        task: what to run.
        tell: called with a line of text, with the metrics from before the first round, and with the
            number of rounds after every round.
    """
    watcher = Watcher(
        note=tell, begin=lambda metrics: tell(dict(metrics[0])), callback=_Telling(tell)
    )
    return run_watched(load_config(task.config), task.out, watcher, alone=False)


class _Telling(Callback):
    """Tells another process of every round."""

    def __init__(self, tell: Tell) -> None:
        self._tell = tell

    def on_round(self, session: Session, metrics: Metrics, result: Any) -> None:
        self._tell(metrics["round"])
