"""What runs on node 0 of the lab: one cell.

    python -m benchmarks.end_to_end.inside CELL RECORD

CELL is a file with the names of a cell, and RECORD the file that its record is written to.
"""

import json
import sys
import time
from contextlib import AbstractContextManager
from pathlib import Path

from benchmarks.end_to_end.ddp import rank_command
from benchmarks.end_to_end.measuring import Record, Training, measure
from benchmarks.end_to_end.on_ray import documented_training, gradient_seconds, our_training
from benchmarks.end_to_end.plan import WORKERS, Cell, Distributed, Documented, cell_named
from launch.engines.cluster import ray_cluster
from launch.lab.inside import counters, node_address, popen_on
from launch.lab.network import INTERFACE

_PORT = 29_500
_POLL_S = 0.2


def main(cell_path: Path, record_path: Path) -> None:
    """Run a cell."""
    cell = cell_named(json.loads(cell_path.read_text(encoding="utf-8")))
    if isinstance(cell.contender, Distributed):
        _start_ranks(cell_path, record_path)
    else:
        _train_on_ray(cell, record_path)


def _train_on_ray(cell: Cell, path: Path) -> None:
    with ray_cluster(None):
        record = Record(compute_seconds=gradient_seconds(cell.config()))
        with _training(cell) as training:
            measure(
                training,
                record,
                cell,
                counters=counters,
                path=path,
            )


def _training(cell: Cell) -> AbstractContextManager[Training]:
    config = cell.config()
    if isinstance(cell.contender, Documented):
        return documented_training(config, cell.step_size, pipelined=cell.contender.pipelined)
    return our_training(config)


def _start_ranks(cell_path: Path, record_path: Path) -> None:
    """Run one rank on each node but this one.

    Raises:
        SystemExit: a rank failed, after which the others would wait for it.
    """
    ranks = []
    for rank in range(WORKERS):
        address = f"{node_address(1)}:{_PORT}"
        command = rank_command(
            cell_path, record_path, rank=rank, ranks=WORKERS, address=address, interface=INTERFACE
        )
        ranks.append(popen_on(rank + 1, command))
    while any(rank.poll() is None for rank in ranks):
        if failed := [rank for rank in ranks if rank.poll()]:
            raise SystemExit(failed[0].returncode)
        time.sleep(_POLL_S)


if __name__ == "__main__":
    main(*(Path(argument) for argument in sys.argv[1:]))
