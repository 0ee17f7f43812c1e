"""A worker's view of its data and of the model, which it may share with others."""

import copy
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from mlmc_ray.flat import CPU
from mlmc_ray.problems import Shard, explaining
from mlmc_ray.seeding import generator_for, seed_for
from workers.device import moved
from workers.gradients import Buffers, Gradients, shapes_of

BatchSize = int | Literal["full"]


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """A minibatch, the seed of what the model draws on it (dropout), and its size if one is drawn.

    Attributes:
        first: whether it is the first that was drawn of its oracle.
    """

    examples: Any
    seed: int
    size: int | None
    first: bool


class ShardOracle:
    """The method's view of a worker: minibatches of its shard, gradients of its model.

    Of a batch that is used at several points the first is the newest, and the others belong to the
    past: they leave the buffers, running statistics among them, and the losses as they are.

    Args:
        shard: of the worker.
        gradients: computes them.
        batch_size: by default.
        names: of the draws; the second is the worker.
        buffers: of the worker; the model has them when a gradient is asked for.
        on_device: whether the method takes gradients where they are computed; else on the CPU.

    Attributes:
        names: see the argument.
        worker_id: of the worker.
        buffers: with which an exchange begins.
        losses: of every batch, at the first point at which it was used.
        num_gradients: how many were computed, at all points.
        newest: the last gradient that was asked for, shape (d,).
        group: with whom the first gradient is computed; None for with nobody.
    """

    def __init__(
        self,
        shard: Shard,
        gradients: Gradients,
        batch_size: BatchSize,
        names: tuple[int, ...],
        buffers: Buffers,
        on_device: bool,
    ) -> None:
        self.worker_id = names[1]
        self.buffers = buffers
        self._shard = shard
        self._gradients = gradients
        self._model = gradients.model
        self._batch_size: BatchSize = batch_size
        self.names = names
        self._on_device = on_device
        self._used: set[int] = set()  # the seeds of the batches that have been at a point
        self._ahead: Batch | None = None
        self._begin()
        self.losses: list[float] = []
        self.num_gradients = 0
        self.newest = self._model.gradients
        self.group: Group | None = None

    def _begin(self) -> None:
        self._generator = generator_for(*self.names, "data")
        self._num_batches = 0

    def sample(self, size: int | None = None) -> Batch:
        """See ``Oracle``."""
        if size is None and self._batch_size == "full":
            return self.full()
        return self._next(size or int(self._batch_size))

    def full(self) -> Batch:
        """See ``Oracle``."""
        return self._next(None)

    def ahead(self, size: int | None) -> Batch:
        """Return what the half gets if the first that it asks for is a batch of this size.

        Args:
            size: None for the whole shard.
        """
        if self._ahead is None:
            self._ahead = self._draw(size)
        elif self._ahead.size != size:
            self._begin()  # as if nothing had been drawn
            self._ahead = self._draw(size)
        return self._ahead

    def _next(self, size: int | None) -> Batch:
        drawn, self._ahead = self._ahead, None
        if drawn is None:
            return self._draw(size)
        if drawn.size == size:
            return drawn
        self._begin()  # as if nothing had been drawn
        return self._draw(size)

    def _draw(self, size: int | None) -> Batch:
        with explaining("drawing a batch"):
            if size is None:
                examples = self._shard.full()
            else:
                examples = self._shard.sample(size, self._generator)
            seed = seed_for(*self.names, "model", self._num_batches)
            self._num_batches += 1
            on_device = moved(examples, self._model.device)
            return Batch(on_device, seed, size, self._num_batches == 1)

    def gradient(self, at: Tensor, batch: Batch) -> Tensor:
        """See ``Oracle``."""
        if at.shape != self._model.parameters.shape:
            raise ValueError(
                f"the method asks for the gradient at a point of shape {tuple(at.shape)}, the "
                f"model here has {tuple(self._model.parameters.shape)}; server and workers must "
                "run the same problem"
            )
        self.num_gradients += 1
        if batch.seed in self._used:
            buffers = copy.deepcopy(self._model.buffers())
            self._alone(at, batch)
            self._model.set_buffers(buffers)
        else:
            self._used.add(batch.seed)
            shared = self.group.gradient(self, at, batch) if self.group else None
            self.losses.append(self._alone(at, batch) if shared is None else self._take(shared))
        return self.newest if self._on_device else self.newest.to(CPU)

    def _alone(self, at: Tensor, batch: Batch) -> float:
        self.newest = self._model.gradients
        return self._gradients.alone(at, batch.examples, batch.seed)

    def _take(self, shared: "_Shared") -> float:
        self.newest = shared.gradient
        self._model.set_buffers(shared.buffers)
        return shared.loss


