"""Running several configurations one after the other, and setting them side by side."""

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from rich.console import Console

from launch.carrying import Past
from launch.comparing.notes import missing_runs, notes_on_target
from launch.comparing.target import Target, check_measured, target_for
from launch.configuration.run_config import RunConfig
from launch.display.figures import draw, title_of
from launch.display.terminal import WIDEST_NAME, RunProgress, print_results
from launch.metrics import Metrics, main_measure, measure_names
from launch.run_directory import check_unused, slug, writing
from launch.session import Session, check_run
from launch.summary import Summary, summarise
from launch.theory.step_size import describe_step
from mlmc_ray.errors import (
    ConfigError,
    MlmcRayError,
    NonFiniteError,
    ProblemError,
    RoundError,
    one_line,
)


def compare(
    configs: Sequence[RunConfig],
    out: Path,
    console: Console,
    target: "float | Target | None" = None,
) -> list[Summary]:
    """Run every configuration, each in a directory of its own below ``out``; print the table.

    A run that fails in its rounds ends alone, and its row says so. Writes ``summary.json`` and
    ``compare.png`` after every run, so a comparison that is interrupted, or ended by another error,
    leaves those of the runs that ended and their table, and names the others.

    Args:
        configs: the runs, with different names.
        out: made if need be.
        console: where progress and the table go.
        target: see ``target_for``.

    Returns:
        One row a run; see ``check_ended``.

    Raises:
        ConfigError: two runs have the same name, ``out`` already holds one of them, one could not
            begin, or the target fits no measure.
        ProblemError, RoundError, ClusterError: one could not begin.
    """
    directories = _directories(configs, out)
    for config in configs:
        _check(config)
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
    runs: dict[str, list[Metrics]] = {}
    summaries: list[Summary] = []
    width = min(WIDEST_NAME, max(len(config.name) for config in configs))
    try:
        with ExitStack() as stack:
            _share_cluster(configs, stack, console)
            for config, directory in zip(configs, directories, strict=True):
                with RunProgress(console, config.name, config.rounds, width) as progress:
                    summary, _ = run_one(config, directory, progress, runs, target, alone=False)
                summaries = _with_target([*summaries, summary], runs, target)
                done = configs[: len(summaries)]
                write_results(out, "compare.png", runs, summaries, title_of(done))
    finally:
        if summaries:
            print_results(console, summaries, notes_on_target(configs[: len(summaries)], summaries))
        if runs and len(summaries) < len(configs):
            text = missing_runs(configs[len(summaries) :], runs, out)
            console.print(text, soft_wrap=True, highlight=False, markup=False)
    return summaries


def check_ended(summaries: Sequence[Summary]) -> None:
    """Refuse rows of which some are of runs that failed.

    Raises:
        RoundError: names these.
    """
    failed = [summary.name for summary in summaries if summary.ended]
    if failed:
        number = f"{len(failed)} of {len(summaries)} runs"
        some = "every run" if len(failed) == len(summaries) else number
        raise RoundError(f"compare: {some} failed: {', '.join(failed)}: see the lines above")


def _directories(configs: Sequence[RunConfig], out: Path) -> list[Path]:
    """Return a directory for every run.

    Raises:
        ConfigError: two runs would share one, or it is used already.
    """
    directories = [out / slug(config.name) for config in configs]
    for directory in directories:
        names = [
            run.name for run, own in zip(configs, directories, strict=True) if own == directory
        ]
        if len(names) > 1:
            raise ConfigError(
                f"compare: runs {names} would share the directory {directory.name!r}: give each "
                "its own name"
            )
        check_unused(directory)
    return directories


def _with_target(
    summaries: Sequence[Summary],
    runs: Mapping[str, Sequence[Metrics]],
    wanted: "float | Target | None",
) -> list[Summary]:
    """Return the rows with the target of the measure that all of these runs have."""
    target = target_for(main_measure(_measures(runs)), wanted)
    return [
        dataclasses.replace(
            row, target=target, bytes_to_target=target.bytes_up(runs[row.name]) if target else None
        )
        for row in summaries
    ]


