"""Running several configurations one after the other, and setting them side by side."""

import json
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from rich.console import Console

from launch.config import RunConfig
from launch.figures import draw, save, title_of
from launch.metrics import Metrics
from launch.run_directory import check_unused, make_directory, slug
from launch.session import Session
from launch.summary import Summary, summarise
from launch.terminal import RunProgress
from mlmc_ray.errors import ConfigError


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
        ConfigError: two runs have the same name, or ``out`` already holds one of them.
    """
    directories = [slug(config.name) for config in configs]
    repeated = sorted({name for name in directories if directories.count(name) > 1})
    if repeated:
        raise ConfigError(f"compare: {repeated} name more than one run: give each its own name")
    for directory in directories:
        check_unused(out / directory)
    make_directory(out)
    runs: dict[str, list[Metrics]] = {}
    summaries: list[Summary] = []
    width = max(len(config.name) for config in configs)
    with ExitStack() as stack:
        _share_cluster(configs, stack, console)
        for config, directory in zip(configs, directories, strict=True):
            first = not summaries
            with RunProgress(console, config.name, config.rounds, width, first) as progress:
                summary, runs[config.name] = run_one(config, out / directory, progress)
            summaries.append(summary)
            write_results(out, "compare.png", runs, summaries, title_of(config))
    return summaries


def run_one(config: RunConfig, out: Path, progress: RunProgress) -> tuple[Summary, list[Metrics]]:
    """Run a configuration into a directory, and save the model."""
    with Session(config, out=out) as session:
        progress.begin(session.metrics[0])
        session.run(on_round=progress.update)
        session.save()
        summary = summarise(session)
        write_results(
            out, "figure.png", {config.name: session.metrics}, [summary], title_of(config)
        )
        return summary, session.metrics


def write_results(
    out: Path,
    figure_name: str,
    runs: dict[str, list[Metrics]],
    summaries: Sequence[Summary],
    title: str,
) -> None:
    """Write ``summary.json`` and the figure of some runs."""
    rows: list[dict[str, Any]] = [summary.to_mapping() for summary in summaries]
    (out / "summary.json").write_text(json.dumps(rows, indent=2) + "\n")
    save(draw(runs, title), out / figure_name)


def _share_cluster(configs: Sequence[RunConfig], stack: ExitStack, console: Console) -> None:
    """Let all Ray runs use one cluster, so that it starts once."""
    on_ray = [config for config in configs if config.engine == "ray"]
    if on_ray:
        from launch.cluster import ray_cluster  # imports Ray, which inline runs do not need
        from launch.ray_engine import processors_wanted

        console.print("starting Ray", highlight=False)
        wanted = max(processors_wanted(config) for config in on_ray)
        stack.enter_context(ray_cluster(on_ray[0].address, wanted))
