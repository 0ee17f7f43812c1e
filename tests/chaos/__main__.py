"""Run many trials, on a cluster of three nodes on this machine.

python -m tests.chaos --trials 100
"""

import logging
import os
import shutil
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import ray
import torch
import typer
from ray.cluster_utils import Cluster
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

from tests.chaos.trials import METHODS, actors_left, run, trial_of

FAULTS = ("worker", "server", "node", "driver")
CPUS = 3  # of a node


class Nodes:
    """A cluster whose nodes can be killed."""

    def __init__(self) -> None:
        os.environ["RAY_AUTH_MODE"] = "disabled"  # such a cluster is started without a token
        checks = {
            "health_check_period_ms": 500,
            "health_check_timeout_ms": 1000,
            "health_check_failure_threshold": 3,
        }
        head = {"num_cpus": 0, "include_dashboard": False, "_system_config": checks}
        # Nodes join from the threads of faults, in which Ray can set no handlers for an exit.
        self._cluster: Any = Cluster(
            initialize_head=True, head_node_args=head, shutdown_at_exit=False
        )
        self._nodes = [self._cluster.add_node(num_cpus=CPUS) for _ in range(3)]
        self._joining: list[threading.Thread] = []
        ray.init(address=self._cluster.address, logging_level=logging.ERROR)

    def kill_one(self) -> None:
        """Kill the processes of a node that has an actor, and let another node join."""
        used = {actor.NodeID for actor in _alive_actors()}
        node = next((own for own in self._nodes if own.node_id in used), self._nodes[0])
        self._nodes.remove(node)
        self._cluster.remove_node(node, allow_graceful=False)
        self._nodes.append(self._cluster.add_node(num_cpus=CPUS))

    def end(self) -> None:
        """End all of them."""
        ray.shutdown()
        self._cluster.shutdown()


class _Actor:
    def __init__(self, node_id: str) -> None:
        self.NodeID = node_id


def _alive_actors() -> list[_Actor]:
    from ray._private.state import actors  # there is no public way without a dashboard

    return [
        _Actor(own["Address"]["NodeID"]) for own in actors().values() if own["State"] == "ALIVE"
    ]


def main(
    trials: Annotated[int, typer.Option(min=1, help="How many.")] = 100,
    first: Annotated[int, typer.Option(min=0, help="The seed of the first one.")] = 0,
) -> None:
    """Kill workers, servers, nodes and drivers, and compare what comes of the runs."""
    torch.set_num_threads(1)
    console = Console()
    nodes, place = Nodes(), Path(tempfile.mkdtemp(prefix="chaos-"))
    passed: Counter[str] = Counter()
    tried: Counter[str] = Counter()
    failures = []
    started = time.monotonic()
    columns = ("{task.description}", BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    try:
        with Progress(*columns, console=console) as progress:
            task = progress.add_task("trials", total=trials)
            for seed in range(first, first + trials):
                trial = trial_of(seed, FAULTS)
                wrong = run(trial, place / str(seed), lambda _: nodes.kill_one)
                tried[trial.fault] += 1
                passed[trial.fault] += not wrong
                if wrong:
                    failures.append((trial, wrong))
                    console.print(f"[red]{trial}: {wrong}")
                progress.advance(task)
        time.sleep(5)
        orphans = list(actors_left())
    finally:
        nodes.end()
        shutil.rmtree(place, ignore_errors=True)
    for fault in FAULTS:
        console.print(f"{fault}: {passed[fault]} of {tried[fault]} ended as if undisturbed")
    console.print(
        f"{passed.total()} of {trials}, over {', '.join(METHODS)}, in "
        f"{time.monotonic() - started:.0f} s; processes of actors that are left: {len(orphans)}"
    )
    if failures or orphans:
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
