"""The kernels' times, in copies of the vector.

python -m benchmarks.kernels --json benchmarks/results/kernels-MACHINE.json
"""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from rich.console import Console
from rich.table import Table

from launch.benching.measuring import machine
from mlmc_ray.kernels.digits import digit_counts, digit_positions
from mlmc_ray.kernels.finite import all_finite, scan
from mlmc_ray.kernels.hadamard import rotate, unrotate
from mlmc_ray.kernels.magnitudes import magnitude_histogram
from mlmc_ray.kernels.select import entries_between, largest_entries, rank


def seconds(work: Callable[[], object], repeats: int) -> float:
    """Return the least time of several runs, after one that may compile."""
    work()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


def kernels(values: np.ndarray, fraction: float) -> dict[str, Callable[[], object]]:
    """Name the work that is timed, on one vector.

    Args:
        values: shape (d,), float32.
        fraction: of the entries to select.
    """
    vector = torch.from_numpy(values)
    k = max(1, round(fraction * len(values)))
    low = (len(values) - k) // 4
    exponent = int(np.frexp(scan(vector)[1])[1])
    counts = magnitude_histogram(vector)
    rotated = rotate(values, 1)
    return {
        "all_finite": lambda: all_finite(vector),
        "scan": lambda: scan(vector),
        f"largest_entries, k = {k}": lambda: largest_entries(vector, k),
        "magnitude_histogram": lambda: magnitude_histogram(vector),
        f"entries_between, {low} to {low + k}": lambda: entries_between(
            vector, low, low + k, counts
        ),
        "digit_counts": lambda: digit_counts(values, exponent),
        "digit_positions, level 1": lambda: digit_positions(values, exponent, 1),
        "digit_positions, level 10": lambda: digit_positions(values, exponent, 10),
        "rotate": lambda: rotate(values, 1),
        "unrotate": lambda: unrotate(rotated, 1),
        "rank (a whole sort)": lambda: rank(vector.abs()),
        f"torch.topk of the magnitudes, k = {k}": lambda: torch.topk(vector.abs(), k, sorted=False),
    }


def main(
    dim: Annotated[int, typer.Option(min=1, help="Entries of the vector.")] = 10_000_000,
    fraction: Annotated[float, typer.Option(help="Part of the entries to select.")] = 0.01,
    repeats: Annotated[int, typer.Option(min=1, help="Runs of each; the fastest counts.")] = 5,
    json_path: Annotated[
        Path | None, typer.Option("--json", help="Write machine and results to this file.")
    ] = None,
) -> None:
    """Time every kernel on a Gaussian vector, one thread, in copies of that vector."""
    torch.set_num_threads(1)
    values = np.random.default_rng(0).standard_normal(dim, dtype=np.float32)
    copy = seconds(values.copy, max(repeats, 20))
    table = Table(title=f"d = {dim:,}; one copy takes {1e3 * copy:.3g} ms")
    table.add_column("kernel")
    table.add_column("ms", justify="right")
    table.add_column("copies", justify="right")
    times_ms = {}
    for name, work in kernels(values, fraction).items():
        taken = seconds(work, repeats)
        times_ms[name] = 1e3 * taken
        table.add_row(name, f"{1e3 * taken:.3g}", f"{taken / copy:.2f}")
    Console().print(table)
    if json_path is not None:
        settings = {"dim": dim, "fraction": fraction, "repeats": repeats, "threads": 1}
        results = {"machine": machine(), "settings": settings, "copy_ms": 1e3 * copy}
        text = json.dumps({**results, "times_ms": times_ms}, indent=1)
        json_path.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
