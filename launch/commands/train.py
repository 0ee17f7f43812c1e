"""The command that trains one configuration."""

from rich.console import Console

from launch.commands.options import (
    ConfigOrNone,
    EngineName,
    Live,
    Out,
    Resume,
    Settings,
    Traceback,
    Workers,
    overrides_of,
)
from launch.plain_errors import plain_errors
from mlmc_ray.errors import ConfigError


def train(
    config: ConfigOrNone = None,
    settings: Settings = None,
    engine: EngineName = None,
    workers: Workers = None,
    out: Out = None,
    resume: Resume = None,
    live: Live = False,
    traceback: Traceback = False,
) -> None:
    """Train one configuration; `compare` and `seeds` in the file are left aside.

    Writes the resolved configuration, versions, metrics, ledger, model and a figure into the run
    directory.

    For example, with what `mlmc-ray init demo` makes:

        mlmc-ray train demo/config.yaml

        mlmc-ray train demo/config.yaml --engine inline --set optimizer.step_size=0.05

        mlmc-ray train demo/config.yaml --live

        mlmc-ray train --resume runs/demo-20260131-120000
    """
    console = Console()
    with plain_errors(console, traceback):
        from launch.checkpoints.resuming import directory_of, resumed
        from launch.comparing.running import run_one
        from launch.configuration.run_config import load_config
        from launch.display.live import LiveProgress
        from launch.display.results import telling_where
        from launch.display.terminal import RunProgress, print_results
        from launch.run_directory import check_unused, results_directory
        from launch.starting import check_run_of

        overrides = overrides_of(settings, engine, workers)
        past = None if resume is None else resumed(resume, config, overrides, out)
        if past is not None:
            run, out = past.config, past.directory or out
        elif config is not None:
            run = load_config(config, overrides)
            check_run_of(run, str(config))
        else:
            raise ConfigError("give CONFIG, the YAML file of a run, or --resume RUN")
        if out is not None and out != directory_of(past):
            check_unused(out)
        shown = LiveProgress if live else RunProgress
        with (
            results_directory(out, run.name) as directory,
            telling_where(console, directory),
            shown(console, run.name, run.rounds) as progress,
        ):
            summary, _ = run_one(run, directory, progress, past=past)
        print_results(console, [summary])
