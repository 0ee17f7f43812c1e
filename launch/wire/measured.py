"""What a measurement on the wire finds."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

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
        paper: bytes by the paper's formula; None where it has none.
        predicted: bytes on the interface, by the model and with the head's talk.
    """

    frames: Flow = NOTHING
    paper: Flow | None = NOTHING
    predicted: Flow = NOTHING

    @property
    def at_other_end(self) -> "Account":
        """The account of those who send it and receive it."""
        paper = None if self.paper is None else self.paper.at_other_end
        return Account(
            frames=self.frames.at_other_end, paper=paper, predicted=self.predicted.at_other_end
        )

    def __add__(self, other: "Account") -> "Account":
        paper = None if self.paper is None or other.paper is None else self.paper + other.paper
        return Account(
            frames=self.frames + other.frames,
            paper=paper,
            predicted=self.predicted + other.predicted,
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
        interface: bytes, without the idle ones of that time.
        idle: bytes a second while nothing ran.
        retransmitted: TCP segments that the node sent once more.
        talk: bytes of what Ray's head tells all nodes, and they it, of the object store: what
            crossed the head's interface beside the driver's calls, an equal part for each node.
        account: what was to be expected.
    """

    node: int
    role: Role
    interface: Flow
    idle: Flow
    retransmitted: int
    talk: Flow
    account: Account

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> "NodeTraffic":
        """Return what ``asdict`` made of one."""
        flows = {name: Flow(**values[name]) for name in ("interface", "idle", "talk")}
        return cls(**{**values, **flows, "account": Account.from_mapping(values["account"])})


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """A measurement of the rounds of one run.

    Attributes:
        name: of the run.
        rounds: that were measured.
        frames: how many crossed in them, both directions.
        seconds: that they took.
        rate: of every link, in bits a second; None where there was no limit.
        nodes: the driver's, the server's, and those of the hosts.
    """

    name: str
    rounds: int
    frames: int
    seconds: float
    rate: float | None
    nodes: tuple[NodeTraffic, ...]

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> "Measured":
        """Return what ``to_mapping`` made of one."""
        return cls(**{**values, "nodes": tuple(map(NodeTraffic.from_mapping, values["nodes"]))})

    def to_mapping(self) -> dict[str, Any]:
        """Return it as a plain mapping, for JSON."""
        return asdict(self)

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
        """Bytes that the hosts received, and that the server received (as what they sent).

        A host may send a part of a broadcast on to another, so that what the server and the hosts
        send says less. The server's part has the driver's calls in it.
        """
        return Flow(
            received=sum(node.interface.received for node in self.hosts),
            sent=self._server.interface.received,
        )

    @property
    def expected(self) -> Flow:
        """Bytes that were to arrive, by the model."""
        sent = self._server.account.predicted.received
        return Flow(received=self.account.predicted.received, sent=sent)

    @property
    def _server(self) -> NodeTraffic:
        return next(node for node in self.nodes if node.role == "server")
