"""Test accuracy against the bytes that workers send, steps tuned for every method, three seeds.

``run`` trains what has no file yet, which takes hours for all settings and minutes for one method;
``report`` makes a page and a figure of what there is. Both need Fashion-MNIST, and a checkout.
"""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from benchmarks.bytes_to_accuracy.figure import draw
from benchmarks.bytes_to_accuracy.plan import CONTENDERS, SETTINGS, Contender, Setting
from benchmarks.bytes_to_accuracy.report import page
from benchmarks.bytes_to_accuracy.running import run_setting
from launch.many.lock import locked
from launch.many.progress import RunsProgress

app = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False)

Out = Annotated[Path, typer.Option(help="Directory of the cells, a file each.")]
Problems = Annotated[
    list[str] | None, typer.Option("--problem", help="Only this one; may be repeated.")
]
Workers = Annotated[
    list[int] | None, typer.Option("--workers", help="Only so many; may be repeated.")
]
Only = Annotated[
    list[str] | None,
    typer.Option("--only", help="Only methods whose names begin so; may be repeated."),
]
Without = Annotated[
    list[str] | None,
    typer.Option("--without", help="No methods whose names begin so; may be repeated."),
]


@app.command()
def run(
    out: Out,
    problems: Problems = None,
    workers: Workers = None,
    only: Only = None,
    without: Without = None,
    jobs: Annotated[int, typer.Option(min=1, help="Cells at a time.")] = 1,
) -> None:
    """Train what has no file yet; an interrupted command goes on where it was."""
    settings, contenders = _settings(problems, workers), _contenders(only, without)
    with locked(out), RunsProgress(Console()) as progress:
        for setting in settings:
            run_setting(setting, contenders, out, progress, jobs)


@app.command()
def report(
    out: Out,
    page_path: Annotated[
        Path | None, typer.Option("--page", help="Markdown file. [default: OUT/report.md]")
    ] = None,
    figure_path: Annotated[
        Path | None, typer.Option("--figure", help="Picture. [default: OUT/figure.png]")
    ] = None,
    problems: Problems = None,
    workers: Workers = None,
    only: Only = None,
    without: Without = None,
) -> None:
    """Write a table and a figure of the cells that there are."""
    settings, contenders = _settings(problems, workers), _contenders(only, without)
    text = page(settings, contenders, out)
    (page_path or out / "report.md").write_text(text, encoding="utf-8")
    draw(settings, contenders, out).savefig(figure_path or out / "figure.png")
    typer.echo(text)


def _settings(problems: list[str] | None, workers: list[int] | None) -> list[Setting]:
    found = [
        setting
        for setting in SETTINGS
        if (not problems or setting.name in problems)
        and (not workers or setting.workers in workers)
    ]
    if not found:
        known = [setting.title for setting in SETTINGS]
        raise typer.BadParameter(f"--problem {problems}, --workers {workers}: give some of {known}")
    return found


def _contenders(only: list[str] | None, without: list[str] | None) -> list[Contender]:
    found = [
        contender
        for contender in CONTENDERS
        if (not only or contender.name.startswith(tuple(only)))
        and not contender.name.startswith(tuple(without or ()))
    ]
    if not found:
        known = [contender.name for contender in CONTENDERS]
        raise typer.BadParameter(f"--only {only}, --without {without}: give some of {known}")
    return found


if __name__ == "__main__":
    app()
