"""Frames of rounds that were lost with the process, and are run again from a checkpoint.

They have crossed the wire, and are no part of the ledger, which counts every round once.
"""

import csv
import os
from collections.abc import Iterator
from pathlib import Path

from mlmc_ray.ledger import Entry, Ledger

REPEATED = "repeated.csv"


def put_aside(directory: Path, rounds: int, known: Ledger) -> Ledger:
    """Move frames of rounds that will be run again from ``ledger.csv`` to ``repeated.csv``.

    The caller cuts ``ledger.csv`` off afterwards.

    Args:
        directory: of a run.
        rounds: how many stay.
        known: frames that the checkpoint knows of, for a directory without the file.

    Returns:
        All frames of rounds that were, or will be, run again.
    """
    path = directory / REPEATED
    repeated = Ledger(_entries(path) if path.exists() else known)
    repeated.extend(
        entry for entry in _entries(directory / "ledger.csv") if entry.round_index >= rounds
    )
    write_repeated(directory, repeated)
    return repeated


def write_repeated(directory: Path, repeated: Ledger) -> None:
    """Write ``repeated.csv``, with the columns of ``ledger.csv``; nothing if there are none."""
    if not len(repeated):
        return
    draft = directory / f"{REPEATED}.draft"
    with draft.open("w", newline="") as file:
        csv.writer(file).writerows([Entry._fields, *repeated])
        file.flush()
        os.fsync(file.fileno())
    draft.replace(directory / REPEATED)


def _entries(path: Path) -> Iterator[Entry]:
    """Yield the rows of a file that may end in the middle of one."""
    if not path.exists():
        return
    with path.open(newline="") as file:
        whole = (line for line in file if line.endswith("\n"))
        for row in list(csv.reader(whole))[1:]:
            round_index, worker_id, direction, frame_bytes, bits = row
            yield Entry(
                int(round_index),
                int(worker_id),
                "uplink" if direction == "uplink" else "downlink",
                int(frame_bytes),
                int(bits) if bits else None,
            )
