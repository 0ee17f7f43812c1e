"""One logical worker: an identity with a shard, a worker half and random names."""

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from mlmc_ray.compressors import Context
from mlmc_ray.errors import NonFiniteError, ProblemError, RoundError
from mlmc_ray.flat import CPU, FlatModel, copied
from mlmc_ray.methods import WorkerHalf
from mlmc_ray.payloads import DensePayload, Message
from mlmc_ray.problems import Problem, Shard, explaining
from mlmc_ray.seeding import drawing, generator_for, seed_for
from workers.device import moved

BatchSize = int | Literal["full"]


class GradientWorker:
    """Computes gradients on its shard and answers each round's news with a report.

    The flat model may be shared with other workers of the process: parameters come with the news
    of every round, and the worker's own buffers are put in before use.

    Args:
        worker_id: its identity; where it runs does not matter.
        problem: what is trained.
        shard: this worker's data.
        half: the method's worker half.
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
        half: WorkerHalf,
        model: FlatModel,
        seed: int,
        batch_size: BatchSize,
        buffers_every: int,
        num_workers: int,
    ) -> None:
        self.worker_id = worker_id
        self._problem = problem
        self._shard = shard
        self._half = half
        self._model = model
        self._seed = seed
        self._batch_size: BatchSize = batch_size
        self._buffers_every = buffers_every
        self._num_workers = num_workers
        self._buffers = copy.deepcopy(model.buffers())
        self.num_gradients = 0

    def step(
        self, round_index: int, exchange_index: int, news: Message
    ) -> tuple[Message, float | None]:
        """Answer the news of an exchange of a round.

        Returns:
            The report, and the mean training loss that was seen while making it, if any was; of
            a batch that was used at several points, that at the first.

        Raises:
            NonFiniteError: the gradient is not finite; names round, worker and layer.
            RoundError: the method cannot use the news, or its settings do not fit the gradient.
            ProblemError: the user's own problem or compressor failed; names round, worker, the
                error and its place.
        """
        self._model.set_buffers(self._buffers)
        if "buffers" in news.payloads:
            with explaining("taking over running statistics"):
                self._model.set_statistics(news.payloads["buffers"].to_dense())
        place = f"round {round_index}: worker {self.worker_id}"
        later = (exchange_index,) if exchange_index else ()
        names = (self._seed, self.worker_id, round_index, *later)
        oracle = _ShardOracle(self._problem, self._shard, self._model, self._batch_size, names)
        news = Message(_Told(place, news.payloads), _Told(place, news.scalars))
        try:
            report = self._half.step(news, oracle, context=self._context(round_index, names))
        except NonFiniteError as error:
            raise NonFiniteError(self._explain(round_index, error)) from None
        except ProblemError as error:
            raise ProblemError(f"{place}: {error}") from error
        except ValueError as error:
            raise RoundError(f"{place}: {error}") from error
        if not all(map(math.isfinite, oracle.losses)):
            raise NonFiniteError(
                f"{place}: the loss is {oracle.losses}: look at the data and the loss, "
                "or lower the step size"
            )
        self._buffers = self._model.buffers()
        self.num_gradients = oracle.num_gradients
        if not oracle.losses:
            return report, None
        if self._model.num_statistics and (round_index + 1) % self._buffers_every == 0:
            with explaining("reporting running statistics"):
                buffers = DensePayload(self._model.statistics())
            report = Message({**report.payloads, "buffers": buffers}, report.scalars)
        return report, sum(oracle.losses) / len(oracle.losses)

    def state_dict(self) -> dict[str, Any]:
        """Return a CPU copy of what the worker remembers between rounds: half and buffers."""
        return {"half": self._half.state_dict(), "buffers": copied(self._buffers, CPU)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what ``state_dict`` returned; a part that is left out stays as it is."""
        if "half" in state:
            self._half.load_state_dict(state["half"])
        if "buffers" in state:
            self._buffers = copied(state["buffers"], self._model.device)

    def _context(self, round_index: int, names: tuple[int, ...]) -> Context:
        return Context(
            generator=generator_for(*names, "compress"),
            shared_seed=seed_for(self._seed, "shared", round_index),
            worker_id=self.worker_id,
            num_workers=self._num_workers,
            layer_sizes=self._model.layer_sizes,
            layer_shapes=self._model.layer_shapes,
        )

    def _explain(self, round_index: int, error: NonFiniteError) -> str:
        bad = torch.nonzero(~torch.isfinite(self._model.gradients)).flatten()
        layer = f"; first in layer {self._model.layer_at(int(bad[0])).name}" if len(bad) else ""
        return (
            f"round {round_index}: worker {self.worker_id}: cannot compress its vector: {error}"
            f"{layer}. Look at the data and the loss, or lower the step size"
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
        self._model.gradients.zero_()
        self._model.module.train()
        with explaining("computing the loss"), drawing(batch.seed, self._model.device):
            loss = self._problem.loss(self._model.module, batch.examples)
            if not isinstance(loss, Tensor) or loss.numel() != 1:
                shape = tuple(loss.shape) if isinstance(loss, Tensor) else type(loss).__name__
                raise ValueError(f"loss returns the mean over the batch, a scalar; got {shape}")
            loss.backward()  # type: ignore[no-untyped-call]
            self._model.collect_gradients()
            return loss.item()
