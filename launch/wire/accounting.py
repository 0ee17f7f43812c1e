"""From counters and a ledger to the traffic of every node."""

import time
from collections.abc import Sequence

from launch.lab.inside import counters
from launch.wire.estimate import estimated_interface_bytes
from launch.wire.exchanges import calls_of, ledgers_of_servers
from launch.wire.measured import NOTHING, Account, Flow, NodeTraffic, Role
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
    """Return what crossed every node: the driver's, those of the servers, and those of the hosts.

    Nodes of one role are in the order of their numbers.

    Args:
        ledger: of the rounds.
        hosts: which workers each has.
        places: the nodes of the servers, and then of the hosts.
        idle: in which nothing ran.
        busy: in which the rounds did.
        transport: the model.
    """
    num_servers = len(places) - len(hosts)
    ledgers = ledgers_of_servers(ledger, num_servers)
    talk = busy.without(idle, DRIVER)
    talk -= sum((calls_of_driver(own, transport) for own in ledgers), NOTHING)
    share = talk.at_other_end * (1 / len(places))
    accounts = accounts_of(ledgers, hosts, transport)
    workers = [()] * num_servers + [tuple(own) for own in hosts]
    rows: list[tuple[int, Role, tuple[int, ...], Flow, Account]] = [
        (node, "host" if own else "server", own, share, account + Account(predicted=share))
        for node, own, account in zip(places, workers, accounts, strict=True)
    ]
    rows.sort(key=lambda row: (row[1] == "host", row[0]))
    rows.insert(0, (DRIVER, "driver", (), talk, Account(predicted=None)))
    return tuple(
        NodeTraffic(
            node=node,
            role=role,
            workers=own,
            interface=busy.without(idle, node),
            idle=idle.per_second(node),
            retransmitted=busy.retransmitted[node],
            talk=own_talk,
            account=account,
        )
        for node, role, own, own_talk, account in rows
    )


def accounts_of(
    ledgers: Sequence[Ledger], hosts: Sequence[Sequence[int]], transport: Transport
) -> list[Account]:
    """Return what is expected at every server, whose ledgers these are, and at every host."""
    pairs = [[account_of_host(own, workers, transport) for workers in hosts] for own in ledgers]
    servers = []
    for own, of_hosts in zip(ledgers, pairs, strict=True):
        calls = Account(predicted=calls_of_driver(own, transport).at_other_end)
        servers.append(sum((account.at_other_end for account in of_hosts), calls))
    return [*servers, *(sum(of_servers, Account()) for of_servers in zip(*pairs, strict=True))]


def account_of_host(ledger: Ledger, workers: Sequence[int], transport: Transport) -> Account:
    """Return what is expected on the interface of a host that has these workers."""
    entries = Ledger(entry for entry in ledger if entry.worker_id in workers)
    calls = list(calls_of(entries, [workers]))
    predicted = estimated_interface_bytes(entries, [workers], transport)
    down, up = entries.paper_bits("downlink"), entries.paper_bits("uplink")
    return Account(
        frames=Flow(received=entries.frame_bytes("downlink"), sent=entries.frame_bytes("uplink")),
        once_a_host=Flow(
            received=sum(sum(call.news) for call in calls),
            sent=sum(sum(call.reports) for call in calls),
        ),
        paper=None if down is None or up is None else Flow(received=down / 8, sent=up / 8),
        predicted=Flow(received=predicted.downlink, sent=predicted.uplink),
    )


def calls_of_driver(ledger: Ledger, transport: Transport) -> Flow:
    """Return what the driver's calls of a server come to on its interface; it gets no frames."""
    rounds = len(set(ledger.column("round_index").tolist()))
    calls = transport.of_driver(rounds=rounds, frames=len(ledger))
    return Flow(received=calls.uplink, sent=calls.downlink)
