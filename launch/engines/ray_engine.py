"""The Ray engine: an actor or several that serve, and actors that host the workers.

In a round the driver calls the servers, which call every host with their news, or with where they
are in the object store; the hosts answer to the servers. No frame passes the driver.

Every set-up has a number of its own, its incarnation. Hosts answer to the servers of theirs alone,
so that a server that was taken for dead cannot move workers that have others now.
"""

import secrets
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import numpy as np
import ray
import torch
from torch import Tensor

from launch.configuration.run_config import RunConfig
from launch.engines.base import RunState, run_plan, worker_plan
from launch.engines.cluster import current_cluster, ray_cluster
from launch.engines.placement import demand_of, free_processors, nodes_of_cluster, reserve
from launch.recovery import given_up
from mlmc_ray.errors import ClusterError, LostError, RoundError
from mlmc_ray.methods import SERVER
from mlmc_ray.rounds import Lost, RoundResult
from mlmc_ray.saving import loaded, saved
from server.actor import RemoteParameterServer
from server.calls import fetch
from workers.actor import RemoteWorkerHost

_START_TIMEOUT_S = 600.0
_SILENCE_S = 20.0  # between lines about what is waited for
_ANSWER_TIMEOUT_S = 5.0  # for a server to say, once the round's time is up, who is late


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
        self._on_note = on_note
        self._round_index = 0
        self._stack = ExitStack()
        self._cluster: str | None = None
        try:
            self._local = self._stack.enter_context(ray_cluster(config.address))
            self._cluster = current_cluster()
            self._place(config)
            self._set_up(config)
        except BaseException:
            self.close()
            raise

    def room(self) -> int:
        """Return for how many hosts the nodes have room, with a processor each."""
        one = replace(demand_of(self._config, local=False), num_hosts=1)
        return min(one.room(nodes_of_cluster()), len(self._hosts) + free_processors())

    def suits(self, old: RunConfig, new: RunConfig) -> bool:
        """Return whether the same actors, and not only others, can run another configuration."""
        placed = ("engine", "address", "placement")
        same = all(getattr(old, name) == getattr(new, name) for name in placed)
        return same and demand_of(new, local=self._local) == self._demand

    def set_up(self, config: RunConfig) -> None:
        """Let the actors begin another configuration, which they suit.

        Raises:
            RoundError, ProblemError: as when they were started; they must be set up again.
        """
        for host, worker_ids in zip(self._hosts, config.hosted(len(self._hosts)), strict=True):
            host.worker_ids = worker_ids
        self._set_up(config)

    def _place(self, config: RunConfig) -> None:
        """Start the actors on what is reserved for them."""
        self._demand = demand = demand_of(config, local=self._local)
        self._processors = reserve(
            demand,
            strategy=config.placement.upper(),
            local=self._local,
            timeout_s=config.placement_timeout_s,
            on_note=self._on_note,
            stack=self._stack,
        )
        self._servers = []
        for index in range(demand.num_servers):
            self._servers.append(RemoteParameterServer(self._processors, index))
            self._stack.callback(self._servers[-1].stop)
        self._hosts = [
            self._new_host(index, worker_ids)
            for index, worker_ids in enumerate(config.hosted(demand.num_hosts))
        ]
        self._note_quorum(config)
        actors: list[RemoteParameterServer | RemoteWorkerHost] = [*self._servers, *self._hosts]
        started = [actor.ready() for actor in actors]
        if waiting := self._waited(started, _START_TIMEOUT_S, "to start"):
            raise ClusterError(
                f"{len(waiting)} of {len(actors)} actors have their processor and have not started "
                f"within {_START_TIMEOUT_S:g} s: the machines are too busy"
            )

    def _note_quorum(self, config: RunConfig) -> None:
        """Say so if a quorum closes no round early."""
        sizes = [len(host.worker_ids) for host in self._hosts]
        if config.quorum is not None and config.quorum.idle(sizes):
            self._on_note(
                f"quorum.reports is {config.quorum.reports}, and all {config.workers} workers are "
                f"waited for: they are in {len(sizes)} processes, whose workers report together, "
                f"and without any of those there are too few: give actors: {config.workers} and "
                "fewer reports"
            )

    def _new_host(
        self, index: int, worker_ids: Sequence[int], *, reserved: bool = True
    ) -> RemoteWorkerHost:
        """Start an actor for some workers, on its processor, or on one that others use too."""
        host = RemoteWorkerHost(
            worker_ids,
            self._processors if reserved else None,
            bundle_index=len(self._servers) + index,
            num_servers=len(self._servers),
        )
        self._stack.callback(host.stop)
        return host

    def _set_up(self, config: RunConfig) -> None:
        self._config = config
        self._timeout_s = config.round_timeout_s
        self._clips_together = config.clip_norm is not None and config.servers > 1
        self._remember = False
        self._incarnation = secrets.randbits(31)
        plan = run_plan(config)
        ready = [
            server.set_up(plan, self._hosts, config.threads, self._incarnation)
            for server in self._servers
        ]
        self._wait_for([*ready, *self._setting_up(self._hosts)])

    def _setting_up(self, hosts: Iterable[RemoteWorkerHost]) -> list[Any]:
        plan, threads = worker_plan(self._config), self._config.threads
        return [host.set_up(plan, threads, self._incarnation) for host in hosts]

    def _wait_for(self, ready: list[Any], error: type[RoundError] = RoundError) -> None:
        """Wait until actors have made their model and shards.

        Raises:
            RoundError: they take too long, which is the given class.
            LostError: one of them died.
        """
        if waiting := self._waited(ready, self._timeout_s, "to make their model and shards"):
            raise error(
                f"round {self._round_index}: {len(waiting)} of {len(ready)} actors have not made "
                f"their model and shards within round_timeout_s = {self._timeout_s:g}"
            )
        fetch(ready, self._round_index, "while its model and shards were made, an actor")

    def _waited(self, references: Sequence[Any], limit_s: float, what: str) -> list[Any]:
        """Wait for references, saying so from time to time, and return those that are missing."""
        started, waiting = time.monotonic(), list(references)
        while waiting and (passed := time.monotonic() - started) < limit_s:
            if passed > _SILENCE_S:
                count = f"{len(waiting)} of {len(references)} actors"
                self._on_note(f"waiting for {count} {what}, since {passed:.0f} s")
            some_s = min(_SILENCE_S, limit_s - passed)
            waiting = ray.wait(waiting, num_returns=len(waiting), timeout=some_s)[1]
        return waiting

    def round(self, *, observe: bool) -> RoundResult:
        """Run the next round.

        A host that is lost, where its workers remember nothing, is replaced by another, which is
        sent the news of the round again.

        Raises:
            LostError: an actor died or hangs, and the round cannot be completed without it.
            MlmcRayError: what a worker or a server refused.
        """
        if self._clips_together:
            gathering = [server.gather(self._timeout_s, observe) for server in self._servers]
            norms = self._of_servers(gathering)
            self._check_complete(norms)
            running = [server.finish(sum(norms)) for server in self._servers]
        else:
            running = [server.round(self._timeout_s, observe) for server in self._servers]
        results: list[RoundResult] = self._completed(self._of_servers(running))
        self._round_index += 1
        result = results[0]
        self._remember = result.remember
        for other in results[1:]:
            own = other.compressions[SERVER]
            result.close(other.ledger, other.traffic, own, other.notes)
        return result

    def _completed(self, outcomes: list[Any]) -> list[Any]:
        """Return the results of servers; one that waits for lost hosts gets others, if that helps.

        It helps where nothing is lost with them but reports of the first exchange.
        """
        restarts = 0
        while len(outcomes) == 1 and isinstance(lost := outcomes[0], Lost):
            if self._remember or lost.exchange_index or not self._config.restarts:
                break
            if restarts == self._config.restarts:
                reasons = f"round {self._round_index}: {self._reasons(lost)}"
                raise RoundError(given_up(reasons, restarts))
            restarts += 1
            others = self._replaced(lost, f"restart {restarts} of {self._config.restarts}")
            going_on = self._servers[0].go_on(others)
            outcomes = self._of_servers([going_on])
        self._check_complete(outcomes)
        return outcomes

    def _check_complete(self, outcomes: Sequence[Any]) -> None:
        """Refuse what servers return if they wait for hosts.

        Raises:
            LostError: says for which, and why.
        """
        if lost := [outcome for outcome in outcomes if isinstance(outcome, Lost)]:
            raise LostError(f"round {self._round_index}: {self._reasons(lost[0])}")

    def _reasons(self, lost: Lost) -> str:
        return "; ".join(
            f"the host of workers {list(self._hosts[index].worker_ids)} {reason}"
            for index, reason in lost.hosts.items()
        )

    def _replaced(self, lost: Lost, which: str) -> dict[int, RemoteWorkerHost]:
        """Start other hosts in place of lost ones, and return them.

        Args:
            lost: which.
            which: of the restarts of the round, in words.

        Raises:
            LostError: they have no room any more.
        """
        place, started = f"round {self._round_index}", time.monotonic()
        room = not self._demand.shortage(nodes_of_cluster())
        shared = "" if room else ", which shares processors, as a node is gone"
        self._on_note(f"{place}: {self._reasons(lost)}: another is started{shared} ({which})")
        others = {}
        for index in lost.hosts:
            old = self._hosts[index]
            old.stop()
            reserved = room or bool(self._demand.gpus)  # which cannot be shared
            others[index] = self._new_host(index, old.worker_ids, reserved=reserved)
        ready = [host.ready() for host in others.values()]
        limit_s = self._config.placement_timeout_s
        if ray.wait(ready, num_returns=len(ready), timeout=limit_s)[1]:
            raise LostError(
                f"{place}: no room for {len(ready)} hosts in place of lost ones within "
                f"placement_timeout_s = {limit_s:g}"
            )
        self._wait_for(self._setting_up(others.values()), LostError)
        for index, host in others.items():
            self._hosts[index] = host
        self._on_note(f"{place}: tried again after {time.monotonic() - started:.1f} s")
        return others

    def evaluate(self) -> dict[str, float]:
        """Evaluate on the first server."""
        measures: dict[str, float] = self._of_first(self._servers[0].evaluate(*self._others()))
        return measures

    def _others(self) -> list[Any]:
        """Return references of the parameters of all servers but the first."""
        return [server.parameters() for server in self._servers[1:]]

    def parameters(self) -> Tensor:
        """Fetch a copy of the parameters."""
        spans = self._of_servers([server.parameters() for server in self._servers])
        return torch.tensor(np.concatenate(spans))

    def model_state(self) -> dict[str, Any]:
        """Fetch the ``state_dict`` of the model."""
        state = self._of_first(self._servers[0].model_state(*self._others()))
        model: dict[str, Any] = loaded(state.data)
        return model

    def state(self) -> RunState:
        """Fetch a copy of all that is remembered.

        Raises:
            RoundError: an actor is gone, or does not answer within ``round_timeout_s``.
        """
        if self._config.method.asynchronous:  # has one server
            draining = self._servers[0].drain(self._timeout_s)
            self._of_servers([draining])
        ids = range(self._config.workers)
        workers: dict[int, dict[str, Any]] = {i: {"half": {}, "buffers": {}} for i in ids}
        if self._remember:  # else none is asked: one that is lost is missed in the next round
            for states in self._of_hosts([host.state_dict() for host in self._hosts]):
                workers.update(loaded(states.data))
        saving = [server.state_dict() for server in self._servers]
        servers = self._of_servers(saving)
        states = tuple(loaded(state.data) for state in servers)
        return RunState(servers=states, workers=dict(sorted(workers.items())), time={})

    def load(self, state: RunState) -> None:
        """Go on from a state.

        Raises:
            RoundError: an actor is gone, or does not answer within ``round_timeout_s``.
        """
        workers = ray.put(np.frombuffer(saved(state.workers), np.uint8))
        servers = [ray.put(np.frombuffer(saved(own), np.uint8)) for own in state.servers]
        copies = servers if any(own.get("copies") for own in state.servers) else []
        loading = [host.load_state_dict(workers, *copies) for host in self._hosts]
        serving = [
            server.load_state_dict(own) for server, own in zip(self._servers, servers, strict=True)
        ]
        self._of_hosts(loading)
        self._of_servers(serving)
        self._round_index = state.servers[0]["round_index"]
        self._remember = any(any(own.values()) for own in state.workers.values())

    def close(self) -> None:
        """End the actors, and the cluster if this engine started it."""
        if current_cluster() == self._cluster:
            self._stack.close()
        else:  # somebody has ended that cluster, and the actors with it
            self._stack.pop_all()

    def _of_first(self, reference: Any) -> Any:
        """Return what the first server answers, which may need the others for it, in time."""
        actor = "the server" if len(self._servers) == 1 else "a server"
        return self._fetch({reference: actor})[0]

    def _of_servers(self, references: Sequence[Any]) -> list[Any]:
        """Return the answers of all servers; or raise the first error, whoever has not answered.

        Args:
            references: in the order of the servers.
        """
        names = ["the server"]
        if len(references) > 1:
            names = [f"server {index}" for index in range(len(references))]
        return self._fetch(dict(zip(references, names, strict=True)))

    def _of_hosts(self, references: Sequence[Any]) -> list[Any]:
        """Return the answers of all hosts."""
        names = [f"the host of workers {list(host.worker_ids)}" for host in self._hosts]
        return self._fetch(dict(zip(references, names, strict=True)))

    def _fetch(self, names: Mapping[Any, str]) -> list[Any]:
        """Return what references stand for, each with the name of who answers.

        Raises:
            LostError: one is gone, or has not answered within ``round_timeout_s``, and what it
                takes a server to say who is late.
            MlmcRayError: as one raised it.
        """
        deadline = time.monotonic() + self._timeout_s + _ANSWER_TIMEOUT_S
        answers, late = {}, list(names)
        while late:
            done, late = ray.wait(late, timeout=max(0.0, deadline - time.monotonic()))
            if not done:
                raise LostError(
                    f"round {self._round_index}: {', '.join(names[one] for one in late)} did not "
                    f"answer within round_timeout_s = {self._timeout_s:g}"
                )
            answers[done[0]] = fetch(done[0], self._round_index, names[done[0]])
        return [answers[reference] for reference in names]
