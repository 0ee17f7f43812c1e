"""The contenders of torch's DistributedDataParallel over gloo: a process on each node.

    python -m benchmarks.end_to_end.ddp CELL RECORD RANK RANKS ADDRESS INTERFACE

The first rank measures; it tells the others how many rounds to run before the next evaluation.
All gradients are in one bucket: with several, PowerSGD's hook aborts on gloo ("Received data size
doesn't match"). PowerSGD begins with the third round, the earliest that DDP allows with warm start
and error feedback, its defaults; the two rounds before it are the warm-up. Batched is an option of
this hook: ``batched_powerSGD_hook``, which takes all gradients as one matrix, ends in torch 2.13
with an AssertionError, as its matrix is none of a batch.
"""

import json
import os
import sys
import time
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
from torch.distributed.algorithms.ddp_comm_hooks import default_hooks, powerSGD_hook
from torch.nn.parallel import DistributedDataParallel

from benchmarks.end_to_end.local import LocalWorker
from benchmarks.end_to_end.measuring import Record, measure
from benchmarks.end_to_end.plan import WARM_UP, Cell, Distributed, cell_named
from launch.lab.inside import counters

LOOPBACK = "lo"
_BUCKET_MB = 10_000
_TIMEOUT = timedelta(minutes=10)


class RankTraining:
    """Rounds of one rank; the first says when, and the others ``follow``.

    Args:
        worker: the rank's own.
        contender: how gradients are compressed.
        step_size: of plain SGD.
    """

    def __init__(self, worker: LocalWorker, contender: Distributed, step_size: float) -> None:
        self._worker = worker
        self._model = DistributedDataParallel(worker.model, bucket_cap_mb=_BUCKET_MB)
        _register_hook(self._model, contender)
        self._optimizer = torch.optim.SGD(worker.model.parameters(), lr=step_size)
        self._round_index = 0

    def run(self, rounds: int) -> list[float]:
        """Run rounds on all ranks; 0 ends those that follow."""
        _said_by_first(rounds)
        return self._rounds(rounds)

    def follow(self) -> None:
        """Run rounds when the first rank does, until it ends."""
        while rounds := _said_by_first(0):
            self._rounds(rounds)

    def evaluate(self) -> dict[str, float]:
        """Return the accuracy of this rank's replica; the others wait for its next word."""
        return {"accuracy": self._worker.accuracy()}

    def _rounds(self, rounds: int) -> list[float]:
        times = []
        for _ in range(rounds):
            started = time.perf_counter()
            self._optimizer.zero_grad()
            self._worker.loss(self._model, self._round_index).backward()  # type: ignore[no-untyped-call]
            self._optimizer.step()
            self._round_index += 1
            times.append(time.perf_counter() - started)
        return times


def train_rank(
    cell: Cell,
    path: Path,
    *,
    rank: int,
    ranks: int,
    address: str,
    interface: str,
) -> None:
    """Train one rank of a cell.

    Args:
        cell: of a contender of this module.
        path: of the record, which the first rank writes.
        rank: from 0.
        ranks: how many there are.
        address: host and port of the first rank.
        interface: to the others, such as eth0; "lo" without a lab, and so without counters.
    """
    contender = cell.contender
    assert isinstance(contender, Distributed)
    torch.set_num_threads(1)
    os.environ["GLOO_SOCKET_IFNAME"] = interface
    where = f"tcp://{address}"
    dist.init_process_group("gloo", where, _TIMEOUT, world_size=ranks, rank=rank)
    worker = LocalWorker(cell.config(), rank, ranks)
    compute_seconds = _compute_seconds(worker, ranks)
    training = RankTraining(worker, contender, cell.step_size)
    if rank:
        training.follow()
    else:
        measure(
            training,
            Record(compute_seconds=compute_seconds),
            cell,
            counters=tuple if interface == LOOPBACK else counters,
            path=path,
        )
        training.run(0)
    dist.barrier()  # a rank whose peer is gone is aborted by gloo
    dist.destroy_process_group()


def _compute_seconds(worker: LocalWorker, ranks: int) -> list[float]:
    """Return the time of a gradient on every rank, all computing at a time."""
    dist.barrier()
    times = [torch.zeros(1, dtype=torch.float64) for _ in range(ranks)]
    dist.all_gather(times, torch.tensor([worker.gradient_seconds()], dtype=torch.float64))
    return [float(seconds) for seconds in times]


def _register_hook(model: DistributedDataParallel, contender: Distributed) -> None:
    if contender.hook == "fp16":
        model.register_comm_hook(None, default_hooks.fp16_compress_hook)
    elif contender.hook != "none":
        state = powerSGD_hook.PowerSGDState(
            process_group=None,
            matrix_approximation_rank=contender.rank,
            start_powerSGD_iter=WARM_UP,
            batch_tensors_with_same_shape=contender.hook == "batched-powersgd",
        )
        model.register_comm_hook(state, powerSGD_hook.powerSGD_hook)


def _said_by_first(rounds: int) -> int:
    word = torch.tensor([rounds])
    dist.broadcast(word, src=0)
    return int(word)


def rank_command(
    cell: Path, record: Path, *, rank: int, ranks: int, address: str, interface: str
) -> list[str]:
    """Return the command of one rank; see ``train_rank``."""
    given = (cell, record, rank, ranks, address, interface)
    return [sys.executable, "-m", __spec__.name, *(str(argument) for argument in given)]


if __name__ == "__main__":
    cell_path, record_path, *places = sys.argv[1:]
    train_rank(
        cell_named(json.loads(Path(cell_path).read_text(encoding="utf-8"))),
        Path(record_path),
        rank=int(places[0]),
        ranks=int(places[1]),
        address=places[2],
        interface=places[3],
    )
