"""The nodes' network namespaces, the switch between them, and their links."""

import array
import fcntl
import os
import shlex
import socket
import struct
import subprocess

from launch.lab.plan import LabPlan, node_address, node_name
from mlmc_ray.errors import ClusterError

INTERFACE = "eth0"
"""The interface of every node."""

_SWITCH = "switch"  # the bridge, and the network namespace that it is in
_PACKET = 1514  # bytes of the longest, with its Ethernet header
_BURST_S = 0.002  # of its rate that a link may send at once
_QUEUE = "50ms"
_REMEDIES = {
    "RTNETLINK answers: Operation not permitted": "give the container the capability "
    "NET_ADMIN as well (docker run --privileged)",
    "Unknown device type": "the kernel lacks bridges or veth links: modprobe -a bridge veth",
    "qdisc kind is unknown": "the kernel lacks the shaper: modprobe sch_tbf, or leave --rate out",
}

# Of linux/sockios.h and linux/ethtool.h.
_SIOCETHTOOL = 0x8946
_ETHTOOL_SET_TSO, _ETHTOOL_SET_GSO = 0x1F, 0x24


def build_network(plan: LabPlan) -> None:
    """Make the namespaces, the switch and the links, in a network namespace that has none.

    Raises:
        ClusterError: the kernel lacks a kind of device; names the module.
    """
    run_tool("ip", "netns", "attach", _SWITCH, str(os.getpid()))
    run_tool("ip", "link", "add", _SWITCH, "type", "bridge", "mcast_snooping", "0")
    _up(_SWITCH)
    for node in range(plan.nodes):
        _add_node(node)
        if plan.rate is not None:
            shape_link(node, plan.rate)


def _add_node(node: int) -> None:
    name, port = node_name(node), _port(node)
    run_tool("ip", "netns", "add", name)
    run_tool("ip", "link", "add", port, "type", "veth", "peer", "name", INTERFACE)
    for device in (port, INTERFACE):
        _split_before_counting(device)
    run_tool("ip", "link", "set", INTERFACE, "netns", name)
    run_tool("ip", "-n", name, "address", "add", f"{node_address(node)}/24", "dev", INTERFACE)
    run_tool("ip", "-n", name, "link", "set", "lo", "up")
    _up(INTERFACE, "-n", name)
    run_tool("ip", "link", "set", port, "master", _SWITCH)
    _up(port)


def _up(device: str, *where: str) -> None:
    """Set a device up; without an IPv6 address, whose discovery would send packets of its own."""
    run_tool("ip", *where, "link", "set", device, "addrgenmode", "none")
    run_tool("ip", *where, "link", "set", device, "up")


def shape_link(node: int, rate: float | None) -> None:
    """Limit a node's link each way, to so many bytes a second, with a token bucket; None: not."""
    discipline: tuple[str, ...] = ("noqueue",)
    if rate is not None:
        burst = max(5 * _PACKET, int(rate * _BURST_S))
        discipline = ("tbf", "rate", f"{8 * rate:.0f}bit", "burst", f"{burst}", "latency", _QUEUE)
    for namespace, device in ((node_name(node), INTERFACE), (_SWITCH, _port(node))):
        run_tool("tc", "-n", namespace, "qdisc", "replace", "dev", device, "root", *discipline)


def plug(node: int, *, plugged: bool) -> None:
    """Pull a node's cable, or plug it in again: at the switch, so that the node sees no change."""
    run_tool("ip", "-n", _SWITCH, "link", "set", _port(node), "up" if plugged else "down")


def _split_before_counting(device: str) -> None:
    """Let TCP cut its stream into packets before the device counts them, as on a real cable.

    With segmentation offload a veth device counts up to 64 kB with one header.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        for setting in (_ETHTOOL_SET_TSO, _ETHTOOL_SET_GSO):
            value = array.array("B", struct.pack("=II", setting, 0))
            request = struct.pack("16sP", device.encode(), value.buffer_info()[0])
            fcntl.ioctl(control, _SIOCETHTOOL, request)


def _port(node: int) -> str:
    return f"port{node}"


def run_tool(*command: str) -> str:
    """Run a program and return its standard output.

    Raises:
        ClusterError: it failed; quotes what it said.
    """
    done = subprocess.run(command, capture_output=True, text=True)
    if not done.returncode:
        return done.stdout
    said = done.stderr.strip() or f"exit status {done.returncode}"
    remedy = next((f": {text}" for sign, text in _REMEDIES.items() if sign in said), "")
    raise ClusterError(f"the lab failed at `{shlex.join(command)}`: {said}{remedy}")
