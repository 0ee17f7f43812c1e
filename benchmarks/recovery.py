"""What the loss of a worker costs a method whose workers remember nothing.

A run on Ray loses the process of a host again and again. The round in which that happens is timed,
and compared with the rounds before it, and with what it must cost: another process, its model and
shards, and the gradients of its workers.

    python -m benchmarks.recovery --out benchmarks/results/recovery
"""

import json
import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

from launch import Session
from launch.engines.cluster import ray_cluster
from launch.versions import versions
from tests.chaos.faults import killed

HOSTS = 2
ROUNDS = 20  # between two losses
CONFIG: dict[str, Any] = {
    "problem": "digits",
    "method": {
        "kind": "compressed-sgd",
        "compressor": {"kind": "mlmc", "ladder": {"kind": "s-top-k", "segment_size": 0.01}},
    },
    "optimizer": {"kind": "sgd", "step_size": 0.05},
    "workers": 4,
    "actors": HOSTS,
    "batch_size": 32,
    "evaluate_every": 1_000_000,
    "observe_every": None,
}


def main(
    out: Annotated[Path, typer.Option(help="Directory for the results.")],
    losses: Annotated[int, typer.Option(min=1, help="How many hosts are lost.")] = 20,
) -> None:
    """Kill hosts, and time the rounds that lose them."""
    console = Console()
    rounds: list[float] = []
    lost: list[dict[str, float]] = []
    said: dict[str, float] = {}  # when, by what; the restart begins and ends with a note

    def note(line: str) -> None:
        said["again" if "tried again" in line else "lost"] = time.perf_counter()

    with ray_cluster(None), Session(CONFIG, on_note=note) as session:
        session.run(5)
        for index in track(range(losses), console=console, description="losses"):
            rounds += [_timed(session) for _ in range(ROUNDS)]
            killed(f"host {index % HOSTS}")(session)()
            taken = _timed(session)
            lost.append({"round": taken, "restart": said["again"] - said["lost"]})
    normal, whole = np.median(rounds), np.array([row["round"] for row in lost])
    restart = np.array([row["restart"] for row in lost])
    table = Table("", "median", "least", "most")
    for name, values in (
        ("a round, ms", 1e3 * np.array(rounds)),
        ("a round that loses a host, ms", 1e3 * whole),
        ("of that, its restart, ms", 1e3 * restart),
        ("of that, all else, ms", 1e3 * (whole - restart)),
        ("a round that loses a host, in rounds", whole / normal),
        ("all else, in rounds", (whole - restart) / normal),
    ):
        table.add_row(name, *(f"{f(values):.4g}" for f in (np.median, np.min, np.max)))
    console.print(table)
    out.mkdir(parents=True, exist_ok=True)
    report = {"machine": versions(), "rounds_s": rounds, "lost_s": lost}
    (out / "results.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def _timed(session: Session) -> float:
    started = time.perf_counter()
    session.run(1)
    return time.perf_counter() - started


if __name__ == "__main__":
    typer.run(main)
