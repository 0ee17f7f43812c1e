"""A cluster that one may have: its nodes, and the links between them."""

import math
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Links:
    """Links of the nodes and of the server, in bytes a second, headers included.

    Args:
        up: of a node, from it.
        down: of a node, to it.
        server_up: from the server's node; None for as fast as a node's.
        server_down: to the server's node; None for as fast as a node's.
        latency_s: one way between any two nodes.
    """

    up: float
    down: float
    server_up: float | None = None
    server_down: float | None = None
    latency_s: float = 0.0

    def __post_init__(self) -> None:
        for name in ("up", "down", "server_up", "server_down"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise ValueError(f"{name} is {value!r}: give bytes a second above 0")
        if not 0 <= self.latency_s < math.inf:
            raise ValueError(f"latency_s is {self.latency_s!r}: give seconds of at least 0")


@dataclass(frozen=True, kw_only=True, slots=True)
class Cluster:
    """Where workers are.

    Args:
        workers: logical workers.
        nodes: that host them; the server has one more to itself.
        processes: that host workers on every node.
        at_once: workers that compute together, and so stay in one process.
    """

    workers: int
    nodes: int
    processes: int = 1
    at_once: int = 1

    def __post_init__(self) -> None:
        for name in ("workers", "nodes", "processes", "at_once"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)!r}: give at least 1")
        if self.nodes > self.workers:
            raise ValueError(
                f"nodes is {self.nodes}, and there are {self.workers} workers: give at most as "
                "many nodes as workers"
            )

    @property
    def hosts(self) -> int:
        """Processes that host workers, on all nodes."""
        return min(math.ceil(self.workers / self.at_once), self.nodes * self.processes)

    @property
    def hosted(self) -> list[list[int]]:
        """The workers of every process: in turn, those that compute together in one."""
        own: list[list[int]] = [[] for _ in range(self.hosts)]
        for worker in range(self.workers):
            own[worker // self.at_once % self.hosts].append(worker)
        return own
