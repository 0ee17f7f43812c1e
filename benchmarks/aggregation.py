"""How long the server takes to decode and average a round's reports, in copies of the vector.

python -m benchmarks.aggregation --json benchmarks/results/aggregation-MACHINE.json
"""

import json
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.table import Table
from torch import Tensor

from launch.benching.measuring import machine, seconds
from mlmc_ray.compressors import SharedDirections, SharedThresholds, TopK
from mlmc_ray.kernels.memory import keep_freed_memory
from mlmc_ray.methods.averaging import AverageServer
from mlmc_ray.methods.reports import set_to_average
from mlmc_ray.payloads import Message, Payload
from mlmc_ray.seeding import generator_for
from mlmc_ray.wire import decode, encode

STEPS = ("decode", "average")
KINDS: dict[str, Callable[[Tensor, int], Payload]] = {
    "top-k(k=0.001)": lambda vector, seed: TopK(k=0.001).compress(
        vector, generator=generator_for(seed)
    ),
    "shared-thresholds(rms=46)": lambda vector, seed: SharedThresholds(rms=46).with_seed(
        vector, seed
    ),
    "shared-directions(rms=58)": lambda vector, seed: SharedDirections(rms=58).with_seed(
        vector, seed
    ),
}


def reports_of(kind: str, dim: int, workers: int) -> dict[int, bytes]:
    """Return a frame of every worker, each of a vector of its own of normal values."""
    make = KINDS[kind]
    return {
        worker_id: encode(
            Message({"gradient": make(torch.randn(dim, generator=generator_for(worker_id)), 1)})
        )
        for worker_id in range(workers)
    }


def times(frames: dict[int, bytes], dim: int, repeats: int) -> dict[str, Any]:
    """Return medians of seconds: of a copy, and of what the server does with the frames.

    Args:
        frames: by worker.
        dim: entries of the vector.
        repeats: how often everything is done, after a first time that may compile.
    """
    source, total = torch.randn(dim, generator=generator_for(1)), torch.zeros(dim)
    decoded = {i: decode(frame) for i, frame in frames.items()}
    server = AverageServer(source, "gradient")
    work: dict[str, Callable[[], object]] = {
        "copy": lambda: total.copy_(source),
        "decode": lambda: [decode(frame) for frame in frames.values()],
        "average": lambda: set_to_average(total, decoded, "gradient"),
        "all": lambda: server.average({i: decode(frame) for i, frame in frames.items()}),
    }
    runs = [
        {name: seconds(what, source.device) for name, what in work.items()}
        for _ in range(repeats + 1)
    ]
    sizes = {"frame_bytes": round(statistics.mean(map(len, frames.values())))}
    return sizes | {name: statistics.median(run[name] for run in runs[1:]) for name in work}


def main(
    dim: Annotated[int, typer.Option(min=1, help="Entries of the vector.")] = 11_000_000,
    workers: Annotated[int, typer.Option(min=1, help="Frames.")] = 32,
    repeats: Annotated[int, typer.Option(min=1, help="Runs of each, whose median counts.")] = 9,
    json_path: Annotated[
        Path | None, typer.Option("--json", help="Write machine and results to this file.")
    ] = None,
) -> None:
    """Time the decoding and averaging of reports that hold 0.1% of a vector, with one thread."""
    torch.set_num_threads(1)
    keep_freed_memory()
    table = Table(title=f"{workers} frames of {dim:,} entries, in copies")
    for heading in ("", "bytes each", "copy, ms", *STEPS, "all"):
        table.add_column(heading, justify="right")
    rows = {}
    for kind in KINDS:
        found = rows[kind] = times(reports_of(kind, dim, workers), dim, repeats)
        copies = (f"{found[step] / found['copy']:.2f}" for step in (*STEPS, "all"))
        table.add_row(kind, f"{found['frame_bytes']:,}", f"{1e3 * found['copy']:.1f}", *copies)
    Console().print(table)
    if json_path is not None:
        settings = {"dim": dim, "workers": workers, "repeats": repeats, "threads": 1}
        text = json.dumps({"machine": machine(), "settings": settings, "seconds": rows}, indent=1)
        json_path.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
