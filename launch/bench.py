"""``mlmc-ray bench codecs``: size, error and speed of every compressor on one vector."""

import dataclasses
import platform
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from rich import box
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from rich.text import Text
from torch import Tensor

from launch.catalogue import KINDS
from launch.measuring import copy_seconds, peak_gpu_memory, peak_memory, seconds
from launch.units import format_bytes
from mlmc_ray.compressors import Compressor
from mlmc_ray.payloads import Message
from mlmc_ray.problems import Problem, initial_model
from mlmc_ray.seeding import drawing, generator_for
from mlmc_ray.wire import decode, encode
from mlmc_ray.wire.ideal import ideal_bits

_BATCH_SIZE = 64  # of a gradient
Kind = Literal["gaussian", "laplace", "log-normal", "gradient"]
_REPEATS = 3


@dataclass(frozen=True, slots=True)
class CodecResult:
    """One compressor on one vector of dimension d.

    Attributes:
        name: of the compressor, with its settings.
        unbiased: whether it claims to be.
        compress_copies: time to compress and encode, in times of one copy of the vector.
        decode_copies: time to decode and to add to a vector, in the same unit.
        frame_bytes: length of the frame, the mean over the draws.
        bits_per_value: the same, in bits a value.
        ideal_bits_per_value: of the same messages under an ideal code (``wire.ideal``).
        relative_error: |C(v) - v|^2 / |v|^2, the mean over the draws.
        slope: of the mean of C(v) on v, over the draws: 1 without bias.
        extra_bytes: peak of the memory that compressing and encoding took on top, or None; on a GPU
            it is the GPU's.
    """

    name: str
    unbiased: bool
    compress_copies: float
    decode_copies: float
    frame_bytes: float
    bits_per_value: float
    ideal_bits_per_value: float
    relative_error: float
    slope: float
    extra_bytes: int | None


def vector_of(kind: Kind, dim: int, seed: int, problem: Problem | None = None) -> Tensor:
    """Return the vector to compress, shape (dim,), float32.

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
        return model.collect_gradients()
    normal = torch.randn(dim, generator=draws)
    if kind == "gaussian":
        return normal
    if kind == "log-normal":
        return normal.sign() * torch.randn(dim, generator=draws).exp_()
    return normal.sign() * torch.empty(dim).exponential_(generator=draws)


def bench_codecs(
    compressors: Sequence[Compressor], vector: Tensor, draws: int, console: Console
) -> list[CodecResult]:
    """Measure compressors one after the other, with one thread.

    Args:
        compressors: what to measure.
        vector: shape (d,), float32, on the device to measure; frames are made on the host.
        draws: messages for sizes, errors and the slope; times are medians over 3 of them.
        console: where progress goes.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        copy_s = copy_seconds(vector)
        console.print(f"one copy of the vector takes {1e3 * copy_s:.3g} ms", highlight=False)
        with Progress(console=console, transient=True) as progress:
            task = progress.add_task("compressors", total=len(compressors))
            results = []
            for compressor in compressors:
                progress.update(task, description=name_of(compressor))
                results.append(_measure(compressor, vector, draws, copy_s))
                progress.advance(task)
    finally:
        torch.set_num_threads(threads)
    return results


def name_of(value: Any) -> str:
    """Return a compressor on one line, its kind as in a configuration and what is not default."""
    if not dataclasses.is_dataclass(value) or isinstance(value, type):
        return str(value)
    kinds = {cls: kind for shape in KINDS.values() for kind, cls in shape.items()}
    settings = []
    for field in dataclasses.fields(value):
        given = getattr(value, field.name)
        default = field.default
        if field.default_factory is not dataclasses.MISSING:
            default = field.default_factory()
        if given != default:
            settings.append(f"{field.name}={name_of(given)}")
    kind = kinds.get(type(value), type(value).__qualname__)
    return f"{kind}({', '.join(settings)})" if settings else kind


