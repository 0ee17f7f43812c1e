"""The command line: ``mlmc-ray``, the same as ``python -m launch``.

Commands are in ``launch.commands``; they import what takes long, such as torch, when they run.
"""

import io
import platform
import sys
from importlib.metadata import version
from typing import Annotated

import typer

from launch.commands.bench import bench
from launch.commands.compare import compare
from launch.commands.doctor import doctor
from launch.commands.init import init
from launch.commands.kinds import compressors, methods
from launch.commands.plan import plan
from launch.commands.report import report
from launch.commands.scale import scale
from launch.commands.schema import schema
from launch.commands.submit import submit
from launch.commands.sweep import sweep
from launch.commands.train import train
from launch.commands.wire import wire

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    help="Train PyTorch models with many workers through MLMC-compressed messages, on Ray or in "
    "one process, and count every byte.",
)

_PANELS = {
    "Begin": (init, doctor, schema),
    "Run": (train, compare, sweep, scale, submit),
    "Look at runs": (report, plan, wire),
    "Look things up": (methods, compressors),
}
for _panel, _commands in _PANELS.items():
    for _command in _commands:
        app.command(rich_help_panel=_panel)(_command)
app.add_typer(bench, name="bench", rich_help_panel="Look things up")


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