@dataclass(frozen=True, slots=True)
class _Shared:
    """What came of a worker's first batch, among those of others, at a point."""

    batch: Batch
    point: "_Point"
    gradient: Tensor
    loss: float
    buffers: Buffers


class _Point:
    """Where gradients were computed, whatever becomes of the tensor that said so."""

    def __init__(self, at: Tensor) -> None:
        self._given, self._version = at, at._version
        self._copy = at.clone()

    def equals(self, at: Tensor) -> bool:
        """Compare numbers, unless it is the tensor that was given, and has not been changed."""
        same = at is self._given and at._version == self._version
        return same or torch.equal(self._copy, at)


class Group:
    """Workers of a process whose first gradients of an exchange are computed together.

    The first of them that asks for a gradient, on the first batch that it has drawn, has those of
    the others computed too, on the batches that they will draw if they ask for the same. Batches of
    other shapes are left to the next that asks. Who asks for something else computes it alone.

    Args:
        gradients: computes them.
        oracles: of the workers.

    Attributes:
        seconds: what the workers' times are to be changed by, so that each has its share of the
            computation; by worker.
    """

    def __init__(self, gradients: Gradients, oracles: Sequence[ShardOracle]) -> None:
        self._gradients = gradients
        self._waiting = {oracle.worker_id: oracle for oracle in oracles}
        self._kept: dict[int, _Shared] = {}
        self._num_refused = 0
        self.seconds = dict.fromkeys(self._waiting, 0.0)
        for oracle in oracles:
            oracle.group = self

    @property
    def num_unused(self) -> int:
        """How many gradients nobody has asked for."""
        return self._num_refused + len(self._kept)

    def gradient(self, asking: ShardOracle, at: Tensor, batch: Batch) -> _Shared | None:
        """Return the gradient of a worker's first batch; None where it is computed alone."""
        if self._waiting.pop(asking.worker_id, None) is not None and batch.first:
            self._compute(asking, at, batch)
        shared = self._kept.pop(asking.worker_id, None)
        if shared is None or (shared.batch is batch and shared.point.equals(at)):
            return shared
        self._num_refused += 1
        return None

    def _compute(self, asking: ShardOracle, at: Tensor, batch: Batch) -> None:
        """Keep the gradients of all whose batches are like the one that is asked for."""
        started = time.perf_counter()
        shapes = shapes_of(batch.examples, asking.buffers)
        members = [(asking, batch)]
        for oracle in self._waiting.values():
            own = oracle.ahead(batch.size)
            if shapes_of(own.examples, oracle.buffers) == shapes:
                members.append((oracle, own))
        if len(members) == 1:
            return
        together = self._gradients.together(
            at, [b.examples for _, b in members], [o.buffers for o, _ in members], batch.seed
        )
        point = _Point(at)
        for i, (oracle, own) in enumerate(members):
            self._waiting.pop(oracle.worker_id, None)
            self._kept[oracle.worker_id] = _Shared(
                own, point, together.gradients[i], together.losses[i], together.buffers[i]
            )
        share = (time.perf_counter() - started) / len(members)
        self.seconds[asking.worker_id] -= share * (len(members) - 1)
        for oracle, _ in members[1:]:
            self.seconds[oracle.worker_id] += share
