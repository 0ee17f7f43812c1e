"""Runs on Ray that are scaled from 4 to 8 to 2 workers on their way, against others in one process.

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
from launch.engines.cluster import ray_cluster
from launch.versions import versions

WORKERS = (4, 8, 2)
LADDER = {"kind": "s-top-k", "segment_size": 0.02}
SHARED: dict[str, Any] = {
    "problem": "digits",
    "workers": WORKERS[0],
    "actors": 2,
    "batch_size": 32,
    "evaluate_every": 2,
    "observe_every": None,
}
# One whose workers remember nothing, and one whose workers and server begin to remember anew.
RUNS: dict[str, dict[str, Any]] = {
    "MLMC": {
        "method": {"kind": "compressed-sgd", "compressor": {"kind": "mlmc", "ladder": LADDER}},
        "optimizer": {"kind": "sgd", "step_size": 0.05},
    },
    "EF21-SGDM": {
        "method": {"kind": "ef21-sgdm", "compressor": {"kind": "top-k", "k": 0.02}},
        "optimizer": {"kind": "sgd", "step_size": 0.2},
    },
}


def main(
    out: Annotated[Path, typer.Option(help="Directory for results and figure.")],
    rounds: Annotated[int, typer.Option(min=2, help="With each number of workers.")] = 60,
) -> None:
    """Run all, compare them, and draw those on Ray."""
    console = Console()
    with ray_cluster(None):
        results = [measure(name, rounds, console) for name in RUNS]
    out.mkdir(parents=True, exist_ok=True)
    report = {"machine": versions(), "results": results}
    (out / "results.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    draw(results, rounds).savefig(out / "scaling.png", dpi=110)
    if not all(result["same"] for result in results):
        raise typer.Exit(1)


def measure(name: str, rounds: int, console: Console) -> dict[str, Any]:
    """Run one of ``RUNS`` on Ray and in one process; return the first, and whether they agree."""
    ends = []
    for engine in ("ray", "inline"):
        with Session({**SHARED, **RUNS[name], "name": name, "engine": engine}) as session:
            for workers in WORKERS:
                if workers != session.config.workers:
                    session.scale_to(workers)
                session.run(rounds)
                console.print(f"{name}, {engine}: {rounds} rounds of {workers} workers")
            ends.append((session.parameters(), session.ledger, session.metrics))
    (parameters, ledger, metrics), inline = ends
    same = torch.equal(parameters, inline[0]) and ledger == inline[1]
    console.print(f"{name}: parameters and ledger as in one process: {same}")
    reports = Counter(entry.round_index for entry in ledger if entry.direction == "uplink")
    keys = ("round", "test_accuracy", "uplink_bytes", "downlink_bytes")
    points = [{key: row[key] for key in keys} for row in metrics if "test_accuracy" in row]
    counts = [reports[index] for index in range(len(WORKERS) * rounds)]
    return {"name": name, "same": same, "reports": counts, "points": points}


def draw(results: list[dict[str, Any]], rounds: int) -> Figure:
    """Draw accuracy, and the bytes of a round's reports, against rounds."""
    figure = Figure(figsize=(8, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    for result in results:
        points = result["points"]
        ends = [p["round"] for p in points]
        left.plot(ends, [p["test_accuracy"] for p in points], label=result["name"])
        key = "uplink_bytes"
        rates = [(b[key] - a[key]) / (b["round"] - a["round"]) / 1e3 for a, b in pairwise(points)]
        right.plot(ends[1:], rates, label=result["name"])
    left.set_ylabel("accuracy on test digits")
    right.set_ylabel("kB of reports a round")
    left.legend(loc="lower right")
    for axes in (left, right):
        for index, workers in enumerate(WORKERS):
            axes.axvline(index * rounds, color="k", lw=0.5, ls=":")
            axes.text(
                index * rounds + 2, 1.02, f"{workers} workers", transform=axes.get_xaxis_transform()
            )
        axes.set_xlabel("rounds")
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    return figure


if __name__ == "__main__":
    typer.run(main)
