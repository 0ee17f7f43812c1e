"""What a measurement on the wire finds."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from mlmc_ray.ledger import Direction

Role = Literal["driver", "server", "host"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Flow:
    """Bytes at a node, received and sent."""

    received: float
    sent: float

    @property
    def both(self) -> float:
        """Received and sent together."""
        return self.received + self.sent

    @property
    def at_other_end(self) -> "Flow":
        """What those see who send it and receive it."""
        return Flow(received=self.sent, sent=self.received)

    def __add__(self, other: "Flow") -> "Flow":
        return Flow(received=self.received + other.received, sent=self.sent + other.sent)

    def __sub__(self, other: "Flow") -> "Flow":
        return Flow(received=self.received - other.received, sent=self.sent - other.sent)

    def __mul__(self, factor: float) -> "Flow":
        return Flow(received=self.received * factor, sent=self.sent * factor)


NOTHING = Flow(received=0, sent=0)


@dataclass(frozen=True, kw_only=True, slots=True)
class Account:
    """What the ledger, the paper and the model say of a node.

    Attributes:
        frames: bytes of frames by the ledger: of every logical worker.
        once_a_host: of these, without a broadcast's frames to all workers of a host but one.
        paper: bytes by the paper's formula; None where it has none.
        predicted: bytes on the interface, by the model and with the head's talk; None where
            nothing is predicted, as at the driver.
    """

    frames: Flow = NOTHING
    once_a_host: Flow = NOTHING
    paper: Flow | None = NOTHING
    predicted: Flow | None = NOTHING

    @property
    def at_other_end(self) -> "Account":
        """The account of those who send it and receive it."""
        return Account(
            frames=self.frames.at_other_end,
            once_a_host=self.once_a_host.at_other_end,
            paper=self.paper and self.paper.at_other_end,
            predicted=self.predicted and self.predicted.at_other_end,
        )

    def __add__(self, other: "Account") -> "Account":
        return Account(
            frames=self.frames + other.frames,
            once_a_host=self.once_a_host + other.once_a_host,
            paper=self.paper and other.paper and self.paper + other.paper,
            predicted=self.predicted and other.predicted and self.predicted + other.predicted,
        )

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> "Account":
        """Return what ``asdict`` made of one."""
        return cls(**{name: flow and Flow(**flow) for name, flow in values.items()})


@dataclass(frozen=True, kw_only=True, slots=True)
class NodeTraffic:
    """What crossed the interface of one node while the rounds ran.

    Attributes:
        node: of the lab, counted from 0.
        role: what ran there; the driver's node is Ray's head, too.
        workers: that a host has; of other nodes none.
        interface: bytes, without the idle ones of that time.
        idle: bytes a second while nothing ran.
        retransmitted: TCP segments that the node sent once more.
        talk: bytes of what Ray's head tells all nodes, and they it, of the object store: what
            crossed the head's interface beside the driver's calls, an equal part for each node.
        account: what was to be expected.
    """

    node: int
    role: Role
    workers: tuple[int, ...]
    interface: Flow
    idle: Flow
    retransmitted: int
    talk: Flow
    account: Account

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> "NodeTraffic":
        """Return what ``asdict`` made of one."""
        flows = {name: Flow(**values[name]) for name in ("interface", "idle", "talk")}
        account = Account.from_mapping(values["account"])
        workers = tuple(values["workers"])
        return cls(**{**values, **flows, "workers": workers, "account": account})


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """A measurement of the rounds of one run.

    Attributes:
        name: of the run.
        method: the configuration's, described.
        downlink: likewise.
        workers: logical ones.
        versions: of Python and the packages, and the platform in words.
        rounds: that were measured.
        frames: how many crossed in them, both directions.
        seconds: that they took.
        rate: of every link, in bits a second; None where there was no limit.
        nodes: the driver's, those of the servers, and those of the hosts.
    """

    name: str
    method: Any
    downlink: Any
    workers: int
    versions: dict[str, str]
    rounds: int
    frames: int
    seconds: float
    rate: float | None
    nodes: tuple[NodeTraffic, ...]

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> "Measured":
        """Return what ``to_mapping`` made of one."""
        fields = {name: value for name, value in values.items() if name != "totals"}
        nodes = tuple(map(NodeTraffic.from_mapping, values["nodes"]))
        return cls(**{**fields, "nodes": nodes})

    def to_mapping(self) -> dict[str, Any]:
        """Return it as a plain mapping, for JSON, with the totals."""
        return {**asdict(self), "totals": self.totals}

    @property
    def totals(self) -> dict[Direction, dict[str, float | None]]:
        """Bytes to all hosts (downlink) and from them: by every account, and on the interfaces."""
        account = self.account
        ways: dict[Direction, str] = {"downlink": "received", "uplink": "sent"}
        columns = {
            "frames": account.frames,
            "once_a_host": account.once_a_host,
            "paper": account.paper,
            "interface": self.arrived,
            "predicted": self.expected,
        }
        return {
            direction: {
                name: None if flow is None else getattr(flow, way) for name, flow in columns.items()
            }
            for direction, way in ways.items()
        }

    @property
    def servers(self) -> tuple[NodeTraffic, ...]:
        """The nodes of the servers."""
        return tuple(node for node in self.nodes if node.role == "server")

    @property
    def hosts(self) -> tuple[NodeTraffic, ...]:
        """The nodes of the hosts."""
        return tuple(node for node in self.nodes if node.role == "host")

    @property
    def account(self) -> Account:
        """What was to be expected of all hosts."""
        return sum((node.account for node in self.hosts), Account())

    @property
    def arrived(self) -> Flow:
        """Bytes that the hosts received, and that the servers received (as what they sent).

        A host may send a part of a broadcast on to another, so that what the servers and the hosts
        send says less. The servers' part has the driver's calls in it.
        """
        return Flow(
            received=sum(node.interface.received for node in self.hosts),
            sent=sum(node.interface.received for node in self.servers),
        )

    @property
    def expected(self) -> Flow:
        """Bytes that were to arrive, by the model."""
        return Flow(received=_predicted(self.hosts), sent=_predicted(self.servers))


def _predicted(nodes: Iterable[NodeTraffic]) -> float:
    """Return what nodes were to receive."""
    return sum(node.account.predicted.received for node in nodes if node.account.predicted)
