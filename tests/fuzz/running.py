"""Gives many inputs to a target, in processes whose memory and time are limited.

Inputs are made in chunks, each with a seed of its own, so that they are the same in however many
processes they are tried.
"""

import multiprocessing
import resource
import signal
import time
import warnings
from collections.abc import Iterator
from ctypes import c_longlong
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from random import Random
from typing import Any

import torch

from tests.fuzz.bounds import limited_memory
from tests.fuzz.judging import Wrong, accepted
from tests.fuzz.targets import TARGETS

CHUNK = 1000
STALL_S = 60
"""A process that has not come to the next input for so long hangs, where no signal reaches it."""
_PROCESSES = multiprocessing.get_context("spawn")


@dataclass(slots=True)
class Outcome:
    """What became of inputs.

    Attributes:
        accepted: how many were.
        refused: how many were, in the way they should be.
        longest_s: that one took, in time of the processor.
        grown_mib: by how much the memory in use of a process has grown at most.
        wrong: inputs that ended otherwise, and how; one of each kind.
    """

    accepted: int = 0
    refused: int = 0
    longest_s: float = 0.0
    grown_mib: float = 0.0
    wrong: dict[str, bytes] = field(default_factory=dict)

    def add(self, other: "Outcome") -> None:
        """Count others too."""
        self.accepted += other.accepted
        self.refused += other.refused
        self.longest_s = max(self.longest_s, other.longest_s)
        self.grown_mib = max(self.grown_mib, other.grown_mib)
        for why, data in other.wrong.items():
            kinds = {known.partition(": ")[0] for known in self.wrong}
            if why.partition(": ")[0] not in kinds:
                self.wrong[why] = data


def inputs(name: str, seed: int, chunk: int) -> Iterator[bytes]:
    """Yield the inputs of a chunk."""
    target, random = TARGETS[name], Random(f"{name}/{seed}/{chunk}")
    for _ in range(CHUNK):
        yield target.mutated(random)


def tried(name: str, chunk: Iterator[bytes], position: Any = None) -> Outcome:
    """Give a target some inputs.

    Args:
        name: of the target.
        chunk: the inputs.
        position: counts them, for others to see.
    """
    target, outcome = TARGETS[name], Outcome()
    for data in chunk:
        if position is not None:
            position.value += 1
        started = time.process_time()
        try:
            if accepted(target, data):
                outcome.accepted += 1
            else:
                outcome.refused += 1
        except Wrong as error:
            outcome.add(Outcome(wrong={str(error): data}))
        outcome.longest_s = max(outcome.longest_s, time.process_time() - started)
    return outcome


def run(name: str, count: int, seed: int, jobs: int) -> Iterator[Outcome]:
    """Try so many inputs, rounded up to whole chunks, and yield what becomes of each chunk.

    Args:
        name: of the target.
        count: of inputs.
        seed: of the inputs.
        jobs: how many processes.
    """
    chunks = -(-count // CHUNK)
    workers = [_Worker(name, seed, range(job, chunks, jobs)) for job in range(jobs)]
    try:
        while working := [worker for worker in workers if worker.working]:
            wait([worker.results for worker in working], timeout=1)
            for worker in working:
                yield from worker.outcomes()
    finally:
        for worker in workers:
            worker.end()


class _Worker:
    """A process, and what is known of it."""

    def __init__(self, name: str, seed: int, chunks: range) -> None:
        self._name, self._seed, self._chunks = name, seed, chunks
        self._position: Any = _PROCESSES.Value(c_longlong, 0, lock=False)
        self.results, results = _PROCESSES.Pipe(duplex=False)
        arguments = (name, seed, chunks, self._position, results)
        self._process: BaseProcess = _PROCESSES.Process(target=_work, args=arguments, daemon=True)
        self._process.start()
        results.close()
        self._seen = (0, time.monotonic())
        self.working = True

    def outcomes(self) -> Iterator[Outcome]:
        """Yield what has become known since the last time."""
        try:
            while self.results.poll():
                found: Outcome = self.results.recv()
                yield found
        except EOFError:
            self._process.join()
            self.working = False
            if self._process.exitcode:
                yield self._died(f"the process ends with {self._process.exitcode}")
            return
        now = self._position.value
        if now != self._seen[0]:
            self._seen = (now, time.monotonic())
        elif now and time.monotonic() - self._seen[1] > STALL_S:
            self.working = False
            yield self._died(f"hangs for more than {STALL_S} s")

    def _died(self, how: str) -> Outcome:
        """Return the input that was being read."""
        position = self._position.value
        if not position:
            raise RuntimeError(f"{self._name}: {how}, before its first input")
        chunk, index = divmod(position - 1, CHUNK)
        made = inputs(self._name, self._seed, self._chunks[chunk])
        data = next(data for number, data in enumerate(made) if number == index)
        return Outcome(wrong={how: data})

    def end(self) -> None:
        """End the process, if it has not ended."""
        self._process.kill()
        self._process.join()


def _work(name: str, seed: int, chunks: range, position: Any, results: Connection) -> None:
    """Try chunks of inputs, after the well-formed ones, for which kernels are compiled."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the first process ends this one
    torch.set_num_threads(1)
    tried(name, iter(TARGETS[name].seeds()))
    warnings.simplefilter("error")
    before = _memory_mib()
    with limited_memory():
        for chunk in chunks:
            outcome = tried(name, inputs(name, seed, chunk), position)
            outcome.grown_mib = _memory_mib() - before
            results.send(outcome)


def _memory_mib() -> float:
    """Return the most memory that this process has had in use."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
