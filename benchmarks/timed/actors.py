"""The actors of a run on Ray, timed."""

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import ray
import torch
import typer
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

import mlmc_ray.replica
import workers.actor as host_actor
from benchmarks.timed.parties import time_host, time_server
from benchmarks.timed.stopwatch import Lap, Stopwatch
from launch.benching.measuring import synchronize
from launch.configuration.run_config import RunConfig
from launch.engines.base import worker_plan
from launch.engines.placement import demand_of, reserve
from mlmc_ray.errors import ConfigError, RoundError
from mlmc_ray.plan import RunPlan
from mlmc_ray.rounds import Answers, Lost
from server.actor import ParameterServerActor
from server.calls import Host, fetch
from workers.actor import RemoteWorkerHost, WorkerHostActor
from workers.host import WorkerPlan


class TimedServer(ParameterServerActor):
    """A server that notes when its parts are at work.

    Beside those of ``time_server`` they are "send", the calls of all hosts; "collect", waiting for
    their answers; "finite", the look at the parameters, which is no part of "optimizer" here; and
    "rest" of the round.
    """

    def set_up(
        self, plan: RunPlan, index: int, hosts: Sequence[Host], threads: int, incarnation: int
    ) -> None:
        """Make the server, and time its parts."""
        super().set_up(plan, index, hosts, threads, incarnation)
        self._watch = watch = Stopwatch()
        time_server(self._server, watch)
        watch.time(mlmc_ray.replica, "all_finite", "finite")  # there is no other replica here
        watch.time(self._gathering, "_send", "send")
        watch.time(self._gathering, "_collect", "collect")

    def timed_round(self, timeout_s: float) -> list[Lap]:
        """Run a round; return its laps.

        Raises:
            RoundError: a host is lost.
        """
        self._watch.restart()
        with self._watch.part("rest"):
            result = self.round(timeout_s, False)
        if isinstance(result, Lost):
            raise RoundError(f"hosts are lost, and nothing is timed without them: {result.hosts}")
        return self._watch.laps


class TimedHost(WorkerHostActor):
    """A host that notes when its parts are at work.

    Beside those of ``time_host`` there is "call": what is left of answering a call, checksums
    among it.
    """

    def set_up(self, plan: WorkerPlan, *args: Any) -> None:
        """Make the workers, and time their parts."""
        super().set_up(plan, *args)
        self._watch = Stopwatch(partial(synchronize, torch.device(plan.device)))
        time_host(self._host, self._watch)
        self._busy_s = 0.0

    def step(self, *args: Any) -> Answers:
        """Run an exchange."""
        busy = time.process_time()
        with self._watch.part("call"):  # what is inside runs in another thread, and this one waits
            answers = super().step(*args)
        self._busy_s += time.process_time() - busy
        return answers

    def timed_steps(self) -> tuple[list[Lap], float]:
        """Return the laps since the last call of this, and the seconds of all processors."""
        found = (self._watch.laps, self._busy_s)
        self._watch.restart()
        self._busy_s = 0.0
        return found


def check_timed(config: RunConfig) -> None:
    """Refuse what the timed actors do not do.

    Raises:
        ConfigError: reports are not waited for, or the cluster is not one of this machine.
    """
    place = f"{config.name}: on Ray rounds are timed"
    if config.method.asynchronous:
        raise ConfigError(f"{place} that wait for all workers, and the method waits for none")
    if config.quorum is not None:
        raise ConfigError(f"{place} that wait for all workers: leave quorum out")
    if config.address is not None:
        raise ConfigError(
            f"{place} on a cluster of this machine, whose processes have one clock: address is "
            f"{config.address!r}, leave it out"
        )


@contextmanager
def timed_actors(config: RunConfig) -> Iterator[tuple[Any, list[Any]]]:
    """Start a server and hosts on the local cluster; yield their actors.

    Raises:
        ClusterError, ProblemError, LostError: they cannot be started.
    """
    demand, plan = demand_of(config, local=True), worker_plan(config)
    with ExitStack() as stack:
        processors = reserve(
            demand,
            strategy="PACK",
            local=True,
            timeout_s=config.placement_timeout_s,
            on_note=typer.echo,
            stack=stack,
        )
        first = PlacementGroupSchedulingStrategy(processors, placement_group_bundle_index=0)
        actor: Any = ray.remote(TimedServer)
        server = actor.options(
            num_cpus=processors.bundle_specs[0]["CPU"], scheduling_strategy=first
        ).remote()
        stack.callback(ray.kill, server)
        usual, host_actor._Actor = host_actor._Actor, ray.remote(TimedHost)
        stack.callback(setattr, host_actor, "_Actor", usual)
        hosts = []
        for i in range(demand.num_hosts):
            ids = range(i, config.workers, demand.num_hosts)
            hosts.append(RemoteWorkerHost(ids, processors, bundle_index=i + 1, num_servers=1))
            stack.callback(hosts[-1].stop)
        server.prepare.remote(plan.problem.search_paths)
        ready = [server.set_up.remote(plan, 0, hosts, config.threads, 1)]
        ready += [host.set_up(plan, config.threads, 1) for host in hosts]
        fetch(ready, 0, "an actor, at its start,")
        yield server, [host._actor for host in hosts]
