"""``mlmc-ray bench codecs``: size, error and speed of every compressor on one vector."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from rich.console import Console
from rich.progress import Progress
from torch import Generator, Tensor

from launch.benching.benched import Shapes, square_layers
from launch.benching.codec_result import CodecResult, label_of, measured
from launch.benching.measuring import copy_seconds
from mlmc_ray.compressors import Compressor
from mlmc_ray.errors import one_line
from mlmc_ray.problems import Problem, initial_model
from mlmc_ray.seeding import drawing, generator_for

_BATCH_SIZE = 64  # of a gradient
Kind = Literal["gaussian", "laplace", "log-normal", "gradient"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Failure:
    """A compressor that raised an error; ``reason`` has its type and text in one line."""

    name: str
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """What was measured, all with one thread.

    Attributes:
        copy_ms: time of one copy of the vector.
        results: of the compressors that worked, in their order.
        failures: of the others.
    """

    copy_ms: float
    results: list[CodecResult]
    failures: list[Failure]


def vector_of(
    kind: Kind, dim: int, seed: int, problem: Problem | None = None
) -> tuple[Tensor, Shapes]:
    """Return the vector to compress, shape (dim,), float32, and the shapes of its layers.

    Args:
        kind: of independent entries, or "gradient": of the problem's model on its first shard.
        dim: number of entries; of a gradient that is the model's own.
        seed: of the draws.
        problem: for "gradient", on a batch of 64 examples.
    """
    draws = generator_for(seed, "vector")
    if kind == "gradient":
        assert problem is not None
        model = initial_model(problem, seed)
        shard = problem.shard(0, 4, generator_for(seed, "shards"))
        with drawing(seed):
            batch = shard.sample(_BATCH_SIZE, draws)
            problem.loss(model.module, batch).backward()  # type: ignore[no-untyped-call]
        return model.collect_gradients(), model.layer_shapes
    return _entries(kind, dim, draws), square_layers(dim)


def bench_codecs(
    compressors: Sequence[Compressor], vector: Tensor, draws: int, console: Console
) -> Comparison:
    """Measure compressors one after the other, with one thread.

    Args:
        compressors: what to measure. One that raises an error costs the others nothing.
        vector: shape (d,), float32, on the device to measure; frames are made on the host.
        draws: messages for sizes, errors and the slope, where there are no levels to enumerate;
            times are medians over 3 messages.
        console: where progress goes.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    results: list[CodecResult] = []
    failures: list[Failure] = []
    try:
        copy_s = copy_seconds(vector)
        with Progress(console=console, transient=True) as progress:
            task = progress.add_task("compressors", total=len(compressors))
            for compressor in compressors:
                name = label_of(compressor)
                progress.update(task, description=name)
                try:
                    results.append(measured(compressor, vector, draws, copy_s))
                except Exception as error:  # of a compressor of one's own, anything
                    reason = f"{type(error).__name__}: {one_line(error)}"
                    failures.append(Failure(name=name, reason=reason))
                progress.advance(task)
    finally:
        torch.set_num_threads(threads)
    return Comparison(copy_ms=1e3 * copy_s, results=results, failures=failures)


def _entries(kind: Kind, dim: int, draws: Generator) -> Tensor:
    normal = torch.randn(dim, generator=draws)
    if kind == "gaussian":
        return normal
    if kind == "log-normal":
        return normal.sign() * torch.randn(dim, generator=draws).exp_()
    return normal.sign() * torch.empty(dim).exponential_(generator=draws)
