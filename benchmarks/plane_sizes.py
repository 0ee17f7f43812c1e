"""How large the messages of fixed-point MLMC are.

python -m benchmarks.plane_sizes --json benchmarks/results/plane_sizes.json
"""

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, get_args

import typer
from rich.console import Console
from rich.table import Table
from torch import Tensor

from launch.benching.measuring import machine
from mlmc_ray.compressors.fixed_point import scale_exponent
from mlmc_ray.estimator import MLMC
from mlmc_ray.flat import FlatModel
from mlmc_ray.kernels.digits import digit_counts
from mlmc_ray.ladders import FixedPointLadder
from mlmc_ray.laws import OwnLaw
from mlmc_ray.payloads import Message
from mlmc_ray.problems import FashionMNIST, Shard, initial_model
from mlmc_ray.problems.vision import DEBIAN_FASHION_MNIST, Network
from mlmc_ray.seeding import drawing, generator_for
from mlmc_ray.wire import encode


@dataclass(frozen=True, kw_only=True, slots=True)
class PlaneSize:
    """The message of one level on a vector of dimension d.

    Attributes:
        probability: of the level.
        ones: entries with a 1 in the level's digit.
        frame_bytes: length of the frame.
        bits_per_value: the same, in bits a value.
        ideal_bits_per_value: binary entropy of ones / d, and ones / d for the signs.
    """

    probability: float
    ones: int
    frame_bytes: int
    bits_per_value: float
    ideal_bits_per_value: float


def plane_sizes(vector: Tensor) -> list[PlaneSize]:
    """Encode the message of every level.

    Args:
        vector: shape (d,), float32, on the CPU.
    """
    estimator, dim = MLMC(ladder=FixedPointLadder(), law=OwnLaw()), vector.numel()
    counts = digit_counts(vector.numpy(), scale_exponent(vector)).tolist()
    probabilities = estimator.probabilities(vector).tolist()
    sizes = []
    for level, (ones, probability) in enumerate(zip(counts, probabilities, strict=True), start=1):
        frame = encode(Message({"gradient": estimator.at_level(vector, level)}))
        sizes.append(
            PlaneSize(
                probability=probability,
                ones=ones,
                frame_bytes=len(frame),
                bits_per_value=8 * len(frame) / dim,
                ideal_bits_per_value=_binary_entropy(ones / dim) + ones / dim,
            )
        )
    return sizes


def plane_table(sizes: list[PlaneSize], title: str, shown: int) -> Table:
    """Return the first levels, and the means over all of them, as a table."""
    table = Table(title=title)
    for column in ("level", "probability", "ones", "frame bytes", "bits a value", "ideal"):
        table.add_column(column, justify="right")
    for level, size in enumerate(sizes[:shown], start=1):
        table.add_row(
            str(level),
            f"{size.probability:.3g}",
            f"{size.ones:,}",
            f"{size.frame_bytes:,}",
            f"{size.bits_per_value:.3g}",
            f"{size.ideal_bits_per_value:.3g}",
        )
    table.add_section()
    by_law = [size.probability for size in sizes]
    alike = [1 / len(sizes)] * len(sizes)
    for name, weights in (("law", by_law), (f"all {len(sizes)}", alike)):
        pairs = list(zip(weights, sizes, strict=True))
        table.add_row(
            name,
            "1" if name == "law" else f"{weights[0]:.3g}",
            f"{sum(p * size.ones for p, size in pairs):,.0f}",
            f"{sum(p * size.frame_bytes for p, size in pairs):,.0f}",
            f"{sum(p * size.bits_per_value for p, size in pairs):.4g}",
            f"{sum(p * size.ideal_bits_per_value for p, size in pairs):.4g}",
        )
    return table


def gradient(
    problem: FashionMNIST, model: FlatModel, shard: Shard, batch_size: int, step: int
) -> Tensor:
    """Return the gradient of one minibatch, shape (d,)."""
    model.clear_gradients()
    batch = shard.sample(batch_size, generator_for(0, "batch", step))
    problem.loss(model.module.train(), batch).backward()  # type: ignore[no-untyped-call]
    return model.collect_gradients()


def main(
    network: Annotated[str, typer.Option(help=f"One of {', '.join(get_args(Network))}.")] = (
        "resnet18"
    ),
    batch_size: Annotated[int, typer.Option(min=1, help="Examples a gradient.")] = 64,
    steps: Annotated[int, typer.Option(min=0, help="Of SGD, before the second table.")] = 30,
    step_size: Annotated[float, typer.Option(help="Of SGD.")] = 0.05,
    shown: Annotated[int, typer.Option(min=1, help="Levels to show; all count.")] = 12,
    data_dir: Annotated[
        str | None, typer.Option(help=f"Fashion-MNIST; else {DEBIAN_FASHION_MNIST}.")
    ] = None,
    json_path: Annotated[
        Path | None, typer.Option("--json", help="Write machine and results to this file.")
    ] = None,
) -> None:
    """Size of every level of fixed-point MLMC, its own law, on gradients of Fashion-MNIST.

    At the first parameters and after some steps. *Ideal* is the binary entropy of the plane's
    density, and a bit for the sign of every one. The last rows are means over all levels: by the
    law's probabilities, and plain.
    """
    problem = FashionMNIST(network=network, data_dir=data_dir)  # type: ignore[arg-type]
    model = initial_model(problem, 0)
    shard = problem.shard(0, 1, generator_for(0, "shards"))
    console = Console()
    gradients: list[dict[str, Any]] = []
    console.print(
        f"Fashion-MNIST from {data_dir or DEBIAN_FASHION_MNIST}, {network}, "
        f"{model.parameters.numel():,} parameters, batches of {batch_size}"
    )
    for step in range(steps + 1):
        with drawing(step):
            found = gradient(problem, model, shard, batch_size, step)
        if step in (0, steps):
            sizes, norm = plane_sizes(found), float(found.norm())
            title = f"after {step} steps of size {step_size}; |g| = {norm:.3g}"
            console.print(plane_table(sizes, title, shown))
            levels = [asdict(size) for size in sizes]
            gradients.append({"after_steps": step, "norm": norm, "levels": levels})
        model.parameters.sub_(found, alpha=step_size)
    if json_path is not None:
        settings = {"network": network, "parameters": model.parameters.numel()}
        settings |= {"batch_size": batch_size, "steps": steps, "step_size": step_size}
        results = {"machine": machine(), "settings": settings, "gradients": gradients}
        json_path.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
        console.print(f"results: {json_path}", soft_wrap=True, highlight=False)


def _binary_entropy(p: float) -> float:
    return -sum(q * math.log2(q) for q in (p, 1 - p) if q > 0)


if __name__ == "__main__":
    typer.run(main)
