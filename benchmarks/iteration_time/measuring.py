"""Rounds of a configuration, timed part by part."""

import time
from collections.abc import Generator, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from functools import partial
from importlib import metadata
from statistics import fmean
from typing import Any, Literal

import numpy as np
import torch

from benchmarks.iteration_time.parts import PARTS, parts_in_process, parts_on_ray
from benchmarks.timed.parties import time_host, time_server
from benchmarks.timed.stopwatch import Stopwatch
from launch.benching.measuring import machine, synchronize
from launch.configuration.run_config import RunConfig, load_variants
from launch.engines.inline import InlineEngine
from launch.starting import check_run
from launch.theory.step_size import with_step_size
from mlmc_ray.errors import ConfigError, ProblemError

EngineName = Literal["inline", "ray"]

_SETTINGS = (
    "problem",
    "method",
    "optimizer",
    "clip_norm",
    "downlink",
    "seed",
    "workers",
    "batch_size",
    "buffers_every",
    "actors",
    "device",
    "precision",
    "gradients_at_once",
    "gpus_per_actor",
    "threads",
)
"""Keys of a configuration that the time of a round may depend on."""


def entries_of(source: str, overrides: Sequence[str], engine: EngineName) -> list[RunConfig]:
    """Return the entries of a comparison, each of which could begin on the engine.

    Args:
        source: a file with a ``compare`` list, or of one run.
        overrides: ``a.b=c`` settings, which win over the file.
        engine: wins over file and overrides.

    Raises:
        ConfigError: an entry could not begin or cannot be timed, or two have the same name.
        ProblemError: the problem cannot be loaded.
    """
    configs = load_variants(source, [*overrides, f"engine={engine}"])
    names = [config.name for config in configs]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ConfigError(f"{source}: several entries have the names {twice}: give each its own")
    try:
        return [_checked(config) for config in configs]
    except (ConfigError, ProblemError) as error:
        raise type(error)(f"{source}: {error}") from error


def _checked(config: RunConfig) -> RunConfig:
    """Return an entry with the number that its step size is."""
    try:
        problem, _ = check_run(config)
        if config.servers > 1:
            raise ConfigError(
                f"servers is {config.servers}, and several are at work at once: give servers: 1"
            )
        if config.engine == "ray":
            from benchmarks.timed.actors import check_timed  # imports Ray

            check_timed(config)
        return with_step_size(config, problem)[0]
    except (ConfigError, ProblemError) as error:
        raise type(error)(f"{config.name}: {error}") from error


def cluster_for(engine: EngineName) -> AbstractContextManager[Any]:
    """Return a context in which rounds on the engine can run."""
    if engine == "inline":
        return nullcontext()
    from launch.engines.cluster import ray_cluster

    return ray_cluster(None)


def measure(config: RunConfig, *, rounds: int, warm_up: int) -> dict[str, Any]:
    """Return what every part of a round takes, and the whole of it, in ms.

    "ms" has the quartiles over rounds, and "middle_ms" the means over the middle half of the rounds
    by their length, in which the parts add up to the round.

    Args:
        config: of the run.
        rounds: that are measured.
        warm_up: rounds before them, in which code is imported and memory is allocated.

    Raises:
        MlmcRayError: a round failed.
    """
    timed = _rounds_inline if config.engine == "inline" else _rounds_on_ray
    with closing(timed(config)) as found:
        for _ in range(warm_up):
            next(found)
        parts = [next(found) for _ in range(rounds)]
    settings = config.to_mapping()
    by_length = sorted(parts, key=lambda own: own["round"])
    middle = by_length[rounds // 4 : rounds - rounds // 4]
    names = ("round", *PARTS)
    return {
        "name": config.name,
        "parameters": check_run(config)[1],
        "settings": {key: settings[key] for key in _SETTINGS if key in settings},
        "ms": {name: _quartiles([own[name] for own in parts]) for name in names},
        "middle_ms": {name: 1e3 * fmean(own[name] for own in middle) for name in names},
    }


def _quartiles(seconds: Sequence[float]) -> list[float]:
    quartiles: list[float] = np.percentile(1e3 * np.array(seconds), (25, 50, 75)).round(4).tolist()
    return quartiles


def _rounds_inline(config: RunConfig) -> Generator[dict[str, float], None, None]:
    """Yield the seconds of the parts, and of the round, of one round after the other."""
    engine = InlineEngine(config)
    watch = Stopwatch(partial(synchronize, torch.device(config.device)))
    time_server(engine._servers[0], watch)
    time_host(engine._host, watch)
    while True:
        watch.restart()
        with watch.part("rest"):
            engine.round(observe=False)
        round_s = watch.laps[-1].ended - watch.laps[0].begun
        yield {"round": round_s, **parts_in_process(watch.laps)}


def _rounds_on_ray(config: RunConfig) -> Generator[dict[str, float], None, None]:
    """Yield the same of rounds on actors."""
    from benchmarks.timed.actors import timed_actors
    from server.calls import fetch

    with timed_actors(config) as (server, hosts):
        round_index = 0
        while True:
            started = time.perf_counter()
            laps = fetch(server.timed_round.remote(config.round_timeout_s), round_index, "a host")
            call_s = time.perf_counter() - started
            steps = fetch([host.timed_steps.remote() for host in hosts], round_index, "a host")
            yield {"round": call_s, **parts_on_ray(laps, [own for own, _ in steps], call_s)}
            round_index += 1


def machine_of(configs: Sequence[RunConfig], engine: EngineName) -> dict[str, Any]:
    """Return the machine, with its GPU if one is used, and the version of Ray if that is."""
    devices = {config.device for config in configs}
    found = machine("cuda" if "cuda" in devices else "cpu")
    return found | ({"ray": metadata.version("ray")} if engine == "ray" else {})
