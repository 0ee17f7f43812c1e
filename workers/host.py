"""Several logical workers in one process."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from mlmc_ray.downlinks import RelayDownlink
from mlmc_ray.downlinks.base import request
from mlmc_ray.errors import NonFiniteError, RoundError, WireError
from mlmc_ray.observing import observing
from mlmc_ray.payloads import Message
from mlmc_ray.plan import RunPlan
from mlmc_ray.problems import explaining, initial_model
from mlmc_ray.rounds import Answers
from mlmc_ray.seeding import generator_for
from mlmc_ray.warm_up import warm_up, warm_up_optimizer
from mlmc_ray.wire import encode
from workers.device import checked_device, placed
from workers.gradients import Gradients, Precision
from workers.inbox import Frames, Inbox
from workers.oracle import BatchSize, Group, ShardOracle
from workers.worker import GradientWorker


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkerPlan(RunPlan):
    """What every worker of a run is made from.

    Args:
        batch_size: examples a gradient, or "full".
        buffers_every: report running statistics in every n-th round.
        device: where models compute, as torch calls it.
        gradients_at_once: how many workers compute their gradients together.
        precision: of forward passes.
    """

    batch_size: BatchSize
    buffers_every: int
    device: str = "cpu"
    gradients_at_once: int = 1
    precision: Precision = "float32"


class WorkerHost:
    """Hosts logical workers that share one copy of the model.

    Args:
        plan: what the workers are made from.
        worker_ids: which of them live here.

    Raises:
        ClusterError: torch finds no GPU here, and the plan's device is one.
        ProblemError: the problem's own code failed.
    """

    def __init__(self, plan: WorkerPlan, worker_ids: Sequence[int]) -> None:
        device = checked_device(plan.device, worker_ids)
        problem = plan.problem.load()
        self._model = initial_model(problem, plan.seed, device)
        self._at_once = plan.gradients_at_once
        self._said = False  # that gradients were not used
        self._gradients = Gradients(problem, self._model, plan.precision)
        warm_up(plan.method, self._model.layer_sizes)
        if plan.optimizer is not None and isinstance(plan.downlink, RelayDownlink):
            warm_up_optimizer(plan.optimizer)  # of the replica that will be made
        self._inbox = Inbox(plan, self._model)
        spans = plan.spans(self._model)
        self._workers: dict[int, GradientWorker] = {}
        for worker_id in worker_ids:
            with explaining(f"making the shard of worker {worker_id}"):
                draws = generator_for(plan.seed, "shards")
                shard = problem.shard(worker_id, plan.num_workers, draws)
                needed = "full" if plan.batch_size == "full" else "sample"
                if not callable(getattr(shard, needed, None)):
                    raise ValueError(
                        "shard returns an object with sample(size, generator) and full(), such as "
                        f"a TensorShard; got {type(shard).__name__}"
                    )
            self._workers[worker_id] = GradientWorker(
                worker_id=worker_id,
                gradients=self._gradients,
                shard=placed(shard, self._model.device),
                halves=[plan.method.worker() for _ in spans],
                on_device=plan.method.takes_any_device,
                spans=spans,
                seed=plan.seed,
                batch_size=plan.batch_size,
                buffers_every=plan.buffers_every,
                num_workers=plan.num_workers,
            )

    def step(
        self,
        round_index: int,
        exchange_index: int,
        frames: Sequence[Frames],
        *,
        observe: bool = False,
        on_answers: Callable[[int, Answers], None] = lambda *_: None,
    ) -> list[Answers]:
        """Run one exchange of a round on some of the workers hosted here.

        Args:
            round_index: counted from 0.
            exchange_index: of this round, from 0.
            frames: the servers' news, by server and worker; the same object for those with the same
                news.
            observe: look at what the workers compress.
            on_answers: told of the answers to a server as soon as they are complete.

        Returns:
            The answers to every server; what concerns no reports is in those to the first.

        Raises:
            RoundError: the news cannot be decoded or are for different workers, a report cannot be
                encoded, or see ``GradientWorker.step``.
            NonFiniteError, ProblemError: see ``GradientWorker.step``.
        """
        news = self._inbox.read(round_index, exchange_index, frames)
        first = Answers()
        answers = [first, *(Answers() for _ in frames[1:])]

        def done(worker_id: int, index: int, report: Message) -> None:
            reports = answers[index].reports
            reports[worker_id] = _encode(round_index, worker_id, report)
            if index and len(reports) == len(news):
                on_answers(index, answers[index])

        oracles = {
            worker_id: self._workers[worker_id].begin(round_index, exchange_index, own)
            for worker_id, own in news.items()
            if own is not None
        }
        groups = self._groups(oracles)
        for worker_id, own in news.items():
            if own is None:
                first.num_gradients[worker_id] = 0
                for index in range(len(frames)):
                    done(worker_id, index, request())
                continue
            worker = self._workers[worker_id]
            started = time.perf_counter()
            with observing(observe) as seen:
                loss = worker.step(oracles[worker_id], own, partial(done, worker_id))
            first.seconds[worker_id] = time.perf_counter() - started - seen.seconds
            first.num_gradients[worker_id] = worker.num_gradients
            if loss is not None:
                first.losses[worker_id] = loss
            if observe:
                first.compressions[worker_id] = tuple(seen.compressions)
        for group in groups:
            for worker_id, seconds in group.seconds.items():
                first.seconds[worker_id] += seconds
        num_unused = 0 if self._said else sum(group.num_unused for group in groups)
        self._said |= num_unused > 0
        answers[0] = replace(first, remember=self.remember, num_unused=num_unused)
        on_answers(0, answers[0])
        return answers

    def _groups(self, oracles: Mapping[int, ShardOracle]) -> list[Group]:
        """Return the groups of those that are asked: by their numbers, whoever else is here."""
        if self._at_once == 1:
            return []
        members: dict[int, list[ShardOracle]] = {}
        for worker_id, oracle in oracles.items():
            members.setdefault(worker_id // self._at_once, []).append(oracle)
        return [Group(self._gradients, own) for own in members.values() if len(own) > 1]

    @property
    def remember(self) -> bool:
        """Whether a worker here remembers something between rounds."""
        return any(worker.remembers for worker in self._workers.values())

    def state_dict(self) -> dict[int, dict[str, Any]]:
        """Return a copy of what the workers here remember between rounds, by worker."""
        return {worker_id: worker.state_dict() for worker_id, worker in self._workers.items()}

    def load_state_dict(
        self, states: Mapping[int, Mapping[str, Any]], servers: Sequence[Mapping[str, Any]] = ()
    ) -> None:
        """Restore the workers here; states of workers that live elsewhere are left aside.

        Args:
            states: by worker.
            servers: their states, from which the copies of the parameters come, if they go on from
                them; without them every copy is given up.
        """
        for worker_id, worker in self._workers.items():
            worker.load_state_dict(states.get(worker_id, {}))
        self._inbox.load(servers)


def _encode(round_index: int, worker_id: int, report: Message) -> bytes:
    try:
        return encode(report)
    except (WireError, NonFiniteError) as error:
        raise RoundError(f"round {round_index}: report of worker {worker_id}: {error}") from error
