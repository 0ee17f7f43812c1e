"""A sweep before its first run: the settings, each checked, and what decides between them."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launch.configuration.composition import compose, expanded
from launch.configuration.run_config import RunConfig, load_config, load_variants
from launch.configuration.source import check_stands_alone, read_source
from launch.sweeps.grid import Axis, override, settings_of, show
from launch.sweeps.measures import (
    Best,
    check_start,
    choose_measure,
    measured_by,
    usual_best,
)
from launch.sweeps.results import digest
from mlmc_ray.errors import ConfigError, ProblemError

Source = str | Path | Mapping[str, Any]
"""A YAML file, or what would be in it."""

FACTOR = 3
"""Of the settings of a rung of successive halving one in so many goes on, so many times as far."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SweepOptions:
    """What is asked of a sweep.

    Args:
        axes: keys and their values; every combination is a setting.
        overrides: ``a.b=c`` settings of all runs.
        entries: sweep every entry of the file's ``compare`` list, instead of the file's own run.
        measure: that decides; by default the one that tables show.
        best: "highest" or "lowest"; by default highest for an accuracy and the like.
        at_rounds: after how many rounds the measure is taken; the last decides, and with halving
            they are the rungs. By default the configured number of rounds.
        seeds: runs of every setting, with the configured seed of its entry and those that follow
            it; their mean decides.
        halving: let the better third of the settings go on at every rung, instead of all.

    Raises:
        ConfigError: a value is out of range.
    """

    axes: tuple[Axis, ...]
    overrides: tuple[str, ...] = ()
    entries: bool = False
    measure: str | None = None
    best: Best | None = None
    at_rounds: tuple[int, ...] = ()
    seeds: int = 1
    halving: bool = False

    def __post_init__(self) -> None:
        if self.seeds < 1:
            raise ConfigError(f"--seeds {self.seeds}: give at least 1")
        if self.best not in (None, "highest", "lowest"):
            raise ConfigError(f"--best {self.best}: give highest or lowest")
        if list(self.at_rounds) != sorted({number for number in self.at_rounds if number > 0}):
            raise ConfigError(
                f"--at-rounds {','.join(map(str, self.at_rounds))}: give increasing numbers of "
                "rounds, from 1"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class Candidate:
    """One setting of one run.

    Attributes:
        entry: the run's name, which it shares with those of other settings.
        settings: the swept keys with their values.
        config: the run with them, as long as the sweep runs it.
        own_rounds: of the run as it is configured.
    """

    entry: str
    settings: Mapping[str, Any]
    config: RunConfig
    own_rounds: int

    @property
    def label(self) -> str:
        """The settings in a line."""
        return ", ".join(f"{key}={show(value)}" for key, value in self.settings.items())


@dataclass(frozen=True, kw_only=True, slots=True)
class Sweep:
    """A sweep that can begin.

    Attributes:
        name: of the configuration.
        axes: keys and their values.
        candidates: every setting, of every entry.
        measure: that decides.
        best: whether the highest or the lowest is the best.
        at_rounds: after how many rounds it is taken, in increasing order.
        seeds: how many runs a setting has; see ``seeds_of``.
        halving: whether the better third of the settings goes on, or all.
        own_seeds: with how many a comparison runs every entry of the file; None if it does not say.
        left_aside: entries of the file's ``compare`` list, where its own run is swept instead.
    """

    name: str
    axes: tuple[Axis, ...]
    candidates: tuple[Candidate, ...]
    measure: str
    best: Best
    at_rounds: tuple[int, ...]
    seeds: int
    halving: bool
    own_seeds: int | None
    left_aside: int

    @property
    def rounds(self) -> int:
        """Of a whole run."""
        return self.at_rounds[-1]

    @property
    def entries(self) -> dict[str, list[Candidate]]:
        """The settings of every entry, in their order."""
        found: dict[str, list[Candidate]] = {}
        for candidate in self.candidates:
            found.setdefault(candidate.entry, []).append(candidate)
        return found

    def seeds_of(self, candidate: Candidate) -> tuple[int, ...]:
        """Return the seeds of a setting's runs: the configured one of its entry, and the next."""
        first = candidate.config.seed
        return tuple(range(first, first + self.seeds))

    def to_mapping(self) -> dict[str, Any]:
        """Return all that its results depend on, as plain values."""
        return {
            "kind": "sweep",
            "over": {axis.key: list(axis.values) for axis in self.axes},
            "measure": self.measure,
            "best": self.best,
            "at_rounds": list(self.at_rounds),
            "seeds": self.seeds,
            "halving": self.halving,
            "configurations": digest(candidate.config for candidate in self.candidates),
        }


def plan_sweep(source: Source, options: SweepOptions) -> Sweep:
    """Make every configuration of a sweep, and refuse those that could not begin.

    Args:
        source: a YAML file, or a mapping.
        options: what is asked.

    Raises:
        ConfigError, ProblemError: name the setting; nothing has been run.
    """
    settings = settings_of(options.axes)
    read = read_source(source)
    if read.variants and not options.entries:
        given = [*options.overrides, *(override(key, value) for key, value in settings[0].items())]
        check_stands_alone(read, given, "to sweep them all: add --entries")
    made = [_configs(source, options, setting) for setting in settings]
    first = made[0]
    if len({config.name for config in first}) < len(first):
        raise ConfigError("compare: two entries have the same name: give each its own")
    at_rounds = options.at_rounds or rungs(_rounds(first), len(settings) * options.halving)
    if options.halving and len(at_rounds) < 2:
        raise ConfigError(
            f"--halving: {at_rounds[0]} rounds and {len(settings)} settings make a single rung: "
            "leave it out, or give at least two numbers to --at-rounds"
        )
    candidates = tuple(
        Candidate(
            entry=config.name,
            settings=setting,
            config=dataclasses.replace(configs[index], rounds=at_rounds[-1]),
            own_rounds=configs[index].rounds,
        )
        for index, config in enumerate(first)
        for setting, configs in zip(settings, made, strict=True)
    )
    for candidate in candidates:
        _check(candidate)
    names = {c.entry: list(measured_by(c.config)) for c in candidates[:: len(settings)]}
    measure = choose_measure(options.measure, names)
    return Sweep(
        name=first[0].name,
        axes=options.axes,
        candidates=candidates,
        measure=measure,
        best=options.best or usual_best(measure),
        at_rounds=at_rounds,
        seeds=options.seeds,
        halving=options.halving,
        own_seeds=read.seeds,
        left_aside=0 if options.entries else len(read.variants),
    )


def rungs(rounds: int, num_settings: int) -> tuple[int, ...]:
    """Return the rounds at which a third of the settings goes on, the last with 1 or 2 of them.

    Args:
        rounds: of the last rung.
        num_settings: at the first; 0 or 1 for a single rung.
    """
    number = 0
    while FACTOR ** (number + 1) <= num_settings:
        number += 1
    return tuple(sorted({max(1, rounds // FACTOR**power) for power in range(number + 1)}))


def _configs(source: Source, options: SweepOptions, setting: Mapping[str, Any]) -> list[RunConfig]:
    """Return the run of a setting, or those of the ``compare`` list, under the file's names."""
    overrides = [*options.overrides, *(override(key, value) for key, value in setting.items())]
    if options.entries:
        return load_variants(source, overrides)
    config = load_config(source, overrides)
    return [dataclasses.replace(config, name=_name(source, config.name, options.overrides))]


def _rounds(entries: Sequence[RunConfig]) -> int:
    """Return the configured rounds, the same for all entries.

    Raises:
        ConfigError: they differ.
    """
    given = {config.name: config.rounds for config in entries}
    if len(set(given.values())) > 1:
        told = ", ".join(f"{name} {rounds}" for name, rounds in given.items())
        raise ConfigError(
            f"--entries: rounds differ ({told}): say with --at-rounds after how many rounds the "
            "measure is taken"
        )
    return entries[0].rounds


def _name(source: Source, name: str, overrides: Sequence[str]) -> str:
    """Return the name without the settings of the sweep, which have been added to the file's."""
    if any(text.startswith("name=") for text in overrides):
        return name
    if isinstance(source, Mapping):
        return str(source.get("name", name))
    return str(expanded(compose(Path(source)).values.get("name", name), str(source), "name"))


def _check(candidate: Candidate) -> None:
    try:
        check_start(candidate.config)
    except (ConfigError, ProblemError) as error:
        place = f"{candidate.entry}, {candidate.label}"
        raise type(error)(f"{place}: {error}") from error
