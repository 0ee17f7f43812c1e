"""What crosses between actors in a round, and what a round leaves."""

import zlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt

from mlmc_ray.ledger import Direction, Ledger
from mlmc_ray.methods import SERVER
from mlmc_ray.observing import Compression
from mlmc_ray.spans import Span
from mlmc_ray.table import Table
from mlmc_ray.wire.anatomy import Part

INLINE_BYTES = 100 * 1024
"""How many bytes of frames a call of an actor carries, or its answer.

More go through Ray's object store, where a node fetches an object once; that takes milliseconds.
It is the default of Ray's ``max_direct_call_object_size``, which Python cannot read (Ray 2.60).
"""

Carried = bytes | npt.NDArray[np.uint8]
"""A frame on its way: bytes are copied into the call, arrays are read in place in the store."""


def fit_inline(frames: Iterable[bytes]) -> bool:
    """Return whether a call carries these frames."""
    return sum(map(len, frames)) <= INLINE_BYTES


def checksum_of(frames: Iterable[Any]) -> int:
    """Return the CRC-32 of frames, one after the other; they are bytes or arrays of them."""
    checksum = 0
    for frame in frames:
        checksum = zlib.crc32(frame, checksum)
    return checksum


class Call(NamedTuple):
    """What goes with the frames of a call; one argument, as Ray sends a header with every one.

    Attributes:
        incarnation: of the actors of a run, which were set up together.
        number: of the call, from 1; a server's calls of one host count upwards.
        checksum: of the frames.
        server: which calls.
        round_index: of the news, counted from 0.
        exchange_index: of the round.
        observe: look at what workers compress.
        receivers: for every frame its workers.
    """

    incarnation: int
    number: int
    checksum: int
    server: int
    round_index: int
    exchange_index: int
    observe: bool
    receivers: tuple[tuple[int, ...], ...]


class Work(NamedTuple):
    """How long a worker took for an exchange: from its news to its report, in its process.

    Workers of one process, which ``host`` counts from 0, work one after the other.
    """

    round_index: int
    exchange_index: int
    worker_id: int
    host: int
    seconds: float


class Timeline(Table[Work]):
    """The work of a run, in the order in which it was reported; 28 bytes for each."""

    _fields: ClassVar = dict(zip(Work._fields, "qiiid", strict=True))

    def _row(self, numbers: tuple[Any, ...]) -> Work:
        return Work._make(numbers)


@dataclass(frozen=True, kw_only=True, slots=True)
class Answers:
    """What the workers of one host have to say in an exchange, all by worker.

    Attributes:
        reports: frames.
        losses: mean training losses, of those that saw one.
        seconds: from the news to the report.
        num_gradients: how many gradients were computed.
        compressions: what was compressed on the way; empty unless somebody looks.
        checksum: of the report frames, in their order; 0 within a process.
        remember: whether workers there remember something between rounds.
        refused: calls that the host has refused since its last answers: stale, repeated, damaged.
        num_unused: gradients that were computed with those of other workers, and not asked for; 0
            where it has been said before.
    """

    reports: dict[int, Any] = field(default_factory=dict)
    losses: dict[int, float] = field(default_factory=dict)
    seconds: dict[int, float] = field(default_factory=dict)
    num_gradients: dict[int, int] = field(default_factory=dict)
    compressions: dict[int, tuple[Compression, ...]] = field(default_factory=dict)
    checksum: int = 0
    remember: bool = False
    refused: int = 0
    num_unused: int = 0


