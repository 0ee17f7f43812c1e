"""Rounds a second and accuracy against seconds on four nodes behind shaped links.

``tune`` finds the step sizes, ``run`` measures what has no file yet, some minutes a cell, and
``report`` makes a page and a figure of what there is. The first two need Linux and root, and all
need a checkout; the perceptron and ResNet-18 need Fashion-MNIST.
"""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from benchmarks.end_to_end.cells import best_step, tuning_cells
from benchmarks.end_to_end.figure import draw
from benchmarks.end_to_end.plan import (
    CONTENDERS,
    MODELS,
    RATES,
    Budget,
    Cell,
    Contender,
    Model,
    Rate,
    pairs,
)
from benchmarks.end_to_end.report import found_of, page
from benchmarks.end_to_end.running import run_cells
from launch.many.lock import locked

app = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False)

_MOST_ROUNDS = 2000
_TIMED: tuple[Rate, ...] = ("1gbit", "100mbit", "10mbit")

Out = Annotated[Path, typer.Option(help="Directory of the cells, a file each.")]
Only = Annotated[
    list[str] | None,
    typer.Option("--only", help="Only contenders whose names begin so; may be repeated."),
]
_NAMES = {"models": ", ".join(model.name for model in MODELS), "rates": ", ".join(RATES)}
Models = Annotated[
    list[str] | None,
    typer.Option("--model", help=f"Only this of {_NAMES['models']}; may be repeated."),
]
Rates = Annotated[
    list[str] | None,
    typer.Option("--rate", help=f"Only this of {_NAMES['rates']}; may be repeated."),
]
Seconds = Annotated[float, typer.Option(min=0.1, help="Of rounds, that every cell is given.")]
Step = Annotated[
    float | None, typer.Option(help="A step size for all, in place of those that tune found.")
]
Again = Annotated[bool, typer.Option("--again", help="Run what failed once more.")]


@app.command()
def tune(out: Out, only: Only = None, models: Models = None, again: Again = False) -> None:
    """Try the step sizes that have no file yet."""
    cells = {
        cell.path(out): cell
        for contender, model in pairs(_contenders(only), _models(models))
        for cell in tuning_cells(contender, model)
    }
    with locked(out):
        run_cells(list(cells.values()), out, Console(), again=again)


@app.command()
def run(
    out: Out,
    only: Only = None,
    models: Models = None,
    rates: Rates = None,
    seconds: Seconds = 150.0,
    step: Step = None,
    again: Again = False,
) -> None:
    """Measure what has no file yet; an interrupted command goes on where it was.

    Runs without a limit of the links also time some rounds at every other rate.
    """
    asked = (_contenders(only), _models(models))
    steps = _steps(*asked, out, step)
    names = {(contender.name, model.name) for contender, model in pairs(*asked)}
    if missing := sorted(names - steps.keys()):
        raise typer.BadParameter(f"{out} has no step size of {missing}: tune, or give --step")
    with locked(out):
        run_cells(_cells(*asked, _rates(rates), steps, seconds), out, Console(), again=again)


@app.command()
def report(
    out: Out,
    page_path: Annotated[
        Path | None, typer.Option("--page", help="Markdown file. [default: OUT/report.md]")
    ] = None,
    figure_path: Annotated[
        Path | None, typer.Option("--figure", help="Picture. [default: OUT/figure.png]")
    ] = None,
    only: Only = None,
    models: Models = None,
    rates: Rates = None,
    seconds: Seconds = 150.0,
    step: Step = None,
) -> None:
    """Write tables and a figure of the cells that there are."""
    shown = (_contenders(only), _models(models), _rates(rates))
    steps = _steps(*shown[:2], out, step)
    found = found_of(_cells(*shown, steps, seconds), out)
    if not found:
        raise typer.BadParameter(
            f"{out} has no cells of these contenders, models and rates with {seconds:g} s: run "
            "some, or give the --seconds and --step that they were run with"
        )
    picture, text = draw(*shown, found), page(*shown, found)
    (page_path or out / "report.md").write_text(text, encoding="utf-8")
    picture.savefig(figure_path or out / "figure.png")
    typer.echo(text)


def _steps(
    contenders: list[Contender], models: list[Model], out: Path, step: float | None
) -> dict[tuple[str, str], float]:
    """Return the step sizes that there are, by the names of contender and model."""
    asked = pairs(contenders, models)
    found = {(c.name, m.name): step or best_step(c, m, out) for c, m in asked}
    return {names: size for names, size in found.items() if size is not None}


def _cells(
    contenders: list[Contender],
    models: list[Model],
    rates: list[Rate],
    steps: dict[tuple[str, str], float],
    seconds: float,
) -> list[Cell]:
    """Return the cells of all combinations that have a step size."""
    return [
        Cell(
            contender=contender,
            model=model,
            rate=rate,
            step_size=steps[contender.name, model.name],
            budget=Budget(seconds=seconds, rounds=_MOST_ROUNDS, target=model.target),
            timed=_TIMED if rate == "unshaped" else (),
        )
        for model in models
        for rate in rates
        for contender in contenders
        if (contender.name, model.name) in steps
    ]


def _contenders(only: list[str] | None) -> list[Contender]:
    found = [c for c in CONTENDERS if not only or c.name.startswith(tuple(only))]
    if not found:
        raise typer.BadParameter(f"--only {only}: give some of {[c.name for c in CONTENDERS]}")
    return found


def _models(names: list[str] | None) -> list[Model]:
    found = [model for model in MODELS if not names or model.name in names]
    if not found:
        raise typer.BadParameter(f"--model {names}: give some of {[m.name for m in MODELS]}")
    return found


def _rates(names: list[str] | None) -> list[Rate]:
    found = [rate for rate in RATES if not names or rate in names]
    if not found:
        raise typer.BadParameter(f"--rate {names}: give some of {list(RATES)}")
    return found


if __name__ == "__main__":
    app()
