"""The shape of a distributed method.

A method is a frozen value that makes its two halves. The halves are plain objects that know
nothing of processes or bytes; they own all memory of the algorithm and can save and load it.

A round is one exchange or several: the server half gives news, to all workers or to some of them;
their halves answer with reports; the server half turns these into an estimate of the gradient, for
the optimizer, or moves the parameters itself, or goes on with another exchange.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields, replace
from enum import Enum
from typing import Any, ClassVar, Literal, Protocol, cast, runtime_checkable

from torch import Tensor

from mlmc_ray.compressors.base import Compressor, Context, PaperCost
from mlmc_ray.methods.theory import Setting, StepSize
from mlmc_ray.payloads import Message

SERVER = -1
"""The ``worker_id`` of a server half's context."""

News = Message | Mapping[int, Message]
"""What workers get: one message for all of them, or one for each of those that are to answer."""


class Progress(Enum):
    """What a server half did with reports that gave the optimizer nothing to do."""

    MORE = "the round goes on: ask for the next news"
    MOVED = "the half has moved the parameters itself"


class Oracle(Protocol):
    """A worker half's only view of data and model."""

    def sample(self, size: int | None = None) -> Any:
        """Draw a new minibatch; the same one may be given to ``gradient`` at several points.

        Args:
            size: examples; by default those of the configuration.
        """

    def full(self) -> Any:
        """Return all examples of the worker as one batch."""

    def gradient(self, at: Tensor, batch: Any) -> Tensor:
        """Return the gradient of the loss on ``batch`` at the parameters ``at``.

        Of a batch that is used at several points only the first one counts for the training loss
        and for running statistics: ask for the gradient at the newest point first.

        Args:
            at: shape (d,); not modified.
            batch: what ``sample`` or ``full`` returned.

        Returns:
            shape (d,); the next call overwrites it, so clone what must last.

        Raises:
            ValueError: ``at`` is of another size than the model's parameters.
        """


class WorkerHalf(Protocol):
    """What a method does on one worker."""

    def step(self, news: Message, oracle: Oracle, *, context: Context) -> Message:
        """Answer the server's news with a report."""

    def state_dict(self) -> dict[str, Tensor]:
        """Return a copy of the memory of this half between rounds; empty where there is none."""

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Restore what ``state_dict`` returned."""


class ServerHalf(Protocol):
    """What a method does on the server. The optimizer step is not part of it."""

    def news(self, *, context: Context) -> News:
        """Return what workers need for an exchange; may share memory with the server.

        Args:
            context: the server's own draws, and the seed it shares with all workers.
        """

    def step(self, reports: Mapping[int, Message], *, context: Context) -> Tensor | Progress:
        """Take the reports of an exchange, by worker and in worker order.

        Returns:
            The estimate of the gradient, shape (d,), which the next call overwrites; or, where
            there is none for the optimizer, what was done instead.

        Raises:
            ValueError: a report is not one of this method; nothing has been changed.
        """

    def state_dict(self) -> dict[str, Tensor]:
        """Return a copy of the memory of this half between rounds; empty where there is none."""

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Restore what ``state_dict`` returned."""


@runtime_checkable
class RestartingHalf(Protocol):
    """A server half of an asynchronous method that does without reports that were lost."""

    def start_again(self, workers: Collection[int]) -> None:
        """Give these workers news again: they will not report on those that they had."""


@runtime_checkable
class TimedHalf(Protocol):
    """A server half that goes by how long workers take."""

    def took(self, elapsed_s: Mapping[int, float]) -> None:
        """Learn how long workers took, before ``step`` gets their reports.

        Args:
            elapsed_s: by worker, from its news to its report, what carries them included.
        """


