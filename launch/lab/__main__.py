"""``python -m launch.lab``: run a command in a network of several nodes on this machine."""

import os
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from launch.lab.inside import on_node
from launch.lab.outside import run_in_lab
from launch.lab.plan import LabPlan
from launch.plain_errors import plain_errors

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="A network of several nodes on this machine, for as long as a command takes.",
)
_Command = Annotated[list[str], typer.Argument(metavar="-- COMMAND ...", help="What to run.")]


@app.command()
def run(
    command: _Command,
    nodes: Annotated[int, typer.Option(help="Nodes, with node 0, on which the command runs.")] = 3,
    rate: Annotated[
        str | None,
        typer.Option(help="Of every link, each way, such as 100mbit.", show_default="no limit"),
    ] = None,
    cpus_per_node: Annotated[
        int, typer.Option(help="That Ray finds on every node but node 0, where it finds none.")
    ] = 1,
    store_mib: Annotated[
        int,
        typer.Option(help="MiB of Ray's object store on every node; more is spilled."),
    ] = 512,
    ray: Annotated[bool, typer.Option(help="Start a Ray cluster, with its head on node 0.")] = True,
    json_path: Annotated[
        Path | None, typer.Option("--json", help="Write every node's counters here.")
    ] = None,
) -> None:
    """Bring a lab up, run a command on its node 0, and end with the command's exit status.

    Node 0 has the address 10.200.0.1, node 1 has 10.200.0.2, and so on. With Ray, RAY_ADDRESS is
    set for the command. Needs Linux, root and iproute2; everything of the lab ends with it.
    """
    with plain_errors(Console(stderr=True)):
        plan = LabPlan(
            nodes=nodes,
            rate=_bytes_a_second(rate),
            cpus_per_node=cpus_per_node,
            store_mib=store_mib,
            with_ray=ray,
            report=str(json_path) if json_path else None,
        )
        raise SystemExit(run_in_lab(plan, command))


@app.command("exec")
def run_on_node(
    node: Annotated[int, typer.Argument(help="Counted from 0.")], command: _Command
) -> None:
    """Inside a lab: run a command on one of its nodes."""
    with plain_errors(Console(stderr=True)):
        line = on_node(node, command)
        os.execvp(line[0], line)


def _bytes_a_second(rate: str | None) -> float | None:
    if rate is None:
        return None
    from launch.planning import parse_rate

    return parse_rate(rate, "--rate")


if __name__ == "__main__":
    app()
