"""The shape of a distributed method.

A method is a frozen value that makes its two halves. The halves are plain objects that know
nothing of processes or bytes; they own all memory of the algorithm and can save and load it.
"""

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

from torch import Tensor

from mlmc_ray.compressors.base import Context, PaperCost
from mlmc_ray.payloads import Message


class Oracle(Protocol):
    """A worker half's only view of data and model."""

    def sample(self) -> Any:
        """Draw a new minibatch; the same one may be given to ``gradient`` at several points."""

    def gradient(self, at: Tensor, batch: Any) -> Tensor:
        """Return the gradient of the loss on ``batch`` at the parameters ``at``.

        Args:
            at: shape (d,); not modified.
            batch: what ``sample`` returned.

        Returns:
            shape (d,); the next call overwrites it, so clone what must last.
        """


class WorkerHalf(Protocol):
    """What a method does on one worker."""

    def step(self, news: Message, oracle: Oracle, *, context: Context) -> Message:
        """Answer the server's news of a round with a report."""

    def state_dict(self) -> dict[str, Tensor]:
        """Return a copy of the memory of this half; empty where there is none."""

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Restore what ``state_dict`` returned."""


class ServerHalf(Protocol):
    """What a method does on the server. The optimizer step is not part of it."""

    def news(self) -> Message:
        """Return what workers need to start a round; may share memory with the server."""

    def step(self, reports: Mapping[int, Message]) -> Tensor:
        """Turn the reports of a round, by worker and in worker order, into an estimate.

        Returns:
            The estimate of the gradient, shape (d,); the next call overwrites it.
        """

    def state_dict(self) -> dict[str, Tensor]:
        """Return a copy of the memory of this half; empty where there is none."""

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Restore what ``state_dict`` returned."""


@runtime_checkable
class Method(Protocol):
    """A frozen value that makes the halves of a distributed method."""

    def worker(self) -> WorkerHalf:
        """Make the half of one worker."""

    def server(self, parameters: Tensor) -> ServerHalf:
        """Make the server's half around the server's own parameters, shape (d,)."""

    def paper_cost(self, dim: int) -> PaperCost | None:
        """Return what the paper's formula says one report costs; None where there is none."""


def add_average(accumulator: Tensor, reports: Mapping[int, Message], name: str) -> None:
    """Add the average over the reports of their payload ``name``, in worker order.

    Args:
        accumulator: shape (d,), modified in place.
        reports: by worker, at least one.
        name: which payload of each message.
    """
    for worker_id in sorted(reports):
        reports[worker_id].payloads[name].add_to(accumulator, weight=1 / len(reports))
