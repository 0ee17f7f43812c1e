"""The command that sets several runs side by side."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from launch.commands.options import (
    EngineName,
    Out,
    Settings,
    Traceback,
    Workers,
    overrides_of,
)
from launch.plain_errors import plain_errors


def compare(
    configs: Annotated[
        list[Path], typer.Argument(help="YAML files of the runs.", metavar="CONFIG...")
    ],
    settings: Settings = None,
    engine: EngineName = None,
    workers: Workers = None,
    out: Out = None,
    target: Annotated[
        str | None,
        typer.Option(
            "--target",
            metavar="TARGET",
            help="0.9, a value of the measure in the table, or loss=0.1, that of another: the "
            "bytes that each run took to reach it get a column.",
            show_default="1e-6 of a gap to a known optimum, else none",
        ),
    ] = None,
    seeds: Annotated[
        int | None,
        typer.Option(
            "--seeds",
            metavar="N",
            help="Runs of an entry, with its seed and those that follow it: the table has means "
            "and spreads, the figure bands.",
            show_default="seeds of the file, else 1",
        ),
    ] = None,
    parallel: Annotated[
        int,
        typer.Option(
            "--parallel", help="Runs at a time, each a process of one thread; inline runs only."
        ),
    ] = 1,
    traceback: Traceback = False,
) -> None:
    """Run several configurations and set them side by side, in a table and a figure.

    A file with a `compare` list stands for one run per entry, each the file with the entry's keys
    merged in. A run that fails in its rounds ends alone; the exit code is then 1.

    A command that was interrupted goes on where it ended if it is given again with the same --out:
    runs that have ended there are kept, unless one's own code or a version has changed.

    For example, with what `mlmc-ray init demo` makes:

        mlmc-ray compare demo/compare.yaml

        mlmc-ray compare mine.yaml theirs.yaml --set rounds=200 --workers 8 --target 0.9

        mlmc-ray compare demo/compare.yaml --seeds 3 --engine inline --parallel 2 --out runs/three
    """
    console = Console()
    with plain_errors(console, traceback):
        from launch.comparing.compare import check_ended
        from launch.comparing.compare import compare as compare_runs
        from launch.comparing.plan import seeds_in
        from launch.comparing.target import read_target
        from launch.configuration.run_config import load_variants
        from launch.display.results import telling_where
        from launch.run_directory import results_directory

        wanted = None if target is None else read_target(target)
        overrides = overrides_of(settings, engine, workers)
        runs = [run for path in configs for run in load_variants(path, overrides)]
        with (
            results_directory(out, configs[0].stem) as directory,
            telling_where(console, directory),
        ):
            summaries = compare_runs(
                runs,
                directory,
                console,
                wanted,
                seeds=seeds_in(configs) if seeds is None else seeds,
                processes=parallel,
            )
        check_ended(summaries)
