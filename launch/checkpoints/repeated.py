"""Frames of rounds that were lost with the process, and are run again from a checkpoint.

They have crossed the wire, and are no part of the ledger, which counts every round once.
"""

import csv
import itertools
import os
from collections.abc import Callable, Iterable
from pathlib import Path

from mlmc_ray.errors import one_line
from mlmc_ray.ledger import DIRECTIONS, Entry, Ledger

REPEATED = "repeated.csv"


def put_aside(
    directory: Path, rounds: int, known: Ledger, on_note: Callable[[str], None]
) -> Ledger:
    """Write frames of rounds that will be run again from ``ledger.csv`` to a file of their own.

    The caller cuts ``ledger.csv`` off, and then calls ``settle``. Until then the file is named by
    the first of those rounds, so that a second try, after a crash in between, counts none twice.

    Args:
        directory: of a run.
        rounds: how many stay.
        known: frames that the checkpoint knows of, for a directory without ``repeated.csv``.
        on_note: told of rows that are malformed.

    Returns:
        All frames of rounds that were, or will be, run again.
    """
    ledger = _read(directory / "ledger.csv", on_note)
    for pending in _pending(directory):
        if any(entry.round_index >= int(pending.suffix[1:]) for entry in ledger):
            pending.unlink()  # ledger.csv was not cut off: it has these frames too
        else:
            pending.replace(directory / REPEATED)
    path = directory / REPEATED
    repeated = _read(path, on_note) if path.exists() else Ledger(known)
    repeated.extend(entry for entry in ledger if entry.round_index >= rounds)
    if len(repeated):
        _write(directory / f"{REPEATED}.{rounds}", repeated)
    return repeated


def settle(directory: Path) -> None:
    """Give the file of ``put_aside`` its name, once ``ledger.csv`` is cut off."""
    for pending in _pending(directory):
        pending.replace(directory / REPEATED)


def _pending(directory: Path) -> list[Path]:
    return [path for path in directory.glob(f"{REPEATED}.*") if path.suffix[1:].isdecimal()]


def write_repeated(directory: Path, repeated: Ledger) -> None:
    """Write ``repeated.csv``, with the columns of ``ledger.csv``; nothing if there are none."""
    if len(repeated):
        _write(directory / REPEATED, repeated)


def append_repeated(directory: Path, entries: Iterable[Entry]) -> None:
    """Add frames to ``repeated.csv``, which is made for the first."""
    path = directory / REPEATED
    new = not path.exists()
    with path.open("a", newline="") as file:
        csv.writer(file).writerows([Entry._fields, *entries] if new else entries)


def _write(path: Path, repeated: Ledger) -> None:
    draft = path.with_name("draft.csv")
    with draft.open("w", newline="") as file:
        csv.writer(file).writerows([Entry._fields, *repeated])
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def _read(path: Path, on_note: Callable[[str], None]) -> Ledger:
    """Return the rows of a file up to the first that is malformed, or broke off."""
    ledger = Ledger()
    if not path.exists():
        return ledger
    with path.open(newline="") as file:
        whole = (line for line in file if line.endswith("\n"))
        try:
            for row in itertools.islice(csv.reader(whole), 1, None):
                ledger.extend([_entry(row)])
        except (csv.Error, ValueError) as error:
            on_note(
                f"{path}: row {len(ledger) + 2} is malformed, and no more are read: "
                f"{one_line(error)}"
            )
    return ledger


def _entry(row: list[str]) -> Entry:
    round_index, worker_id, direction, frame_bytes, paper_bits = row
    known = next((name for name in DIRECTIONS if name == direction), None)
    if known is None:
        raise ValueError(f"direction: got {direction!r:.80}, expected one of {list(DIRECTIONS)}")
    bits = int(paper_bits) if paper_bits else None
    return Entry(int(round_index), int(worker_id), known, int(frame_bytes), bits)
