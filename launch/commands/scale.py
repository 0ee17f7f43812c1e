"""``mlmc-ray scale``: one configuration with more and more workers."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from launch.commands.options import overrides_of
from launch.plain_errors import plain_errors

_TABLE_WIDTH = 120


def scale(
    config: Annotated[Path, typer.Argument(help="YAML file of the run.", metavar="CONFIG")],
    workers: Annotated[
        str, typer.Option(metavar="M,M...", help="Numbers of workers: 1,2,4 or 1,2,...,1024.")
    ] = "1,2,4,8,16",
    batch: Annotated[
        str,
        typer.Option(
            help="total: all workers share a batch of workers x batch_size of the file. "
            "per-worker: each has batch_size."
        ),
    ] = "per-worker",
    target: Annotated[
        str | None,
        typer.Option(
            metavar="MEASURE=VALUE",
            help="Where a run ends, such as accuracy=0.9 or gap=1e-3; of a measure of your own, "
            "MEASURE>=VALUE or <=. Looked at every evaluate_every rounds.",
            show_default="all rounds",
        ),
    ] = None,
    draws: Annotated[
        int, typer.Option(help="Draws of all messages, from which the variance is estimated.")
    ] = 30,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Override a key of all runs."),
    ] = None,
    engine: Annotated[
        str | None, typer.Option(help="inline, or ray.", show_default="inline")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Directory of results; those of this run that it holds are kept."),
    ] = None,
    traceback: Annotated[
        bool, typer.Option("--traceback", help="On an error, show Python's traceback too.")
    ] = False,
) -> None:
    """Measure what more workers buy: rounds, bytes and seconds to a target, and the variance.

    Every number of workers runs inline, in a process of its own, whose peak memory is shown, or
    with --engine ray on one cluster, one after the other. A problem with num_functions gets as many
    as workers. The variance is that of the average of the
    workers' messages at the first parameters: as drawn, and by theory, which for independent
    unbiased messages is the mean of theirs over the number of workers; where MLMC's base or ladder
    draws too, only a bound. Writes results.json and figure.png; a command that was interrupted goes
    on if it is given again with the same --out, and takes more numbers of workers too, unless one's
    own code or a version has changed.

    For example, with what `mlmc-ray init demo` makes:

        mlmc-ray scale demo/config.yaml --workers 1,2,...,16 --target accuracy=0.9

        mlmc-ray scale demo/config.yaml --workers 1,2,...,64 --batch total
    """
    console = Console()
    with plain_errors(console, traceback):
        from launch.run_directory import results_directory
        from launch.scaling.plan import parse_target, plan_scale
        from launch.scaling.report import scale_table
        from launch.scaling.scale import scale_into
        from launch.sweeps.grid import parse_numbers
        from launch.sweeps.results import telling_where

        plan = plan_scale(
            config,
            parse_numbers("--workers", workers),
            overrides=tuple(overrides_of(settings, engine, None)),
            batch=batch,  # type: ignore[arg-type]  # checked there
            target=parse_target(target) if target else None,
            draws=draws,
        )
        with (
            results_directory(out, f"{plan.base.name} scale") as directory,
            telling_where(console, directory),
        ):
            found = scale_into(plan, directory, console)
            wide = Console(width=max(_TABLE_WIDTH, console.width))  # a narrower one loses columns
            wide.print(scale_table(plan, found))
