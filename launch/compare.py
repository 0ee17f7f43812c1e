"""Running several configurations one after the other, and setting them side by side."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import MappingProxyType
from typing import Any

from rich.console import Console

from launch.config import RunConfig
from launch.figures import draw, title_of
from launch.metrics import Metrics, main_measure, measure_names
from launch.run_directory import check_unused, slug, writing
from launch.session import Session, check_run
from launch.summary import Summary, summarise
from launch.target import target_for
from launch.terminal import WIDEST_NAME, RunProgress, summary_table
from launch.theory import describe_step
from mlmc_ray.errors import ConfigError, ProblemError


def compare(
    configs: Sequence[RunConfig], out: Path, console: Console, target: float | None = None
) -> list[Summary]:
    """Run every configuration, each in a directory of its own below ``out``; print the table.

    Writes ``summary.json`` and ``compare.png`` after every run, so a comparison that fails or is
    interrupted leaves those of the runs that ended, and their table.

    Args:
        configs: the runs, with different names.
        out: made if need be.
        console: where progress and the table go.
        target: see ``target_for``.

    Returns:
        One row a run.

    Raises:
        ConfigError: two runs have the same name, ``out`` already holds one of them, one could not
            begin, or the target fits no measure.
    """
    directories = [slug(config.name) for config in configs]
    repeated = sorted({name for name in directories if directories.count(name) > 1})
    if repeated:
        raise ConfigError(f"compare: {repeated} name more than one run: give each its own name")
    for directory in directories:
        check_unused(out / directory)
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
                    summary, runs[config.name] = run_one(
                        config, out / directory, progress, runs, target
                    )
                summaries = _with_target([*summaries, summary], runs, target)
                done = configs[: len(summaries)]
                write_results(out, "compare.png", runs, summaries, title_of(done))
    finally:
        if summaries:
            console.print(summary_table(summaries))
    return summaries


def _with_target(
    summaries: Sequence[Summary], runs: Mapping[str, Sequence[Metrics]], value: float | None
) -> list[Summary]:
    """Return the rows with the target of the measure that all of these runs have."""
    target = target_for(_measure_of(runs), value)
    return [
        dataclasses.replace(
            row, target=target, bytes_to_target=target.bytes_up(runs[row.name]) if target else None
        )
        for row in summaries
    ]


def _measure_of(runs: Mapping[str, Sequence[Metrics]]) -> str:
    return main_measure({name: measure_names(rounds[0]) for name, rounds in runs.items()})


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
    others: Mapping[str, Sequence[Metrics]] = MappingProxyType({}),
    target: float | None = None,
) -> tuple[Summary, list[Metrics]]:
    """Run a configuration into a directory, and save the model.

    Args:
        config: the run.
        out: its directory.
        progress: is told of every round.
        others: metrics of the runs that it will be compared with, by name.
        target: the comparison's.

    Raises:
        ConfigError: it has no measure in common with the others, or the target does not fit that.
    """

    def note(line: str) -> None:
        progress.note(f"{config.name}: {line}")

    with Session(config, out=out, on_note=note, callbacks=[progress]) as session:
        runs = {**others, config.name: session.metrics}
        if session.theory:
            note(describe_step(session.theory))
        measure = _measure_of(runs)
        target_for(measure, target)
        progress.begin(measure, headings=not others)
        session.run()
        session.save()
        summary = summarise(session)
        write_results(
            out, "figure.png", {config.name: session.metrics}, [summary], title_of([config])
        )
        return summary, session.metrics


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
        from launch.cluster import ray_cluster  # imports Ray, which inline runs do not need

        console.print("starting Ray", highlight=False)
        stack.enter_context(ray_cluster(on_ray[0].address))
