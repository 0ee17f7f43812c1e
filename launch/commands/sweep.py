"""``mlmc-ray sweep``: one configuration under many settings."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from launch.plain_errors import plain_errors


def sweep(
    config: Annotated[Path, typer.Argument(help="YAML file of the run.", metavar="CONFIG")],
    over: Annotated[
        list[str],
        typer.Option(
            metavar="KEY=VALUES",
            help="A key and its values: 0.1,0.2 or a range with both ends, log:1e-3..1:7 or "
            "lin:0..1:5. May be repeated; every combination is a setting.",
        ),
    ],
    measure: Annotated[
        str | None, typer.Option(help="Which decides.", show_default="gap, else accuracy")
    ] = None,
    best: Annotated[
        str | None,
        typer.Option(
            help="highest, or lowest.", show_default="highest for an accuracy and the like"
        ),
    ] = None,
    at_rounds: Annotated[
        str | None,
        typer.Option(
            metavar="N,N...",
            help="After how many rounds the measure is taken. The last decides; with --halving "
            "they are the rungs.",
            show_default="rounds of the file, the same for all entries",
        ),
    ] = None,
    seeds: Annotated[
        int, typer.Option(help="Runs of a setting, from its entry's seed on; their mean decides.")
    ] = 1,
    halving: Annotated[
        bool,
        typer.Option("--halving", help="Only the better third goes on at each of several rungs."),
    ] = False,
    entries: Annotated[
        bool, typer.Option("--entries", help="Sweep every entry of the file's `compare` list.")
    ] = False,
    parallel: Annotated[
        int, typer.Option(help="Runs at a time, each a process of one thread; inline runs only.")
    ] = 1,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Override a key of all runs."),
    ] = None,
    engine: Annotated[str | None, typer.Option(help="ray, or inline.")] = None,
    workers: Annotated[int | None, typer.Option(help="Number of logical workers.")] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Directory of results; those of this sweep that it holds are not run again."
        ),
    ] = None,
    traceback: Annotated[
        bool, typer.Option("--traceback", help="On an error, show Python's traceback too.")
    ] = False,
) -> None:
    """Find the best values of step sizes, or of any other keys.

    Shows a table, and writes results.json, figure.png and best.yaml: the file's run with the
    best values and its own rounds and seeds, for `mlmc-ray train`, or with several --entries its
    comparison, for `mlmc-ray compare`. A run that diverges counts as the worst; one that fails
    otherwise ends the sweep. Callbacks of the file are told of every run. A command that was
    interrupted goes on where it ended if it is given again with the same --out, in which one
    command at a time may work, unless one's own code or a version has changed.

    For example, with what `mlmc-ray init demo` makes:

        mlmc-ray sweep demo/config.yaml --over optimizer.step_size=0.003,0.01,0.03 --engine inline

        mlmc-ray sweep demo/config.yaml --over optimizer.step_size=log:0.001..0.1:9
        --over method.compressor.ladder.segment_size=0.01,0.1 --seeds 3 --halving
        --parallel 2 --engine inline

        mlmc-ray sweep demo/compare.yaml --entries --over optimizer.step_size=0.003,0.01,0.03
        --engine inline
    """
    console = Console()
    with plain_errors(console, traceback):
        from launch.run_directory import results_directory
        from launch.sweeps.grid import parse_axis, parse_numbers
        from launch.sweeps.plan import SweepOptions, plan_sweep
        from launch.sweeps.report import remarks, sweep_table
        from launch.sweeps.results import telling_where
        from launch.sweeps.sweep import sweep_into

        overrides = list(settings or [])
        overrides += [] if engine is None else [f"engine={engine}"]
        overrides += [] if workers is None else [f"workers={workers}"]
        planned = plan_sweep(
            config,
            SweepOptions(
                axes=tuple(parse_axis(text) for text in over),
                overrides=tuple(overrides),
                entries=entries,
                measure=measure,
                best=best,  # type: ignore[arg-type]  # checked there
                at_rounds=parse_numbers("--at-rounds", at_rounds) if at_rounds else (),
                seeds=seeds,
                halving=halving,
            ),
        )
        with (
            results_directory(out, f"{planned.name} sweep") as directory,
            telling_where(console, directory),
        ):
            outcomes = sweep_into(planned, directory, console, parallel)
            console.print(sweep_table(planned, outcomes))
            for line in remarks(planned, outcomes):
                console.print(line, highlight=False, markup=False)
