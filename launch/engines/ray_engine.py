"""The Ray engine: a server actor, and actors that host the workers.

In a round the driver calls the server, which calls every host with its broadcast, or with where that
is in the object store; the hosts answer to the server. No frame passes the driver.
"""

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import numpy as np
import ray
import torch
from ray.exceptions import GetTimeoutError
from torch import Tensor

from launch.configuration.run_config import RunConfig
from launch.engines.base import RunState, run_plan, worker_plan
from launch.engines.cluster import current_cluster, ray_cluster
from launch.engines.placement import demand_of, reserve
from mlmc_ray.errors import ClusterError, RoundError
from mlmc_ray.rounds import RoundResult
from mlmc_ray.saving import loaded, saved
from server.actor import RemoteParameterServer, fetch
from workers.actor import RemoteWorkerHost

_START_TIMEOUT_S = 600.0
_ANSWER_TIMEOUT_S = 5.0  # for the server to say, once the round's time is up, who is late


class RayEngine:
    """Runs rounds on Ray actors.

    Args:
        config: of the run.
        on_note: called with a line if the run waits for nodes to join, or for what others hold.

    Raises:
        ClusterError: Ray cannot be started, or cannot place the actors, or one finds no GPU.
        RoundError: making the models and shards took longer than ``round_timeout_s``.
        ProblemError: the problem's own code failed.
    """

    def __init__(self, config: RunConfig, on_note: Callable[[str], None] = lambda _: None) -> None:
        self._timeout_s = config.round_timeout_s
        self._round_index = 0
        self._stack = ExitStack()
        self._cluster: str | None = None
        try:
            self._local = self._stack.enter_context(ray_cluster(config.address))
            self._cluster = current_cluster()
            self._place(config, on_note)
            self._set_up(config)
        except BaseException:
            self.close()
            raise

    def suits(self, old: RunConfig, new: RunConfig) -> bool:
        """Return whether the same actors, and not only others, can run another configuration."""
        placed = ("engine", "address", "placement")
        same = all(getattr(old, name) == getattr(new, name) for name in placed)
        demands = [demand_of(config, local=self._local) for config in (old, new)]
        return same and demands[0] == demands[1]

    def set_up(self, config: RunConfig) -> None:
        """Let the actors begin another configuration, which they suit.

        Raises:
            RoundError, ProblemError: as when they were started; they must be set up again.
        """
        self._timeout_s = config.round_timeout_s
        for first, host in enumerate(self._hosts):
            host.worker_ids = tuple(range(first, config.workers, len(self._hosts)))
        self._set_up(config)

    def _place(self, config: RunConfig, on_note: Callable[[str], None]) -> None:
        """Start the actors on what is reserved for them."""
        demand = demand_of(config, local=self._local)
        processors = reserve(
            demand,
            strategy=config.placement.upper(),
            local=self._local,
            timeout_s=config.placement_timeout_s,
            on_note=on_note,
            stack=self._stack,
        )
        self._server = RemoteParameterServer(processors)
        self._stack.callback(self._server.stop)
        self._hosts = []
        for first in range(demand.num_hosts):
            worker_ids = range(first, config.workers, demand.num_hosts)
            host = RemoteWorkerHost(worker_ids, processors, bundle_index=first + 1)
            self._stack.callback(host.stop)
            self._hosts.append(host)
        actors: list[RemoteParameterServer | RemoteWorkerHost] = [self._server, *self._hosts]
        started = [actor.ready() for actor in actors]
        if waiting := ray.wait(started, num_returns=len(started), timeout=_START_TIMEOUT_S)[1]:
            raise ClusterError(
                f"{len(waiting)} of {len(actors)} actors have their processor and have not started "
                f"within {_START_TIMEOUT_S:g} s: the machines are too busy"
            )

    def _set_up(self, config: RunConfig) -> None:
        ready = [self._server.set_up(run_plan(config), self._hosts, config.threads)]
        plan = worker_plan(config)
        ready += [host.set_up(plan, config.threads) for host in self._hosts]
        if waiting := ray.wait(ready, num_returns=len(ready), timeout=self._timeout_s)[1]:
            raise RoundError(
                f"round 0: {len(waiting)} of {len(ready)} actors have not made their model and "
                f"shards within round_timeout_s = {self._timeout_s:g}"
            )
        fetch(ready, self._round_index, "an actor")

    def round(self, *, observe: bool) -> RoundResult:
        """Run the next round.

        Raises:
            RoundError: an actor died, or the round took longer than ``round_timeout_s``.
            MlmcRayError: what a worker or the server refused.
        """
        running = self._server.round(self._timeout_s, observe)
        try:
            result: RoundResult = self._get(running, self._timeout_s + _ANSWER_TIMEOUT_S)
        except GetTimeoutError:
            raise RoundError(
                f"round {self._round_index}: the server did not answer within round_timeout_s = "
                f"{self._timeout_s:g}"
            ) from None
        self._round_index += 1
        return result

    def evaluate(self) -> dict[str, float]:
        """Evaluate on the server."""
        measures: dict[str, float] = self._get(self._server.evaluate())
        return measures

    def parameters(self) -> Tensor:
        """Fetch a copy of the parameters."""
        return torch.tensor(self._get(self._server.parameters()))

    def model_state(self) -> dict[str, Any]:
        """Fetch the ``state_dict`` of the model."""
        state: dict[str, Any] = loaded(self._get(self._server.model_state()).data)
        return state

    def state(self) -> RunState:
        """Fetch a copy of all that is remembered.

        Raises:
            RoundError: an actor is gone.
        """
        workers: dict[int, dict[str, Any]] = {}
        for states in self._get([host.state_dict() for host in self._hosts]):
            workers.update(loaded(states.data))
        server = loaded(self._get(self._server.state_dict()).data)
        return RunState(server=server, workers=dict(sorted(workers.items())), time={})

    def load(self, state: RunState) -> None:
        """Go on from a state.

        Raises:
            RoundError: an actor is gone.
        """
        workers = ray.put(np.frombuffer(saved(state.workers), np.uint8))
        server = np.frombuffer(saved(state.server), np.uint8)
        loading = [host.load_state_dict(workers) for host in self._hosts]
        self._get([self._server.load_state_dict(server), *loading])
        self._round_index = state.server["round_index"]

    def close(self) -> None:
        """End the actors, and the cluster if this engine started it."""
        if current_cluster() == self._cluster:
            self._stack.close()
        else:  # somebody has ended that cluster, and the actors with it
            self._stack.pop_all()

    def _get(self, reference: Any, timeout_s: float | None = None) -> Any:
        return fetch(reference, self._round_index, "the server", timeout_s)
