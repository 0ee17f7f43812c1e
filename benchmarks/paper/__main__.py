"""Keep what the runs of a comparison came to, and make tables and figures of what is kept."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from benchmarks.paper.figures import accuracies, levels
from benchmarks.paper.report import NOTES, tables
from benchmarks.paper.runs import gather, keep, kept
from benchmarks.paper.standing import NOTES as STANDING_NOTES
from benchmarks.paper.standing import standings
from launch.benching.measuring import machine
from launch.plain_errors import plain_errors

app = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False)

Kept = Annotated[Path, typer.Argument(help="File that `keep` has written.")]


@app.command(name="keep")
def keep_runs(
    runs: Annotated[list[Path], typer.Argument(help="Directories of comparisons, or of runs.")],
    json_path: Annotated[Path, typer.Option("--json", help="File to write.")],
) -> None:
    """Keep the evaluations and the levels of runs in one file."""
    with plain_errors(Console()):
        found = gather(runs)
        keep(found, json_path, {"machine": machine()})
        typer.echo(f"{len(found)} runs: {json_path}")


@app.command()
def report(path: Kept) -> None:
    """Print the tables of a comparison, in Markdown."""
    with plain_errors(Console()):
        runs, _ = kept(path)
        typer.echo(f"{NOTES}\n{tables(runs)}\n{STANDING_NOTES}\n{standings(runs)}")


@app.command()
def figure(
    path: Kept,
    picture: Annotated[Path, typer.Option("--figure", help="Picture of the accuracies.")],
    levels_picture: Annotated[
        Path | None, typer.Option("--levels", help="Picture of the levels of MLMC runs.")
    ] = None,
    lowest: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Accuracy from which on they are shown.", show_default="0"),
    ] = None,
) -> None:
    """Draw a comparison, and the levels that were drawn in it."""
    with plain_errors(Console()):
        runs, _ = kept(path)
        accuracies(runs, path.stem, lowest).savefig(picture)
        if levels_picture is not None:
            levels(runs).savefig(levels_picture)


if __name__ == "__main__":
    app()
