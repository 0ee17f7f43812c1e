"""``mlmc-ray bench frontier``: error against bits of every unbiased compressor, over its settings.

The second moment of a message of relative error omega is (1 + omega) |v|^2. Where it sets how many
rounds a training needs, R (1 + omega) with R bits a value is proportional to the bits sent in all:
the figure of merit, the smaller the better. It is 32 for the entries as they are. For Gaussian
vectors of independent entries it is above R / (1 - 4^-R), hence above 1 / ln 4 = 0.72, since an
unbiased estimate from R bits a value has omega >= 1 / (4^R - 1).

References:
    Albasyoni et al., 2020, arXiv:2010.03246 (the limit of bits and variance).
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from rich.console import Console
from rich.progress import Progress
from torch import Tensor

from launch.benching.bench import Failure, vector_of
from launch.benching.benched import Shapes, square_layers
from launch.benching.codec_result import label_of
from mlmc_ray.compressors import Compressor
from mlmc_ray.errors import one_line
from mlmc_ray.payloads import Message
from mlmc_ray.seeding import generator_for
from mlmc_ray.wire import decode, encode

Kind = Literal["gaussian", "student-t", "log-normal"]
"""Of vectors of independent entries; ``student-t`` has 3 degrees of freedom."""
KINDS: tuple[str, ...] = get_args(Kind)
_DEGREES = 3
_LEAST_ERROR = 1e-12


@dataclass(frozen=True, kw_only=True, slots=True)
class Point:
    """One setting of a compressor on one vector v of dimension d; means are over the repeats.

    Attributes:
        line: the compressor, one line of the figure.
        name: the same with its setting.
        repeats: messages.
        frame_bytes: mean length of the frame.
        bits_per_value: the same, R, in bits a value.
        bits_standard_error: of R over the repeats.
        relative_error: mean of |e|^2 / |v|^2, omega, where e = C(v) - v.
        error_standard_error: of that mean.
        merit: R (1 + omega).
        norm_variation: standard deviation of |C(v)| over its mean; None where nothing was sent.
        error_cosine: mean of <e, v> over |v| times the root mean square of |e|, which is 0 on
            average without bias, also where |e| varies; None without an error.
        neighbour_correlation: sum of e_j e_(j+1) / (d - 1) over that of e_j^2 / d, in all repeats;
            None without an error.
    """

    line: str
    name: str
    repeats: int
    frame_bytes: float
    bits_per_value: float
    bits_standard_error: float
    relative_error: float
    error_standard_error: float
    merit: float
    norm_variation: float | None
    error_cosine: float | None
    neighbour_correlation: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Frontier:
    """What was measured.

    Attributes:
        points: of the compressors that worked, in the order of lines and settings.
        failures: of the others.
    """

    points: list[Point]
    failures: list[Failure]

    def lines(self) -> dict[str, list[Point]]:
        """Return the points by line."""
        found: dict[str, list[Point]] = {}
        for point in self.points:
            found.setdefault(point.line, []).append(point)
        return found


def entries(kind: str, dim: int, seed: int) -> tuple[Tensor, Shapes]:
    """Return independent entries, shape (dim,), float32, and the shapes of their layers.

    Args:
        kind: one of ``KINDS``.
        dim: number of entries.
        seed: of the draws.
    """
    if kind != "student-t":
        return vector_of(kind, dim, seed)  # type: ignore[arg-type]
    draws = generator_for(seed, "vector")
    normal = torch.randn(dim, generator=draws)
    squares = torch.zeros(dim)
    for _ in range(_DEGREES):
        squares += torch.randn(dim, generator=draws).square_()
    return normal / (squares / _DEGREES).sqrt(), square_layers(dim)


def measure_frontier(
    lines: Mapping[str, Sequence[Compressor]], vector: Tensor, repeats: int, console: Console
) -> Frontier:
    """Measure every setting of every compressor.

    Args:
        lines: compressors by line. One that raises an error costs the others nothing.
        vector: shape (d,), float32, not zero; not modified.
        repeats: messages of each, at least 2.
        console: where progress goes.

    Raises:
        ValueError: fewer than 2 repeats, or the vector is zero.
    """
    if repeats < 2:
        raise ValueError(f"repeats is {repeats!r}: give 2 or more, for a spread")
    if not vector.any():
        raise ValueError(f"all {vector.numel()} entries are 0: give a vector that is not zero")
    points: list[Point] = []
    failures: list[Failure] = []
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("", total=sum(map(len, lines.values())))
        for line, compressors in lines.items():
            for compressor in compressors:
                name = label_of(compressor)
                progress.update(task, description=name)
                try:
                    points.append(_point(line, compressor, vector, repeats))
                except Exception as error:  # one compressor's bug must not cost the others' results
                    reason = f"{type(error).__name__}: {one_line(error)}"
                    failures.append(Failure(name=name, reason=reason))
                progress.advance(task)
    return Frontier(points=points, failures=failures)


def bits_at_error(points: Iterable[Point], error: float) -> float | None:
    """Return the bits a value at which a compressor has some error.

    Between neighbouring settings the logarithm of the bits is taken as linear in the logarithm of
    the error. Settings that cost more bits than another and have no smaller error do not count.

    Args:
        points: of one compressor, in any order; those without an error are left out.
        error: a relative error, positive.

    Returns:
        None outside of the measured errors: nothing is extrapolated.
    """
    known: list[tuple[float, float]] = []
    for point in sorted(with_error(points), key=lambda one: one.bits_per_value):
        if not known or point.relative_error < known[0][0]:
            known.insert(0, (point.relative_error, point.bits_per_value))
    if not known or not known[0][0] <= error <= known[-1][0]:
        return None
    errors, bits = np.log(known).T
    return float(np.exp(np.interp(math.log(error), errors, bits)))


def with_error(points: Iterable[Point]) -> list[Point]:
    """Return the points that have an error; one below 10^-12 is that of float32."""
    return [point for point in points if point.relative_error > _LEAST_ERROR]


def _point(line: str, compressor: Compressor, vector: Tensor, repeats: int) -> Point:
    draws = np.array([_draw(compressor, vector, repeat) for repeat in range(repeats)])
    size, energy, along, neighbours, norm = draws.T
    dim, total = vector.numel(), float(vector.to(torch.float64).square().sum())
    bits, errors = 8 * size / dim, energy / total
    pairs = max(dim - 1, 1)
    return Point(
        line=line,
        name=label_of(compressor),
        repeats=repeats,
        frame_bytes=float(size.mean()),
        bits_per_value=float(bits.mean()),
        bits_standard_error=_standard_error(bits),
        relative_error=float(errors.mean()),
        error_standard_error=_standard_error(errors),
        merit=float(bits.mean() * (1 + errors.mean())),
        norm_variation=float(norm.std(ddof=1) / norm.mean()) if norm.any() else None,
        error_cosine=(
            float(along.mean() / math.sqrt(energy.mean() * total)) if energy.any() else None
        ),
        neighbour_correlation=(
            float(neighbours.sum() / pairs / (energy.sum() / dim)) if energy.any() else None
        ),
    )


def _draw(
    compressor: Compressor, vector: Tensor, repeat: int
) -> tuple[float, float, float, float, float]:
    """Send one message.

    Returns:
        Length of the frame, |e|^2, <e, v>, sum of e_j e_(j+1), and |C(v)|.
    """
    payload = compressor.compress(vector, generator=generator_for(0, "frontier", repeat))
    frame = encode(Message({"v": payload}))
    decoded = torch.zeros_like(vector)
    decode(frame).payloads["v"].add_to(decoded)
    sent, exact = decoded.to(torch.float64), vector.to(torch.float64)
    error = sent - exact
    return (
        len(frame),
        float(torch.dot(error, error)),
        float(torch.dot(error, exact)),
        float(torch.dot(error[:-1], error[1:])),
        float(sent.norm()),
    )


def _standard_error(values: "np.ndarray[tuple[int], np.dtype[np.float64]]") -> float:
    return float(values.std(ddof=1) / math.sqrt(len(values)))
