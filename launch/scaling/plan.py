"""A scaling run before it begins: the configuration of every number of workers, checked."""

import dataclasses
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from launch.carrying import with_workers
from launch.configuration.run_config import RunConfig, load_config
from launch.sweeps.grid import override
from launch.sweeps.measures import Best, check_start, choose_measure, measured_by, usual_best
from launch.sweeps.plan import Source
from launch.sweeps.results import digest
from mlmc_ray.errors import ConfigError, ProblemError

Batch = Literal["total", "per-worker"]

NEVER_NEGATIVE = ("gap", "squared_distance", "gradient_norm")
"""Measures that a target below 0 can never be reached in."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """A value of a measure that is to be reached.

    Args:
        measure: the problem's name of it.
        value: reached by what is at least as good.
        best: whether high values are good, or low ones.

    Raises:
        ConfigError: the measure never has such a value.
    """

    measure: str
    value: float
    best: Best

    def __post_init__(self) -> None:
        given = f"--target {self.measure}={self.value:g}"
        if not math.isfinite(self.value):
            raise ConfigError(f"{given}: give a finite number")
        if self.measure in NEVER_NEGATIVE and self.value < 0:
            raise ConfigError(f"{given}: it is never negative: give 0 or more")

    def reached(self, value: float) -> bool:
        """Return whether a value of the measure is at least as good as the target."""
        return value >= self.value if self.best == "highest" else value <= self.value

    def check_fraction(self, measured: Iterable[float]) -> None:
        """Refuse an accuracy outside of (0, 1] where those measured are fractions.

        Args:
            measured: values of the measure; those of a task of one's own may be in per cent.

        Raises:
            ConfigError: says how to write it.
        """
        fractions = self.measure == "accuracy" and all(0 <= value <= 1 for value in measured)
        if fractions and not 0 < self.value <= 1:
            raise ConfigError(
                f"--target {self.measure}={self.value:g}: an accuracy is a fraction here: give 0.9 "
                "for 90 per cent"
            )

    def __str__(self) -> str:
        return f"{self.measure} {'>=' if self.best == 'highest' else '<='} {float(self.value)!r}"


def parse_target(text: str) -> Target:
    """Read ``accuracy=0.9``, or ``name>=0.9`` and ``name<=0.1`` to say which side is good.

    Raises:
        ConfigError: quotes the text; or see ``Target``.
    """
    sides: dict[str, Best] = {">=": "highest", "<=": "lowest"}
    sign = next((sign for sign in (*sides, "=") if sign in text), "=")
    name, _, number = (part.strip() for part in text.partition(sign))
    try:
        return Target(measure=name, value=float(number), best=sides.get(sign) or usual_best(name))
    except ValueError:
        raise ConfigError(
            f"--target {text}: expected measure=value, such as accuracy=0.9 or gap=1e-3"
        ) from None


@dataclass(frozen=True, kw_only=True, slots=True)
class ScalePlan:
    """A scaling run that can begin.

    Attributes:
        base: the configuration, with the numbers of its file.
        configs: by number of workers, in the order given.
        batch: whether "total" or "per-worker" batches are equal.
        measure: that is shown.
        target: at which a run ends; None for all its rounds.
        draws: from which the variance at the first parameters is estimated.
    """

    base: RunConfig
    configs: Mapping[int, RunConfig]
    batch: Batch
    measure: str
    target: Target | None
    draws: int

    def to_mapping(self) -> dict[str, Any]:
        """Return all that its results depend on, but for the numbers of workers, as plain values.

        More numbers of workers may be added to the results of others.
        """
        return {
            "kind": "scale",
            "batch": self.batch,
            "target": None if self.target is None else str(self.target),
            "draws": self.draws,
            "configuration": digest([self.base]),
        }


def plan_scale(
    source: Source,
    workers: tuple[int, ...],
    *,
    overrides: tuple[str, ...] = (),
    batch: Batch = "per-worker",
    target: Target | None = None,
    draws: int = 30,
) -> ScalePlan:
    """Make the configuration of every number of workers, and refuse those that could not begin.

    Runs are in one process, without Ray, unless ``overrides`` say ``engine=ray``, and have no more
    of the file than its own run.

    Args:
        source: a YAML file, or a mapping. Its ``workers`` times its ``batch_size`` is the batch
            that is shared where ``batch`` is "total".
        workers: numbers of workers.
        overrides: ``a.b=c`` settings.
        batch: "total" for equal batches of all workers together, "per-worker" for equal ones of
            each.
        target: at which a run ends.
        draws: from which the variance is estimated.

    Raises:
        ConfigError, ProblemError: a number is out of range, or a run could not begin; nothing has
            been run.
    """
    if batch not in ("total", "per-worker"):
        raise ConfigError(f"--batch {batch}: give total or per-worker")
    if draws < 2:
        raise ConfigError(f"--draws {draws}: give at least 2")
    if not workers or min(workers) < 1 or len(set(workers)) < len(workers):
        listed = ",".join(map(str, workers))
        raise ConfigError(f"--workers {listed}: give different numbers from 1, such as 1,2,4")
    given = ("engine=inline", *overrides)
    base = load_config(source, given)
    configs = {number: _config(source, given, base, number, batch) for number in workers}
    for number, config in configs.items():
        try:
            check_start(config)
        except (ConfigError, ProblemError) as error:
            raise type(error)(f"{number} workers: {error}") from error
    first = measured_by(configs[workers[0]])
    measure = choose_measure(
        target.measure if target else None, {base.name: list(first)}, "--target"
    )
    if target is not None:
        target.check_fraction([first[measure]])
    return ScalePlan(
        base=base, configs=configs, batch=batch, measure=measure, target=target, draws=draws
    )


def _config(
    source: Source, overrides: tuple[str, ...], base: RunConfig, number: int, batch: Batch
) -> RunConfig:
    changes = with_workers(base, number)
    if batch == "total" and base.batch_size != "full":
        total = base.batch_size * base.workers
        if total % number:
            raise ConfigError(
                f"{number} workers cannot share a batch of {total} (batch_size {base.batch_size} "
                f"of {base.workers} workers) evenly: give other numbers, or --batch per-worker"
            )
        changes.append(override("batch_size", total // number))
    config = load_config(source, [*overrides, *changes])
    return dataclasses.replace(config, name=base.name)
