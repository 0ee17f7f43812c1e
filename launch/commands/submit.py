"""``mlmc-ray submit``: run a configuration on a Ray cluster elsewhere."""

import json
import sys
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from launch.commands.options import Workers, overrides_of
from launch.plain_errors import plain_errors
from mlmc_ray.errors import ConfigError


def submit(
    config: Annotated[
        Path | None,
        typer.Argument(help="YAML file of the run.", metavar="CONFIG", show_default=False),
    ] = None,
    address: Annotated[
        str | None,
        typer.Option(
            help="The cluster's dashboard.",
            metavar="http://HOST:8265",
            show_default="RAY_API_SERVER_ADDRESS, RAY_ADDRESS, or this machine",
        ),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Override a key; may be repeated."),
    ] = None,
    workers: Workers = None,
    compare: Annotated[
        bool, typer.Option("--compare", help="Run every entry of the file's `compare` list.")
    ] = False,
    wheel: Annotated[
        Path | None,
        typer.Option(help="Install this wheel of mlmc-ray on the nodes.", metavar="FILE"),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Where results come to; by default runs/NAME-TIME.", metavar="DIR"),
    ] = None,
    keep: Annotated[
        str | None,
        typer.Option(
            "--out-on-cluster",
            metavar="PATH",
            help="Leave results there, on a file system that the nodes share.",
        ),
    ] = None,
    wait_s: Annotated[
        float,
        typer.Option(
            "--wait-for-resources",
            min=0,
            metavar="SECONDS",
            help="How long to wait for processors and GPUs that the cluster does not have yet.",
        ),
    ] = 0,
    stop_on_interrupt: Annotated[
        bool | None,
        typer.Option(
            "--stop-on-interrupt/--detach",
            help="On Ctrl-C, stop the job, or leave it running; otherwise ask, if on a terminal.",
            show_default=False,
        ),
    ] = None,
    variables: Annotated[
        list[str] | None,
        typer.Option(
            "--env",
            metavar="KEY=VALUE",
            help="A variable of the job's environment; the dashboard shows it. May be repeated.",
        ),
    ] = None,
    num_cpus: Annotated[
        float,
        typer.Option(min=0, help="Processors for the driver; 0 keeps it on the head node."),
    ] = 0,
    attach: Annotated[
        str | None,
        typer.Option(metavar="JOB", help="Follow a job submitted before, instead of CONFIG."),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the outcome as JSON; the rest goes to stderr.")
    ] = False,
    traceback: Annotated[
        bool, typer.Option("--traceback", help="On an error, show Python's traceback too.")
    ] = False,
) -> None:
    """Run a configuration on a Ray cluster, and bring its results back.

    Copies the files below the current directory (not what .gitignore names) to the cluster, starts
    `mlmc-ray train` there, shows its log, and ends with its exit code. Only the dashboard must be
    reachable. The nodes need what mlmc-ray needs, and Ray of this version.

    For example:

        mlmc-ray submit demo/config.yaml --address http://head:8265 --out runs/there

        mlmc-ray submit demo/compare.yaml --compare --set rounds=50 --set actors=3

        mlmc-ray submit --attach demo-1a2b3c4d --out runs/there
    """
    console = Console(stderr=as_json)
    with plain_errors(console, traceback):
        from launch.submission import Dashboard, job_of, watch
        from launch.submission import submit as submit_job
        from launch.submission.results import check_empty

        if (config is None) == (attach is None):
            raise ConfigError("give either CONFIG or --attach JOB")
        if out is not None:
            check_empty(out)
        job = config and job_of(
            config,
            overrides_of(settings, None, workers),
            compare=compare,
            wheel=wheel,
            environment=dict(map(_variable, variables or [])),
            num_cpus=num_cpus,
            keep=keep,
        )
        dashboard = Dashboard(address)
        tell = partial(console.print, soft_wrap=True, highlight=False, markup=False)
        if job:
            submit_job(dashboard, job, wait_s, tell)
            tell(f"job {job.job_id} on {dashboard.url}")
        outcome = watch(
            dashboard,
            job.job_id if job else str(attach),
            out=out,
            stops=partial(_stops, stop_on_interrupt),
            tell=tell,
            write=partial(tell, end=""),
        )
        if as_json:
            print(json.dumps(asdict(outcome)))
    raise SystemExit(outcome.exit_code)


def _variable(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise ConfigError(f"--env {text}: expected KEY=VALUE, such as OMP_NUM_THREADS=1")
    return name, value


def _stops(wanted: bool | None) -> bool:
    """Say whether an interrupted job is to be stopped; one that cannot be asked about is not."""
    if wanted is not None:
        return wanted
    if not sys.stdin.isatty():
        return False
    try:
        return typer.confirm("\nstop the job?", default=False, err=True)
    except typer.Abort:  # a second Ctrl-C, or the end of the input
        print(file=sys.stderr)
        return False
