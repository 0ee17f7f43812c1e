"""How many rounds a target takes."""

import json
from collections.abc import Sequence
from pathlib import Path

from launch.metrics import Metrics, measure_names
from launch.planning.measured import Measured
from launch.scaling.plan import Target
from launch.sweeps.measures import choose_measure
from mlmc_ray.errors import ConfigError, one_line


def check_target(measured: Measured, target: Target) -> None:
    """Refuse a target of a measure that a run does not have, or one in per cent of a fraction.

    Raises:
        ConfigError: lists the measures that it has, or says how to write it.
    """
    names = dict.fromkeys(name for line in measured.metrics for name in measure_names(line))
    choose_measure(target.measure, {measured.name: list(names)}, "--target")
    values = (line.get(f"test_{target.measure}") for line in measured.metrics)
    target.check_fraction(value for value in values if value is not None)


def rounds_to_target(metrics: Sequence[Metrics], target: Target) -> int | None:
    """Return the rounds done at the first evaluation that reached a target; None if none did."""
    for line in metrics:
        value = line.get(f"test_{target.measure}")
        if value is not None and target.reached(value):
            return int(line["round"])
    return None


def scaled_rounds(path: Path, target: Target) -> dict[int, int]:
    """Return the rounds to a target by number of workers, as ``mlmc-ray scale`` found them.

    Args:
        path: the ``results.json`` that it wrote.
        target: which must be the one of those runs.

    Returns:
        The numbers of workers that reached it, with their rounds.

    Raises:
        ConfigError: the file is missing, something else, or of another target.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        measured_to = content["plan"]["target"]
        rows = content["results"].values()
        found = {int(row["workers"]): int(row["rounds"]) for row in rows if row["reached"] is True}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ConfigError(
            f"--scale {path}: is no results.json of mlmc-ray scale: {one_line(error)}"
        ) from error
    if measured_to != str(target):
        raise ConfigError(
            f"--scale {path}: its runs were to reach {measured_to}, and --target is {target}: "
            "give the same"
        )
    return found
