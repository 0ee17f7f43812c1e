"""One logical worker: an identity with a shard, a worker half and random names."""

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from mlmc_ray.compressors import Context
from mlmc_ray.errors import NonFiniteError, ProblemError, RoundError
from mlmc_ray.flat import CPU, FlatModel, copied
from mlmc_ray.methods import WorkerHalf
from mlmc_ray.methods.base import Half
from mlmc_ray.payloads import DensePayload, Message
from mlmc_ray.problems import Problem, Shard, explaining
from mlmc_ray.seeding import drawing, generator_for, seed_for
from mlmc_ray.spans import Span, span_names
from workers.device import moved
from workers.together import Step, step_together

BatchSize = int | Literal["full"]


class GradientWorker:
    """Computes gradients on its shard and answers each round's news with a report.

    The flat model may be shared with other workers of the process: parameters come with the news
    of every round, and the worker's own buffers are put in before use.

    Args:
        worker_id: its identity; where it runs does not matter.
        problem: what is trained.
        shard: this worker's data.
        halves: the method's worker halves, one for every span.
        spans: of the parameters.
        model: the flat model to compute on; batches are moved to its device, and gradients from
            there to the CPU, where the half makes its report.
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
        problem: Problem,
        shard: Shard,
        halves: Sequence[WorkerHalf],
        spans: Sequence[Span],
        model: FlatModel,
        seed: int,
        batch_size: BatchSize,
        buffers_every: int,
        num_workers: int,
    ) -> None:
        self.worker_id = worker_id
        self._problem = problem
        self._shard = shard
        self._halves = halves
        self._spans = spans
        self._model = model
        self._seed = seed
        self._batch_size: BatchSize = batch_size
        self._buffers_every = buffers_every
        self._num_workers = num_workers
        self._buffers = copy.deepcopy(model.buffers())
        self.num_gradients = 0

    def step(
        self,
        round_index: int,
        exchange_index: int,
        news: Sequence[Message],
        done: Callable[[int, Message], None],
    ) -> float | None:
        """Answer the news of an exchange of a round.

        Args:
            round_index: counted from 0.
            exchange_index: of this round, from 0.
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
        if "buffers" in news[0].payloads:
            with explaining("taking over running statistics"):
                self._model.set_statistics(news[0].payloads["buffers"].to_dense())
        place = f"round {round_index}: worker {self.worker_id}"
        later = (exchange_index,) if exchange_index else ()
        names = (self._seed, self.worker_id, round_index, *later)
        oracle = _ShardOracle(self._problem, self._shard, self._model, self._batch_size, names)

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
            raise NonFiniteError(self._explain(round_index, error)) from None
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

    def _with_statistics(
        self, report: Message, oracle: "_ShardOracle", round_index: int
    ) -> Message:
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

    def _explain(self, round_index: int, error: NonFiniteError) -> str:
        bad = torch.nonzero(~torch.isfinite(self._model.gradients)).flatten()
        layer = f"; first in layer {self._model.layer_at(int(bad[0])).name}" if len(bad) else ""
        return (
            f"round {round_index}: worker {self.worker_id}: cannot compress its vector: {error}"
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


@dataclass(frozen=True, slots=True)
class _Batch:
    """A minibatch, and the seed of what the model draws on it (dropout)."""

    examples: Any
    seed: int


class _ShardOracle:
    """The method's view of a worker: minibatches of its shard, gradients of its model.

    Of a batch that is used at several points the first is the newest, and the others belong to the
    past: they leave the buffers, running statistics among them, and the losses as they are.

    Attributes:
        losses: of every batch, at the first point at which it was used.
        num_gradients: how many were computed, at all points.
    """

    def __init__(
        self,
        problem: Problem,
        shard: Shard,
        model: FlatModel,
        batch_size: BatchSize,
        names: tuple[int, ...],
    ) -> None:
        self._problem = problem
        self._shard = shard
        self._model = model
        self._batch_size: BatchSize = batch_size
        self._names = names
        self._generator = generator_for(*names, "data")
        self._num_batches = 0
        self._used: set[int] = set()  # the seeds of the batches that have been at a point
        self.losses: list[float] = []
        self.num_gradients = 0

    def sample(self, size: int | None = None) -> _Batch:
        if size is None and self._batch_size == "full":
            return self.full()
        with explaining("drawing a batch"):
            examples = self._shard.sample(size or int(self._batch_size), self._generator)
            return _Batch(moved(examples, self._model.device), self._seed())

    def full(self) -> _Batch:
        with explaining("drawing a batch"):
            return _Batch(moved(self._shard.full(), self._model.device), self._seed())

    def _seed(self) -> int:
        """Return the seed of what the model draws on the next batch."""
        self._num_batches += 1
        return seed_for(*self._names, "model", self._num_batches - 1)

    def gradient(self, at: Tensor, batch: _Batch) -> Tensor:
        if at.shape != self._model.parameters.shape:
            raise ValueError(
                f"the method asks for the gradient at a point of shape {tuple(at.shape)}, the "
                f"model here has {tuple(self._model.parameters.shape)}; server and workers must "
                "run the same problem"
            )
        self.num_gradients += 1
        if batch.seed in self._used:
            buffers = copy.deepcopy(self._model.buffers())
            self._differentiate(at, batch)
            self._model.set_buffers(buffers)
        else:
            self._used.add(batch.seed)
            self.losses.append(self._differentiate(at, batch))
        return self._model.gradients.to(CPU)

    def _differentiate(self, at: Tensor, batch: _Batch) -> float:
        """Leave the gradient in the model and return the loss."""
        self._model.parameters.copy_(at)
        self._model.clear_gradients()
        self._model.module.train()
        with explaining("computing the loss"), drawing(batch.seed, self._model.device):
            loss = self._problem.loss(self._model.module, batch.examples)
            if not isinstance(loss, Tensor) or loss.numel() != 1:
                shape = tuple(loss.shape) if isinstance(loss, Tensor) else type(loss).__name__
                raise ValueError(f"loss returns the mean over the batch, a scalar; got {shape}")
            loss.backward()  # type: ignore[no-untyped-call]
            self._model.collect_gradients()
            return loss.item()
