"""Watching sessions in a notebook: a figure that is drawn anew as rounds end.

>>> from launch import Session
>>> from launch.notebook import watch
>>> session = Session("demo/config.yaml")
>>> watch(session, rounds=100)
"""

import io
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from launch.display.units import format_bytes
from launch.metrics import Metrics, format_measure, measure_names
from launch.session import Session
from mlmc_ray.errors import ConfigError

_LEAST_S = 0.5  # between two drawings
_SHARE = 5  # the time between two drawings is at least so many times that of one
_DPI = 80


def watch(
    sessions: Session | Sequence[Session], rounds: int | None = None, *, every: int = 1
) -> None:
    """Run rounds, and draw the figure of the sessions anew as they end, at most twice a second.

    Several sessions, such as branches, take turns by rounds, and share the figure; one that a
    callback pauses has no more turns, and the others go on. An interrupt
    (a notebook's stop button, Ctrl-C) lets the round end and returns, and the sessions can go on;
    a second one breaks the round off, and its session is of no use any more. Where there is no
    notebook a line is printed instead of the figure.

    Args:
        sessions: one, or several of different names.
        rounds: how many each is to run; by default up to its configured number.
        every: rounds between looks at the figure.

    Raises:
        ConfigError: there is no session, or two of one name, or two that cannot share a figure.
        ValueError: every is not a positive number.
        KeyboardInterrupt: a second interrupt.
        RoundError: a round could not be completed.
    """
    watched = [sessions] if isinstance(sessions, Session) else list(sessions)
    if not watched:
        raise ConfigError("watch: got no session: give one, or a list of them")
    names = [session.config.name for session in watched]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ConfigError(f"watch: several sessions are called {twice}: give each another name")
    if every < 1:
        raise ValueError(f"every is {every}: give a number of rounds, 1 or more")
    ends = [s.round_index + rounds if rounds is not None else s.config.rounds for s in watched]
    screen = _Screen(watched, every)
    with _first_interrupt_noted() as interrupted:
        while not interrupted() and (left := _left(watched, ends)):
            for session, more in left:
                if _one_round(session, more):
                    ends[watched.index(session)] = session.round_index
                screen.draw()
                if interrupted():
                    break
    screen.draw(at_once=True)


def _left(sessions: Sequence[Session], ends: Sequence[int]) -> list[tuple[Session, int]]:
    """Return the sessions that are not at their end, and how many rounds they lack."""
    lacking = [end - session.round_index for session, end in zip(sessions, ends, strict=True)]
    return [pair for pair in zip(sessions, lacking, strict=True) if pair[1] > 0]


def _one_round(session: Session, left: int) -> bool:
    """Run one of the rounds that are left: evaluated as configured, and if it is the last.

    Returns:
        Whether somebody else, such as a callback, has paused the session.
    """
    paused = False

    def pause(_: Metrics) -> None:
        nonlocal paused
        paused = session.pausing
        session.pause()

    session.run(left, on_round=pause)
    return paused


class _Screen:
    """Shows the sessions when it is time to, and not more often than drawing is worth."""

    def __init__(self, sessions: Sequence[Session], every: int) -> None:
        self._sessions, self._every = sessions, every
        self._show = _shown_in_notebook() if _in_notebook() else _print_lines
        self._rounds = 0
        self._next_at = 0.0
        self.draw(at_once=True)

    def draw(self, *, at_once: bool = False) -> None:
        """Show where the sessions stand, if it is time to."""
        done = sum(session.round_index for session in self._sessions)
        enough = done - self._rounds >= self._every * len(self._sessions)
        started = time.monotonic()
        if not at_once and not (enough and started >= self._next_at):
            return
        self._show(self._sessions)
        ended = time.monotonic()
        self._rounds = done
        self._next_at = ended + max(_LEAST_S, _SHARE * (ended - started))


def line_of(session: Session) -> str:
    """Return where a session stands, in a line."""
    last: Metrics = session.metrics[-1]
    tested = next(m for m in reversed(session.metrics) if measure_names(m))
    name = measure_names(tested)[0]
    parts = [
        f"{session.config.name}: round {last['round']} of {session.config.rounds}",
        *([f"loss {last['train_loss']:.4g}"] if "train_loss" in last else []),
        f"{name} {format_measure(name, tested[f'test_{name}'])}",
        f"{format_bytes(last['uplink_bytes'])} up",
        f"{format_bytes(last['downlink_bytes'])} down",
    ]
    return ", ".join(parts)


@contextmanager
def _first_interrupt_noted() -> Iterator[Callable[[], bool]]:
    """Note the first interrupt instead of raising it; yield what says whether there was one."""
    seen: list[int] = []

    def note(signum: int, frame: Any) -> None:
        if seen:
            raise KeyboardInterrupt
        seen.append(signum)

    before = signal.getsignal(signal.SIGINT)
    try:
        if before is None:  # not Python's, which could not put it back
            raise ValueError
        signal.signal(signal.SIGINT, note)
    except ValueError:  # not the main thread, which alone is interrupted
        yield lambda: False
        return
    try:
        yield lambda: bool(seen)
    finally:
        signal.signal(signal.SIGINT, before)


def _in_notebook() -> bool:
    try:
        shell = import_module("IPython").get_ipython()
    except ImportError:
        return False
    return hasattr(shell, "kernel")


def _shown_in_notebook() -> Callable[[Sequence[Session]], None]:
    """Return what shows figure and lines of sessions in the place of those before."""
    shown: Any = import_module("IPython.display")
    nothing = shown.Pretty(" ")
    figure_place, text_place = (shown.display(nothing, display_id=True) for _ in range(2))

    def show(sessions: Sequence[Session]) -> None:
        first, *others = sessions
        buffer = io.BytesIO()
        first.figure(*others).savefig(buffer, format="png", dpi=_DPI)
        figure_place.update(shown.Image(buffer.getvalue()))
        text_place.update(shown.Pretty(_lines(sessions)))

    return show


def _print_lines(sessions: Sequence[Session]) -> None:
    print(_lines(sessions), flush=True)


def _lines(sessions: Sequence[Session]) -> str:
    return "\n".join(map(line_of, sessions))
