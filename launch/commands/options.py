"""Options that several commands have in common."""

from pathlib import Path
from typing import Annotated

import typer

ConfigFile = Annotated[Path, typer.Argument(help="YAML file of the run.", metavar="CONFIG")]
ConfigOrNone = Annotated[
    Path | None,
    typer.Argument(
        help="YAML file of the run; with --resume only if the one in the checkpoint cannot be "
        "used.",
        metavar="CONFIG",
    ),
]
Resume = Annotated[
    str | None,
    typer.Option(
        "--resume",
        metavar="RUN",
        help="Go on with a run from its newest checkpoint: its directory, or the path or URL of "
        "its checkpoints.",
    ),
]
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
Live = Annotated[
    bool, typer.Option("--live", help="Watch curves, traffic and workers in a view of their own.")
]
Traceback = Annotated[
    bool, typer.Option("--traceback", help="On an error, show Python's traceback too.")
]


def overrides_of(settings: list[str] | None, engine: str | None, workers: int | None) -> list[str]:
    """Return all that the command line sets, as ``--set`` would say it."""
    overrides = list(settings or [])
    if engine is not None:
        overrides.append(f"engine={engine}")
    if workers is not None:
        overrides.append(f"workers={workers}")
    return overrides
