"""``mlmc-ray init``: a project to start from."""

import shlex
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from launch.plain_errors import plain_errors


def init(
    directory: Annotated[
        Path, typer.Argument(help="Made if need be; has to be empty.", metavar="DIR")
    ],
    name: Annotated[
        str | None, typer.Option(help="Of the run.", show_default="that of the directory")
    ] = None,
    traceback: Annotated[
        bool, typer.Option("--traceback", help="On an error, show Python's traceback too.")
    ] = False,
) -> None:
    """Make a project with a model and data of your own, which runs as it is.

    It holds a task to change (task.py, data.csv), a configuration with every key explained
    (config.yaml), three methods to compare (compare.yaml), a test of the task, and a README.

    For example:

        mlmc-ray init demo

        mlmc-ray init experiments/first --name "first try"
    """
    console = Console()
    with plain_errors(console, traceback):
        from launch.starter import NEXT, start

        made = start(directory, name)
    lines = [f"made {directory}: {', '.join(made)}", "next:"]
    lines += [f"    {command}" for command in (shlex.join(["cd", str(directory)]), *NEXT)]
    for line in lines:
        console.print(line, soft_wrap=True, highlight=False, markup=False)