@dataclass(slots=True)
class Traffic:
    """What the frames of a round were made of, in bytes.

    Attributes:
        parts: by direction, name of the payload, and kind.
        layers: by direction, shape (number of layers,): bytes shared out by the entries said; NumPy
            arrays, which Ray carries without a pickle of torch.
    """

    parts: dict[tuple[Direction, str, str], int] = field(default_factory=dict)
    layers: dict[Direction, npt.NDArray[np.float64]] = field(default_factory=dict)

    def count(
        self, direction: Direction, parts: Sequence[Part], frames: int, span: Span, num_layers: int
    ) -> None:
        """Count some frames.

        Args:
            direction: of the frames.
            parts: what each of them is made of.
            frames: how many there are.
            span: of the parameters that they are about.
            num_layers: of the model.
        """
        inside = slice(span.first_layer, span.first_layer + len(span.layer_sizes))
        for part in parts:
            key = (direction, part.name, part.kind)
            self.parts[key] = self.parts.get(key, 0) + frames * part.num_bytes
            if part.layer_bytes is not None:
                self._layers_of(direction, num_layers)[inside] += frames * part.layer_bytes.numpy()

    def _layers_of(self, direction: Direction, num_layers: int) -> npt.NDArray[np.float64]:
        return self.layers.setdefault(direction, np.zeros(num_layers))

    def add(self, other: "Traffic") -> None:
        """Add what another server has counted."""
        for key, num_bytes in other.parts.items():
            self.parts[key] = self.parts.get(key, 0) + num_bytes
        for direction, layers in other.layers.items():
            # Not in place: what Ray has carried is read-only.
            self.layers[direction] = self._layers_of(direction, len(layers)) + layers


@dataclass(frozen=True, slots=True)
class Lost:
    """What a server returns in place of a round that it cannot complete without other hosts.

    Attributes:
        hosts: which of its hosts are lost, counted from 0, each with the reason.
        exchange_index: of the exchange that is open.
    """

    hosts: Mapping[int, str]
    exchange_index: int


@dataclass(slots=True)
class RoundResult:
    """What a round leaves.

    Attributes:
        losses: training losses, by worker.
        ledger: of its frames.
        work: how long every worker took for every exchange.
        num_gradients: computed by all workers.
        compressions: by worker, -1 for the server; empty unless the round was observed.
        traffic: what the frames were made of; None unless the round was observed.
        notes: what somebody should know, a line each.
        clock_s: simulated seconds since the start of the run, at its end; None without a clock.
        late_reports: that came when their round was over, and were not used.
        repeated: frames that were sent again, as their first receivers were lost.
        remember: whether workers remember something after it.
    """

    losses: dict[int, float] = field(default_factory=dict)
    ledger: Ledger = field(default_factory=Ledger)
    work: list[Work] = field(default_factory=list)
    num_gradients: int = 0
    compressions: defaultdict[int, list[Compression]] = field(
        default_factory=lambda: defaultdict(list)
    )
    traffic: Traffic | None = None
    notes: list[str] = field(default_factory=list)
    clock_s: float | None = None
    late_reports: int = 0
    repeated: Ledger = field(default_factory=Ledger)
    remember: bool = False

    def add(self, place: tuple[int, int], host: int, answers: Answers) -> None:
        """Take over the answers of a host, but for the reports.

        Args:
            place: the round and the exchange.
            host: counted from 0.
            answers: of its workers.
        """
        self.remember |= answers.remember
        if answers.refused:
            self.notes.append(
                f"round {place[0]}: the host of workers {sorted(answers.reports)} has refused "
                f"{answers.refused} calls, stale, repeated or damaged ones"
            )
        if answers.num_unused:
            self.notes.append(
                f"round {place[0]}: of workers {sorted(answers.reports)}, {answers.num_unused} "
                "gradients were computed together with others and not used, as workers asked for "
                "none, or at points of their own: if that is so in most rounds (this is said "
                "once), give gradients_at_once: 1"
            )
        self.losses.update(answers.losses)
        self.num_gradients += sum(answers.num_gradients.values())
        self.work += [Work(*place, i, host, seconds) for i, seconds in answers.seconds.items()]
        for worker_id, compressions in answers.compressions.items():
            self.compressions[worker_id] += compressions

    def close(
        self,
        ledger: Ledger,
        traffic: Traffic | None,
        compressions: Sequence[Compression],
        notes: Sequence[str],
    ) -> None:
        """Take over what a server knows at the end of the round.

        Args:
            ledger: of the round.
            traffic: see the attribute.
            compressions: the server's own.
            notes: see the attribute.
        """
        self.ledger.extend(ledger)
        if traffic is not None:
            self.traffic = self.traffic or Traffic()
            self.traffic.add(traffic)
        self.notes += [line for line in notes if line not in self.notes]  # of several servers
        self.losses = dict(sorted(self.losses.items()))
        self.work.sort(key=lambda work: work[:3])
        if compressions:
            self.compressions[SERVER] += compressions
