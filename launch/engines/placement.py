"""Reserving processors and GPUs of a Ray cluster for the actors of a run."""

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace

import ray
from ray.util.placement_group import PlacementGroup, placement_group, remove_placement_group

from launch.configuration.run_config import RunConfig
from launch.engines.cluster import signals_deferred
from mlmc_ray.errors import ClusterError

_LOCAL_SHARE = 0.001  # of a processor: on one's own machine any number of actors may run


@dataclass(frozen=True, kw_only=True, slots=True)
class Node:
    """What a node of the cluster has, whoever holds it."""

    processors: int
    gpus: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Demand:
    """What the actors of a run reserve: one server or more, and one host or more.

    Args:
        num_servers: actors that serve.
        num_hosts: actors that host workers.
        processors: that each of them takes, and every server too.
        gpus: that each of them takes, on the node of its processor; 0 for none. Servers take none.
    """

    num_servers: int
    num_hosts: int
    processors: float
    gpus: float

    def bundles(self) -> list[dict[str, float]]:
        """Return what each actor takes, those of the servers first."""
        server = {"CPU": self.processors}
        host = server | {"GPU": self.gpus} if self.gpus else server
        return [server] * self.num_servers + [host] * self.num_hosts

    @property
    def num_actors(self) -> int:
        """How many there are."""
        return self.num_servers + self.num_hosts

    def room(self, nodes: Sequence[Node]) -> int:
        """Return how many such hosts the nodes have room for beside the servers.

        It is negative where there is no room for the servers.
        """
        actors = [int(node.processors / self.processors + 1e-9) for node in nodes]
        hosts = actors
        if self.gpus:
            with_gpus = [hosts_on(node.gpus, self.gpus) for node in nodes]
            hosts = [min(pair) for pair in zip(actors, with_gpus, strict=True)]
        return min(sum(hosts), sum(actors) - self.num_servers)

    def shortage(self, nodes: Sequence[Node]) -> str | None:
        """Return what all the nodes do not have, with a remedy; None if they have it."""
        if self.room(nodes) >= self.num_hosts:
            return None
        if self.gpus and not any(hosts_on(node.gpus, self.gpus) for node in nodes):
            return self._no_gpu(nodes)
        if _total(nodes)[0] < self.num_actors * self.processors:
            return self._too_few_processors(nodes)
        if sum(hosts_on(node.gpus, self.gpus) for node in nodes) < self.num_hosts:
            return self._too_few_gpus(nodes)
        return (
            f"actors is {self.num_hosts}: each reserves a processor of a node with GPUs, and with "
            f"those of the Ray cluster there is room for {self.room(nodes)}: lower actors, or give "
            "device: cpu"
        )

    def _too_few_processors(self, nodes: Sequence[Node]) -> str:
        remedy = (
            "lower actors"
            if self.num_hosts > 1
            else f"give it {self.num_actors} (ray start --num-cpus {self.num_actors}), or use "
            "--engine inline"
        )
        servers = "server" if self.num_servers == 1 else f"{self.num_servers} servers"
        return (
            f"actors is {self.num_hosts}: with the {servers} that takes {self.num_actors} "
            f"processors, and the Ray cluster has {_total(nodes)[0]}: {remedy}"
        )

    def _too_few_gpus(self, nodes: Sequence[Node]) -> str:
        room = sum(hosts_on(node.gpus, self.gpus) for node in nodes)
        return (
            f"actors is {self.num_hosts}: each reserves gpus_per_actor = {self.gpus:g}, and "
            f"the Ray cluster has {_counted(_total(nodes)[1], 'GPU')}, room for {room}: lower "
            "actors or gpus_per_actor, or give device: cpu"
        )

    def _no_gpu(self, nodes: Sequence[Node]) -> str:
        most = max((node.gpus for node in nodes), default=0)
        if self.gpus <= 1 or not most:
            has, remedy = "a GPU", "give device: cpu"
        else:
            has = f"{self.gpus:g} GPUs, and the most is {most}"
            remedy = "lower gpus_per_actor, or give device: cpu"
        return f"gpus_per_actor is {self.gpus:g}: no node of the Ray cluster has {has}: {remedy}"

    def waiting_for(self, nodes: Sequence[Node]) -> str:
        """Return what must join the nodes before the actors can be placed, for somebody to read."""
        processors, gpus = _total(nodes)
        takes, has = "a processor", _counted(processors, "processor")
        if self.gpus:
            takes += f" and {_counted(self.gpus, 'GPU')} of one node"
            has += f" and {_counted(gpus, 'GPU')}"
        more = _counted(self.num_hosts - self.room(nodes), "more actor")
        return f"room for {more}: each takes {takes}, and the Ray cluster has {has}"


