"""How large coded index sets are, over log2 C(d, k).

python -m benchmarks.index_sets --json benchmarks/results/index_sets.json
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from mlmc_ray.kernels.index_coding import encode_indices
from mlmc_ray.kernels.subset import random_subset
from mlmc_ray.wire.ideal import subset_bits

_WHOLE = (1e-5, 1e-4, 1e-3, 0.01, 0.03, 0.1, 0.3, 0.5, 0.7, 0.9, 0.97, 0.99)
_HALVES = (
    (0.1, 0.2),
    (0.01, 0.1),
    (0.001, 0.1),
    (0.01, 0.5),
    (0.5, 0.9),
    (0.01, 0.99),
    (0.001, 0.999),
)
RANGES: tuple[tuple[float, ...], ...] = (*((density,) for density in _WHOLE), *_HALVES)


def coded(dim: int, densities: Sequence[float], seed: int) -> dict[str, Any]:
    """Encode a set with a uniformly random subset in each of some ranges of equal length.

    Args:
        dim: length of all ranges together; a multiple of their number.
        densities: the part of each range that is in the set.
        seed: of the first range; the others have the next ones.

    Returns:
        ``densities``, ``bytes``, and ``over_ideal``: bits over the sum of log2 C(length, k) over
        the ranges.
    """
    length = dim // len(densities)
    sizes = [round(density * length) for density in densities]
    ranges = [
        number * length + random_subset(seed + number, length, size)
        for number, size in enumerate(sizes)
    ]
    data = encode_indices(np.concatenate(ranges), dim)
    ideal = sum(subset_bits(length, size) for size in sizes)
    over_ideal = round(8 * len(data) / ideal, 4)
    return {"densities": list(densities), "bytes": len(data), "over_ideal": over_ideal}


def main(
    dim: Annotated[int, typer.Option(min=1000, help="What indices are below.")] = 10_000_000,
    seed: Annotated[int, typer.Option(min=0, help="Of the sets.")] = 0,
    json_path: Annotated[Path | None, typer.Option("--json", help="Write results here.")] = None,
) -> None:
    """Sizes of uniformly random sets, and of sets whose two halves differ in density."""
    sets = [coded(dim - dim % 2, densities, seed) for densities in RANGES]
    table = Table(title=f"index sets below {dim:,}")
    for column in ("density", "bytes", "over log2 C(d, k)"):
        table.add_column(column, justify="right")
    for row in sets:
        shown = " and ".join(f"{density:g}" for density in row["densities"])
        table.add_row(shown, f"{row['bytes']:,}", f"{row['over_ideal']:.4f}")
    console = Console()
    console.print(table)
    if json_path is not None:
        results = {"settings": {"dim": dim, "seed": seed}, "sets": sets}
        json_path.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
        console.print(f"results: {json_path}", soft_wrap=True, highlight=False)


if __name__ == "__main__":
    typer.run(main)