@runtime_checkable
class Method(Protocol):
    """A frozen value that makes the halves of a distributed method.

    Inherit from it for the answers that most methods share.

    Attributes:
        facts: what there is to say about the method.
        moves_parameters: whether the halves take the steps themselves, with a ``step_size`` of
            their own; then there is no optimizer.
        asynchronous: whether the server acts on every report as it comes, instead of waiting for
            all that it asked for.
        allows_absence: whether a round may do without some of the workers.
        timed: whether what it does depends on how long workers take; its server half is a
            ``TimedHalf``.
        takes_any_device: whether worker halves take gradients where those are computed, such as on
            a GPU, since they do nothing with them but compress them; else gradients come to the
            CPU.
        own_points: whether workers ask for gradients at points of their own, so that nobody can
            compute those of several together.
    """

    facts: ClassVar["Facts"]
    moves_parameters: ClassVar[bool] = False
    asynchronous: ClassVar[bool] = False
    allows_absence: ClassVar[bool] = False
    timed: ClassVar[bool] = False
    takes_any_device: ClassVar[bool] = False
    own_points: ClassVar[bool] = False

    def worker(self) -> WorkerHalf:
        """Make the half of one worker."""

    def server(self, parameters: Tensor) -> ServerHalf:
        """Make the server's half around the server's own parameters, shape (d,)."""

    def paper_cost(self, dim: int) -> PaperCost | None:
        """Return what the paper's formula says one report costs; None where there is none."""
        return None

    def largest_payload(self, dim: int) -> int:
        """Return the entries of the longest vector that either half sends."""
        return dim

    def same_memory(self, other: "Method") -> bool:
        """Return whether what the halves remember between rounds means the same to another method.

        By default if it is of the same class, and differs in compressors and real numbers only.
        """
        if type(self) is not type(other):
            return False
        names = [field.name for field in fields(cast(Any, self))]
        return all(_retuned(getattr(self, name), getattr(other, name)) for name in names)

    def theory(self, setting: Setting) -> StepSize:
        """Return the step size for which theory gives a guarantee.

        Raises:
            ValueError: none is known, or a constant that it needs is not.
        """
        raise ValueError(f"no step size is known for {type(self).__name__}: give a number")

    def with_theory(self, setting: Setting) -> "Method":
        """Return the method with numbers where its settings say "theory".

        Raises:
            ValueError: see ``theory``.
        """
        if getattr(self, "step_size", None) != "theory":
            return self
        changes: dict[str, Any] = {"step_size": self.theory(setting).value}
        method: Method = replace(cast(Any, self), **changes)
        return method


def _retuned(before: Any, after: Any) -> bool:
    """Return whether a setting is as before, or another compressor or number of the same sort."""
    if isinstance(before, Method):
        return before.same_memory(after)
    both = (before, after)
    return before == after or all(isinstance(value, Compressor | float) for value in both)


class OneCompressed(Method):
    """A method of which a report is one vector, compressed by its ``compressor``."""

    compressor: Compressor

    def paper_cost(self, dim: int) -> PaperCost | None:
        """The compressor's."""
        return self.compressor.paper_cost(dim)


def has_theory(cls: type[Any]) -> bool:
    """Return whether methods of a class give a step size with a guarantee, in some settings."""
    return getattr(cls, "theory", Method.theory) is not Method.theory


@dataclass(frozen=True, kw_only=True, slots=True)
class Facts:
    """What there is to say about a method, in words; d is the number of parameters.

    Attributes:
        compressor: which it takes: any, unbiased, contractive, or none.
        uplink: what a worker sends in a round, C being a compressed vector.
        downlink: what a worker gets in a round.
        news: the names of payloads and scalars in the server's messages.
        reports: the same of the workers' messages.
        first: what crosses before or in the first round besides; "" for nothing.
        worker_memory: numbers that a worker keeps, such as "2 d".
        server_memory: numbers that the server keeps besides parameters and optimizer.
        guarantee: what theory says, in a few words, with its condition.
        reference: authors, year and arXiv number.
    """

    compressor: Literal["any", "unbiased", "contractive", "none"]
    uplink: str
    downlink: str
    news: tuple[str, ...] = ("parameters",)
    reports: tuple[str, ...] = ()
    first: str = ""
    worker_memory: str = "0"
    server_memory: str = "0"
    guarantee: str
    reference: str


class Half:
    """Base of the halves: named vectors to remember, which can be saved and restored.

    They are saved between rounds, not between the exchanges of a round: what a half keeps from one
    exchange to the next need not be part of its state.

    Attributes:
        memory: by name; the vectors may be replaced and modified.
    """

    def __init__(self) -> None:
        self.memory: dict[str, Tensor] = {}

    def remembered(self, name: str) -> Tensor:
        """Return what earlier news have left in the memory of a worker's half.

        Raises:
            ValueError: there is no such thing; names it.
        """
        if name not in self.memory:
            raise ValueError(
                f"this worker lacks its {name}: it joined after the round that sends it; start it "
                "with the others, or from a saved state"
            )
        return self.memory[name]

    def state_dict(self) -> dict[str, Tensor]:
        """Return a copy of the memory; to be called between rounds."""
        return {name: tensor.clone() for name, tensor in self.memory.items()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Replace the memory by a copy."""
        self.memory = {name: tensor.clone() for name, tensor in state.items()}
