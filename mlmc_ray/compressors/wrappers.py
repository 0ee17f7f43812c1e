"""Compressors made of others: corrected, lazy, layer by layer; and plain half precision."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Generator, Tensor

from mlmc_ray.compressors.base import Compressor, Context, PaperCost, bound, check_finite
from mlmc_ray.compressors.random_sparse import check_probability
from mlmc_ray.kernels.device import at_least_single
from mlmc_ray.kernels.finite import all_finite
from mlmc_ray.payloads import ConcatPayload, DensePayload, Payload, SumPayload, ZeroPayload

_HALVES = {"fp16": torch.float16, "bf16": torch.bfloat16}


@dataclass(frozen=True, kw_only=True, slots=True)
class Induced:
    """Send C1(v), and an unbiased C2 of what that leaves out: C1(v) + C2(v - C1(v)).

    Unbiased, with omega = omega_2 (1 - alpha_1).

    Attributes:
        contractive: C1, any compressor.
        correction: C2, an unbiased one.

    References:
        Horvath, Richtarik, 2021, arXiv:2006.11077.
    """

    contractive: Compressor
    correction: Compressor

    def __post_init__(self) -> None:
        if not self.correction.unbiased:
            raise ValueError(
                f"correction is {self.correction!r}, which is biased: give an unbiased compressor, "
                "such as RandK"
            )

    def bind(self, context: Context) -> "Induced":
        """Bind both."""
        return replace(
            self,
            contractive=bound(self.contractive, context),
            correction=bound(self.correction, context),
        )

    @property
    def unbiased(self) -> bool:
        """True."""
        return True

    def compress(self, vector: Tensor, *, generator: Generator) -> Payload:
        """Return both messages."""
        check_finite(vector)
        if not vector.any():
            return ZeroPayload(vector.numel())
        first = self.contractive.compress(vector, generator=generator)
        rest = at_least_single(vector).clone(memory_format=torch.contiguous_format)
        first.add_to(rest, -1.0)
        return SumPayload((first, self.correction.compress(rest, generator=generator)))

    def omega(self, dim: int) -> float | None:
        """omega_2 (1 - alpha_1)."""
        alpha, omega = self.contractive.alpha(dim), self.correction.omega(dim)
        return None if alpha is None or omega is None else omega * (1 - alpha)

    def alpha(self, dim: int) -> None:
        """None: unbiased."""
        return None

    def paper_cost(self, dim: int) -> PaperCost | None:
        """Those of both messages."""
        first, second = self.contractive.paper_cost(dim), self.correction.paper_cost(dim)
        if first is None or second is None:
            return None
        return PaperCost(f"{first.formula} + {second.formula}", first.bits + second.bits)


@dataclass(frozen=True, kw_only=True, slots=True)
class Lazy:
    """Send C(v)/p with probability p, else nothing.

    The expectation is that of C. Where C is unbiased, omega = (1 + omega_C)/p - 1.

    References:
        The Bernoulli compressor of Islamov et al., 2021, arXiv:2102.07158; independent
        participation of the workers has the same effect.
    """

    compressor: Compressor
    p: float

    def __post_init__(self) -> None:
        check_probability("p", self.p)

    def bind(self, context: Context) -> "Lazy":
        """Bind the inner compressor."""
        return replace(self, compressor=bound(self.compressor, context))

    @property
    def unbiased(self) -> bool:
        """Whether the inner compressor is."""
        return self.compressor.unbiased

    def compress(self, vector: Tensor, *, generator: Generator) -> Payload:
        """Return the inner compressor's message, scaled up, or none."""
        check_finite(vector)
        coin = torch.rand((), dtype=torch.float64, generator=generator)
        if coin >= self.p:
            return ZeroPayload(vector.numel())
        payload = self.compressor.compress(at_least_single(vector), generator=generator)
        return payload.scaled(1 / self.p)

    def omega(self, dim: int) -> float | None:
        """(1 + omega_C)/p - 1."""
        omega = self.compressor.omega(dim)
        return None if omega is None else (1 + omega) / self.p - 1

    def alpha(self, dim: int) -> float | None:
        """None: scaling up is no contraction, unless everything is sent."""
        return self.compressor.alpha(dim) if self.p == 1 else None

    def paper_cost(self, dim: int) -> PaperCost | None:
        """p times that of the inner compressor: expected."""
        cost = self.compressor.paper_cost(dim)
        return None if cost is None else PaperCost(f"p ({cost.formula})", round(self.p * cost.bits))


@dataclass(frozen=True, kw_only=True, slots=True)
class HalfPrecision:
    """Every entry, rounded to the nearest number of two bytes: deterministic, biased.

    Attributes:
        format: "bf16" (8 bits of exponent, as float32 has, and a relative error of up to 2^-8) or
            "fp16" (a relative error of up to 2^-11 from 2^-14 to 65,504; what is smaller loses
            digits, and below 2^-25 becomes 0).
    """

    format: Literal["fp16", "bf16"] = "bf16"

    def __post_init__(self) -> None:
        if self.format not in _HALVES:
            raise ValueError(f"format is {self.format!r}: give one of {sorted(_HALVES)}")

    @property
    def unbiased(self) -> bool:
        """False."""
        return False

    def compress(self, vector: Tensor, *, generator: Generator) -> Payload:
        """Return the rounded entries; the generator is not used.

        Raises:
            ValueError: an entry is too large for the format.
        """
        check_finite(vector)
        if not vector.any():
            return ZeroPayload(vector.numel())
        dtype = _HALVES[self.format]
        values = vector.to(dtype)
        if not all_finite(values):
            worst = int(vector.abs().argmax())
            raise ValueError(
                f"entry {worst} is {vector[worst].item()}, and the largest {self.format} is "
                f"{torch.finfo(dtype).max}: scale the vector down or send float32"
            )
        return DensePayload(values)

    def omega(self, dim: int) -> None:
        """None: biased."""
        return None

    def alpha(self, dim: int) -> float | None:
        """1 - 2^-16 for bf16 and entries from 2^-126; none for fp16, where small entries vanish."""
        return 1 - 2.0**-16 if self.format == "bf16" else None

    def paper_cost(self, dim: int) -> PaperCost:
        """Two bytes an entry."""
        return PaperCost("16 d", 16 * dim)


