"""A measurement as tables, and in words."""

from collections.abc import Iterator

from rich import box
from rich.table import Table

from launch.display.units import format_bytes
from launch.wire.measured import Measured, NodeTraffic

_NODE_COLUMNS = (
    *("node", "", "paper's\nformula", "frames", "once\na host", "interface", "added\na round"),
    *("added\na frame", "model", "model\noff by", "sent\nagain", "idle\na second"),
)
_TOTAL_COLUMNS = (
    *("", "paper's\nformula", "frames", "once\na host", "interface", "interface to\nonce a host"),
)


def node_table(found: Measured) -> Table:
    """Return a row for every node and direction."""
    table = _table(_NODE_COLUMNS)
    for node in found.nodes:
        for way in ("received", "sent"):
            table.add_row(*_node_row(found, node, way))
    return table


def _node_row(found: Measured, node: NodeTraffic, way: str) -> Iterator[str]:
    account, interface = node.account, getattr(node.interface, way)
    once = getattr(account.once_a_host, way)
    added = interface - once
    count = found.frames / 2 / len(found.servers if node.role == "server" else found.hosts)
    yield f"{node.node} {node.role}" if way == "received" else ""
    yield way
    if node.role == "driver":
        yield from ("", "", "", format_bytes(interface), _signed(added / found.rounds), "")
    else:
        yield "-" if account.paper is None else format_bytes(getattr(account.paper, way))
        yield from map(format_bytes, (getattr(account.frames, way), once, interface))
        yield from (_signed(added / found.rounds), _signed(added / count))
    if account.predicted and way == "received":  # see ``Measured.arrived``
        yield from (
            format_bytes(account.predicted.received),
            _off(interface, account.predicted.received),
        )
    else:
        yield from ("", "")
    yield f"{node.retransmitted}" if way == "sent" else ""
    yield format_bytes(getattr(node.idle, way))


def total_table(found: Measured) -> Table:
    """Return the columns for all that the hosts and the servers received."""
    table = _table(_TOTAL_COLUMNS)
    rows = {"to hosts": found.totals["downlink"], "from hosts": found.totals["uplink"]}
    for name, total in rows.items():
        sizes = [total[column] for column in ("paper", "frames", "once_a_host", "interface")]
        texts = ["-" if size is None else format_bytes(size) for size in sizes]
        table.add_row(name, *texts, f"{(sizes[3] or 0) / (sizes[2] or 1):.3f}")
    return table


def in_words(found: Measured) -> list[str]:
    """Return what the numbers say."""
    arrived, expected = found.arrived, found.expected
    once = found.account.once_a_host.both
    shared = (
        ", a broadcast to workers of one host counted once"
        if once < found.account.frames.both
        else ""
    )
    added = (arrived.both - once) / found.rounds
    idle = sum(node.idle.received for node in found.nodes)
    talk = sum(node.talk.both for node in found.nodes if node.role == "driver") / found.seconds
    again = sum(node.retransmitted for node in found.nodes)
    lines = [
        f"{found.rounds} rounds in {found.seconds:.1f} s, {found.frames} frames.",
        f"The transport adds {_signed(added)} a round to the frames{shared}; "
        f"{_signed(added * found.rounds / found.frames)} for each line of the ledger.",
        f"The model predicts {format_bytes(expected.both)} on the interfaces of the hosts and of "
        f"the servers, each byte where it arrives; {format_bytes(arrived.both)} were counted: the "
        f"model is off by {_off(arrived.both, expected.both)} "
        f"(down {_off(arrived.received, expected.received)}, "
        f"up {_off(arrived.sent, expected.sent)}).",
        f"Ray itself sends {format_bytes(idle)} a second between all nodes while nothing runs, "
        f"which is subtracted; its head and the nodes said {format_bytes(max(0.0, talk))} a second "
        "more while the rounds ran, mostly on the object store, which is counted and predicted.",
    ]
    if again:
        lines.append(f"{again} TCP segments were sent again; they are counted.")
    return lines


def _signed(size: float) -> str:
    return f"{'-' if size < 0 else ''}{format_bytes(abs(size))}"


def _off(measured: float, predicted: float) -> str:
    return f"{100 * (predicted / measured - 1):+.1f}%" if measured > 0 else "-"


def _table(headings: tuple[str, ...]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1), collapse_padding=True)
    for index, heading in enumerate(headings):
        table.add_column(heading, justify="left" if index == 0 else "right", no_wrap=True)
    return table
