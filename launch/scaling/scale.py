"""Running all numbers of workers, one after the other, each in a process of its own."""

from pathlib import Path
from typing import Any

from rich.console import Console

from launch.run_directory import writing
from launch.scaling.plan import ScalePlan
from launch.scaling.point import SHAPE, Task, measure_point
from launch.scaling.report import draw_scale
from launch.sweeps.apart import run_apart
from launch.sweeps.lock import locked
from launch.sweeps.progress import RunsProgress
from launch.sweeps.results import Results


def scale_into(plan: ScalePlan, out: Path, console: Console) -> list[dict[str, Any]]:
    """Run a scaling run, or the rest of it, and write what it finds into a directory.

    Writes ``results.json`` and ``figure.png`` after every number of workers.

    Args:
        plan: what to run.
        out: made if need be; may hold results of this plan, which are not run again.
        console: where progress goes.

    Returns:
        What ``measure_point`` found, for every number of workers in the plan's order.

    Raises:
        ConfigError: ``out`` holds results of something else, or another process writes some there.
        MlmcRayError: a run failed otherwise than by diverging.
    """
    with locked(out):
        return _scale_into(plan, out, console)


def _scale_into(plan: ScalePlan, out: Path, console: Console) -> list[dict[str, Any]]:
    results = Results(out, plan.to_mapping(), SHAPE)
    missing = [number for number in plan.configs if results.get(str(number)) is None]
    tasks = [
        Task(config=plan.configs[number].to_mapping(), target=plan.target, draws=plan.draws)
        for number in missing
    ]
    with RunsProgress(console) as progress:
        if results.found:
            progress.note(f"going on: {results.found} numbers of workers are in {out}")

        def on_result(index: int, found: dict[str, Any]) -> None:
            results.add(str(missing[index]), found)
            figure = draw_scale(plan, _known(plan, results))
            with writing(out):
                figure.savefig(out / "figure.png")
            progress.note(_line(found))
            if index + 1 < len(missing):
                begin(index + 1)

        def begin(index: int) -> None:
            number = missing[index]
            progress.begin(f"{number} workers", plan.configs[number].rounds)

        if tasks:
            begin(0)
        run_apart(
            measure_point,
            tasks,
            fresh=True,
            on_news=lambda _, rounds: progress.advance(rounds),
            on_result=on_result,
        )
    return _known(plan, results)


def _known(plan: ScalePlan, results: Results) -> list[dict[str, Any]]:
    return [found for number in plan.configs if (found := results.get(str(number))) is not None]


def _line(found: dict[str, Any]) -> str:
    end = "diverged" if found["diverged"] else f"{found['rounds']} rounds"
    seconds = found["set_up_s"] + found["seconds"]
    return f"{found['workers']} workers: {end}, {seconds:.1f} s with set-up"
