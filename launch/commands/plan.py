"""``mlmc-ray plan``: how long rounds will take on a cluster, and what its traffic costs."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from launch.plain_errors import plain_errors

if TYPE_CHECKING:
    from launch.planning import Cluster, Links, Measured
    from launch.planning.report import PlanRow
    from launch.scaling.plan import Target


def plan(
    run: Annotated[Path, typer.Argument(help="Run directory of `mlmc-ray train`.", metavar="RUN")],
    workers: Annotated[
        str | None,
        typer.Option(help="Logical workers, such as 4,8,16.", show_default="as in the run"),
    ] = None,
    nodes: Annotated[
        str | None,
        typer.Option(
            help="Nodes that host them: one number, or one for each of --workers.",
            show_default="one for each worker",
        ),
    ] = None,
    processes: Annotated[
        int, typer.Option(min=1, help="Processes that host workers on a node, side by side.")
    ] = 1,
    up: Annotated[str, typer.Option(help="A node's link out.", metavar="RATE")] = "1Gbit",
    down: Annotated[str, typer.Option(help="A node's link in.", metavar="RATE")] = "1Gbit",
    server_up: Annotated[
        str | None,
        typer.Option(help="The server's link out.", metavar="RATE", show_default="as --up"),
    ] = None,
    server_down: Annotated[
        str | None,
        typer.Option(help="The server's link in.", metavar="RATE", show_default="as --down"),
    ] = None,
    latency: Annotated[
        str, typer.Option(help="One way between two nodes.", metavar="TIME")
    ] = "0.1ms",
    target: Annotated[
        str | None,
        typer.Option(help="Such as accuracy=0.9: how long until then.", metavar="MEASURE=VALUE"),
    ] = None,
    scale: Annotated[
        Path | None,
        typer.Option(
            help="results.json of `mlmc-ray scale`: rounds to the target by workers.",
            metavar="FILE",
        ),
    ] = None,
    price: Annotated[
        float, typer.Option("--price-per-gb", min=0, help="Of 10^9 bytes that leave a node.")
    ] = 0.0,
    price_in: Annotated[
        float, typer.Option("--price-per-gb-in", min=0, help="Of 10^9 bytes that enter a node.")
    ] = 0.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the plan as JSON.")] = False,
    png: Annotated[
        Path | None, typer.Option(help="Draw the parts of a round.", metavar="FILE")
    ] = None,
    traceback: Annotated[
        bool, typer.Option("--traceback", help="On an error, show Python's traceback too.")
    ] = False,
) -> None:
    """Predict rounds on a cluster from a run here: seconds, bytes, cost, and what holds them up.

    Takes the sizes of frames and the seconds of workers and server from the run, and adds the links
    that you name. Links are given as 100Mbit, 1Gbit/s or 12.5MB/s. The assumptions are printed.

    For example, with what `mlmc-ray init demo` makes:

        mlmc-ray train demo/config.yaml --engine inline --out runs/here

        mlmc-ray plan runs/here --up 100Mbit --down 1Gbit --latency 5ms

        mlmc-ray plan runs/here --workers 4,8,16,32 --nodes 4 --target accuracy=0.9

        mlmc-ray plan runs/here --workers 16 --price-per-gb 0.09 --json
    """
    console = Console()
    with plain_errors(console, traceback):
        from launch.planning import Links, check_target, measure, parse_rate, parse_seconds
        from launch.scaling.plan import parse_target
        from mlmc_ray.errors import ConfigError

        links = Links(
            up=parse_rate(up, "--up"),
            down=parse_rate(down, "--down"),
            server_up=None if server_up is None else parse_rate(server_up, "--server-up"),
            server_down=None if server_down is None else parse_rate(server_down, "--server-down"),
            latency_s=parse_seconds(latency, "--latency"),
        )
        goal = None if target is None else parse_target(target)
        if scale is not None and goal is None:
            raise ConfigError(f"--scale {scale}: says rounds to a target: give its --target too")
        measured = measure(run)
        if goal is not None:
            check_target(measured, goal)
        clusters = _clusters(workers, nodes, processes, measured)
        rows = _rows(measured, clusters, links, goal, scale, price + price_in)
        if png is not None:
            _draw(png, rows, measured.name)
        if as_json:
            print(json.dumps(_mapping(measured, links, rows, target), indent=2))
        else:
            _show(console, measured, rows, target)


def _clusters(
    workers: str | None, nodes: str | None, processes: int, measured: "Measured"
) -> list["Cluster"]:
    """Return the clusters that are asked for.

    Raises:
        ConfigError: the lists do not fit each other.
    """
    from launch.planning import Cluster
    from launch.planning.quantities import parse_counts
    from mlmc_ray.errors import ConfigError

    sizes = (measured.workers,) if workers is None else parse_counts("--workers", workers)
    counts = sizes if nodes is None else parse_counts("--nodes", nodes)
    if len(counts) == 1:
        counts = tuple(min(counts[0], size) for size in sizes)
    if len(counts) != len(sizes):
        raise ConfigError(
            f"--nodes {nodes} has {len(counts)} numbers, and there are {len(sizes)} of workers: "
            "give one, or one for each"
        )
    try:
        return [
            Cluster(workers=size, nodes=count, processes=processes, at_once=measured.at_once)
            for size, count in zip(sizes, counts, strict=True)
        ]
    except ValueError as error:
        raise ConfigError(f"--nodes {nodes}: {error}") from error


def _rows(
    measured: "Measured",
    clusters: "list[Cluster]",
    links: "Links",
    goal: "Target | None",
    scale: Path | None,
    price_per_gb: float,
) -> list["PlanRow"]:
    from launch.planning import predict, rounds_to_target, scaled_rounds
    from launch.planning.report import PlanRow

    rounds: dict[int, int] = {}
    if goal is not None:
        rounds = scaled_rounds(scale, goal) if scale else {}
        own = rounds_to_target(measured.metrics, goal)
        rounds |= {} if own is None else {measured.workers: own}
    return [
        PlanRow(
            prediction=predict(measured, cluster, links),
            long_s=predict(measured, cluster, links, percentile_95=True).seconds,
            rounds=rounds.get(cluster.workers),
            price_per_gb=price_per_gb,
        )
        for cluster in clusters
    ]


def _show(
    console: Console, measured: "Measured", rows: "list[PlanRow]", target: str | None
) -> None:
    from launch.planning import ASSUMPTIONS
    from launch.planning.report import measured_lines, plan_tables

    def say(line: str) -> None:
        console.print(line, soft_wrap=True, highlight=False, markup=False)

    for line in measured_lines(measured):
        say(line)
    for table in plan_tables(rows, target):
        console.print(table)
    if target and any(row.rounds is None for row in rows):
        say(
            f"?: {target} was not reached with so many workers, here or in a file of --scale; "
            "how many rounds it takes is measured, not predicted"
        )
    say("assumed:")
    for line in ASSUMPTIONS:
        say(f"- {line}")


def _mapping(
    measured: "Measured", links: "Links", rows: "list[PlanRow]", target: str | None
) -> dict[str, Any]:
    from dataclasses import asdict

    from launch.planning import ASSUMPTIONS
    from launch.planning.report import measured_mapping

    return {
        "measured": measured_mapping(measured),
        "links_bytes_per_s": asdict(links),
        "target": target,
        "plan": [row.to_mapping() for row in rows],
        "assumptions": list(ASSUMPTIONS),
    }


def _draw(path: Path, rows: "list[PlanRow]", name: str) -> None:
    from launch.planning.report import draw_plan
    from launch.run_directory import writing

    with writing(path):
        draw_plan(rows, f"{name}: a round, predicted").savefig(path)
