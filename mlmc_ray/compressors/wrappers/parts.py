"""Compressing the layers, or buckets of equal size, each on its own."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TypeVar

import torch
from torch import Generator, Tensor

from mlmc_ray.compressors.base import (
    Compressor,
    Context,
    PaperCost,
    RunTime,
    bound,
    check_compressor,
    check_finite,
    check_vector,
    check_whole,
)
from mlmc_ray.compressors.wrappers.named import named
from mlmc_ray.errors import NonFiniteError
from mlmc_ray.payloads import ConcatPayload, Payload, ZeroPayload

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, slots=True)
class PerLayer:
    """Compress every layer on its own: omega is the largest of all layers, alpha the smallest.

    Attributes:
        compressor: used for every layer.
        layer_sizes: set by ``bind``; while there are none, the vector is one layer.
        layer_compressors: the compressor as it is bound to each of the layers, which tells it the
            shape of that layer; set by ``bind``.
    """

    compressor: Compressor
    layer_sizes: RunTime[tuple[int, ...]] = ()
    layer_compressors: RunTime[tuple[Compressor, ...]] = ()

    def __post_init__(self) -> None:
        check_compressor("compressor", self.compressor)
        for size in self.layer_sizes:
            check_whole("an entry of layer_sizes", size, 1)

    def bind(self, context: Context) -> "PerLayer":
        """Bind the inner compressor to every layer that has entries, each with a seed of its own.

        Of the seed that workers share, that is: errors of layers that had the same draws would
        grow and shrink together.
        """
        known = len(context.layer_shapes) == len(context.layer_sizes)
        shapes = context.layer_shapes if known else (None,) * len(context.layer_sizes)
        layers = [pair for pair in zip(context.layer_sizes, shapes, strict=True) if pair[0]]
        each = [
            replace(
                named(context, "layer", i),
                layer_sizes=(size,),
                layer_shapes=() if shape is None else (shape,),
            )
            for i, (size, shape) in enumerate(layers)
        ]
        return replace(
            self,
            compressor=bound(self.compressor, replace(context, layer_sizes=(), layer_shapes=())),
            layer_sizes=tuple(size for size, _ in layers),
            layer_compressors=tuple(bound(self.compressor, here) for here in each),
        )

    @property
    def unbiased(self) -> bool:
        """Whether the inner compressor is."""
        return self.compressor.unbiased

    def compress(self, vector: Tensor, *, generator: Generator) -> Payload:
        """Return one message a layer, one after the other.

        Raises:
            ValueError: the layers do not add up to the vector, or one of them cannot be compressed;
                says which.
        """
        check_vector(vector)
        sizes = self._sizes(vector.numel())
        return _in_parts("layer", self._compressors(), vector, sizes, generator)

    def omega(self, dim: int) -> float | None:
        """The largest of all layers."""
        return _over(max, self._of_layers(lambda layer, size: layer.omega(size), dim))

    def alpha(self, dim: int) -> float | None:
        """The smallest of all layers."""
        return _over(min, self._of_layers(lambda layer, size: layer.alpha(size), dim))

    def paper_cost(self, dim: int) -> PaperCost | None:
        """The sum over the layers."""
        costs = self._of_layers(lambda layer, size: layer.paper_cost(size), dim)
        return _total("layers", [(cost, 1) for cost in costs])

    def _compressors(self) -> tuple[Compressor, ...]:
        return self.layer_compressors or (self.compressor,) * max(1, len(self.layer_sizes))

    def _of_layers(self, constant: Callable[[Compressor, int], T], dim: int) -> list[T]:
        """Return something of every layer's compressor, given the number of its entries."""
        sizes, found = self._sizes(dim), []
        for i, (layer, size) in enumerate(zip(self._compressors(), sizes, strict=True)):
            with _naming("layer", i, sizes):
                found.append(constant(layer, size))
        return found

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

    Attributes:
        compressor: of every bucket.
        bucket_size: entries a bucket.
        context: of the vector; set by ``bind``. A bucket has a seed of its own, as a layer has in
            ``PerLayer``; how many there are is known with the vector.
    """

    compressor: Compressor
    bucket_size: int
    context: RunTime[Context | None] = field(default=None, repr=False)

    def __post_init__(self) -> None:
        check_compressor("compressor", self.compressor)
        check_whole("bucket_size", self.bucket_size, 1, advice=" entry")

    def bind(self, context: Context) -> "PerBucket":
        """Take the context, in which a bucket is a vector without layers."""
        return replace(self, context=replace(context, layer_sizes=(), layer_shapes=()))

    @property
    def unbiased(self) -> bool:
        """Whether the inner compressor is."""
        return self.compressor.unbiased

    def compress(self, vector: Tensor, *, generator: Generator) -> Payload:
        """Return one message a bucket, one after the other."""
        check_vector(vector)
        full, rest = divmod(vector.numel(), self.bucket_size)
        sizes = (self.bucket_size,) * full + ((rest,) if rest else ())
        compressors = [self._of_bucket(i) for i in range(len(sizes))]
        return _in_parts("bucket", compressors, vector, sizes, generator)

    def omega(self, dim: int) -> float | None:
        """The larger of a whole bucket's and the last one's."""
        return _over(max, (self._of_bucket(0).omega(size) for size, _ in self._counts(dim)))

    def alpha(self, dim: int) -> float | None:
        """The smaller of a whole bucket's and the last one's."""
        return _over(min, (self._of_bucket(0).alpha(size) for size, _ in self._counts(dim)))

    def paper_cost(self, dim: int) -> PaperCost | None:
        """The sum over the buckets."""
        counts = self._counts(dim)
        return _total("buckets", [(self._of_bucket(0).paper_cost(size), n) for size, n in counts])

    def _of_bucket(self, index: int) -> Compressor:
        if self.context is None:
            return self.compressor
        return bound(self.compressor, named(self.context, "bucket", index))

    def _counts(self, dim: int) -> list[tuple[int, int]]:
        """Return every size of bucket there is, and how many have it."""
        full, rest = divmod(dim, self.bucket_size)
        return [(size, n) for size, n in ((self.bucket_size, full), (rest, 1)) if size and n]


def _in_parts(
    kind: str,
    compressors: Sequence[Compressor],
    vector: Tensor,
    sizes: tuple[int, ...],
    generator: Generator,
) -> Payload:
    """Compress consecutive parts of a vector, each on its own, by a compressor each."""
    check_finite(vector)
    vector = vector.detach()
    if not vector.any():
        return ZeroPayload(vector.numel())
    parts = []
    pairs = zip(compressors, torch.split(vector, list(sizes)), strict=True)
    for i, (compressor, part) in enumerate(pairs):
        with _naming(kind, i, sizes):
            parts.append(compressor.compress(part, generator=generator))
    return ConcatPayload(tuple(parts))


@contextmanager
def _naming(kind: str, index: int, sizes: tuple[int, ...]) -> Iterator[None]:
    """Say in what goes wrong which of the parts it was, counted from 1."""
    place = f"{kind} {index + 1} of {len(sizes)}, of {sizes[index]} entries"
    try:
        yield
    except NonFiniteError as error:
        raise NonFiniteError(f"{place}: {error}") from error
    except ValueError as error:
        raise ValueError(f"{place}: {error}") from error


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
