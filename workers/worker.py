"""One logical worker: an identity with a shard, a worker half and random names."""

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from mlmc_ray.compressors import Context
from mlmc_ray.errors import NonFiniteError, ProblemError, RoundError
from mlmc_ray.flat import CPU, copied
from mlmc_ray.methods import WorkerHalf
from mlmc_ray.methods.base import Half
from mlmc_ray.payloads import DensePayload, Message
from mlmc_ray.problems import Shard, explaining
from mlmc_ray.seeding import generator_for, seed_for
from mlmc_ray.spans import Span, span_names
from workers.gradients import Gradients
from workers.oracle import BatchSize, ShardOracle
from workers.together import Step, step_together


class GradientWorker:
    """Computes gradients on its shard and answers each round's news with a report.

    The flat model may be shared with other workers of the process: parameters come with the news
    of every round, and the worker's own buffers are put in before use.

    Args:
        worker_id: its identity; where it runs does not matter.
        gradients: computes them, on the model of the process; batches are moved to its device.
        shard: this worker's data.
        halves: the method's worker halves, one for every span.
        on_device: whether they take gradients where those are computed; else gradients are moved to
            the CPU.
        spans: of the parameters.
        seed: the run's seed.
        batch_size: examples a gradient, or "full" for the whole shard.
        buffers_every: report the running statistics in every n-th round.
        num_workers: how many workers there are.

    Attributes:
        num_gradients: how many gradients the last step computed.
    """

    def __init__(
        self,
        *,
        worker_id: int,
        gradients: Gradients,
        shard: Shard,
        halves: Sequence[WorkerHalf],
        on_device: bool,
        spans: Sequence[Span],
        seed: int,
        batch_size: BatchSize,
        buffers_every: int,
        num_workers: int,
    ) -> None:
        self.worker_id = worker_id
        self._gradients = gradients
        self._shard = shard
        self._halves = halves
        self._on_device = on_device
        self._spans = spans
        self._model = gradients.model
        self._seed = seed
        self._batch_size: BatchSize = batch_size
        self._buffers_every = buffers_every
        self._num_workers = num_workers
        self._buffers = copy.deepcopy(self._model.buffers())
        self.num_gradients = 0

    def begin(self, round_index: int, exchange_index: int, news: Sequence[Message]) -> ShardOracle:
        """Return the oracle for an exchange, having taken over what its news say of buffers.

        Args:
            round_index: counted from 0.
            exchange_index: of this round, from 0.
            news: of every span.

        Raises:
            ProblemError: the running statistics do not fit.
        """
        if "buffers" in news[0].payloads:
            self._model.set_buffers(self._buffers)
            with explaining("taking over running statistics"):
                self._model.set_statistics(news[0].payloads["buffers"].to_dense())
        later = (exchange_index,) if exchange_index else ()
        return ShardOracle(
            self._shard,
            self._gradients,
            self._batch_size,
            (self._seed, self.worker_id, round_index, *later),
            self._buffers,
            self._on_device,
        )

    def step(
        self, oracle: ShardOracle, news: Sequence[Message], done: Callable[[int, Message], None]
    ) -> float | None:
        """Answer the news of an exchange of a round.

        Args:
            oracle: that ``begin`` has returned for it.
            news: of every span.
            done: told of every report as soon as it is there, with the index of its span.

        Returns:
            The mean training loss that was seen, if any was; of a batch that was used at several
            points, that at the first.

        Raises:
            NonFiniteError: the gradient is not finite; names round, worker and layer.
            RoundError: the method cannot use the news, or its settings do not fit the gradient.
            ProblemError: the user's own problem or compressor failed; names round, worker, the
                error and its place.
        """
        self._model.set_buffers(self._buffers)
        names = oracle.names
        round_index = names[2]
        place = f"round {round_index}: worker {self.worker_id}"

        def finished(index: int, report: Message) -> None:
            _check_losses(oracle.losses)
            done(index, report if index else self._with_statistics(report, oracle, round_index))

        steps = [
            self._step_of(
                span, Message(_Told(place, told.payloads), _Told(place, told.scalars)), names
            )
            for span, told in zip(self._spans, news, strict=True)
        ]
        try:
            step_together(steps, oracle, self._spans, finished)
        except _NonFiniteLossError as error:
            raise NonFiniteError(f"{place}: {error}") from None
        except NonFiniteError as error:
            raise NonFiniteError(self._explain(place, oracle.newest, error)) from None
        except ProblemError as error:
            raise ProblemError(f"{place}: {error}") from error
        except ValueError as error:
            raise RoundError(f"{place}: {error}") from error
        self._buffers = self._model.buffers()
        self.num_gradients = oracle.num_gradients
        return sum(oracle.losses) / len(oracle.losses) if oracle.losses else None

    def _step_of(self, span: Span, news: Message, names: tuple[int, ...]) -> Step:
        """Return the step of the half of a span."""
        half, context = self._halves[span.index], self._context(span, names)
        return lambda oracle: half.step(news, oracle, context=context)

    def _with_statistics(self, report: Message, oracle: ShardOracle, round_index: int) -> Message:
        """Return a report with running statistics, where it is their turn."""
        due = (round_index + 1) % self._buffers_every == 0
        if not (oracle.losses and self._model.num_statistics and due):
            return report
        with explaining("reporting running statistics"):
            buffers = DensePayload(self._model.statistics())
        return Message({**report.payloads, "buffers": buffers}, report.scalars)

    @property
    def remembers(self) -> bool:
        """Whether it remembers something between rounds: of the method, or buffers."""
        return bool(self._buffers) or any(map(_remembers, self._halves))

    def state_dict(self) -> dict[str, Any]:
        """Return a CPU copy of what the worker remembers between rounds: half and buffers."""
        return {"half": _joined(self._halves), "buffers": copied(self._buffers, CPU)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what ``state_dict`` returned; a part that is left out stays as it is."""
        if "half" in state:
            for index, half in enumerate(self._halves):
                half.load_state_dict(_of_span(state["half"], index, len(self._halves)))
        if "buffers" in state:
            self._buffers = copied(state["buffers"], self._model.device)

    def _context(self, span: Span, names: tuple[int, ...]) -> Context:
        _, _, round_index, *_ = names
        return Context(
            generator=generator_for(*names, "compress", *span_names(span, len(self._spans))),
            shared_seed=seed_for(self._seed, "shared", round_index),
            worker_id=self.worker_id,
            num_workers=self._num_workers,
            layer_sizes=span.layer_sizes,
            layer_shapes=span.layer_shapes,
        )

    def _explain(self, place: str, gradient: Tensor, error: NonFiniteError) -> str:
        bad = torch.nonzero(~torch.isfinite(gradient)).flatten()
        layer = f"; first in layer {self._model.layer_at(int(bad[0])).name}" if len(bad) else ""
        return (
            f"{place}: cannot compress its vector: {error}"
            f"{layer}. Look at the data and the loss, or lower the step size"
        )


def _remembers(half: WorkerHalf) -> bool:
    return bool(half.memory if isinstance(half, Half) else half.state_dict())


def _joined(halves: Sequence[WorkerHalf]) -> dict[str, Tensor]:
    """Return the memory of all halves; that of several with the index of the span in the names."""
    if len(halves) == 1:
        return halves[0].state_dict()
    states = [half.state_dict() for half in halves]
    return {f"{i} {name}": state[name] for i, state in enumerate(states) for name in state}


def _of_span(joined: Mapping[str, Tensor], index: int, num_spans: int) -> Mapping[str, Tensor]:
    """Return what ``_joined`` has of one half."""
    if num_spans == 1:
        return joined
    own = f"{index} "
    return {name.removeprefix(own): joined[name] for name in joined if name.startswith(own)}


class _NonFiniteLossError(NonFiniteError):
    """The loss is not finite."""


def _check_losses(losses: Sequence[float]) -> None:
    if not all(map(math.isfinite, losses)):
        raise _NonFiniteLossError(
            f"the loss is {losses}: look at the data and the loss, or lower the step size"
        )


class _Told(dict[str, Any]):
    """What the server's news hold, by name; what they lack is a ``RoundError`` when looked up."""

    def __init__(self, place: str, values: Mapping[str, Any]) -> None:
        super().__init__(values)
        self._place = place

    def __missing__(self, name: str) -> Any:
        raise RoundError(
            f"{self._place}: the server's news lacks {name!r} and holds {sorted(self)}: its method "
            "is another than the worker's"
        )