@dataclass(frozen=True, kw_only=True, slots=True)
class PerLayer:
    """Compress every layer on its own: omega is the largest of all layers, alpha the smallest.

    Attributes:
        compressor: used for every layer.
        layer_sizes: set by ``bind``; while there are none, the vector is one layer.
    """

    compressor: Compressor
    layer_sizes: tuple[int, ...] = ()

    def bind(self, context: Context) -> "PerLayer":
        """Bind the inner compressor, and take the layers that have entries."""
        inner = bound(self.compressor, replace(context, layer_sizes=(), layer_shapes=()))
        sizes = tuple(size for size in context.layer_sizes if size)
        return replace(self, compressor=inner, layer_sizes=sizes)

    @property
    def unbiased(self) -> bool:
        """Whether the inner compressor is."""
        return self.compressor.unbiased

    def compress(self, vector: Tensor, *, generator: Generator) -> Payload:
        """Return one message a layer, one after the other.

        Raises:
            ValueError: the layers do not add up to the vector.
        """
        return _in_parts(self.compressor, vector, self._sizes(vector.numel()), generator)

    def omega(self, dim: int) -> float | None:
        """The largest of all layers."""
        return _over(max, (self.compressor.omega(size) for size in self._sizes(dim)))

    def alpha(self, dim: int) -> float | None:
        """The smallest of all layers."""
        return _over(min, (self.compressor.alpha(size) for size in self._sizes(dim)))

    def paper_cost(self, dim: int) -> PaperCost | None:
        """The sum over the layers."""
        costs = [self.compressor.paper_cost(size) for size in self._sizes(dim)]
        return _total("layers", [(cost, 1) for cost in costs])

    def _sizes(self, dim: int) -> tuple[int, ...]:
        sizes = self.layer_sizes or (dim,)
        if sum(sizes) != dim:
            raise ValueError(
                f"layer_sizes add up to {sum(sizes)}, and the vector has {dim} entries"
            )
        return sizes


@dataclass(frozen=True, kw_only=True, slots=True)
class PerBucket:
    """Compress every ``bucket_size`` consecutive entries on their own; the last may be fewer.

    Every bucket is a message with fields of its own, made by itself. For small buckets use the
    bucket size that a quantiser itself has, which costs one scale each.
    """

    compressor: Compressor
    bucket_size: int

    def __post_init__(self) -> None:
        if self.bucket_size < 1:
            raise ValueError(f"bucket_size is {self.bucket_size!r}: give at least 1 entry")

    def bind(self, context: Context) -> "PerBucket":
        """Bind the inner compressor, to which a bucket is a vector without layers."""
        inner = bound(self.compressor, replace(context, layer_sizes=(), layer_shapes=()))
        return replace(self, compressor=inner)

    @property
    def unbiased(self) -> bool:
        """Whether the inner compressor is."""
        return self.compressor.unbiased

    def compress(self, vector: Tensor, *, generator: Generator) -> Payload:
        """Return one message a bucket, one after the other."""
        full, rest = divmod(vector.numel(), self.bucket_size)
        sizes = (self.bucket_size,) * full + ((rest,) if rest else ())
        return _in_parts(self.compressor, vector, sizes, generator)

    def omega(self, dim: int) -> float | None:
        """The larger of a whole bucket's and the last one's."""
        return _over(max, (self.compressor.omega(size) for size, _ in self._counts(dim)))

    def alpha(self, dim: int) -> float | None:
        """The smaller of a whole bucket's and the last one's."""
        return _over(min, (self.compressor.alpha(size) for size, _ in self._counts(dim)))

    def paper_cost(self, dim: int) -> PaperCost | None:
        """The sum over the buckets."""
        counts = self._counts(dim)
        return _total("buckets", [(self.compressor.paper_cost(size), n) for size, n in counts])

    def _counts(self, dim: int) -> list[tuple[int, int]]:
        """Return every size of bucket there is, and how many have it."""
        full, rest = divmod(dim, self.bucket_size)
        return [(size, n) for size, n in ((self.bucket_size, full), (rest, 1)) if size and n]


def _in_parts(
    compressor: Compressor, vector: Tensor, sizes: tuple[int, ...], generator: Generator
) -> Payload:
    """Compress consecutive parts of a vector, each on its own."""
    check_finite(vector)
    if not vector.any():
        return ZeroPayload(vector.numel())
    parts = (
        compressor.compress(part, generator=generator) for part in torch.split(vector, list(sizes))
    )
    return ConcatPayload(tuple(parts))


def _over(worst: Callable[[list[float]], float], bounds: Iterable[float | None]) -> float | None:
    """Return the worst of all bounds, or None where there is one that does not hold."""
    known: list[float] = []
    for value in bounds:
        if value is None:
            return None
        known.append(value)
    return worst(known)


def _total(parts: str, costs: list[tuple[PaperCost | None, int]]) -> PaperCost | None:
    bits, formula = 0, ""
    for cost, number in costs:
        if cost is None:
            return None
        bits, formula = bits + number * cost.bits, cost.formula
    return PaperCost(f"sum over {parts} of {formula}", bits)
