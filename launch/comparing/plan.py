"""The runs of a comparison: its entries, each with every seed, and where they are written."""

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from launch.configuration.run_config import RunConfig
from launch.configuration.source import read_source
from launch.run_directory import slug
from launch.starting import check_run_of
from mlmc_ray.errors import ConfigError


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """One run of a comparison.

    Attributes:
        config: of the run, its seed among it.
        place: its directory, relative to that of the comparison.
        label: what lines of text call it: its name, with the seed where there are several.
    """

    config: RunConfig
    place: str
    label: str


def seeds_in(files: Iterable[Path]) -> int:
    """Return with how many seeds files say that their entries are run; 1 if none says it.

    Raises:
        ConfigError: they do not agree, or see ``read_source``.
    """
    said = {str(path): seeds for path in files if (seeds := read_source(path).seeds) is not None}
    if len(set(said.values())) > 1:
        told = ", ".join(f"{seeds} in {path}" for path, seeds in said.items())
        raise ConfigError(f"compare: seeds differ: {told}: give --seeds")
    return next(iter(said.values()), 1)


def plan_runs(configs: Sequence[RunConfig], seeds: int) -> list[Run]:
    """Return every run, those of an entry one after the other.

    Args:
        configs: the entries, each with its first seed.
        seeds: how many each is run with: its own and those that follow it.

    Raises:
        ConfigError: entries would share a directory, ``seeds`` is out of range, or a run could not
            begin.
        ProblemError: a run could not begin.
    """
    if seeds < 1:
        raise ConfigError(f"--seeds {seeds}: give at least 1")
    _check_names(configs)
    for config in configs:
        check_run_of(config, config.name)  # before others have run
    return [run for config in configs for run in _runs(config, seeds)]


def _runs(config: RunConfig, seeds: int) -> list[Run]:
    place = slug(config.name)
    if seeds == 1:
        return [Run(config=config, place=place, label=config.name)]
    return [
        Run(
            config=dataclasses.replace(_stored_in(config, place), seed=seed),
            place=f"{place}/seed-{seed}",
            label=f"{config.name}, seed {seed}",
        )
        for seed in range(config.seed, config.seed + seeds)
    ]


def _stored_in(config: RunConfig, place: str) -> RunConfig:
    """Return a run whose storage of checkpoints is its entry's, as seeds are called alike."""
    kept = config.checkpoints
    if kept is None or kept.storage is None:
        return config
    own = dataclasses.replace(kept, storage=f"{kept.storage.rstrip('/')}/{place}")
    return dataclasses.replace(config, checkpoints=own)


def _check_names(configs: Sequence[RunConfig]) -> None:
    places = [slug(config.name) for config in configs]
    for place in places:
        names = [run.name for run, own in zip(configs, places, strict=True) if own == place]
        if len(names) > 1:
            raise ConfigError(
                f"compare: runs {names} would share the directory {place!r}: give each its own name"
            )
