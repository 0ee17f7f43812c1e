"""What a lab is made of."""

from dataclasses import dataclass

from mlmc_ray.errors import ConfigError

MOST_NODES = 200
_SUBNET = "10.200.0"  # seen only inside a lab, and so in nobody's way


@dataclass(frozen=True, kw_only=True, slots=True)
class LabPlan:
    """The nodes of a lab, and what runs on them.

    Args:
        nodes: how many; the command runs on node 0.
        rate: of every link, each way, in bytes a second; None for as fast as the machine can.
        cpus_per_node: that Ray finds on every node but node 0, where it finds none.
        store_mib: MiB of Ray's object store on every node; they are taken only when used.
        with_ray: whether a Ray cluster is started, with its head on node 0.
        verbose: whether stderr is told when Ray starts.
        report: file to which the counters of the command are written, as JSON.

    Raises:
        ConfigError: a number is out of range.
    """

    nodes: int
    rate: float | None = None
    cpus_per_node: int = 1
    store_mib: int = 512
    with_ray: bool = True
    verbose: bool = False
    report: str | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.nodes <= MOST_NODES:
            raise ConfigError(f"nodes is {self.nodes}: give 1 to {MOST_NODES}")
        check_rate(self.rate)
        if self.cpus_per_node < 0:
            raise ConfigError(f"cpus_per_node is {self.cpus_per_node}: give 0 or more")
        if self.store_mib < _LEAST_STORE_MIB:
            raise ConfigError(f"store_mib is {self.store_mib}: give at least {_LEAST_STORE_MIB}")


_LEAST_STORE_MIB = 75  # with less Ray does not start
_LEAST_RATE = 1000.0  # a packet takes more than a second with less


def check_rate(rate: float | None) -> None:
    """Refuse a rate of links, in bytes a second, at which hardly anything would cross.

    Raises:
        ConfigError: quotes it.
    """
    if rate is not None and not rate >= _LEAST_RATE:
        raise ConfigError(f"rate is {8 * rate:g} bit/s: give at least 8 kbit")


def node_name(node: int) -> str:
    """Return the name of a node's network namespace."""
    return f"node{node}"


def node_address(node: int) -> str:
    """Return the IP address of a node: 10.200.0.1 of node 0, 10.200.0.2 of node 1, ..."""
    return f"{_SUBNET}.{node + 1}"


def node_at(address: str) -> int:
    """Return the node that has an address."""
    return int(address.rpartition(".")[2]) - 1
