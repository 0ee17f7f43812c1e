"""How well ``mlmc-ray plan`` predicts rounds on a cluster whose links are slow.

On the head node of a running Ray cluster whose links have known rates:

    python -m benchmarks.plan_on_links --address HOST:6379 --nodes 2 --rate 100Mbit --json FILE

Every method is trained on this machine, with a local Ray of its own, and on the cluster, in turns,
so that whatever else the machines do hits both. What plan says from the run here is set beside the
median round there. The cluster needs a processor for the server and one on each of the nodes.
"""

import json
import tempfile
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from benchmarks.round_time import BATCH_SIZE, FULL, PROBLEM, SEED, STEP_SIZE
from launch import Session
from launch.benching.measuring import machine
from launch.configuration.run_config import RunConfig, load_config
from launch.engines.cluster import ray_cluster
from launch.planning import Cluster, Links, measure, parse_rate, parse_seconds, predict

_WARM_UP = 3  # rounds


def main(
    address: Annotated[str, typer.Option(help="Of the cluster, HOST:PORT.")],
    rate: Annotated[str, typer.Option(help="Of every link, each way.")],
    latency: Annotated[str, typer.Option(help="One way between two nodes.")] = "0.1ms",
    nodes: Annotated[int, typer.Option(min=1, help="That host workers; the server has one.")] = 2,
    workers: Annotated[int, typer.Option(min=1)] = 4,
    width: Annotated[int, typer.Option(min=1, help="Hidden units; 857 is 0.8 million.")] = 857,
    rounds: Annotated[int, typer.Option(min=5, help="Rounds a turn.")] = 20,
    turns: Annotated[int, typer.Option(min=1, help="Of every method, here and there.")] = 3,
    json_path: Annotated[Path | None, typer.Option("--json", help="Write results here.")] = None,
) -> None:
    """Set the rounds that plan predicts from a run here beside those of a cluster."""
    console = Console()
    each_way = parse_rate(rate)
    links = Links(up=each_way, down=each_way, latency_s=parse_seconds(latency))
    cluster = Cluster(workers=workers, nodes=nodes)
    found: dict[str, dict[str, list[float]]] = {
        name: {"predicted_s": [], "measured_s": []} for name in FULL
    }
    for _ in range(turns):
        for name in FULL:
            config = _config(name, workers, nodes, width, rounds)
            found[name]["predicted_s"].append(_predicted_s(config, cluster, links))
            found[name]["measured_s"].append(_measured_s(config, address))
            console.print(name, {key: round(own[-1], 4) for key, own in found[name].items()})
    rows = {name: _medians(own) for name, own in found.items()}
    console.print(_table(rows, rate))
    if json_path is not None:
        settings = {"rate": rate, "latency": latency, "nodes": nodes, "workers": workers}
        settings |= {"width": width, "rounds": rounds, "turns": turns}
        report = {"machine": machine(), "settings": settings, "methods": rows}
        json_path.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


def _config(name: str, workers: int, nodes: int, width: int, rounds: int) -> RunConfig:
    return load_config(
        {
            "problem": {"kind": PROBLEM, "width": width},
            **FULL[name],
            "optimizer": {"kind": "sgd", "step_size": STEP_SIZE},
            "seed": SEED,
            "workers": workers,
            "batch_size": BATCH_SIZE,
            "rounds": rounds,
            "evaluate_every": 10**9,
            "actors": nodes,
        }
    )


def _predicted_s(config: RunConfig, cluster: Cluster, links: Links) -> float:
    """Run here, and return the seconds of a round that plan predicts from it for there."""
    with tempfile.TemporaryDirectory() as parent, ray_cluster("local"):
        path = Path(parent) / "run"
        with Session(config, out=path) as session:
            session.run()
        return predict(measure(path), cluster, links).seconds


def _measured_s(config: RunConfig, address: str) -> float:
    """Run there, and return the median seconds of a round."""
    with ray_cluster(address), Session(config) as session:
        session.run()
        seconds = [metrics["seconds"] for metrics in session.metrics]
    return float(np.median(np.diff(seconds)[_WARM_UP:]))


def _medians(found: dict[str, list[float]]) -> dict[str, Any]:
    predicted, measured = (float(np.median(found[key])) for key in ("predicted_s", "measured_s"))
    return {
        "predicted_s": round(predicted, 4),
        "measured_s": round(measured, 4),
        "ratio": round(predicted / measured, 3),
        "turns": {key: [round(value, 4) for value in own] for key, own in found.items()},
    }


def _table(rows: dict[str, dict[str, Any]], rate: str) -> Table:
    table = Table(title=f"links of {rate}: ms a round", title_justify="left")
    table.add_column("", no_wrap=True)
    for column in ("predicted", "measured", "ratio"):
        table.add_column(column, justify="right")
    for name, row in rows.items():
        times = (f"{1000 * row[key]:.4g}" for key in ("predicted_s", "measured_s"))
        table.add_row(name, *times, f"{row['ratio']:.2f}")
    return table


if __name__ == "__main__":
    typer.run(main)