def demand_of(config: RunConfig, *, local: bool) -> Demand:
    """Return what a run reserves of the cluster that this process belongs to.

    Args:
        config: of the run.
        local: whether nobody else uses the cluster, so that processors need no reservation.
    """
    one = Demand(
        num_servers=config.servers,
        num_hosts=1,
        processors=_LOCAL_SHARE if local else 1.0,
        gpus=(config.gpus_per_actor or 1.0) if config.device == "cuda" else 0.0,
    )
    actors = config.actors
    if actors is None:
        nodes = nodes_of_cluster()
        actors = max(1, min(_total(nodes)[0], one.room(nodes)))
    return replace(one, num_hosts=config.num_hosts(actors))


def hosts_on(num_gpus: int, gpus_per_actor: float) -> int:
    """Return how many actors find room; parts of two GPUs do not make one."""
    if gpus_per_actor > 1:
        return int(num_gpus // gpus_per_actor)
    return num_gpus * int(1 / gpus_per_actor + 1e-9)


def reserve(
    demand: Demand,
    *,
    strategy: str,
    local: bool,
    timeout_s: float,
    on_note: Callable[[str], None],
    stack: ExitStack,
) -> PlacementGroup:
    """Reserve all at once, or nothing: two runs that wait for each other's would wait for ever.

    The reservation is asked for before the cluster has enough, so that an autoscaler hears of it.

    Args:
        demand: what to reserve.
        strategy: how Ray spreads it over nodes.
        local: whether the cluster was started here, and so does not grow.
        timeout_s: how long to wait for nodes to join, and for others to give back what they hold;
            rounded up to whole seconds.
        on_note: called with a line if it takes longer than a second, or nodes must join.
        stack: ends the reservation when it is closed, as it must be after an error too.

    Raises:
        ClusterError: there is too little, or it is not free; quotes how much there is.
    """
    nodes = nodes_of_cluster()
    shortage = demand.shortage(nodes)
    if local and shortage:
        raise ClusterError(shortage)
    with signals_deferred():
        group: PlacementGroup = placement_group(demand.bundles(), strategy=strategy)
        stack.callback(remove_placement_group, group)
    waits = f"waits up to placement_timeout_s = {timeout_s:g} for "
    notes = [waits + demand.waiting_for(nodes)] if shortage else []
    for line in notes:
        on_note(line)
    deadline = time.monotonic() + timeout_s
    while not group.wait(1):  # Ray hears no Ctrl-C before the end of a wait
        if time.monotonic() > deadline:
            raise ClusterError(
                demand.shortage(nodes_of_cluster()) or _held_by_others(demand, timeout_s)
            )
        if not notes:
            notes.append(f"{waits}what others hold: {_free_of(demand)}")
            on_note(notes[0])
    return group


def _held_by_others(demand: Demand, timeout_s: float) -> str:
    return (
        f"the {demand.num_actors} actors could not be placed within {timeout_s:g} s: each needs "
        f"a free processor, and {_free_of(demand)}; lower actors"
    )


def _free_of(demand: Demand) -> str:
    """Return how much is free, of all that there is."""
    free = ray.available_resources()  # type: ignore[no-untyped-call]
    processors, gpus = _total(nodes_of_cluster())
    words = f"of {_counted(processors, 'processor')} {free.get('CPU', 0):g} are free"
    if demand.gpus:
        words += f", and of {_counted(gpus, 'GPU')} {free.get('GPU', 0):g}"
    return words


def nodes_of_cluster() -> list[Node]:
    """Return the nodes that are there."""
    known = ray.nodes()  # type: ignore[no-untyped-call]
    present = [node["Resources"] for node in known if node["Alive"]]
    return [Node(processors=int(has.get("CPU", 0)), gpus=int(has.get("GPU", 0))) for has in present]


def free_processors() -> int:
    """Return how many processors nobody holds."""
    free = ray.available_resources()  # type: ignore[no-untyped-call]
    return int(free.get("CPU", 0))


def _total(nodes: Sequence[Node]) -> tuple[int, int]:
    """Return how many processors and GPUs the nodes have together."""
    return sum(node.processors for node in nodes), sum(node.gpus for node in nodes)


def _counted(number: float, name: str) -> str:
    return f"{number:g} {name}" if 0 < number <= 1 else f"{number:g} {name}s"
