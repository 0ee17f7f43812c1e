"""A run on Ray that is scaled from 4 to 8 to 2 workers on its way, against one in one process.

python -m benchmarks.scaling --out benchmarks/results/scaling
"""

import json
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from matplotlib.figure import Figure
from rich.console import Console

from launch import Session
from launch.callbacks import Callback
from launch.engines.cluster import ray_cluster
from launch.metrics import Metrics
from launch.versions import versions
from mlmc_ray.rounds import RoundResult

WORKERS = (4, 8, 2)
CONFIG: dict[str, Any] = {
    "problem": "digits",
    "method": {
        "kind": "ef21-sgdm",
        "compressor": {"kind": "top-k", "k": 0.02},
    },
    "optimizer": {"kind": "sgd", "step_size": 0.2},
    "downlink": "delta",
    "workers": WORKERS[0],
    "actors": 2,
    "batch_size": 32,
    "evaluate_every": 2,
    "observe_every": None,
}


class _Progress(Callback):
    def __init__(self, console: Console, name: str) -> None:
        self._console = console
        self._name = name

    def on_round(self, session: Session, metrics: Metrics, result: RoundResult) -> None:
        self._console.print(f"{self._name}: round {metrics['round']}", end="\r")


def main(
    out: Annotated[Path, typer.Option(help="Directory for results and figure.")],
    rounds: Annotated[int, typer.Option(min=2, help="With each number of workers.")] = 60,
) -> None:
    """Run both, compare them, and draw the one on Ray."""
    console, runs = Console(), {}
    with ray_cluster(None):
        for engine in ("ray", "inline"):
            progress = _Progress(console, engine)
            with Session({**CONFIG, "engine": engine}, callbacks=progress) as session:
                session.run(rounds)
                for workers in WORKERS[1:]:
                    session.scale_to(workers)
                    session.run(rounds)
                runs[engine] = (session.parameters(), session.ledger, session.metrics)
    on_ray, inline = runs["ray"], runs["inline"]
    same = torch.equal(on_ray[0], inline[0]) and on_ray[1] == inline[1]
    console.print(f"parameters and ledger as in one process: {same}")
    reports = Counter(e.round_index for e in on_ray[1] if e.direction == "uplink")
    counts = [reports[index] for index in range(len(WORKERS) * rounds)]
    console.print(f"reports a round: {sorted(Counter(counts).items())}")
    points = [
        {key: metrics[key] for key in ("round", "test_accuracy", "uplink_bytes", "downlink_bytes")}
        for metrics in on_ray[2]
        if "test_accuracy" in metrics
    ]
    out.mkdir(parents=True, exist_ok=True)
    report = {"machine": versions(), "same": same, "reports": counts, "points": points}
    (out / "results.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    _draw(points, rounds).savefig(out / "scaling.png", dpi=150)
    if not same:
        raise typer.Exit(1)


def _draw(points: list[dict[str, Any]], rounds: int) -> Figure:
    """Draw accuracy, and the bytes of a round, against rounds."""
    figure = Figure(figsize=(8, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot([p["round"] for p in points], [p["test_accuracy"] for p in points])
    left.set_ylabel("accuracy on test digits")
    for key in ("uplink_bytes", "downlink_bytes"):
        rates = [(b[key] - a[key]) / (b["round"] - a["round"]) / 1e3 for a, b in pairwise(points)]
        right.plot([p["round"] for p in points[1:]], rates, label=key.split("_")[0])
    right.set_ylabel("kB a round")
    right.legend()
    for axes in (left, right):
        for index, workers in enumerate(WORKERS):
            axes.axvline(index * rounds, color="k", lw=0.5, ls=":")
            axes.annotate(f"{workers} workers", (index * rounds + 2, axes.get_ylim()[0]))
        axes.set_xlabel("rounds")
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    return figure


if __name__ == "__main__":
    typer.run(main)
