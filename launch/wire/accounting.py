"""From counters and a ledger to the traffic of every node."""

import time
from collections.abc import Sequence
from dataclasses import replace

from launch.lab.inside import counters
from launch.wire.estimate import estimated_interface_bytes
from launch.wire.measured import Account, Flow, NodeTraffic, Role
from launch.wire.transport import Transport
from mlmc_ray.ledger import Ledger

DRIVER = 0
"""The node of the driver, and of Ray's head."""


class Interval:
    """What crosses every node of the lab from now on, to ``end``.

    Attributes:
        seconds: its length.
        flows: bytes, by node.
        retransmitted: TCP segments that were sent once more, by node.
    """

    def __init__(self) -> None:
        self._before, self._began = counters(), time.monotonic()

    def end(self) -> None:
        """End the interval."""
        self.seconds = time.monotonic() - self._began
        moved = [now - before for now, before in zip(counters(), self._before, strict=True)]
        self.flows = [Flow(received=node.rx_bytes, sent=node.tx_bytes) for node in moved]
        self.retransmitted = [node.retransmitted for node in moved]

    def without(self, idle: "Interval", node: int) -> Flow:
        """Return the bytes of a node, but for those that it has in as much idle time."""
        return self.flows[node] - idle.per_second(node) * self.seconds

    def per_second(self, node: int) -> Flow:
        """Return the bytes a second of a node."""
        return self.flows[node] * (1 / self.seconds)


def traffic_of_nodes(
    ledger: Ledger,
    hosts: Sequence[Sequence[int]],
    places: Sequence[int],
    idle: Interval,
    busy: Interval,
    transport: Transport,
) -> tuple[NodeTraffic, ...]:
    """Return what crossed every node: the driver's, the server's, and those of the hosts.

    Args:
        ledger: of the rounds.
        hosts: which workers each has.
        places: the nodes of the server and of the hosts.
        idle: in which nothing ran.
        busy: in which the rounds did.
        transport: the model.
    """
    of_hosts = [account_of_host(ledger, workers, transport) for workers in hosts]
    driver = account_of_driver(ledger, transport)
    server = sum((account.at_other_end for account in of_hosts), driver.at_other_end)
    talk = busy.without(idle, DRIVER) - driver.predicted
    share = talk.at_other_end * (1 / len(places))
    accounts = [replace(a, predicted=a.predicted + share) for a in (server, *of_hosts)]
    accounts.insert(0, replace(driver, predicted=driver.predicted + talk))
    roles: list[Role] = ["driver", "server"]
    roles += ["host"] * len(hosts)
    return tuple(
        NodeTraffic(
            node=node,
            role=role,
            interface=busy.without(idle, node),
            idle=idle.per_second(node),
            retransmitted=busy.retransmitted[node],
            talk=talk if role == "driver" else share,
            account=account,
        )
        for node, role, account in zip([DRIVER, *places], roles, accounts, strict=True)
    )


def account_of_host(ledger: Ledger, workers: Sequence[int], transport: Transport) -> Account:
    """Return what is expected on the interface of a host that has these workers."""
    entries = Ledger(entry for entry in ledger if entry.worker_id in workers)
    predicted = estimated_interface_bytes(entries, [workers], transport)
    down, up = entries.paper_bits("downlink"), entries.paper_bits("uplink")
    return Account(
        frames=Flow(received=entries.frame_bytes("downlink"), sent=entries.frame_bytes("uplink")),
        paper=None if down is None or up is None else Flow(received=down / 8, sent=up / 8),
        predicted=Flow(received=predicted.downlink, sent=predicted.uplink),
    )


def account_of_driver(ledger: Ledger, transport: Transport) -> Account:
    """Return what is expected on the interface of the driver, which gets no frames."""
    rounds = len(set(ledger.column("round_index").tolist()))
    calls = transport.of_driver(rounds=rounds, frames=len(ledger))
    return Account(predicted=Flow(received=calls.uplink, sent=calls.downlink))
