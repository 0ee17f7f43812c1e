"""The shape of a compressor, and what all of them share."""

from dataclasses import dataclass
from typing import Annotated, NoReturn, Protocol, runtime_checkable

import torch
from torch import Generator, Tensor

from mlmc_ray.errors import NonFiniteError
from mlmc_ray.kernels.finite import all_finite, scan
from mlmc_ray.payloads import Payload

EntryCount = Annotated[int | float, "a number of entries, or the fraction of them"]
"""How many entries: an ``int`` of at least 1, or a ``float`` in (0, 1), a fraction of all."""

SegmentCount = Annotated[int, "a number of segments"]
"""How many segments of ``segment_size`` entries, at least 1."""


@dataclass(frozen=True, slots=True)
class PaperCost:
    """What a paper says one message costs: its formula, and the formula's value in bits.

    It is kept for comparison and never mixed with the bytes of frames. The MLMC paper
    (arXiv:2507.05508) counts 64 bits a number and no indices.
    """

    formula: str
    bits: int


@runtime_checkable
class Compressor(Protocol):
    """A frozen value that turns a vector into a payload.

    Its fields are its hyper-parameters; it holds no state and never modifies its input. It
    computes on the device of the vector.
    """

    @property
    def unbiased(self) -> bool:
        """Whether the expectation of the payload is the vector itself."""

    def compress(self, vector: Tensor, *, generator: Generator) -> Payload:
        """Return a payload that says something about ``vector``.

        Args:
            vector: shape (d,), float32 or float64, any device; not modified.
            generator: a CPU generator, the only source of randomness.

        Raises:
            NonFiniteError: the vector holds NaN or infinity.
        """

    def omega(self, dim: int) -> float | None:
        """Bound w of E|C(v) - v|^2 <= w|v|^2 for an unbiased compressor; None where none holds."""

    def alpha(self, dim: int) -> float | None:
        """Bound a of E|C(v) - v|^2 <= (1 - a)|v|^2, 0 < a <= 1; None where none holds."""

    def paper_cost(self, dim: int) -> PaperCost | None:
        """Return what the paper's formula says a message costs; None where there is none."""


@dataclass(frozen=True, slots=True, eq=False)
class Context:
    """Where and when a compressor is used.

    Attributes:
        generator: private draws of this worker in this round.
        shared_seed: 63 bits that all workers and the server have in this round.
        worker_id: 0 to ``num_workers`` - 1; -1 on the server.
        num_workers: how many there are.
        layer_sizes: entries of every layer, in the order of the vector; empty where unknown.
        layer_shapes: shape of every layer, in the order of the vector; empty where unknown.
        participation: the share of the workers that a round asks, above 0 and at most 1.
    """

    generator: Generator
    shared_seed: int = 0
    worker_id: int = 0
    num_workers: int = 1
    layer_sizes: tuple[int, ...] = ()
    layer_shapes: tuple[tuple[int, ...], ...] = ()
    participation: float = 1.0


@runtime_checkable
class Bindable(Protocol):
    """A compressor that needs to know where it is used, or wraps one that does."""

    def bind(self, context: Context) -> Compressor:
        """Return the compressor for this worker and round."""


def bound(compressor: Compressor, context: Context) -> Compressor:
    """Return a compressor as it is to be used in a context; most are the same everywhere."""
    return compressor.bind(context) if isinstance(compressor, Bindable) else compressor


def count_of(count: EntryCount, dim: int) -> int:
    """Return how many of ``dim`` entries ``count`` means: at least 1, at most ``dim``."""
    return min(dim, count if isinstance(count, int) else max(1, round(count * dim)))


def check_count(name: str, count: EntryCount) -> None:
    """Refuse a count that is neither a positive int nor a fraction.

    Raises:
        ValueError: names the field and quotes the value.
    """
    is_number = isinstance(count, int) and not isinstance(count, bool) and count >= 1
    if not (is_number or (isinstance(count, float) and 0 < count < 1)):
        raise ValueError(
            f"{name} is {count!r}: give a whole number of entries, at least 1, or a fraction "
            "between 0 and 1, such as 0.01"
        )


def check_finite(vector: Tensor) -> None:
    """Refuse NaN and infinity.

    Raises:
        ValueError: the vector is empty.
        NonFiniteError: says how many entries, and where the first of them is.
    """
    _check_not_empty(vector)
    if not all_finite(vector):
        _refuse(vector)


def peak_of(vector: Tensor) -> float:
    """Return the largest magnitude of a finite vector, in one pass; 0 for the zero vector.

    Raises:
        ValueError: the vector is empty.
        NonFiniteError: see ``check_finite``.
    """
    _check_not_empty(vector)
    finite, largest = scan(vector)
    if not finite:
        _refuse(vector)
    return largest


def _check_not_empty(vector: Tensor) -> None:
    if not vector.numel():
        raise ValueError("the vector has no entries: there is nothing to compress")


def _refuse(vector: Tensor) -> NoReturn:
    bad = torch.nonzero(~torch.isfinite(vector)).flatten()
    first = int(bad[0])
    raise NonFiniteError(
        f"{len(bad)} of {vector.numel()} entries are NaN or infinite, the first is entry "
        f"{first} ({vector[first].item()})"
    )
