"""Byte accounting: how long every frame was, by round, worker and direction.

The ledger counts frames and nothing else. Beside each frame it keeps what a paper's formula says
the message costs, in a column of its own, for comparison.
"""

from collections.abc import Iterable, Iterator
from typing import Literal, NamedTuple

Direction = Literal["uplink", "downlink"]
DIRECTIONS: tuple[Direction, ...] = ("uplink", "downlink")


class Entry(NamedTuple):
    """One frame: its length in bytes, and its cost in bits by a paper's formula (or None)."""

    round_index: int
    worker_id: int
    direction: Direction
    frame_bytes: int
    paper_bits: int | None


class Ledger:
    """The frames of a run, in the order in which they were recorded."""

    def __init__(self, entries: Iterable[Entry] = ()) -> None:
        self._entries: list[Entry] = []
        self._totals: dict[Direction, int] = dict.fromkeys(DIRECTIONS, 0)
        self.extend(entries)

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
        """
        self.extend([Entry(round_index, worker_id, direction, len(frame), paper_bits)])

    def extend(self, entries: Iterable[Entry]) -> None:
        """Take over entries recorded elsewhere."""
        for entry in entries:
            self._entries.append(entry)
            self._totals[entry.direction] += entry.frame_bytes

    def frame_bytes(
        self,
        direction: Direction,
        *,
        round_index: int | None = None,
        worker_id: int | None = None,
    ) -> int:
        """Return the bytes of one direction: all of them, or those of one round or worker."""
        if round_index is None and worker_id is None:
            return self._totals[direction]
        return sum(
            entry.frame_bytes
            for entry in self._entries
            if entry.direction == direction
            and round_index in (None, entry.round_index)
            and worker_id in (None, entry.worker_id)
        )

    def paper_bits(self, direction: Direction) -> int | None:
        """Return the sum of the paper's formula in one direction; None if a frame has none."""
        bits = [entry.paper_bits for entry in self._entries if entry.direction == direction]
        known = [value for value in bits if value is not None]
        return sum(known) if len(known) == len(bits) else None

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Ledger) and self._entries == other._entries
