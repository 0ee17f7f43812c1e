"""``mlmc-ray schema``: what a configuration may hold, for editors."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from launch.plain_errors import plain_errors


def schema(
    out: Annotated[
        Path | None,
        typer.Option(help="Write it here.", metavar="FILE", show_default="standard output"),
    ] = None,
    traceback: Annotated[
        bool, typer.Option("--traceback", help="On an error, show Python's traceback too.")
    ] = False,
) -> None:
    """Print the JSON Schema of configurations (draft 2020-12), with which editors check YAML.

    An editor with a YAML language server then completes keys and kinds, shows what they mean, and
    underlines what is wrong, in files that begin with

        # yaml-language-server: $schema=configuration.schema.json

    For example:

        mlmc-ray schema --out configuration.schema.json
    """
    with plain_errors(Console(), traceback):
        from launch.configuration.schema import schema_text
        from launch.run_directory import writing

        if out is None:
            typer.echo(schema_text(), nl=False)
            return
        with writing(out):
            out.write_text(schema_text(), encoding="utf-8")
        typer.echo(out)
