"""Try many mutated inputs.

python -m tests.fuzz frames --count 10000000 --jobs 2
python -m tests.fuzz tests/fuzz/found/frames-0123456789abcdef.hex
"""

import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

from tests.fuzz import found
from tests.fuzz.bounds import MEMORY_MIB, SECONDS
from tests.fuzz.judging import Wrong, accepted
from tests.fuzz.running import Outcome, run
from tests.fuzz.targets import TARGETS


def main(
    target: Annotated[
        str, typer.Argument(help=f"{', '.join(TARGETS)}; or a file with an input to try again.")
    ],
    count: Annotated[int, typer.Option(min=1, help="How many, in whole thousands.")] = 100_000,
    seed: Annotated[int, typer.Option(min=0, help="The same seed makes the same inputs.")] = 0,
    jobs: Annotated[int, typer.Option(min=1, help="In how many processes.")] = 1,
) -> None:
    """Try mutated inputs; those that end as they should not are kept in tests/fuzz/found."""
    console = Console()
    if target in TARGETS:
        _many(console, target, count, seed, jobs)
    elif Path(target).is_file():
        _one(console, Path(target))
    else:
        raise typer.BadParameter(f"{target!r} is neither a file nor one of {list(TARGETS)}")


def _one(console: Console, path: Path) -> None:
    name, data = found.again(path)
    try:
        console.print(f"{name}: {'accepted' if accepted(TARGETS[name], data) else 'refused'}")
    except Wrong as error:
        console.print_exception()
        raise typer.Exit(1) from error


def _many(console: Console, name: str, count: int, seed: int, jobs: int) -> None:
    outcome, stopped, started = Outcome(), "", time.monotonic()
    columns = ("{task.description}", BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(name, total=count)
        try:
            for chunk in run(name, count, seed, jobs):
                outcome.add(chunk)
                progress.advance(task, chunk.accepted + chunk.refused)
                for why in chunk.wrong:
                    console.print(why, style="red", markup=False)
        except KeyboardInterrupt:
            stopped = ", stopped early"
    seconds = time.monotonic() - started
    console.print(
        f"{name}, seed {seed}{stopped}: {outcome.accepted:,} accepted, {outcome.refused:,} "
        f"refused, {len(outcome.wrong)} kinds of wrong ends; {seconds:.0f} s in {jobs} processes; "
        f"the longest took {outcome.longest_s:.2f} s of {SECONDS:g} s; memory in use grew by "
        f"{outcome.grown_mib:.0f} MiB of {MEMORY_MIB} MiB"
    )
    for why, data in outcome.wrong.items():
        path = found.keep(name, data, why)
        console.print(f"{why}\n  again: python -m tests.fuzz {path}", style="red", markup=False)
    if outcome.wrong:
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
