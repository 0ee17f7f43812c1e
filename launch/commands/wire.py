"""``mlmc-ray wire``: what the frames of a run become on the interfaces of a cluster."""

import json
from typing import Annotated

import typer
from rich.console import Console

from launch.commands.options import ConfigFile, Settings, Traceback
from launch.plain_errors import plain_errors

_TABLE_WIDTH = 120


def wire(
    config: ConfigFile,
    settings: Settings = None,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds that are measured.")] = 200,
    nodes: Annotated[
        int,
        typer.Option(min=1, help="Nodes with workers; driver and servers have one more each."),
    ] = 4,
    rate: Annotated[
        str, typer.Option(help="Of every link, each way; none for no limit.", metavar="RATE")
    ] = "1gbit",
    as_json: Annotated[bool, typer.Option("--json", help="Print the measurement as JSON.")] = False,
    traceback: Traceback = False,
) -> None:
    """Measure what the frames of a run become on the interfaces of a cluster, with all headers.

    Brings up a lab: Ray on nodes of their own, which are network namespaces of this machine, with
    every server alone on one. Shows three columns that are never mixed: bytes by the paper's
    formula, frames by the ledger, and what the counters of the interfaces say; and how far a model
    of the transport is off. Needs Linux, root, iproute2, and 200 MB of memory for each node.

    For example, with what `mlmc-ray init demo` makes:

        sudo mlmc-ray wire demo/config.yaml

        sudo mlmc-ray wire demo/config.yaml --set method=sgd --rounds 50 --rate 100mbit
    """
    console = Console()
    with plain_errors(console, traceback):
        from launch.planning import parse_rate
        from launch.wire import WirePlan, run_on_lab
        from launch.wire.report import in_words, node_table, total_table

        plan = WirePlan(
            config=str(config),
            overrides=tuple(settings or ()),
            hosts=nodes,
            rounds=rounds,
            rate=None if rate == "none" else parse_rate(rate, "--rate"),
        )
        stderr = Console(stderr=True)
        found = run_on_lab(
            plan, lambda line: stderr.print(line, soft_wrap=True, highlight=False, markup=False)
        )
        if as_json:
            print(json.dumps(found.to_mapping(), indent=2))
            return
        wide = Console(width=max(_TABLE_WIDTH, console.width))  # a narrower one loses columns
        wide.print(node_table(found))
        wide.print(total_table(found))
        for line in in_words(found):
            console.print(line, soft_wrap=True, highlight=False)
