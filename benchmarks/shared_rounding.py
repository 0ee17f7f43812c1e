"""How long rounding by shared thresholds takes, in copies of the vector.

python -m benchmarks.shared_rounding --json benchmarks/results/shared_rounding-MACHINE.json
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
from mlmc_ray.compressors import SharedDirections, SharedThresholds
from mlmc_ray.payloads import Message
from mlmc_ray.seeding import generator_for
from mlmc_ray.wire import decode, encode

COLUMNS = ("compress", "encode", "compress and encode", "decode and add")
_Shared = SharedThresholds | SharedDirections


def times(compressor: _Shared, vector: Tensor, repeats: int) -> dict[str, Any]:
    """Return the bytes of a frame, and medians of seconds; all work takes turns with a copy.

    Args:
        compressor: to time.
        vector: shape (d,), on the CPU, not zero; not modified.
        repeats: how often everything is done, after a first time that may compile.
    """
    payload = compressor.with_seed(vector, 1)
    frame = encode(Message({"v": payload}))
    total, generator = torch.zeros_like(vector), generator_for(0)
    work: dict[str, Callable[[], object]] = {
        "copy": vector.numpy().copy,
        "compress": lambda: compressor.compress(vector, generator=generator),
        "encode": lambda: encode(Message({"v": payload})),
        "decode and add": lambda: decode(frame).payloads["v"].add_to(total),
    }
    runs = [
        {name: seconds(what, vector.device) for name, what in work.items()}
        for _ in range(repeats + 1)
    ]
    result: dict[str, Any] = {"bytes": len(frame)}
    result |= {name: statistics.median(run[name] for run in runs[1:]) for name in work}
    return result | {"compress and encode": result["compress"] + result["encode"]}


def main(
    dim: Annotated[int, typer.Option(min=1, help="Entries of the vector.")] = 10_000_000,
    repeats: Annotated[int, typer.Option(min=1, help="Runs of each, whose median counts.")] = 9,
    json_path: Annotated[
        Path | None, typer.Option("--json", help="Write machine and results to this file.")
    ] = None,
) -> None:
    """Time thresholds and directions on a Gaussian vector, with one thread."""
    torch.set_num_threads(1)
    vector = torch.randn(dim, generator=generator_for(1))
    table = Table(title=f"copies of {dim:,} entries")
    for heading in ("", "bytes", "copy, ms", *COLUMNS):
        table.add_column(heading, justify="right")
    rows = {}
    for kind in (SharedThresholds, SharedDirections):
        for rms in (100.0, 32.0, 10.0):
            name = f"{kind.__name__}(rms={rms:g})"
            found = rows[name] = times(kind(rms=rms), vector, repeats)
            copies = (f"{found[column] / found['copy']:.1f}" for column in COLUMNS)
            table.add_row(name, f"{found['bytes']:,}", f"{1e3 * found['copy']:.1f}", *copies)
    Console().print(table)
    if json_path is not None:
        settings = {"dim": dim, "repeats": repeats, "threads": 1}
        text = json.dumps({"machine": machine(), "settings": settings, "seconds": rows}, indent=1)
        json_path.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
