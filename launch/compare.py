"""Running several configurations one after the other, and setting them side by side."""

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
from launch.terminal import WIDEST_NAME, RunProgress
from launch.theory import describe_step
from mlmc_ray.errors import ConfigError, ProblemError


def compare(configs: Sequence[RunConfig], out: Path, console: Console) -> list[Summary]:
    """Run every configuration, each in a directory of its own below ``out``.

    Writes ``summary.json`` and ``compare.png`` after every run, so an interrupted comparison
    leaves those of the runs that ended.

    Args:
        configs: the runs, with different names.
        out: made if need be.
        console: where progress goes.

    Returns:
        One row a run.

    Raises:
        ConfigError: two runs have the same name, ``out`` already holds one of them, or one could
            not begin.
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
    with ExitStack() as stack:
        _share_cluster(configs, stack, console)
        for config, directory in zip(configs, directories, strict=True):
            with RunProgress(console, config.name, config.rounds, width) as progress:
                summary, runs[config.name] = run_one(config, out / directory, progress, runs)
            summaries.append(summary)
            done = configs[: len(summaries)]
            write_results(out, "compare.png", runs, summaries, title_of(done))
    return summaries


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
) -> tuple[Summary, list[Metrics]]:
    """Run a configuration into a directory, and save the model.

    Args:
        config: the run.
        out: its directory.
        progress: is told of every round.
        others: metrics of the runs that it will be compared with, by name.

    Raises:
        ConfigError: it has no measure in common with the others.
    """

    def note(line: str) -> None:
        progress.note(f"{config.name}: {line}")

    with Session(config, out=out, on_note=note) as session:
        runs = {**others, config.name: session.metrics}
        if session.theory:
            note(describe_step(session.theory))
        measure = main_measure({name: measure_names(rounds[0]) for name, rounds in runs.items()})
        progress.begin(measure, headings=not others)
        session.run(on_round=progress.update)
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
