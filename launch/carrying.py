"""What a run keeps of its memory when its configuration changes between two rounds."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from launch.checkpoints.settings import check_same_storage
from launch.configuration.composition import merged
from launch.configuration.run_config import RunConfig, load_config
from launch.engines.base import RunState, run_plan
from launch.metrics import Metrics
from launch.starting import check_run
from mlmc_ray.errors import ConfigError
from mlmc_ray.ledger import Ledger
from mlmc_ray.problems import Problem
from mlmc_ray.rounds import Timeline

_SERVER_MEMORY = ("half", "known_statistics", "asked")


@dataclass(frozen=True, kw_only=True, slots=True)
class Past:
    """All that a session remembers between two rounds.

    Attributes:
        config: with numbers in place of "theory".
        state: of its engine.
        metrics: see ``Session``, as are the others.
        ledger: a frozen copy.
        work: how long workers took; a frozen copy.
        observations: of the rounds that were observed.
        seconds: of the rounds so far.
    """

    config: RunConfig
    state: RunState
    metrics: tuple[Metrics, ...]
    ledger: Ledger
    work: Timeline
    observations: tuple[dict[str, Any], ...]
    seconds: float

    def carried_to(self, config: RunConfig) -> tuple[RunState, Sequence[str]]:
        """Return the state with which a run of a configuration goes on; see ``carried``."""
        return carried(self.state, self.config, config)

    def changed_to(self, config: RunConfig) -> dict[str, Any]:
        """Return the keys that differ in a configuration, each with its new description."""
        return changes(self.config, config)


def carried(state: RunState, old: RunConfig, new: RunConfig) -> tuple[RunState, list[str]]:
    """Return the state with which a changed run goes on, and what to say about it.

    Parameters and running statistics always stay. The memory of the method stays if there are as
    many workers and it means the same to the new one (``Method.same_memory``); that of the
    optimizer stays if it is of the same kind. Copies of the parameters that workers have stay if
    nothing has changed that they come from.

    Raises:
        ConfigError: a key has changed that a run cannot change on its way (the seed, the kind of
            the problem, whether there is a clock, how many servers); names it.
    """
    _check_kept(old, new)
    servers = [dict(server) for server in state.servers]
    workers, time, notes = state.workers, state.time, list[str]()
    if old.problem != new.problem:
        notes.append("the problem has changed: measures before and after are not of the same")
    if old.workers != new.workers or not old.method.same_memory(new.method):
        sides = {
            "on the server": any(state["half"] for state in servers),
            "on every worker": any(state["half"] for state in workers.values()),
        }
        if any(sides.values()):
            where = " and ".join(side for side, remembers in sides.items() if remembers)
            notes.append(f"the memory of the method starts anew, {where}")
        for server in servers:
            for name in _SERVER_MEMORY:
                del server[name]
            if arrived := server.pop("arrived", None):
                notes.append(f"{len(arrived)} reports on their way are dropped")
        workers = {} if old.workers != new.workers else _without_half(workers)
        if time.get("arrivals"):
            notes.append(f"{len(time['arrivals'])} reports on their way are dropped")
            time = {**time, "arrivals": []}
    if run_plan(old) != run_plan(new):
        for server in servers:
            del server["copies"]  # workers are sent full ones
    if type(old.optimizer) is not type(new.optimizer):
        if any(server["optimizer"] for server in servers):
            notes.append("the memory of the optimizer starts anew")
        for server in servers:
            del server["optimizer"]
    return RunState(servers=tuple(servers), workers=workers, time=time), notes


def _check_kept(old: RunConfig, new: RunConfig) -> None:
    """Refuse changes of what a run keeps.

    Raises:
        ConfigError: see ``carried``.
    """
    kept = {
        "seed": (old.seed, new.seed),
        "problem": (old.problem.path, new.problem.path),
        "clock": (old.clock is None, new.clock is None),
        "servers": (old.servers, new.servers),
    }
    if old.method.asynchronous:
        kept["engine"] = (old.engine, new.engine)  # each keeps reports on their way in its own way
    for name, (before, after) in kept.items():
        if before != after:
            raise ConfigError(
                f"{name} has changed: a run keeps its {name} from beginning to end; open a new "
                "session"
            )


def _without_half(workers: dict[int, dict[str, Any]]) -> dict[int, dict[str, Any]]:
    return {i: {"buffers": state["buffers"]} for i, state in workers.items()}


def changed_config(
    config: RunConfig, overrides: Sequence[str], settings: Mapping[str, Any]
) -> RunConfig:
    """Return a configuration with other settings; it keeps its name unless they have one.

    Args:
        config: as it is.
        overrides: ``a.b=c`` settings, as on the command line.
        settings: keys of the configuration; see ``Session.change``.

    Raises:
        ConfigError: they do not make a configuration.
    """
    own = ["name=" + json.dumps(config.name)] if "name" not in settings else []
    return load_config(merged(settings_of(config), dict(settings)), [*own, *overrides])


def check_change(old: RunConfig, new: RunConfig, dim: int) -> Problem:
    """Refuse a change to what could not run, or would be another session.

    Args:
        old: before it.
        new: after it.
        dim: number of parameters before it.

    Returns:
        The problem after it.

    Raises:
        ConfigError: callbacks, the storage of checkpoints or the number of parameters have
            changed; see also ``check_run``.
        ProblemError: see ``check_run``.
    """
    if new.callbacks != old.callbacks:
        raise ConfigError(
            "callbacks has changed: a session keeps its callbacks from beginning to end; "
            "branch, or open a new session"
        )
    check_same_storage(old.checkpoints, new.checkpoints)
    problem, new_dim = check_run(new)
    if new_dim != dim:
        raise ConfigError(
            f"problem has changed, and has {new_dim} parameters instead of {dim}: open a new "
            "session"
        )
    return problem


def with_workers(config: RunConfig, number: int) -> list[str]:
    """Return the settings for another number of workers.

    A problem with a function for every worker has as many functions then.
    """
    settings = [f"workers={number}"]
    if hasattr(config.problem.load(), "num_functions"):
        settings.append(f"problem.num_functions={number}")
    return settings


def changes(old: RunConfig, new: RunConfig) -> dict[str, Any]:
    """Return the keys that differ, each with its description in the new configuration."""
    before, after = old.to_mapping(), new.to_mapping()
    return {name: value for name, value in after.items() if before[name] != value}


def settings_of(config: RunConfig) -> dict[str, Any]:
    """Return the fields of a configuration, with their values as they are."""
    given = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
    return {**given, "search_paths": list(config.problem.search_paths)}
