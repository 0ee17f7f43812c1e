"""One worker that is ten times as slow as the others: what it costs, and what helps.

Eight workers train digits on a local Ray cluster, each in a process of its own. A worker sleeps
before every batch, which stands for a slower machine: all for as long, but for one that sleeps ten
times as long. Four runs: without that worker's slowness, with it, with it and a quorum of seven
reports, and with it and a server that takes each report as it comes.

    python -m benchmarks.straggler --out benchmarks/results/straggler
"""

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table
from torch import Generator, Tensor

from launch import Session
from launch.engines.cluster import ray_cluster
from launch.versions import versions
from mlmc_ray.problems import Digits, TensorShard

WORKERS = 8
SLEEP_S = 0.2
SLOWER = 10
STEP_SIZE = 0.05
COMPRESSOR = {
    "kind": "mlmc",
    "law": "adaptive",
    "ladder": {"kind": "s-top-k", "segment_size": 0.01},
}
WAITING = {
    "method": {"kind": "compressed-sgd", "compressor": COMPRESSOR},
    "optimizer": {"kind": "sgd", "step_size": STEP_SIZE},
}
# A step for every report in place of one for eight.
FREE = {
    "method": {"kind": "async-sgd", "compressor": COMPRESSOR, "policy": "damp-cap"},
    "optimizer": {"kind": "sgd", "step_size": STEP_SIZE / WORKERS},
}
RUNS: dict[str, dict[str, Any]] = {
    "all alike": {**WAITING, "slower": 1},
    "one slow, all waited for": {**WAITING, "slower": SLOWER},
    "one slow, quorum of 7": {**WAITING, "slower": SLOWER, "quorum": {"reports": WORKERS - 1}},
    "one slow, each report as it comes": {**FREE, "slower": SLOWER},
}


class SleepyShard:
    """A shard whose worker sleeps before every batch.

    Args:
        shard: the data.
        seconds: of sleep.
    """

    def __init__(self, shard: TensorShard, seconds: float) -> None:
        self._shard = shard
        self._seconds = seconds

    def sample(self, size: int, generator: Generator) -> tuple[Tensor, ...]:
        """Sleep, and draw a batch."""
        time.sleep(self._seconds)
        return self._shard.sample(size, generator)


@dataclass(frozen=True, kw_only=True, slots=True)
class SleepyDigits(Digits):
    """Digits on machines of two speeds; worker 0 has the slower one.

    Args:
        slower: how many times as long worker 0 sleeps as the others.
    """

    slower: float

    def shard(self, worker_id: int, num_workers: int, generator: Generator) -> Any:
        """Deal the images, and sleep."""
        shard = Digits.shard(self, worker_id, num_workers, generator)
        return SleepyShard(shard, SLEEP_S * (1 if worker_id else self.slower))


def measure(name: str, seconds: float, console: Console) -> dict[str, Any]:
    """Run one of ``RUNS`` for some seconds; return its rounds, gradients and accuracies."""
    settings = dict(RUNS[name])
    slower = settings.pop("slower")
    config = {
        **settings,
        "name": name,
        "problem": {"kind": "benchmarks.straggler.SleepyDigits", "slower": slower},
        "workers": WORKERS,
        "actors": WORKERS,
        "batch_size": 32,
        "evaluate_every": 1_000_000,
        "observe_every": None,
    }
    rounds_at_once = WORKERS if settings["method"]["kind"] == "async-sgd" else 1
    with Session(config) as session:
        session.run(2 * rounds_at_once)  # processes import, connect and allocate
        begun = session.metrics[-1]
        points = []
        while session.metrics[-1]["seconds"] - begun["seconds"] < seconds:
            metrics = session.run(rounds_at_once)
            points.append((metrics["seconds"] - begun["seconds"], metrics["test_accuracy"]))
            if console.is_terminal:
                console.print(f"{name}: {points[-1][0]:5.1f} s, {points[-1][1]:.1%}", end="\r")
        late = sum(metrics.get("late_reports", 0) for metrics in session.metrics)
    taken = points[-1][0]
    return {
        "name": name,
        "seconds": taken,
        "rounds": session.round_index - begun["round"],
        "gradients": metrics["gradients"] - begun["gradients"],
        "late_reports": late,
        "points": points,
    }


def main(
    out: Annotated[Path, typer.Option(help="Directory for results and figure.")],
    seconds: Annotated[float, typer.Option(min=1, help="Of every run.")] = 60.0,
) -> None:
    """Measure all runs, print a table, and draw accuracy against seconds."""
    console = Console()
    with ray_cluster(None):
        results = [measure(name, seconds, console) for name in RUNS]
    out.mkdir(parents=True, exist_ok=True)
    report = {"machine": versions(), "results": results}
    (out / "results.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    console.print(table_of(results))
    draw(results).savefig(out / "straggler.png", dpi=150)


def table_of(results: list[dict[str, Any]]) -> Table:
    """Return rates of all runs, and their ratio to those of the first."""
    table = Table("", "rounds/s", "gradients/s", "of all alike", "accuracy at the end")
    first = results[0]["gradients"] / results[0]["seconds"]
    for result in results:
        rate = result["gradients"] / result["seconds"]
        table.add_row(
            result["name"],
            f"{result['rounds'] / result['seconds']:.2f}",
            f"{rate:.1f}",
            f"{rate / first:.2f}",
            f"{result['points'][-1][1]:.1%}",
        )
    return table


def draw(results: list[dict[str, Any]]) -> Figure:
    """Draw accuracy against seconds."""
    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.subplots()
    for result in results:
        seconds, accuracies = zip(*result["points"], strict=True)
        axes.plot(seconds, accuracies, label=result["name"])
    axes.set_xlabel("seconds")
    axes.set_ylabel("accuracy on test digits")
    axes.grid(alpha=0.3)
    axes.legend(loc="upper left")
    axes.spines[["top", "right"]].set_visible(False)
    return figure


if __name__ == "__main__":
    typer.run(main)
