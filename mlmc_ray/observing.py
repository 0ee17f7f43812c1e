"""Looking at compressions while they happen: how much each one loses, and which levels it draws.

Nothing changes by it: the same draws, the same messages. It costs a pass over the vector for every
message, so it is for some of the rounds.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Generator, Tensor

from mlmc_ray.payloads import Payload

if TYPE_CHECKING:
    from mlmc_ray.compressors.base import Compressor, PaperCost


@dataclass(frozen=True, kw_only=True, slots=True)
class Compression:
    """One vector that was compressed.

    Attributes:
        compressor: the name of its class.
        dim: entries of the vector.
        squared_norm: of the vector v.
        squared_error: |C(v) - v|^2 of the message that was made of it.
        levels: those that MLMC estimators have drawn for it, from 1.
    """

    compressor: str
    dim: int
    squared_norm: float
    squared_error: float
    levels: tuple[int, ...] = ()


@dataclass(slots=True)
class Observer:
    """What was seen.

    Attributes:
        compressions: in the order in which they happened.
        levels: drawn since the last compression was over.
        seconds: that looking took, which are not the compressor's.
    """

    compressions: list[Compression] = field(default_factory=list)
    levels: list[int] = field(default_factory=list)
    seconds: float = 0.0


_current: ContextVar[Observer | None] = ContextVar("observer", default=None)


@contextmanager
def observing(wanted: bool = True) -> Iterator[Observer]:
    """Look at all ``observed`` compressors of this thread; or, if not wanted, at none."""
    observer = Observer()
    with observed_by(observer if wanted else None):
        yield observer


def apart(number: int) -> list[Observer | None]:
    """Return observers for so many threads, if anybody looks; else None for each."""
    return [None if _current.get() is None else Observer() for _ in range(number)]


@contextmanager
def observed_by(observer: Observer | None) -> Iterator[None]:
    """Let an observer look at this thread; or nobody."""
    token = _current.set(observer)
    try:
        yield
    finally:
        _current.reset(token)


def take_over(observers: Sequence[Observer | None]) -> None:
    """Note what the observers of threads have seen, in their order.

    The threads ran at the same time, so that looking took as long as the longest of them.
    """
    observer = _current.get()
    if observer is None:
        return
    for seen in filter(None, observers):
        observer.compressions += seen.compressions
    observer.seconds += max(seen.seconds for seen in filter(None, observers))


def note_levels(levels: Sequence[int]) -> None:
    """Say which levels have been drawn, if anybody looks."""
    observer = _current.get()
    if observer is not None:
        observer.levels.extend(levels)


def observed(compressor: "Compressor") -> "Compressor":
    """Return a compressor that says what it does, while somebody looks; else the same one."""
    observer = _current.get()
    return compressor if observer is None else _Observed(compressor, observer)


@dataclass(frozen=True, slots=True)
class _Observed:
    """A compressor whose messages an observer compares with the vectors."""

    compressor: "Compressor"
    observer: Observer

    @property
    def unbiased(self) -> bool:
        return self.compressor.unbiased

    def compress(self, vector: Tensor, *, generator: Generator) -> Payload:
        self.observer.levels.clear()
        payload = self.compressor.compress(vector, generator=generator)
        started = time.perf_counter()
        rest = vector.detach().to(torch.float64, copy=True)
        squared_norm = float(rest.square().sum())
        payload.add_to(rest, weight=-1.0)
        self.observer.compressions.append(
            Compression(
                compressor=type(self.compressor).__name__,
                dim=vector.numel(),
                squared_norm=squared_norm,
                squared_error=float(rest.square().sum()),
                levels=tuple(self.observer.levels),
            )
        )
        self.observer.levels.clear()
        self.observer.seconds += time.perf_counter() - started
        return payload

    def omega(self, dim: int) -> float | None:
        return self.compressor.omega(dim)

    def alpha(self, dim: int) -> float | None:
        return self.compressor.alpha(dim)

    def paper_cost(self, dim: int) -> "PaperCost | None":
        return self.compressor.paper_cost(dim)
