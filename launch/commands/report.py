"""``mlmc-ray report``: a page of figures and tables about runs."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from launch.plain_errors import plain_errors


def report(
    runs: Annotated[
        list[Path],
        typer.Argument(
            help="Run directories, or directories with runs below them, such as a comparison's.",
            metavar="RUN...",
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            help="The page.",
            show_default="report.html in RUN, or in the current directory for several",
        ),
    ] = None,
    png: Annotated[
        Path | None,
        typer.Option("--png", help="Draw the figures into this directory too, for papers."),
    ] = None,
    csv: Annotated[
        Path | None,
        typer.Option("--csv", help="Write all metrics here too: one row a run and round."),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print where the files are, as JSON.")
    ] = False,
    traceback: Annotated[
        bool, typer.Option("--traceback", help="On an error, show Python's traceback too.")
    ] = False,
) -> None:
    """Make a page with the figures and tables of one run, or of several side by side.

    The page is one HTML file that needs no network. A run that was interrupted is shown as far as
    it came.

    For example:

        mlmc-ray report runs/demo-20250131-120000

        mlmc-ray report runs/first runs/second --out both.html --csv rounds.csv --png figures
    """
    console = Console(stderr=True)
    with plain_errors(console, traceback):
        from launch.reports import (
            find_runs,
            panels,
            read_run,
            write_csv,
            write_pictures,
            write_report,
        )

        def tell(line: str) -> None:
            console.print(line, soft_wrap=True, highlight=False, markup=False)

        records = [read_run(path, tell) for path in find_runs(runs, tell)]
        page = out or (runs[0] if len(runs) == 1 else Path()) / "report.html"
        if csv is not None:
            write_csv(records, csv)
        write_report(records, page)
        figures = [] if png is None else write_pictures(panels(records), png)
    if as_json:
        named = [
            {
                "name": record.name,
                "directory": str(record.path),
                "rounds": record.rounds,
                "finished": record.finished,
            }
            for record in records
        ]
        files = {"report": str(page), "csv": None if csv is None else str(csv)}
        print(json.dumps({**files, "figures": [str(path) for path in figures], "runs": named}))
        return
    for path in (page, csv, png):
        if path is not None:
            print(path)
