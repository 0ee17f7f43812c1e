"""For programs that run in a lab: counters, addresses, links, and programs on other nodes.

>>> before = counters()
>>> popen_on(3, ["python", "serve.py"])
>>> (counters()[3] - before[3]).tx_bytes
"""

import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from launch.lab.network import INTERFACE, plug, run_tool, shape_link
from launch.lab.plan import check_rate, node_address, node_name
from mlmc_ray.errors import ConfigError

__all__ = [
    "Counters",
    "counters",
    "node_address",
    "num_nodes",
    "plug_cable",
    "popen_on",
    "shape_links",
]

NODES_VARIABLE = "MLMC_RAY_LAB_NODES"
"""Variable of the environment that says how many nodes the lab has."""

_DEVICES, _PROTOCOLS = "/proc/net/dev", "/proc/net/snmp"


@dataclass(frozen=True, kw_only=True, slots=True)
class Counters:
    """What has crossed a node's interface since the lab began.

    Attributes:
        rx_bytes: received, with TCP, IP and Ethernet headers; a packet of at most 1514 bytes each.
        tx_bytes: sent.
        rx_packets: received.
        tx_packets: sent.
        retransmitted: TCP segments that the node has sent once more; they are part of ``tx_bytes``.
    """

    rx_bytes: int
    tx_bytes: int
    rx_packets: int
    tx_packets: int
    retransmitted: int

    def __sub__(self, earlier: "Counters") -> "Counters":
        """Return what has crossed since ``earlier``."""
        return Counters(
            rx_bytes=self.rx_bytes - earlier.rx_bytes,
            tx_bytes=self.tx_bytes - earlier.tx_bytes,
            rx_packets=self.rx_packets - earlier.rx_packets,
            tx_packets=self.tx_packets - earlier.tx_packets,
            retransmitted=self.retransmitted - earlier.retransmitted,
        )


def num_nodes() -> int:
    """Return how many nodes the lab has.

    Raises:
        ConfigError: this process does not run in a lab.
    """
    number = os.environ.get(NODES_VARIABLE)
    if number is None or not number.isdecimal() or not int(number):
        found = "not set" if number is None else f"{number!r}, and no number of nodes"
        raise ConfigError(
            f"{NODES_VARIABLE} is {found}: this works only in a command that "
            "`python -m launch.lab run` runs"
        )
    return int(number)


def counters() -> tuple[Counters, ...]:
    """Return the counters of every node now, that of node 0 first.

    Raises:
        ConfigError: this process does not run in a lab.
    """
    return tuple(_counters_of(node) for node in range(num_nodes()))


def on_node(node: int, command: Sequence[str]) -> list[str]:
    """Return the command line that runs a command on a node of the lab.

    Raises:
        ConfigError: there is no such node, or this process does not run in a lab.
    """
    if not 0 <= node < num_nodes():
        raise ConfigError(f"node {node}: the lab has nodes 0 to {num_nodes() - 1}")
    return ["ip", "netns", "exec", node_name(node), *command]


def popen_on(node: int, command: Sequence[str], **options: Any) -> subprocess.Popen[Any]:
    """Start a program on a node; it ends with the lab at the latest.

    Args:
        node: counted from 0.
        command: the program and its arguments.
        **options: of ``subprocess.Popen``.

    Raises:
        ConfigError: there is no such node, or this process does not run in a lab.
    """
    return subprocess.Popen(on_node(node, command), **options)


def shape_links(rate: float | None) -> None:
    """Change the rate of every link from now on, while whatever uses them goes on.

    Args:
        rate: each way, in bytes a second; None for as fast as the machine can.

    Raises:
        ConfigError: the rate is too low, or this process does not run in a lab.
        ClusterError: the kernel refuses.
    """
    check_rate(rate)
    for node in range(num_nodes()):
        shape_link(node, rate)


def plug_cable(node: int, *, plugged: bool) -> None:
    """Pull the cable of a node, or plug it in again; nothing tells the node.

    Raises:
        ConfigError: there is no such node, or this process does not run in a lab.
        ClusterError: the kernel refuses.
    """
    on_node(node, [])  # refuses nodes that there are not
    plug(node, plugged=plugged)


def _counters_of(node: int) -> Counters:
    text = run_tool(*on_node(node, ["cat", _DEVICES, _PROTOCOLS]))
    lines = [line.replace(":", " ").split() for line in text.splitlines()]
    received, sent = 1, 9  # columns of bytes, that of packets beside it
    device = next(line for line in lines if line[0] == INTERFACE)
    names, values = [line for line in lines if line[0] == "Tcp"]
    return Counters(
        rx_bytes=int(device[received]),
        tx_bytes=int(device[sent]),
        rx_packets=int(device[received + 1]),
        tx_packets=int(device[sent + 1]),
        retransmitted=int(values[names.index("RetransSegs")]),
    )