def codec_table(results: Sequence[CodecResult], dim: int, kind: str) -> Table:
    """Return the results as a table."""
    title = f"{dim:,} values, {kind}; times in copies of the vector"
    table = Table(title=title, box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    table.add_column("compressor", overflow="fold", min_width=24)
    columns = ("compress,\nencode", "decode,\nadd", "frame", "bits a\nvalue", "ideal")
    for column in (*columns, "relative\nerror", "slope", "extra\nmemory"):
        table.add_column(column, justify="right")
    for row in results:
        table.add_row(
            Text(row.name),
            f"{row.compress_copies:.1f}",
            f"{row.decode_copies:.1f}",
            format_bytes(row.frame_bytes),
            f"{row.bits_per_value:.3g}",
            f"{row.ideal_bits_per_value:.3g}",
            f"{row.relative_error:.3g}",
            f"{row.slope:.2f}",
            "-" if row.extra_bytes is None else format_bytes(row.extra_bytes),
        )
    return table


def report(
    results: Sequence[CodecResult], dim: int, kind: str, device: str = "cpu"
) -> dict[str, Any]:
    """Return the results with the machine, for JSON."""
    machine = {"processor": platform.processor() or platform.machine(), "torch": torch.__version__}
    if device == "cuda":
        machine["gpu"] = torch.cuda.get_device_name()
    return {
        "dim": dim,
        "kind": kind,
        "device": device,
        "machine": machine,
        "compressors": [asdict(row) for row in results],
    }


def plot(results: Sequence[CodecResult], path: Path, kind: str) -> None:
    """Draw relative error against bits per value, with the limit for Gaussian vectors.

    Any unbiased estimate of a Gaussian vector from R bits a value has a relative error of at least
    1 / (4^R - 1).
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 7), dpi=150, layout="constrained")
    axes = figure.subplots()
    rates = np.geomspace(1e-3, 12, 200)
    axes.plot(rates, 1 / (4**rates - 1), color="black", label="limit of the unbiased, Gaussian")
    shown = [row for row in results if row.relative_error > 1e-12]
    for number, row in enumerate(shown, start=1):
        place = (row.bits_per_value, row.relative_error)
        colour, marker = ("#0072B2", "o") if row.unbiased else ("#D55E00", "x")
        axes.plot(
            *place, marker=marker, color=colour, linestyle="none", label=f"{number} {row.name}"
        )
        axes.annotate(str(number), place, xytext=(4, 4), textcoords="offset points", fontsize=7)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("bits per value (frames); crosses are biased")
    axes.set_ylabel("relative error")
    axes.set_title(kind)
    axes.grid(alpha=0.3)
    axes.legend(fontsize="xx-small", loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    figure.savefig(path)


def _measure(compressor: Compressor, vector: Tensor, draws: int, copy_s: float) -> CodecResult:
    frame = _frame(compressor, vector, 0)  # compiles
    accumulator = torch.zeros_like(vector)
    decode(frame).payloads["v"].add_to(accumulator)
    device = vector.device
    there = [seconds(partial(_frame, compressor, vector, i), device) for i in range(_REPEATS)]
    back = [
        seconds(lambda: decode(frame).payloads["v"].add_to(accumulator), device)
        for _ in range(_REPEATS)
    ]
    with peak_gpu_memory() if device.type == "cuda" else peak_memory() as peak:
        _frame(compressor, vector, 0)
    norm = float(vector.double().square().sum())
    sizes, ideals, errors, slopes = [], [], [], []
    for draw in range(draws):
        frame = _frame(compressor, vector, draw)
        payload = decode(frame).payloads["v"]
        sizes.append(len(frame))
        ideals.append(ideal_bits(payload))
        accumulator.zero_()
        payload.add_to(accumulator)
        slopes.append(float(torch.dot(accumulator.double(), vector.double())) / norm)
        errors.append(float((accumulator - vector).double().square().sum()) / norm)
    dim = vector.numel()
    return CodecResult(
        name=name_of(compressor),
        unbiased=compressor.unbiased,
        compress_copies=statistics.median(there) / copy_s,
        decode_copies=statistics.median(back) / copy_s,
        frame_bytes=statistics.fmean(sizes),
        bits_per_value=8 * statistics.fmean(sizes) / dim,
        ideal_bits_per_value=statistics.fmean(ideals) / dim,
        relative_error=statistics.fmean(errors),
        slope=statistics.fmean(slopes),
        extra_bytes=peak[0] if peak else None,
    )


def _frame(compressor: Compressor, vector: Tensor, draw: int) -> bytes:
    payload = compressor.compress(vector, generator=generator_for(0, "bench", draw))
    return encode(Message({"v": payload}))
