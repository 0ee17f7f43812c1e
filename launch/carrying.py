"""What a run keeps of its memory when its configuration changes between two rounds."""

import dataclasses
from dataclasses import dataclass, fields
from typing import Any

from launch.config import RunConfig
from launch.engines import RunState
from launch.metrics import Metrics
from mlmc_ray.compressors import Compressor
from mlmc_ray.errors import ConfigError
from mlmc_ray.ledger import Entry
from mlmc_ray.methods import Method
from mlmc_ray.rounds import Work

_FIXED = ("problem", "seed")
_SERVER_MEMORY = ("half", "known_statistics", "asked")


@dataclass(frozen=True, kw_only=True, slots=True)
class Past:
    """All that a session remembers between two rounds.

    Attributes:
        config: with numbers in place of "theory".
        state: of its engine.
        metrics: see ``Session``, as are the others.
        ledger: its entries.
        work: how long workers took.
        observations: of the rounds that were observed.
        seconds: of the rounds so far.
    """

    config: RunConfig
    state: RunState
    metrics: tuple[Metrics, ...]
    ledger: tuple[Entry, ...]
    work: tuple[Work, ...]
    observations: tuple[dict[str, Any], ...]
    seconds: float


def carried(state: RunState, old: RunConfig, new: RunConfig) -> tuple[RunState, list[str]]:
    """Return the state with which a changed run goes on, and what to say about it.

    Parameters and running statistics always stay. The memory of the method stays if there are as
    many workers and the method is the same but for compressors and real numbers, such as a
    momentum; that of the optimizer stays if it is of the same kind.

    Raises:
        ConfigError: a key has changed that a run cannot change on its way; names it.
    """
    for name in _FIXED:
        if getattr(old, name) != getattr(new, name):
            raise ConfigError(
                f"{name} has changed: a run keeps its {name} from beginning to end; open a new "
                "session"
            )
    server, workers, time, notes = dict(state.server), state.workers, state.time, []
    if old.workers != new.workers or not _same_memory(old.method, new.method):
        if server["half"] or any(worker["half"] for worker in workers.values()):
            notes.append("the memory of the method starts anew, on the server and on every worker")
        for name in _SERVER_MEMORY:
            del server[name]
        workers = {} if old.workers != new.workers else _without_half(workers)
        if time.get("arrivals"):
            notes.append(f"{len(time['arrivals'])} reports on their way are dropped")
            time = {**time, "arrivals": []}
    if type(old.optimizer) is not type(new.optimizer):
        if server["optimizer"]:
            notes.append("the memory of the optimizer starts anew")
        del server["optimizer"]
    return RunState(server=server, workers=workers, time=time), notes


def _without_half(workers: dict[int, dict[str, Any]]) -> dict[int, dict[str, Any]]:
    return {i: {"buffers": state["buffers"]} for i, state in workers.items()}


def _same_memory(old: Any, new: Any) -> bool:
    """Return whether a method's memory means the same to another one."""
    if type(old) is not type(new):
        return False
    for field in fields(old):
        before, after = getattr(old, field.name), getattr(new, field.name)
        if isinstance(before, Method) and _same_memory(before, after):
            continue
        both = (before, after)
        if before == after or all(isinstance(value, Compressor | float) for value in both):
            continue
        return False
    return True


def changes(old: RunConfig, new: RunConfig) -> dict[str, Any]:
    """Return the keys that differ, each with its description in the new configuration."""
    before, after = old.to_mapping(), new.to_mapping()
    return {name: value for name, value in after.items() if before[name] != value}


def settings_of(config: RunConfig) -> dict[str, Any]:
    """Return the fields of a configuration, with their values as they are."""
    given = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
    return {**given, "search_paths": list(config.problem.search_paths)}
