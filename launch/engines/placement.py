"""Reserving processors and GPUs of a Ray cluster for the actors of a run."""

from collections.abc import Callable
from dataclasses import dataclass

import ray
from ray.util.placement_group import PlacementGroup, placement_group, remove_placement_group

from launch.configuration.run_config import RunConfig
from mlmc_ray.errors import ClusterError

_LOCAL_SHARE = 0.001  # of a processor: on one's own machine any number of actors may run


@dataclass(frozen=True, kw_only=True, slots=True)
class Demand:
    """What the actors of a run reserve: the server, and one host or more.

    Args:
        num_hosts: actors that host workers.
        processors: that each of them takes, and the server too.
        gpus: that each of them takes; 0 for none. The server takes none.
    """

    num_hosts: int
    processors: float
    gpus: float

    def bundles(self) -> list[dict[str, float]]:
        """Return what each actor takes, that of the server first."""
        server = {"CPU": self.processors}
        return [server, *([server | {"GPU": self.gpus} if self.gpus else server] * self.num_hosts)]

    def shortage(self) -> str | None:
        """Return what all of the cluster's nodes do not have, with a remedy; None if they have."""
        processors, gpus = total("CPU"), total("GPU")
        if processors < (self.num_hosts + 1) * self.processors:
            remedy = (
                "lower actors"
                if self.num_hosts > 1
                else "give it 2 (ray start --num-cpus 2), or use --engine inline"
            )
            return (
                f"actors is {self.num_hosts}: with the server that takes {self.num_hosts + 1} "
                f"processors, and the Ray cluster has {processors}: {remedy}"
            )
        if self.gpus and (room := hosts_on(gpus, self.gpus)) < self.num_hosts:
            return (
                f"actors is {self.num_hosts}: each reserves gpus_per_actor = {self.gpus:g}, and "
                f"the Ray cluster has {gpus} GPUs, room for {room}: lower actors or "
                "gpus_per_actor, or give device: cpu"
            )
        return None

    def waiting_for(self, timeout_s: float) -> str:
        """Return what the cluster must get before the actors can be placed, for somebody to read.

        Args:
            timeout_s: how long it has.
        """
        needed = {
            "processors": (self.num_hosts + 1) * self.processors - total("CPU"),
            "GPUs": self.num_hosts * self.gpus - total("GPU"),
        }
        more = " and ".join(f"{n:g} more {name}" for name, n in needed.items() if n > 0)
        gpus = f" and {total('GPU')} GPUs" if self.gpus else ""
        return (
            f"waits up to placement_timeout_s = {timeout_s:g} for {more or 'other GPUs'}; the Ray "
            f"cluster has {total('CPU')} processors{gpus}"
        )


def demand_of(config: RunConfig, *, local: bool) -> Demand:
    """Return what a run reserves of the cluster that this process belongs to.

    Args:
        config: of the run.
        local: whether nobody else uses the cluster, so that processors need no reservation.
    """
    gpus = (config.gpus_per_actor or 1.0) if config.device == "cuda" else 0.0
    fitting = total("CPU") if local else total("CPU") - 1
    if gpus:
        fitting = min(fitting, hosts_on(total("GPU"), gpus))
    return Demand(
        num_hosts=min(config.workers, config.actors or max(1, fitting)),
        processors=_LOCAL_SHARE if local else 1.0,
        gpus=gpus,
    )


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
) -> PlacementGroup:
    """Reserve all at once, or nothing: two runs that wait for each other's would wait for ever.

    The reservation is asked for before the cluster has enough, so that an autoscaler hears of it.

    Args:
        demand: what to reserve.
        strategy: how Ray spreads it over nodes.
        local: whether the cluster was started here, and so does not grow.
        timeout_s: how long to wait for nodes to join, and for others to give back what they hold.
        on_note: called with a line if nodes must join.

    Raises:
        ClusterError: there is too little, or it is not free; quotes how much there is.
    """
    if local and (shortage := demand.shortage()):
        raise ClusterError(shortage)
    group: PlacementGroup = placement_group(demand.bundles(), strategy=strategy)
    try:
        if demand.shortage():
            on_note(demand.waiting_for(timeout_s))
        if not group.wait(timeout_s):
            raise ClusterError(demand.shortage() or _held_by_others(demand, timeout_s))
    except BaseException:
        remove_placement_group(group)
        raise
    return group


def _held_by_others(demand: Demand, timeout_s: float) -> str:
    gpus = f"; of {total('GPU')} GPUs {_free('GPU'):g} are free" if demand.gpus else ""
    return (
        f"the {demand.num_hosts + 1} actors could not be placed within {timeout_s:g} s: each needs "
        f"a free processor, and of {total('CPU')} the cluster has {_free('CPU'):g} free{gpus}; "
        "lower actors"
    )


def total(resource: str) -> int:
    """Return how much of a resource all nodes of the cluster have together."""
    return int(ray.cluster_resources().get(resource, 0))  # type: ignore[no-untyped-call]


def _free(resource: str) -> float:
    return float(ray.available_resources().get(resource, 0))  # type: ignore[no-untyped-call]
