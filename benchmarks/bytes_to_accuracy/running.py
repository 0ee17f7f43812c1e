"""Running what is missing of the experiment."""

from collections.abc import Sequence
from pathlib import Path

from benchmarks.bytes_to_accuracy.cells import Outcome, best_step, read, train, tried, write
from benchmarks.bytes_to_accuracy.plan import SEEDS, Cell, Contender, Setting
from launch.many.apart import run_apart
from launch.many.progress import RunsProgress


def run_setting(
    setting: Setting,
    contenders: Sequence[Contender],
    out: Path,
    progress: RunsProgress,
    jobs: int = 1,
) -> None:
    """Find the step size of every method, and train it with the other seeds.

    Args:
        setting: what they are trained on.
        contenders: the methods.
        out: directory of the cells' files; cells that have one are not run again.
        progress: is told of rounds and cells.
        jobs: how many cells to run at a time, each in a process.

    Raises:
        MlmcRayError: a run failed otherwise than by diverging.
    """
    tuning = [
        Cell(setting=setting, contender=contender, step_size=step, seed=SEEDS[0])
        for contender in contenders
        for step in setting.steps
    ]
    _run(f"{setting.title}: step sizes", tuning, out, progress, jobs)
    best = [(c, best_step(tried(setting, c, SEEDS[0], out))) for c in contenders]
    others = [
        Cell(setting=setting, contender=contender, step_size=step, seed=seed)
        for contender, step in best
        if step is not None
        for seed in SEEDS[1:]
    ]
    _run(f"{setting.title}: other seeds", others, out, progress, jobs)


def _run(doing: str, cells: Sequence[Cell], out: Path, progress: RunsProgress, jobs: int) -> None:
    missing = [cell for cell in cells if read(cell, out) is None]
    progress.begin(doing, sum(cell.setting.rounds for cell in missing))

    def on_result(index: int, outcome: Outcome) -> None:
        cell = missing[index]
        write(cell, outcome, out)
        shown = outcome.diverged or f"{outcome.final:.1%} at {outcome.sent[-1] / 1000:,.1f} kB"
        progress.note(f"{cell.label}: {shown}, {outcome.seconds:.1f} s")

    run_apart(
        train,
        missing,
        processes=jobs,
        on_news=lambda _, rounds: progress.advance(rounds),
        on_result=on_result,
    )
