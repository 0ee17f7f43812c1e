"""What ``mlmc-ray bench frontier`` does with its options."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from torch import Tensor

from launch.benching.benched import Shapes, square_layers
from launch.benching.frontier import KINDS, Frontier, entries, measure_frontier
from launch.benching.frontier_plot import plot_frontier
from launch.benching.frontier_report import equal_error_table, frontier_report, frontier_table
from launch.benching.frontier_settings import chosen, kind_of, lines
from launch.benching.gradients import (
    WITH_FILES,
    TrainingGradient,
    default_cache,
    gradient_of,
    parsed,
)
from launch.benching.options import check_outputs
from launch.run_directory import writing
from mlmc_ray.errors import ConfigError

_DIM = 1_000_000
_FEW = 64  # values, enough to know the lines


@dataclass(frozen=True, kw_only=True, slots=True)
class FrontierOptions:
    """The options of the command; those that are None or empty were not given.

    Attributes:
        dim: number of independent entries.
        kind: of independent entries.
        gradient: of training, as ``network:round``, in place of the two above.
        step_size: of that training.
        batch_size: of that training.
        data_dir: of that training's data.
        cache: directory of gradients.
        only: lines and kinds to measure.
        against: the line at whose errors the others are compared.
        repeats: messages of each setting.
        json_path: of the results.
        png_path: of the picture.
    """

    dim: int | None = None
    kind: str | None = None
    gradient: str | None = None
    step_size: float | None = None
    batch_size: int | None = None
    data_dir: Path | None = None
    cache: Path | None = None
    only: list[str]
    against: str | None = None
    repeats: int = 5
    json_path: Path | None = None
    png_path: Path | None = None


def run_frontier(options: FrontierOptions, console: Console) -> bool:
    """Measure, print and write what the options ask for.

    Returns:
        Whether no compressor failed.

    Raises:
        ConfigError: an option is of no use; quotes it.
        ProblemError: the gradient cannot be made.
    """
    check_outputs(options.json_path, options.png_path)
    training = _training(options)
    _check_lines(options)
    vector, shapes, name = _vector(options, training, console)
    measured = lines(shapes, _only(options))
    found = measure_frontier(measured, vector, options.repeats, console)
    against = options.against if options.against in found.lines() else None  # it may have failed
    _print(found, vector.numel(), name, against, console)
    source = {"name": name, **(asdict(training) if training is not None else {})}
    report = frontier_report(found, vector.numel(), source, against)
    _write(options, found, report, name)
    return not found.failures


def _training(options: FrontierOptions) -> TrainingGradient | None:
    """Return the gradient that is asked for, if any, having refused what has no effect."""
    if options.gradient is None:
        for option, given in {
            "--step-size": options.step_size,
            "--batch-size": options.batch_size,
            "--data-dir": options.data_dir,
            "--cache": options.cache,
        }.items():
            if given is not None:
                raise ConfigError(f"{option} {given}: has no effect without --gradient")
        if options.kind not in (None, *KINDS):
            raise ConfigError(f"--kind {options.kind}: known are {list(KINDS)}")
        return None
    for option, value in {"--dim": options.dim, "--kind": options.kind}.items():
        if value is not None:
            raise ConfigError(
                f"{option} {value}: has no effect on --gradient {options.gradient}: leave one out"
            )
    settings = {"step_size": options.step_size, "batch_size": options.batch_size}
    wanted = parsed(options.gradient, {n: v for n, v in settings.items() if v is not None})
    if options.data_dir is not None and wanted.network not in WITH_FILES:
        raise ConfigError(
            f"--data-dir {options.data_dir}: has no effect on --gradient {options.gradient}, whose "
            f"data are installed: leave it out; it is for {list(WITH_FILES)}"
        )
    return wanted


def _check_lines(options: FrontierOptions) -> None:
    """Refuse unknown lines, before a gradient takes its time."""
    known = list(lines(square_layers(_FEW)))
    chosen(known, options.only, "--only")
    if options.against is not None and options.against not in known:
        chosen(known, [options.against], "--against")
        raise ConfigError(
            f"--against {options.against}: is a kind of several lines; give one of "
            f"{[line for line in known if kind_of(line) == options.against]}"
        )


def _only(options: FrontierOptions) -> list[str]:
    """Return the lines and kinds to measure, among which is the one to compare with."""
    if not options.only or options.against is None:
        return options.only
    return [*options.only, options.against]


def _vector(
    options: FrontierOptions, training: TrainingGradient | None, console: Console
) -> tuple[Tensor, Shapes, str]:
    """Return the vector, the shapes of its layers, and what to call it."""
    if training is None:
        kind = options.kind or KINDS[0]
        return *entries(kind, options.dim or _DIM, 0), kind
    cache = options.cache or default_cache()
    name = (
        f"gradient of {training.network} at round {training.round_index}, step size "
        f"{training.step_size:g}, batch {training.batch_size}"
    )
    return *gradient_of(training, cache, options.data_dir, console), name


def _print(found: Frontier, dim: int, name: str, against: str | None, console: Console) -> None:
    console.print(frontier_table(found, dim, name))
    if against is not None:
        console.print(equal_error_table(found, against))
    for failure in found.failures:
        line = f"{failure.name} failed: {failure.reason}"
        console.print(line, soft_wrap=True, highlight=False, markup=False)


def _write(options: FrontierOptions, found: Frontier, report: dict[str, Any], name: str) -> None:
    if options.json_path is not None:
        with writing(options.json_path):
            text = json.dumps(report, indent=2)
            options.json_path.write_text(text + "\n", encoding="utf-8")
    if options.png_path is not None:
        with writing(options.png_path):
            plot_frontier(found, options.png_path, name)
