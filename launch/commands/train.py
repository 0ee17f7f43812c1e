"""The command that trains one configuration."""

from rich.console import Console

from launch.commands.options import (
    ConfigFile,
    EngineName,
    Live,
    Out,
    Settings,
    Traceback,
    Workers,
    overrides_of,
)
from launch.plain_errors import plain_errors


def train(
    config: ConfigFile,
    settings: Settings = None,
    engine: EngineName = None,
    workers: Workers = None,
    out: Out = None,
    live: Live = False,
    traceback: Traceback = False,
) -> None:
    """Train one configuration; a `compare` list in the file is left aside.

    Writes the resolved configuration, versions, metrics, ledger, model and a figure into the run
    directory.

    For example, with what `mlmc-ray init demo` makes:

        mlmc-ray train demo/config.yaml

        mlmc-ray train demo/config.yaml --engine inline --set optimizer.step_size=0.05

        mlmc-ray train demo/config.yaml --live
    """
    console = Console()
    with plain_errors(console, traceback):
        from launch.comparing.compare import run_one
        from launch.configuration.run_config import load_config
        from launch.display.live import LiveProgress
        from launch.display.results import telling_where
        from launch.display.terminal import RunProgress, print_results
        from launch.run_directory import check_unused, results_directory

        run = load_config(config, overrides_of(settings, engine, workers))
        if out is not None:
            check_unused(out)
        shown = LiveProgress if live else RunProgress
        with (
            results_directory(out, run.name) as directory,
            telling_where(console, directory),
            shown(console, run.name, run.rounds) as progress,
        ):
            summary, _ = run_one(run, directory, progress)
        print_results(console, [summary])
