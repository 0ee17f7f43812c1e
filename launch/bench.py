"""``mlmc-ray bench codecs``: size, error and speed of every compressor on one vector."""

import math
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from rich.console import Console
from rich.progress import Progress
from torch import Generator, Tensor

from launch.benched import Shapes, square_layers
from launch.fields import name_of
from launch.measuring import copy_seconds, peak_gpu_memory, peak_memory, seconds
from mlmc_ray.compressors import Compressor
from mlmc_ray.errors import one_line
from mlmc_ray.estimator import MLMC
from mlmc_ray.payloads import Message, Payload
from mlmc_ray.problems import Problem, initial_model
from mlmc_ray.seeding import drawing, generator_for
from mlmc_ray.truncation import RandomTruncation
from mlmc_ray.wire import decode, encode
from mlmc_ray.wire.ideal import ideal_bits

_BATCH_SIZE = 64  # of a gradient
Kind = Literal["gaussian", "laplace", "log-normal", "gradient"]
_REPEATS = 3
_MOST_LEVELS = 512  # whose messages are all encoded; of more levels some are drawn


@dataclass(frozen=True, kw_only=True, slots=True)
class CodecResult:
    """One compressor on one vector of dimension d.

    Attributes:
        name: of the compressor, with its settings.
        unbiased: whether it claims to be.
        compress_ms: time to compress and encode.
        decode_ms: time to decode and to add to a vector.
        compress_copies: ``compress_ms`` in times of one copy of the vector.
        decode_copies: ``decode_ms`` in the same unit.
        levels: how many the expectations below are over, where the messages of all are encoded and
            weighted by their probabilities; whatever else is random is drawn once. Else None.
        draws: messages that the means below are over; None with ``levels``.
        frame_bytes: length of the frame, the mean.
        bits_per_value: the same, in bits a value.
        bits_standard_error: of the mean over the draws; None with fewer than two.
        ideal_bits_per_value: of the same messages under an ideal code (``wire.ideal``).
        relative_error: |C(v) - v|^2 / |v|^2, the mean.
        error_standard_error: of that mean over the draws; None with fewer than two.
        slope: of the mean of C(v) on v: 1 without bias.
        extra_bytes: peak of the memory that compressing and encoding took on top, or None; on a GPU
            it is the GPU's.
    """

    name: str
    unbiased: bool
    compress_ms: float
    decode_ms: float
    compress_copies: float
    decode_copies: float
    levels: int | None
    draws: int | None
    frame_bytes: float
    bits_per_value: float
    bits_standard_error: float | None
    ideal_bits_per_value: float
    relative_error: float
    error_standard_error: float | None
    slope: float
    extra_bytes: int | None


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
                name = name_of(compressor)
                progress.update(task, description=name)
                try:
                    results.append(_measure(compressor, vector, draws, copy_s))
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


def _measure(compressor: Compressor, vector: Tensor, draws: int, copy_s: float) -> CodecResult:
    frame = _drawn_frame(compressor, vector, 0)  # compiles
    accumulator = torch.zeros_like(vector)
    decode(frame).payloads["v"].add_to(accumulator)
    device = vector.device
    there = [seconds(partial(_drawn_frame, compressor, vector, i), device) for i in range(_REPEATS)]
    back = [
        seconds(lambda: decode(frame).payloads["v"].add_to(accumulator), device)
        for _ in range(_REPEATS)
    ]
    with peak_gpu_memory() if device.type == "cuda" else peak_memory() as peak:
        _drawn_frame(compressor, vector, 0)
    compress_s, decode_s = statistics.median(there), statistics.median(back)
    chances = _chances(compressor, vector)
    drawn = not chances
    weights = chances or [1 / draws] * draws
    sizes, ideals, errors, slopes = _moments(compressor, vector, chances, draws)
    dim = vector.numel()
    size = math.sumprod(weights, sizes) if hasattr(math, "sumprod") else 0.0
    return CodecResult(
        name=name_of(compressor),
        unbiased=compressor.unbiased,
        compress_ms=1e3 * compress_s,
        decode_ms=1e3 * decode_s,
        compress_copies=compress_s / copy_s,
        decode_copies=decode_s / copy_s,
        levels=None if drawn else len(weights),
        draws=draws if drawn else None,
        frame_bytes=size,
        bits_per_value=8 * size / dim,
        bits_standard_error=None,
        ideal_bits_per_value=0.0,
        relative_error=0.0,
        error_standard_error=None,
        slope=0.0,
        extra_bytes=peak[0] if peak else None,
    )
