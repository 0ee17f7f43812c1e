"""Size, error and speed of one compressor on one vector."""

import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from launch.benching.measuring import peak_gpu_memory, peak_memory, seconds
from launch.configuration.fields import name_of
from mlmc_ray.compressors import Compressor
from mlmc_ray.compressors.watched import Watched
from mlmc_ray.estimator import MLMC
from mlmc_ray.payloads import Message, Payload
from mlmc_ray.seeding import generator_for
from mlmc_ray.truncation import RandomTruncation
from mlmc_ray.wire import decode, encode
from mlmc_ray.wire.ideal import ideal_bits

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


def label_of(compressor: Compressor) -> str:
    """Return the name of a compressor; of one of one's own, not that of what watches it."""
    return name_of(compressor.compressor if isinstance(compressor, Watched) else compressor)


def measured(compressor: Compressor, vector: Tensor, draws: int, copy_s: float) -> CodecResult:
    """Time a compressor, and take the means of sizes and errors.

    Args:
        compressor: bound to the layers of the vector, where it needs them.
        vector: shape (d,), float32; not modified.
        draws: messages, where there are no levels to enumerate.
        copy_s: time of one copy of the vector.
    """
    compress_s, decode_s, extra_bytes = _costs(compressor, vector)
    levels = _levels(compressor, vector)
    outcomes = levels if levels is not None else _draws(compressor, vector, draws)
    weights, values = _moments(outcomes, vector)
    number, dim = len(weights), vector.numel()
    size, ideal, error, slope = (weights @ values).tolist()
    spread: list[float | None] = [None] * 4
    if levels is None and number > 1:
        spread = [*(values.std(dim=0) / number**0.5).tolist()]
    return CodecResult(
        name=label_of(compressor),
        unbiased=compressor.unbiased,
        compress_ms=1e3 * compress_s,
        decode_ms=1e3 * decode_s,
        compress_copies=compress_s / copy_s,
        decode_copies=decode_s / copy_s,
        levels=None if levels is None else number,
        draws=number if levels is None else None,
        frame_bytes=size,
        bits_per_value=8 * size / dim,
        bits_standard_error=None if spread[0] is None else 8 * spread[0] / dim,
        ideal_bits_per_value=ideal / dim,
        relative_error=error,
        error_standard_error=spread[2],
        slope=slope,
        extra_bytes=extra_bytes,
    )


def _costs(compressor: Compressor, vector: Tensor) -> tuple[float, float, int | None]:
    """Return the seconds of compressing and encoding, those of decoding and adding, and memory."""

    def back(frame: bytes) -> None:
        decode(frame).payloads["v"].add_to(accumulator)

    def there(draw: int) -> bytes:
        return _frame(compressor.compress(vector, generator=_generator(draw)))

    accumulator, device = torch.zeros_like(vector), vector.device
    frame = there(0)  # compiles
    back(frame)
    compress_s = [seconds(partial(there, draw), device) for draw in range(_REPEATS)]
    decode_s = [seconds(partial(back, frame), device) for _ in range(_REPEATS)]
    with peak_gpu_memory() if device.type == "cuda" else peak_memory() as peak:
        there(0)
    return statistics.median(compress_s), statistics.median(decode_s), peak[0] if peak else None


def _levels(compressor: Compressor, vector: Tensor) -> Iterator[tuple[float, Payload]] | None:
    """Return the messages of all levels with their probabilities; None if there is no such list."""
    if isinstance(compressor, MLMC):
        if compressor.draws > 1 or compressor.inclusion:
            return None
    elif not isinstance(compressor, RandomTruncation):
        return None
    chances = compressor.probabilities(vector).tolist()
    if not 0 < len(chances) <= _MOST_LEVELS or not any(chances):
        return None
    at_level = compressor.at_level
    return (
        (chance, at_level(vector, level)) for level, chance in enumerate(chances, 1) if chance > 0
    )


def _draws(compressor: Compressor, vector: Tensor, number: int) -> Iterator[tuple[float, Payload]]:
    for draw in range(number):
        yield 1 / number, compressor.compress(vector, generator=_generator(draw))


def _moments(outcomes: Iterator[tuple[float, Payload]], vector: Tensor) -> tuple[Tensor, Tensor]:
    """Encode messages and compare what is decoded with the vector.

    Returns:
        Their weights, shape (n,), and of each the length of the frame, the ideal bits, the
        relative error and the slope: shape (n, 4), float64.
    """
    exact = vector.to(torch.float64)
    norm, decoded = float(exact.square().sum()), torch.zeros_like(vector)
    weights, values = [], []
    for weight, sent in outcomes:
        frame = _frame(sent)
        payload = decode(frame).payloads["v"]
        decoded.zero_()
        payload.add_to(decoded)
        slope = float(torch.dot(decoded.to(torch.float64), exact)) / norm
        error = float((decoded.to(torch.float64) - exact).square().sum()) / norm
        weights.append(weight)
        values.append((len(frame), ideal_bits(payload), error, slope))
    return (
        torch.tensor(weights, dtype=torch.float64),
        torch.tensor(values, dtype=torch.float64),
    )


def _generator(draw: int) -> torch.Generator:
    return generator_for(0, "bench", draw)


def _frame(payload: Payload) -> bytes:
    return encode(Message({"v": payload}))
