"""Running all numbers of workers, one after the other: each in its own process, or on Ray."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from launch.many.apart import run_apart
from launch.many.fingerprint import made_with
from launch.many.lock import locked
from launch.many.progress import RunsProgress
from launch.run_directory import writing
from launch.scaling.plan import ScalePlan
from launch.scaling.point import SHAPE, Task, measure_point
from launch.scaling.report import draw_scale
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
        ConfigError: ``out`` holds results of something else, others write some there, or one's own
            code was edited during the runs.
        MlmcRayError: a run failed otherwise than by diverging.
    """
    with locked(out):
        return _scale_into(plan, out, console)


def _scale_into(plan: ScalePlan, out: Path, console: Console) -> list[dict[str, Any]]:
    made = partial(made_with, tuple(plan.configs.values()))
    results = Results(out, plan.to_mapping(), SHAPE, made)
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
            _draw(plan, results, out)
            progress.note(_line(found))
            if index + 1 < len(missing):
                begin(index + 1)

        def begin(index: int) -> None:
            number = missing[index]
            progress.begin(f"{number} workers", plan.configs[number].rounds)

        if tasks:
            begin(0)
            _run(plan, tasks, progress.advance, on_result)
        else:
            _draw(plan, results, out)  # for other numbers than last time, or it was interrupted
    return _known(plan, results)


def _run(
    plan: ScalePlan,
    tasks: list[Task],
    on_rounds: Callable[[int], None],
    on_result: Callable[[int, dict[str, Any]], None],
) -> None:
    """Measure one number after the other; on Ray in this process, on one cluster."""
    if plan.base.engine == "inline":
        run_apart(
            measure_point,
            tasks,
            fresh=True,
            on_news=lambda _, rounds: on_rounds(rounds),
            on_result=on_result,
        )
        return
    from launch.engines.cluster import ray_cluster  # imports Ray, which inline runs do not need

    with ray_cluster(plan.base.address):
        for index, task in enumerate(tasks):
            on_result(index, measure_point(task, on_rounds))


def _draw(plan: ScalePlan, results: Results, out: Path) -> None:
    figure = draw_scale(plan, _known(plan, results))
    with writing(out):
        figure.savefig(out / "figure.png")


def _known(plan: ScalePlan, results: Results) -> list[dict[str, Any]]:
    return [found for number in plan.configs if (found := results.get(str(number))) is not None]


def _line(found: dict[str, Any]) -> str:
    end = "diverged" if found["diverged"] else f"{found['rounds']} rounds"
    seconds = found["set_up_s"] + found["seconds"]
    return f"{found['workers']} workers: {end}, {seconds:.1f} s with set-up"
