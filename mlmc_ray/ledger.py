"""Byte accounting: how long every frame was, by round, worker and direction.

The ledger counts frames and nothing else. Beside each frame it keeps what a paper's formula says
the message costs, in a column of its own, for comparison.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, ClassVar, Literal, NamedTuple

from mlmc_ray.table import Table

if TYPE_CHECKING:
    from typing_extensions import Self  # typing has it from Python 3.11

Direction = Literal["uplink", "downlink"]
DIRECTIONS: tuple[Direction, ...] = ("uplink", "downlink")

_NUMBERS = {direction: number for number, direction in enumerate(DIRECTIONS)}
_UNKNOWN = -1  # in place of paper_bits None


class Entry(NamedTuple):
    """One frame: its length in bytes, and its cost in bits by a paper's formula (or None)."""

    round_index: int
    worker_id: int
    direction: Direction
    frame_bytes: int
    paper_bits: int | None


class Ledger(Table[Entry]):
    """The frames of a run, in the order in which they were recorded; 29 bytes for each.

    Args:
        entries: recorded elsewhere.

    Raises:
        ValueError: a number does not fit; see ``extend``.
    """

    _fields: ClassVar = dict(zip(Entry._fields, "qiBqq", strict=True))

    def __init__(self, entries: Iterable[Entry] = ()) -> None:
        self._bytes: dict[Direction, int] = dict.fromkeys(DIRECTIONS, 0)
        self._paper_bits: dict[Direction, int | None] = dict.fromkeys(DIRECTIONS, 0)
        super().__init__(entries)

    def record(
        self,
        round_index: int,
        worker_id: int,
        direction: Direction,
        frame: bytes | memoryview,
        paper_bits: int | None = None,
    ) -> None:
        """Count one frame: ``len(frame)`` bytes from or to one worker.

        Args:
            round_index: counted from 0.
            worker_id: the sender (uplink) or the receiver (downlink).
            direction: "uplink" is worker to server.
            frame: the bytes that crossed.
            paper_bits: the paper's formula for this message, kept beside the bytes.

        Raises:
            TypeError: the ledger is frozen.
            ValueError: bytes or bits do not fit into 64 bits, or the worker into 32.
        """
        self.extend([Entry(round_index, worker_id, direction, len(frame), paper_bits)])

    def _take(self, other: "Self") -> None:
        super()._take(other)
        for direction in DIRECTIONS:
            self._add(direction, other._bytes[direction], other._paper_bits[direction])

    def _append(self, entry: Entry) -> None:
        super()._append(entry)
        self._add(entry.direction, entry.frame_bytes, entry.paper_bits)

    def _add(self, direction: Direction, frame_bytes: int, paper_bits: int | None) -> None:
        self._bytes[direction] += frame_bytes
        before = self._paper_bits[direction]
        if before is not None:
            self._paper_bits[direction] = None if paper_bits is None else before + paper_bits

    def _count(self) -> None:
        directions, sizes = self.column("direction"), self.column("frame_bytes")
        bits = self.column("paper_bits")
        if (directions >= len(DIRECTIONS)).any() or (sizes < 0).any() or (bits < _UNKNOWN).any():
            raise ValueError("a row has no direction, or less than 0 bytes or bits")
        for direction, number in _NUMBERS.items():
            own = directions == number
            known = not (bits[own] == _UNKNOWN).any()
            self._bytes[direction] = sum(sizes[own].tolist())
            self._paper_bits[direction] = sum(bits[own].tolist()) if known else None

    def _numbers(self, entry: Entry) -> tuple[int, ...]:
        round_index, worker_id, direction, frame_bytes, paper_bits = entry
        if direction not in _NUMBERS:
            raise ValueError(f"direction: got {direction!r}, expected one of {list(DIRECTIONS)}")
        if frame_bytes < 0:
            raise ValueError(f"frame_bytes: got {frame_bytes}, expected 0 or more")
        if paper_bits is None:
            paper_bits = _UNKNOWN
        elif paper_bits < 0:
            raise ValueError(f"paper_bits: got {paper_bits}, expected None or a number of bits")
        return round_index, worker_id, _NUMBERS[direction], frame_bytes, paper_bits

    def _row(self, numbers: tuple[int, ...]) -> Entry:
        round_index, worker_id, direction, frame_bytes, bits = numbers
        paper_bits = None if bits == _UNKNOWN else bits
        return Entry(round_index, worker_id, DIRECTIONS[direction], frame_bytes, paper_bits)

    def frozen(self) -> "Self":
        """Return a copy that takes no more entries."""
        frozen = super().frozen()
        frozen._bytes, frozen._paper_bits = dict(self._bytes), dict(self._paper_bits)
        return frozen

    def frame_bytes(
        self,
        direction: Direction,
        *,
        round_index: int | None = None,
        worker_id: int | None = None,
    ) -> int:
        """Return the bytes of one direction: all of them, or those of one round or worker."""
        wanted = {"round_index": round_index, "worker_id": worker_id}
        filters = {name: value for name, value in wanted.items() if value is not None}
        if not filters:
            return self._bytes[direction]
        chosen = self.column("direction") == _NUMBERS[direction]
        for name, value in filters.items():
            chosen &= self.column(name) == value
        return sum(self.column("frame_bytes")[chosen].tolist())  # beyond 64 bits, if need be

    def paper_bits(self, direction: Direction) -> int | None:
        """Return the sum of the paper's formula in one direction; None if a frame has none."""
        return self._paper_bits[direction]
