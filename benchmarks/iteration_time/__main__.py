"""Where the time of an iteration goes, by method: gradient, compression, wire, server, news.

``run`` times the rounds of every entry of a comparison, in one process or on Ray, on the CPU or on
a GPU; ``report`` draws what it has kept.

    python -m benchmarks.iteration_time run compare.yaml --json cpu.json
    python -m benchmarks.iteration_time run compare.yaml --set device=cuda --json gpu.json
    python -m benchmarks.iteration_time report cpu.json gpu.json --figure iteration_time.png
"""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from benchmarks.iteration_time.figure import draw
from benchmarks.iteration_time.measuring import (
    EngineName,
    cluster_for,
    entries_of,
    machine_of,
    measure,
)
from benchmarks.iteration_time.parts import PARTS
from benchmarks.iteration_time.report import Results, markdown, read, table, title_of, write
from launch.commands.options import Settings
from launch.plain_errors import plain_errors

app = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False)

FigurePath = Annotated[
    Path | None, typer.Option("--figure", help="Draw stacked bars into this file, such as a PNG.")
]


@app.command()
def run(
    config: Annotated[Path, typer.Argument(help="YAML file, with a `compare` list or of one run.")],
    engine: Annotated[
        EngineName, typer.Option(help="ray, or inline: one process, which has no wire.")
    ] = "inline",
    settings: Settings = None,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds of each entry.")] = 50,
    warm_up: Annotated[
        int, typer.Option("--warm-up", min=0, help="Rounds before them, left out.")
    ] = 5,
    json_path: Annotated[
        Path | None, typer.Option("--json", help="Write machine, settings and results there.")
    ] = None,
    figure_path: FigurePath = None,
) -> None:
    """Time the parts of rounds of every entry.

    In one process the workers take turns, so a part is what all of them take together. On Ray the
    hosts work side by side, and a moment is shared out among what they are at.
    """
    console = Console()
    with plain_errors(console):
        configs = entries_of(str(config), settings or [], engine)
        results: Results = {
            "benchmark": "iteration_time",
            "machine": machine_of(configs, engine),
            "engine": engine,
            "rounds": rounds,
            "warm_up": warm_up,
            "parts": PARTS,
            "entries": [],
        }
        with cluster_for(engine):
            for entry in configs:
                results["entries"].append(measure(entry, rounds=rounds, warm_up=warm_up))
                if json_path is not None:  # after every entry: each may take minutes
                    write(results, json_path)
                ms = results["entries"][-1]["middle_ms"]["round"]
                console.print(f"{entry.name}: {ms:.3g} ms", highlight=False, markup=False)
    console.print(table(results))
    if figure_path is not None:
        _save([results], figure_path)


@app.command()
def report(
    paths: Annotated[
        list[Path], typer.Argument(help="What run has written, a panel each.", metavar="JSON...")
    ],
    figure_path: FigurePath = None,
) -> None:
    """Write a Markdown table of every file, and draw all of them, one below the other."""
    try:
        found = [read(path) for path in paths]
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    for results in found:
        typer.echo("\n".join([f"{title_of(results)}:", "", *markdown(results), ""]))
    if figure_path is not None:
        _save(found, figure_path)


def _save(found: list[Results], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    draw(found).savefig(path)


if __name__ == "__main__":
    app()
