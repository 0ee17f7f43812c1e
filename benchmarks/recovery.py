"""What the loss of a worker costs a method whose workers remember nothing.

A run on Ray loses the process of a host again and again. The round in which that happens is timed,
and compared with the rounds before it, and with what it must cost: another process, its model and
shards, and the gradients of its workers.

    python -m benchmarks.recovery --out benchmarks/results/recovery
"""

import json
import os
import signal
import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import ray
import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

from launch import Session
from launch.callbacks import Callback
from launch.engines.cluster import ray_cluster
from launch.metrics import Metrics
from launch.versions import versions
from mlmc_ray.rounds import RoundResult

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


class Killing(Callback):
    """Kills the process of a host after some rounds."""

    def __init__(self, after: int) -> None:
        self._after = after

    def on_round(self, session: Session, metrics: Metrics, result: RoundResult) -> None:
        """Kill one of the hosts, if it is time."""
        round_index = int(metrics["round"])
        if round_index % self._after:
            return
        engine: Any = session._engine
        actor = engine._hosts[round_index // self._after % HOSTS]._actor
        pid: int = ray.get(actor.__ray_call__.remote(lambda _: os.getpid()))
        os.kill(pid, signal.SIGKILL)


def main(
    out: Annotated[Path, typer.Option(help="Directory for the results.")],
    losses: Annotated[int, typer.Option(min=1, help="How many hosts are lost.")] = 20,
) -> None:
    """Kill hosts, and time the rounds that lose them."""
    console = Console()
    restarts: list[float] = []

    def note(line: str) -> None:
        if "another is started" in line:
            restarts.append(-time.perf_counter())
        elif "tried again" in line:
            restarts[-1] += time.perf_counter()

    with ray_cluster(None), Session(CONFIG, on_note=note, callbacks=Killing(ROUNDS)) as session:
        for _ in track(range(losses), console=console, description="losses"):
            session.run(ROUNDS)
        session.run(1)
    ends = [metrics["seconds"] for metrics in session.metrics]
    taken = np.diff(ends)  # of rounds 0, 1, ...: that with the index ROUNDS is the first disturbed
    disturbed = np.arange(ROUNDS, len(taken), ROUNDS)
    if len(restarts) != len(disturbed):
        raise RuntimeError(f"{len(disturbed)} hosts were killed, and {len(restarts)} restarted")
    rounds = np.delete(taken, [*range(5), *disturbed])  # the first ones connect and allocate
    lost = [
        {"round": float(taken[index]), "restart": restart}
        for index, restart in zip(disturbed, restarts, strict=True)
    ]
    normal, whole = np.median(rounds), np.array([row["round"] for row in lost])
    restart = np.array([row["restart"] for row in lost])
    table = Table("", "median", "least", "most")
    for name, values in (
        ("a round, ms", 1e3 * rounds),
        ("a round that loses a host, ms", 1e3 * whole),
        ("of that, its restart, ms", 1e3 * restart),
        ("of that, all else, ms", 1e3 * (whole - restart)),
        ("a round that loses a host, in rounds", whole / normal),
        ("all else, in rounds", (whole - restart) / normal),
    ):
        table.add_row(name, *(f"{f(values):.4g}" for f in (np.median, np.min, np.max)))
    console.print(table)
    out.mkdir(parents=True, exist_ok=True)
    report = {"machine": versions(), "rounds_s": rounds.tolist(), "lost_s": lost}
    (out / "results.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
