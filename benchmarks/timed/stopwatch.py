"""A watch that tells apart what runs inside what."""

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple


class Lap(NamedTuple):
    """A stretch of time in which one part was at work, as ``time.perf_counter`` counts."""

    part: str
    begun: float
    ended: float


class Stopwatch:
    """Notes which part is at work when; it rests while another runs inside it.

    Every moment between the beginning of the outermost part and its end is in one lap, so the laps
    add up to all of it. One thread may use a watch at a time.

    Args:
        settle: waits for work that was started elsewhere, as on a GPU; called before every look at
            the clock, so that this work counts for the part that has started it.

    Attributes:
        laps: since the last ``restart``, in their order.
    """

    def __init__(self, settle: Callable[[], None] = lambda: None) -> None:
        self._settle = settle
        self._open: list[str] = []
        self._since = 0.0
        self.laps: list[Lap] = []

    def restart(self) -> None:
        """Forget the laps, between two measurements."""
        self.laps = []

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Count what is done inside for a part, but for parts inside that."""
        self._turn()
        self._open.append(name)
        try:
            yield
        finally:
            self._turn()
            self._open.pop()

    def timed(self, function: Callable[..., Any], part: str) -> Callable[..., Any]:
        """Return a function whose calls count for a part."""

        def outer(*args: Any, **kwargs: Any) -> Any:
            with self.part(part):
                return function(*args, **kwargs)

        return outer

    def time(self, owner: Any, name: str, part: str) -> None:
        """Let the calls of an object's method, or of a module's function, count for a part."""
        setattr(owner, name, self.timed(getattr(owner, name), part))

    def _turn(self) -> None:
        """End the lap of the part that is at work, if one is."""
        self._settle()
        now = time.perf_counter()
        if self._open:
            self.laps.append(Lap(self._open[-1], self._since, now))
        self._since = now


def seconds_of(laps: Iterable[Lap]) -> dict[str, float]:
    """Return how long every part was at work."""
    seconds: dict[str, float] = defaultdict(float)
    for part, begun, ended in laps:
        seconds[part] += ended - begun
    return dict(seconds)