def _measures(runs: Mapping[str, Sequence[Metrics]]) -> dict[str, list[str]]:
    return {name: measure_names(rounds[0]) for name, rounds in runs.items()}


def _check(config: RunConfig) -> None:
    """Refuse a run that could not begin, before others have run.

    Raises:
        ConfigError, ProblemError: with the run's name.
    """
    try:
        check_run(config)
    except (ConfigError, ProblemError) as error:
        raise type(error)(f"{config.name}: {error}") from error


def run_one(
    config: RunConfig,
    out: Path,
    progress: RunProgress,
    runs: dict[str, list[Metrics]] | None = None,
    target: "float | Target | None" = None,
    *,
    alone: bool = True,
    past: Past | None = None,
) -> tuple[Summary, list[Metrics]]:
    """Run a configuration into a directory, and save the model.

    Args:
        config: the run.
        out: its directory.
        progress: is told of every round.
        runs: metrics of the runs that it will be compared with, by name; its own are added as soon
            as it has begun.
        target: the comparison's.
        alone: whether an error in its rounds is raised; else it is told, and is in the row.
        past: from which it goes on, if from one.

    Returns:
        The row, and the metrics.

    Raises:
        ConfigError: it has no measure in common with the others, or the target does not fit that.
        RoundError, NonFiniteError, ProblemError: a round failed, and the run is alone.
    """

    def note(line: str) -> None:
        progress.note(f"{config.name}: {line}")

    runs = {} if runs is None else runs
    session = Session(config, out=out, on_note=note, callbacks=[progress], past=past)
    failure: MlmcRayError | None = None
    try:
        with session:
            runs[config.name] = session.metrics
            if session.theory:
                note(describe_step(session.theory))
            progress.begin(_shown(runs, target, note), headings=len(runs) == 1)
            session.run()
            session.save()
    except (RoundError, NonFiniteError, ProblemError) as error:
        if alone:
            raise
        failure = error
        note(f"{one_line(error)}: the run ends here")
    summary = summarise(session, failure)
    write_results(out, "figure.png", {config.name: session.metrics}, [summary], title_of([config]))
    return summary, session.metrics


def _shown(
    runs: Mapping[str, Sequence[Metrics]],
    wanted: "float | Target | None",
    note: Callable[[str], None],
) -> str:
    """Return the measure to show; check the target against the measures of the last run.

    Raises:
        ConfigError: the runs have no measure in common, or the target does not fit.
    """
    measures = _measures(runs)
    measure = main_measure(measures)
    if target := target_for(measure, wanted):
        check_measured(target, measures)
        *_, rounds = runs.values()
        if target.bytes_up(rounds[:1]) is not None:
            note(f"{target} is reached before the first round, so it tells nothing of this run")
    return measure


def write_results(
    out: Path,
    figure_name: str,
    runs: Mapping[str, Sequence[Metrics]],
    summaries: Sequence[Summary],
    title: str,
) -> None:
    """Write ``summary.json`` and the figure of some runs."""
    rows: list[dict[str, Any]] = [summary.to_mapping() for summary in summaries]
    figure = draw(runs, title)
    with writing(out):
        (out / "summary.json").write_text(json.dumps(rows, indent=2) + "\n")
        figure.savefig(out / figure_name)


def _share_cluster(configs: Sequence[RunConfig], stack: ExitStack, console: Console) -> None:
    """Let all Ray runs use one cluster, so that it starts once."""
    on_ray = [config for config in configs if config.engine == "ray"]
    addresses = {config.address for config in on_ray}
    if len(addresses) > 1:
        raise ConfigError(
            f"compare: address is one of {sorted(map(str, addresses))}: runs that are compared "
            "share one cluster"
        )
    if on_ray:
        from launch.engines.cluster import ray_cluster  # imports Ray, which inline runs do not need

        console.print("starting Ray", highlight=False)
        stack.enter_context(ray_cluster(on_ray[0].address))
