"""Where the milliseconds of a round on Ray go.

The actors are those of a run; the server's notes the time when its parts begin and end. The driver
calls it directly, so the session's own bookkeeping is left out, and so is evaluation.

    python -m benchmarks.round_breakdown --json benchmarks/results/round_breakdown-MACHINE.json
"""

import json
import os
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import ray
import typer
from rich.console import Console
from rich.table import Table

from benchmarks import round_time
from benchmarks.round_time import BATCH_SIZE, FULL, PROBLEM, SEED, STEP_SIZE
from benchmarks.timed.actors import timed_actors
from benchmarks.timed.stopwatch import seconds_of
from launch.benching.measuring import machine
from launch.configuration.run_config import load_config
from launch.engines.cluster import ray_cluster

PARTS = {
    "driver": "the driver's call, less the server's round",
    "news": "making and encoding the news",
    "send": "put, and the calls of all hosts",
    "exchange": "reading news, gradients, compression, encoding: of the host that took longest; or "
    "the processor time of all, with decoding at the server, shared out among the processors, if "
    "that is more",
    "transport": "waiting for answers beyond that: calls, answers",
    "aggregate": "the method's server half, and running statistics",
    "optimizer": "its step",
    "finite": "whether the parameters are finite",
    "rest": "what is left of the server's round",
}
WORK = ("news", "exchange", "aggregate", "optimizer")
"""Parts that are gradient, compression, wire or optimizer; the others are what a round costs."""
RUNS = FULL | round_time.RUNS
"""Settings of a configuration; small messages go with the calls."""
TIMEOUT_S = 600.0


def parts_of(
    seconds: Mapping[str, float], hosts: Sequence[tuple[float, float]], call_s: float
) -> dict[str, float]:
    """Return the milliseconds of every part of a round, and of what is no work.

    Args:
        seconds: of the laps of the server, by part.
        hosts: the seconds of every host's step, and those of its processors.
        call_s: how long the driver waited.
    """
    seconds = defaultdict(float, seconds)
    longest = max(clock for clock, _ in hosts)
    busy = seconds["decode"] + sum(busy for _, busy in hosts)
    parts = {name: seconds[name] for name in PARTS}
    parts["driver"] = call_s - sum(seconds.values())
    parts["exchange"] = max(longest, busy / len(os.sched_getaffinity(0)))
    collected = seconds["collect"] + seconds["decode"]  # which is done while others compute
    parts["transport"] = max(0.0, collected - parts["exchange"])
    parts["round"] = call_s
    parts["beside work"] = call_s - sum(parts[name] for name in WORK)
    return {name: 1e3 * value for name, value in parts.items()}


def measure(width: int, name: str, workers: int, hosts: int, rounds: int) -> dict[str, Any]:
    """Return quartiles over the rounds of every part of a run of ``RUNS``, in milliseconds."""
    config = load_config(
        {
            "problem": {"kind": PROBLEM, "width": width},
            **RUNS[name],
            "optimizer": {"kind": "sgd", "step_size": STEP_SIZE},
            "seed": SEED,
            "workers": workers,
            "batch_size": BATCH_SIZE,
            "actors": hosts,
        }
    )
    found = []
    with timed_actors(config) as (server, actors):
        for index in range(5 + rounds):
            started = time.perf_counter()
            laps = ray.get(server.timed_round.remote(TIMEOUT_S))
            call_s = time.perf_counter() - started
            steps = ray.get([actor.timed_steps.remote() for actor in actors])
            if index < 5:  # the first rounds import, connect and allocate
                continue
            hosts_s = [(sum(seconds_of(own).values()), busy) for own, busy in steps]
            found.append(parts_of(seconds_of(laps), hosts_s, call_s))
    quartiles = {
        part: np.percentile([parts[part] for parts in found], (25, 50, 75)).round(3).tolist()
        for part in found[0]
    }
    settings = {"parameters": width**2 + 76 * width + 10, "run": name, "workers": workers}
    return {**settings, "hosts": hosts, "ms": quartiles}


def main(
    widths: Annotated[
        list[int] | None,
        typer.Option("--width", help="Hidden units; may be repeated. [default: 190, 3279]"),
    ] = None,
    names: Annotated[
        list[str] | None, typer.Option("--run", help="One of RUNS; may be repeated. [default: all]")
    ] = None,
    numbers: Annotated[
        list[int] | None,
        typer.Option("--workers", help="Workers; may be repeated. [default: 4, 8, 16]"),
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds of each.")] = 50,
    hosts: Annotated[int, typer.Option(min=1, help="Actors that host the workers.")] = 4,
    json_path: Annotated[
        Path | None, typer.Option("--json", help="Write machine and results to this file.")
    ] = None,
) -> None:
    """Time the parts of rounds on a local cluster.

    Widths 190 and 3279 give 50,550 and 11,001,055 parameters.
    """
    console, found = Console(), []
    with ray_cluster(None):
        for width in widths or [190, 3279]:
            for name in names or RUNS:
                for workers in numbers or (4, 8, 16):
                    found.append(measure(width, name, workers, hosts, rounds))
                    console.print(_table(found[-1]))
    if json_path is not None:
        report = {"machine": machine(), "rounds": rounds, "parts": PARTS, "runs": found}
        json_path.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def _table(run: dict[str, Any]) -> Table:
    title = f"{run['parameters']:,} parameters, {run['run']}, {run['workers']} workers: ms"
    table = Table(title=title, title_justify="left")
    for heading in ("", "25%", "median", "75%"):
        table.add_column(heading, justify="right" if heading else "left")
    for name, values in run["ms"].items():
        table.add_row(name, *(f"{value:.2f}" for value in values))
    return table


if __name__ == "__main__":
    typer.run(main)
