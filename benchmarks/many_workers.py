"""What 32 workers of one process cost beside 4, where a round has as many examples in all.

Rounds of the inline engine, evaluation excluded, one torch thread; medians over the rounds after
the first ones, which import, compile and allocate.

    python -m benchmarks.many_workers --json benchmarks/results/many_workers-MACHINE.json
"""

import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from benchmarks.round_time import S_TOP_K
from launch import Session
from launch.benching.measuring import machine
from launch.configuration.run_config import load_config
from mlmc_ray.errors import ProblemError

FEW, MANY = 4, 32
METHODS: dict[str, Any] = {
    "SGD": "sgd",
    "Top-k 1%": {"kind": "compressed-sgd", "compressor": {"kind": "top-k", "k": 0.01}},
    "MLMC s-Top-k 1%": S_TOP_K,
}
STEP_SIZE = 1e-4  # small: only the time counts, and training must not diverge


@dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """What is trained: a problem, the examples of a round of all workers, rounds to time."""

    problem: dict[str, Any]
    examples: int = 256
    rounds: int = 20
    warm_up: int = 3


def _clothes(network: str, **settings: Any) -> Task:
    problem = {"kind": "fashion-mnist", "network": network, "test_examples": 250}
    return Task(problem=problem, **settings)


TASKS = {
    "digits": Task(problem={"kind": "digits"}),
    "perceptron": _clothes("perceptron", rounds=30),
    "perceptron-2048": _clothes("perceptron", examples=2048),  # batches of 64 and 512
    "cnn": _clothes("cnn", rounds=10),
    "resnet18": _clothes("resnet18", examples=64, rounds=2, warm_up=1),
    "minilm": Task(problem={"kind": "text", "test_examples": 64}, examples=64, rounds=2, warm_up=1),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Timed:
    """Seconds of the rounds of one run, by the number of workers; or why there are none."""

    task: str
    method: str
    together: bool
    seconds: dict[int, list[float]] = field(default_factory=dict)
    refused: str | None = None

    def median_s(self, workers: int) -> float:
        """Return the median over the rounds."""
        return float(np.median(self.seconds[workers]))

    @property
    def ratio(self) -> float:
        """What many workers cost beside a few."""
        return self.median_s(MANY) / self.median_s(FEW)

    def described(self) -> dict[str, Any]:
        """Return what is written to a file."""
        row: dict[str, Any] = {
            "task": self.task,
            "method": self.method,
            "gradients_at_once": "all" if self.together else 1,
        }
        if self.refused:
            return {**row, "refused": self.refused}
        ms = {str(n): [round(1e3 * s, 2) for s in each] for n, each in self.seconds.items()}
        medians = {str(n): round(1e3 * self.median_s(n), 2) for n in self.seconds}
        return {**row, "round_ms": ms, "median_ms": medians, "ratio": round(self.ratio, 3)}


def seconds_of(task: Task, method: Any, workers: int, at_once: int) -> list[float]:
    """Return the seconds of the rounds of a run, without the first and without evaluations."""
    config = load_config(
        {
            "problem": task.problem,
            "method": method,
            "optimizer": {"kind": "sgd", "step_size": STEP_SIZE},
            "workers": workers,
            "batch_size": task.examples // workers,
            "gradients_at_once": at_once,
            "engine": "inline",
            "evaluate_every": 10**9,
            "observe_every": None,
        }
    )
    ends: list[float] = []
    with Session(config) as session:
        # The last round of a run is followed by an evaluation: it is run, and not counted.
        rounds = task.warm_up + task.rounds + 1
        session.run(rounds, on_round=lambda _: ends.append(time.perf_counter()))
    return [float(s) for s in np.diff(ends[task.warm_up - 1 : -1])]


def timed(name: str, method: str, together: bool) -> Timed:
    """Time a few and many workers, each alone or all together."""
    task, found = TASKS[name], Timed(task=name, method=method, together=together)
    for workers in (FEW, MANY):
        try:
            at_once = workers if together else 1
            found.seconds[workers] = seconds_of(task, METHODS[method], workers, at_once)
        except ProblemError as error:
            return Timed(task=name, method=method, together=together, refused=str(error))
    return found


def main(
    names: Annotated[
        list[str] | None,
        typer.Option("--task", help="One of TASKS; may be repeated. [default: all]"),
    ] = None,
    json_path: Annotated[
        Path | None, typer.Option("--json", help="Write machine and results to this file.")
    ] = None,
) -> None:
    """Time rounds of 4 and of 32 workers, with the gradients of one worker at once and of all."""
    console, found = Console(), []
    for name in names or TASKS:
        for method in METHODS:
            for together in (False, True):
                found.append(timed(name, method, together))
        console.print(_table(name, [run for run in found if run.task == name]))
        if json_path is not None:  # after every task: some take minutes
            runs = [run.described() for run in found]
            report = {"machine": machine(), "workers": [FEW, MANY], "runs": runs}
            json_path.parent.mkdir(parents=True, exist_ok=True)
            json_path.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def _table(name: str, runs: list[Timed]) -> Table:
    title = f"{name}, {TASKS[name].examples} examples a round: ms"
    table = Table(title=title, title_justify="left")
    for heading in ("", "at once", f"M = {FEW}", f"M = {MANY}", "ratio"):
        table.add_column(heading, justify="right" if heading else "left")
    for run in runs:
        at_once = "all" if run.together else "1"
        if run.refused:
            table.add_row(run.method, at_once, "refused")
            continue
        times = (f"{1e3 * run.median_s(workers):.1f}" for workers in (FEW, MANY))
        table.add_row(run.method, at_once, *times, f"{run.ratio:.2f}")
    return table


if __name__ == "__main__":
    typer.run(main)
