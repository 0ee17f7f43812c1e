"""The command line: ``mlmc-ray``, the same as ``python -m launch``."""

import io
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from launch.library_commands import bench, compressors, methods
from launch.plain_errors import plain_errors

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    help="Train PyTorch models with many workers through MLMC-compressed messages, on Ray or in "
    "one process, and count every byte.",
)

ConfigFile = Annotated[Path, typer.Argument(help="YAML file of the run.", metavar="CONFIG")]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Override a key, such as rounds=50 or method.compressor.k=0.01; may be repeated. It "
        "wins over the file, the entries of `compare` included. A mapping is merged into the "
        "file's, whose other keys stay, unless its kind is another.",
    ),
]
EngineName = Annotated[
    str | None, typer.Option("--engine", help="ray, or inline: one process without Ray.")
]
Workers = Annotated[int | None, typer.Option("--workers", help="Number of logical workers.")]
Out = Annotated[
    Path | None,
    typer.Option("--out", help="Run directory; by default runs/NAME-TIME below the current one."),
]
Traceback = Annotated[
    bool, typer.Option("--traceback", help="On an error, show Python's traceback too.")
]


@app.command()
def train(
    config: ConfigFile,
    settings: Settings = None,
    engine: EngineName = None,
    workers: Workers = None,
    out: Out = None,
    traceback: Traceback = False,
) -> None:
    """Train one configuration; a `compare` list in the file is left aside.

    Writes the resolved configuration, versions, metrics, ledger, model and a figure into the run
    directory.

    For example:

        mlmc-ray train configs/quickstart.yaml

        mlmc-ray train configs/quickstart.yaml --engine inline --set optimizer.step_size=0.05
    """
    console = Console()
    with plain_errors(console, traceback):
        from launch.compare import run_one
        from launch.config import load_config
        from launch.run_directory import results_directory
        from launch.terminal import RunProgress, summary_table

        run = load_config(config, _overrides(settings, engine, workers))
        with (
            results_directory(out, run.name) as directory,
            _telling_where(console, directory),
            RunProgress(console, run.name, run.rounds) as progress,
        ):
            summary, _ = run_one(run, directory, progress)
        console.print(summary_table([summary]))


@app.command()
def compare(
    configs: Annotated[
        list[Path], typer.Argument(help="YAML files of the runs.", metavar="CONFIG...")
    ],
    settings: Settings = None,
    engine: EngineName = None,
    workers: Workers = None,
    out: Out = None,
    traceback: Traceback = False,
) -> None:
    """Run several configurations and set them side by side, in a table and a figure.

    A file with a `compare` list stands for one run per entry, each the file with the entry's keys
    merged in.

    For example:

        mlmc-ray compare configs/quickstart.yaml

        mlmc-ray compare mine.yaml theirs.yaml --set rounds=200 --workers 8
    """
    console = Console()
    with plain_errors(console, traceback):
        from launch.compare import compare as compare_runs
        from launch.config import load_variants
        from launch.run_directory import results_directory
        from launch.terminal import summary_table

        overrides = _overrides(settings, engine, workers)
        runs = [run for path in configs for run in load_variants(path, overrides)]
        with (
            results_directory(out, configs[0].stem) as directory,
            _telling_where(console, directory),
        ):
            summaries = compare_runs(runs, directory, console)
        console.print(summary_table(summaries))


app.add_typer(bench, name="bench")
app.command()(compressors)
app.command()(methods)


def _print_versions(wanted: bool) -> None:
    if wanted:
        print(f"mlmc-ray {version('mlmc-ray')}")
        print(f"Python {platform.python_version()}")
        print(f"torch {version('torch')}")
        print(f"Ray {version('ray')}")
        raise typer.Exit


@app.callback()
def _root(
    versions: Annotated[
        bool,
        typer.Option(
            "--version",
            callback=_print_versions,
            is_eager=True,
            help="Print the versions of mlmc-ray, Python, torch and Ray.",
        ),
    ] = False,
) -> None:
    """Gives every command the options of the program as a whole."""


def main() -> None:
    """Run the command line; the entry point of ``mlmc-ray``."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # names may have any letters
    app()


def _overrides(settings: list[str] | None, engine: str | None, workers: int | None) -> list[str]:
    overrides = list(settings or [])
    if engine is not None:
        overrides.append(f"engine={engine}")
    if workers is not None:
        overrides.append(f"workers={workers}")
    return overrides


@contextmanager
def _telling_where(console: Console, directory: Path) -> Iterator[None]:
    """Say where the results are, however the run ends; a wrong configuration leaves none."""
    before = _contents(directory)
    try:
        yield
    finally:
        if _contents(directory) != before:
            place = f"results: {directory}"
            console.print(place, soft_wrap=True, highlight=False, markup=False)


def _contents(directory: Path) -> list[Path]:
    """Return what lies in a directory; nothing if there is none, or it cannot be read."""
    try:
        return sorted(directory.iterdir())
    except OSError:
        return []
