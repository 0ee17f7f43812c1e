"""The shape of a compressor, and what all of them share."""

import math
from dataclasses import dataclass
from typing import Annotated, NoReturn, Protocol, TypeGuard, TypeVar, runtime_checkable

import torch
from torch import Generator, Tensor

from mlmc_ray.compressors.watched import watched
from mlmc_ray.errors import NonFiniteError
from mlmc_ray.kernels.finite import scan
from mlmc_ray.payloads import Payload

T = TypeVar("T")

EntryCount = Annotated[int | float, "a number of entries, or the fraction of them"]
"""How many entries: an ``int`` of at least 1, or a ``float`` in (0, 1), a fraction of all."""

SegmentCount = Annotated[int, "a number of segments"]
"""How many segments of ``segment_size`` entries, at least 1."""

DrawCount = Annotated[int | float, "a number of draws, or that over the number of entries"]
"""How many draws: an ``int`` of at least 1, also above d, or a fraction of d in (0, 1)."""

RUN_TIME = "filled in at run time"
RunTime = Annotated[T, RUN_TIME]
"""A field that ``bind`` sets: Python code may pass it, a configuration may not."""

MOST_DRAWS = (1 << 31) - 1  # counts are int32
_LARGEST = torch.finfo(torch.float32).max


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
        """Bound w of E|C(v) - v|^2 <= w|v|^2 for an unbiased compressor; None where none holds.

        It holds, and so does the mean, up to the rounding of float32, for vectors whose entries and
        payload scales are zero or normal float32 numbers: what is below 2^-126 is rounded to a
        multiple of 2^-149.
        """

    def alpha(self, dim: int) -> float | None:
        """Bound a of E|C(v) - v|^2 <= (1 - a)|v|^2, 0 < a <= 1; None where none holds.

        For the same vectors as ``omega``.
        """

    def paper_cost(self, dim: int) -> PaperCost | None:
        """Return what the paper's formula says a message costs; None where there is none."""


@dataclass(frozen=True, slots=True, eq=False)
class Context:
    """Where and when a compressor is used.

    Attributes:
        generator: private draws of this worker in this round.
        shared_seed: 63 bits that all workers and the server have in this round; the same in all
            exchanges of a round, so that who needs other draws in each derives a seed from it.
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
    """Return a compressor as it is to be used in a context; most are the same everywhere.

    One that is not the library's comes back ``Watched``, so that its errors name it.
    """
    known = compressor.bind(context) if isinstance(compressor, Bindable) else compressor
    return watched(known)


def count_of(count: EntryCount, dim: int) -> int:
    """Return how many of ``dim`` entries ``count`` means: at least 1, at most ``dim``."""
    return min(dim, count if isinstance(count, int) else max(1, round(count * dim)))


def is_whole(value: object) -> TypeGuard[int]:
    """Return whether a value is an ``int``, and not a ``bool``."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_number(value: object) -> TypeGuard[int | float]:
    """Return whether a value is an ``int`` or a ``float``, and not a ``bool``."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def check_whole(
    name: str, value: object, low: int, high: int | None = None, advice: str = ""
) -> None:
    """Refuse what is not a whole number from ``low`` to ``high``; None for no upper limit.

    Args:
        name: of the field.
        value: as it was given, of any type.
        low: the least that will do.
        high: the most that will do.
        advice: ends the message, such as ", or nothing for one bucket".

    Raises:
        ValueError: names the field and quotes the value.
    """
    if is_whole(value) and value >= low and (high is None or value <= high):
        return
    kind = "" if is_whole(value) else "a whole number, "
    span = f"at least {low}" if high is None else f"{low} to {high}"
    raise ValueError(f"{name} is {value!r}: give {kind}{span}{advice}")


def check_positive(name: str, value: object, advice: str = "a positive number") -> None:
    """Refuse what is not a positive number, or is infinite.

    Args:
        name: of the field.
        value: as it was given, of any type.
        advice: what to give.

    Raises:
        ValueError: names the field and quotes the value.
    """
    if not (is_number(value) and 0 < value < math.inf):
        raise ValueError(f"{name} is {value!r}: give {advice}")


def check_count(name: str, count: EntryCount) -> None:
    """Refuse a count that is neither a positive int nor a fraction.

    Raises:
        ValueError: names the field and quotes the value.
    """
    if not ((is_whole(count) and count >= 1) or _is_fraction(count)):
        raise ValueError(
            f"{name} is {count!r}: give a whole number of entries, at least 1, or a fraction "
            "between 0 and 1, such as 0.01"
        )


def check_draws(name: str, draws: DrawCount) -> None:
    """Refuse a number of draws that is neither an int from 1 to ``MOST_DRAWS`` nor a fraction.

    Raises:
        ValueError: names the field and quotes the value.
    """
    if not _is_fraction(draws):
        check_whole(name, draws, 1, MOST_DRAWS, ", or a fraction of the entries, such as 0.01")


def check_compressor(name: str, value: object) -> None:
    """Refuse what is no compressor, such as a class that was not called.

    Raises:
        ValueError: names the field and quotes the value.
    """
    if isinstance(value, type) or not isinstance(value, Compressor):
        raise ValueError(f"{name} is {value!r}: give a compressor, such as TopK(k=0.01)")


def check_vector(vector: Tensor) -> None:
    """Refuse what is not a tensor of shape (d,), d at least 1, of floating-point numbers.

    Raises:
        ValueError: says what the argument is instead.
    """
    if not isinstance(vector, Tensor):
        raise ValueError(
            f"the vector is a {type(vector).__name__}: give a tensor of shape (d,), such as "
            "torch.tensor([1.0, 2.0])"
        )
    if vector.dim() != 1:
        raise ValueError(
            f"the vector has shape {tuple(vector.shape)}: give one of shape (d,), such as "
            "vector.flatten()"
        )
    if not vector.is_floating_point():
        raise ValueError(
            f"the vector is of {vector.dtype}: give real floating-point numbers, such as "
            "torch.float32"
        )
    if not vector.numel():
        raise ValueError("the vector has no entries: there is nothing to compress")


def check_finite(vector: Tensor) -> None:
    """Refuse NaN, infinity and what float32 does not hold.

    Raises:
        ValueError: see ``check_vector``.
        NonFiniteError: says how many entries, and where the first of them is.
    """
    peak_of(vector)


def peak_of(vector: Tensor) -> float:
    """Return the largest magnitude of a finite vector, in one pass; 0 for the zero vector.

    Raises:
        ValueError: see ``check_vector``.
        NonFiniteError: see ``check_finite``.
    """
    check_vector(vector)
    finite, largest = scan(vector)
    if not (finite and largest <= _LARGEST):
        _refuse(vector.detach())
    return largest


def _is_fraction(value: object) -> bool:
    return isinstance(value, float) and 0 < value < 1


def _refuse(vector: Tensor) -> NoReturn:
    bad = torch.nonzero(~torch.isfinite(vector)).flatten()
    if len(bad):
        what, advice = "are NaN or infinite", ""
    else:
        bad = torch.nonzero(vector.abs() > _LARGEST).flatten()
        what = f"may not fit float32, whose largest number is {_LARGEST:g}"
        advice = ": scale the vector down"
    first = int(bad[0])
    raise NonFiniteError(
        f"{len(bad)} of {vector.numel()} entries {what}, the first is entry "
        f"{first} ({vector[first].item()}){advice}"
    )
