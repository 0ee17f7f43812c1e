"""What coordinated thresholds do for the mean of several workers' messages.

    python -m benchmarks.coordinated_draws

Workers hold gradients of the digits network after 60 steps of SGD: all the same one, that of the
whole training set; those of their shards; or those of batches of 32 from their shards. The table
has the variance of the mean of their messages over the squared norm of the mean of their gradients,
with independent and with coordinated draws.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from torch import Tensor

from mlmc_ray.compressors import Context, SharedDirections, SharedThresholds
from mlmc_ray.flat import FlatModel
from mlmc_ray.problems import Digits, Shard, initial_model
from mlmc_ray.seeding import generator_for

Shared = SharedThresholds | SharedDirections

COMPRESSORS: tuple[Shared, ...] = (
    SharedThresholds(rms=30.0),
    SharedThresholds(rms=3.0),
    SharedDirections(rms=80.0),
    SharedDirections(rms=10.0),
)
WORKERS = (4, 8, 32)
HOLDING = ("all hold the same", "shards dealt uniformly", "batches of 32 from those")
_STEPS, _STEP_SIZE, _BATCH_SIZE = 60, 0.05, 32


def trained() -> FlatModel:
    """Return the network of the digits after some steps of SGD."""
    model = initial_model(Digits(), 0)
    shard = Digits().shard(0, 1, generator_for(0, "shards"))
    for step in range(_STEPS):
        batch = shard.sample(_BATCH_SIZE, generator_for(0, step, "batch"))
        model.parameters.sub_(gradient(model, batch), alpha=_STEP_SIZE)
    return model


def gradient(model: FlatModel, batch: tuple[Tensor, ...]) -> Tensor:
    """Return the gradient of a batch, shape (d,)."""
    images, labels = batch
    model.clear_gradients()
    Digits().loss(model.module, (images, labels)).backward()  # type: ignore[no-untyped-call]
    return model.collect_gradients().clone()


def vectors(model: FlatModel, holding: str, workers: int) -> list[Tensor]:
    """Return what the workers hold, one of ``HOLDING``."""
    if holding == HOLDING[0]:
        whole = Digits().shard(0, 1, generator_for(0, "shards"))
        return [gradient(model, whole.full())] * workers
    shards: Sequence[Shard] = [
        Digits().shard(i, workers, generator_for(0, "shards")) for i in range(workers)
    ]
    if holding == HOLDING[1]:
        return [gradient(model, shard.full()) for shard in shards]
    draws = [generator_for(0, i, "of worker") for i in range(workers)]
    pairs = zip(shards, draws, strict=True)
    return [gradient(model, shard.sample(_BATCH_SIZE, draw)) for shard, draw in pairs]


def variance(
    compressor: Shared, model: FlatModel, held: Sequence[Tensor], rounds: int
) -> tuple[float, float]:
    """Return the mean of the squared error of the mean over that of the vectors, and its error."""
    mean = torch.stack(list(held)).mean(dim=0)
    found = []
    for index in range(rounds):
        total = torch.zeros_like(mean)
        for i, vector in enumerate(held):
            context = Context(
                generator_for(1, i, index),
                shared_seed=index,
                worker_id=i,
                num_workers=len(held),
                layer_sizes=tuple(layer.stop - layer.start for layer in model.layers),
                layer_shapes=model.layer_shapes,
            )
            payload = compressor.bind(context).compress(vector, generator=context.generator)
            payload.add_to(total, 1 / len(held))
        found.append((total - mean).square().sum() / mean.square().sum())
    values = torch.stack(found).double()
    return float(values.mean()), float(values.std() / rounds**0.5)


def main(
    rounds: Annotated[int, typer.Option(min=2, help="To average over.")] = 100,
) -> None:
    """Measure the variance of the mean of messages, drawn alone and together, in five minutes."""
    torch.set_num_threads(1)
    model, table = trained(), Table("compressor", "workers", *HOLDING)
    with Progress(transient=True) as progress:
        task = progress.add_task("measuring", total=len(COMPRESSORS) * len(WORKERS))
        for compressor in COMPRESSORS:
            for workers in WORKERS:
                cells = []
                for holding in HOLDING:
                    held = vectors(model, holding, workers)
                    both = [
                        variance(replace(compressor, coordinated=told), model, held, rounds)
                        for told in (False, True)
                    ]
                    cells.append(", ".join(f"{value:.3g} ± {error:.1g}" for value, error in both))
                name = f"{type(compressor).__name__}(rms={compressor.rms:g})"
                table.add_row(name, str(workers), *cells)
                progress.advance(task)
    Console(width=140).print(table)


if __name__ == "__main__":
    typer.run(main)
