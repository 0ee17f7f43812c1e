"""``mlmc-ray doctor``: what this machine has of what mlmc_ray can use."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from launch.plain_errors import plain_errors

_COLOURS = {"ok": "green", "hint": "yellow", "missing": "red"}


def doctor(
    data_dir: Annotated[
        Path | None,
        typer.Option(help="Where data sets are looked for.", show_default="data"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
) -> None:
    """Look for what mlmc-ray needs and can use: packages, devices, Ray, data sets, space.

    Every line is ok, missing, or a hint: something that may surprise, or that only some runs need,
    with the command that helps. Nothing is started, downloaded or changed. The exit code is 0
    unless something is missing that every run needs.

    For example:

        mlmc-ray doctor

        mlmc-ray doctor --json --data-dir /data
    """
    console = Console()
    with plain_errors(console):
        from launch.doctor import as_json as json_of
        from launch.doctor import examine, healthy

        findings = examine(data_dir)
        if as_json:
            print(json_of(findings))
        for topic in {} if as_json else dict.fromkeys(finding.topic for finding in findings):
            console.print(Text(topic, style="bold"))
            for finding in (found for found in findings if found.topic == topic):
                line = Text(f"  {finding.state:<8}", style=_COLOURS[finding.state])
                line.append(f"{finding.name}: {finding.text}", style="default")
                console.print(line, soft_wrap=True)
                if finding.remedy:
                    console.print(f"            {finding.remedy}", markup=False, soft_wrap=True)
    raise SystemExit(0 if healthy(findings) else 1)
