"""Where the milliseconds of a round on Ray go.

The actors are those of a run; the server's notes the time when its parts begin and end. The driver
calls it directly, so the session's own bookkeeping is left out, and so is evaluation.

    python -m benchmarks.round_breakdown --json benchmarks/results/round_breakdown-MACHINE.json
"""

import json
import os
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import ray
import typer
from ray.util.placement_group import placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy
from rich.console import Console
from rich.table import Table

import mlmc_ray.replica
import workers.actor as host_actor
from benchmarks import round_time
from benchmarks.round_time import BATCH_SIZE, FULL, PROBLEM, SEED, STEP_SIZE
from launch.benching.measuring import machine
from launch.configuration.run_config import RunConfig, load_config
from launch.engines.base import worker_plan
from launch.engines.cluster import ray_cluster
from launch.engines.placement import demand_of
from mlmc_ray.rounds import Answers
from server.actor import ParameterServerActor
from server.calls import Host
from workers.actor import RemoteWorkerHost, WorkerHostActor

PARTS = {
    "driver": "the driver's call, less the server's round",
    "news": "making and encoding the news",
    "send": "put, and the calls of all hosts",
    "exchange": "reading news, gradients, compression, encoding: of the host that took longest; or "
    "the processor time of all, with decoding at the server, shared out among the processors, if "
    "that is more",
    "transport": "waiting for answers beyond that: calls, answers",
    "aggregate": "the method's server half",
    "optimizer": "its step",
    "finite": "whether the parameters are finite",
    "rest": "what is left of the server's round",
}
WORK = ("news", "exchange", "aggregate", "optimizer")
"""Parts that are gradient, compression, wire or optimizer; the others are what a round costs."""
RUNS = FULL | round_time.RUNS
"""Settings of a configuration; small messages go with the calls."""
TIMEOUT_S = 600.0


class TimedServer(ParameterServerActor):
    """A server that adds up how long its parts take."""

    def set_up(
        self, plan: Any, index: int, hosts: Sequence[Host], threads: int, incarnation: int
    ) -> None:
        """Make the server, and time its parts."""
        super().set_up(plan, index, hosts, threads, incarnation)
        self._seconds: dict[str, float] = defaultdict(float)
        replica: Any = self._server._replica
        self._time(self._server, "broadcast", "news")
        self._time(self._server, "_decode", "decode")
        self._time(replica._half, "step", "aggregate")
        self._time(replica._optimizer, "step", "optimizer")
        self._time(mlmc_ray.replica, "all_finite", "finite")
        self._time(self._gathering, "_send", "send")
        self._time(self._gathering, "_collect", "collect")

    def timed_round(self) -> dict[str, float]:
        """Run a round; return the seconds that its parts have taken."""
        self._seconds.clear()
        started = time.perf_counter()
        self.round(TIMEOUT_S, False)
        self._seconds["round"] = time.perf_counter() - started
        return dict(self._seconds)

    def _time(self, owner: Any, name: str, part: str) -> None:
        inner: Callable[..., Any] = getattr(owner, name)

        def outer(*args: Any, **kwargs: Any) -> Any:
            started = time.perf_counter()
            result = inner(*args, **kwargs)
            self._seconds[part] += time.perf_counter() - started
            return result

        setattr(owner, name, outer)


class TimedHost(WorkerHostActor):
    """A host that notes how long its steps take."""

    def step(self, *args: Any) -> Answers:
        """Run an exchange."""
        started, busy = time.perf_counter(), time.process_time()
        answers = super().step(*args)
        self._seconds = time.perf_counter() - started, time.process_time() - busy
        return answers

    def seconds(self) -> tuple[float, float]:
        """Return what the last step took: by the clock, and of all processors."""
        return self._seconds


@contextmanager
def timed_actors(config: RunConfig) -> Iterator[tuple[Any, list[Any]]]:
    """Start a server and hosts on the local cluster; yield their actors."""
    demand, plan = demand_of(config, local=True), worker_plan(config)
    processors = placement_group(demand.bundles())
    ray.get(processors.ready())
    first = PlacementGroupSchedulingStrategy(processors, placement_group_bundle_index=0)
    actor: Any = ray.remote(TimedServer)
    usual, host_actor._Actor = host_actor._Actor, ray.remote(TimedHost)
    server = actor.options(
        num_cpus=processors.bundle_specs[0]["CPU"], scheduling_strategy=first
    ).remote()
    hosts = [
        RemoteWorkerHost(
            range(i, config.workers, demand.num_hosts),
            processors,
            bundle_index=i + 1,
            num_servers=1,
        )
        for i in range(demand.num_hosts)
    ]
    try:
        ready = [server.set_up.remote(plan, 0, hosts, 1, 1)]
        ready += [host.set_up(plan, 1, 1) for host in hosts]
        ray.get(ready)
        yield server, [host._actor for host in hosts]
    finally:
        host_actor._Actor = usual
        for host in hosts:
            host.stop()
        ray.kill(server)
        remove_placement_group(processors)


def parts_of(
    seconds: dict[str, float], hosts: Sequence[tuple[float, float]], call_s: float
) -> dict[str, float]:
    """Return the milliseconds of every part of a round, and of what is no work.

    Args:
        seconds: as the server counted them.
        hosts: the seconds of every host's step, and those of its processors.
        call_s: how long the driver waited.
    """
    longest = max(clock for clock, _ in hosts)
    busy = seconds["decode"] + sum(busy for _, busy in hosts)
    parts = {name: seconds.get(name, 0.0) for name in PARTS}
    parts["driver"] = call_s - seconds["round"]
    parts["send"] -= parts["news"]
    parts["exchange"] = max(longest, busy / len(os.sched_getaffinity(0)))
    parts["transport"] = max(0.0, seconds["collect"] - parts["exchange"])
    in_receive = ("aggregate", "optimizer", "finite")
    exchanges = seconds["send"] + seconds["collect"]
    rest = seconds["round"] - exchanges - sum(parts[name] for name in in_receive)
    parts["rest"] = rest
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
        for _ in range(5):  # the first rounds import, connect and allocate
            ray.get(server.timed_round.remote())
        for _ in range(rounds):
            started = time.perf_counter()
            seconds = ray.get(server.timed_round.remote())
            call_s = time.perf_counter() - started
            busy = ray.get([actor.seconds.remote() for actor in actors])
            found.append(parts_of(seconds, busy, call_s))
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
