"""What can happen to a run on Ray, done to it on purpose."""

import os
import signal
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import ray

from launch import Session
from launch.callbacks import Callback
from launch.metrics import Metrics
from mlmc_ray.rounds import RoundResult

Fault = Callable[[Session], Callable[[], None]]
"""Finds between two rounds what is to be hit, and returns what hits it."""


def actors_of(session: Session) -> dict[str, Any]:
    """Return the actors of a run on Ray by name: "server 0", "host 0" ..."""
    engine: Any = session._engine
    named = {f"server {i}": server for i, server in enumerate(engine._servers)}
    named |= {f"host {i}": host for i, host in enumerate(engine._hosts)}
    return {name: facade._actor for name, facade in named.items()}


def pid_of(actor: Any) -> int:
    """Return the process of an actor, which must be idle."""
    pid: int = ray.get(actor.__ray_call__.remote(lambda _: os.getpid()))
    return pid


def signalled(name: str, number: signal.Signals) -> Fault:
    """Send a signal to the process of an actor: SIGKILL ends it, SIGSTOP lets it hang."""

    def find(session: Session) -> Callable[[], None]:
        pid = pid_of(actors_of(session)[name])
        return lambda: os.kill(pid, number)

    return find


def killed(name: str) -> Fault:
    """Kill the process of an actor, as running out of memory would."""
    return signalled(name, signal.SIGKILL)


def events(notes: Iterable[str]) -> list[str]:
    """Return the notes but those on settings, and on what a slow machine waits for."""
    return [line for line in notes if not line.startswith(("downlink ", "waiting for "))]


class Disturb(Callback):
    """Does something to a run after some rounds.

    Args:
        faults: by the number of rounds done; each once.
        delay_s: how far into the next round.
    """

    def __init__(self, faults: Mapping[int, Fault], delay_s: float = 0.0) -> None:
        self._faults = dict(faults)
        self._delay_s = delay_s

    def on_round(self, session: Session, metrics: Metrics, result: RoundResult) -> None:
        """Do what is due."""
        fault = self._faults.pop(metrics["round"], None)
        if fault is None:
            return
        hit = fault(session)
        if self._delay_s:
            threading.Timer(self._delay_s, hit).start()
        else:
            hit()
