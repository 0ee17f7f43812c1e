"""Several logical workers in one process."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mlmc_ray.downlinks import Receiver
from mlmc_ray.downlinks.base import request
from mlmc_ray.errors import NonFiniteError, RoundError, WireError
from mlmc_ray.flat import CPU
from mlmc_ray.methods.base import News
from mlmc_ray.observing import Compression, observing
from mlmc_ray.payloads import DensePayload, Message
from mlmc_ray.plan import RunPlan
from mlmc_ray.problems import explaining, initial_model
from mlmc_ray.replica import Replica
from mlmc_ray.rounds import Answers
from mlmc_ray.seeding import generator_for
from mlmc_ray.warm_up import warm_up
from mlmc_ray.wire import encode
from workers.device import checked_device
from workers.worker import BatchSize, GradientWorker


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkerPlan(RunPlan):
    """What every worker of a run is made from.

    Args:
        batch_size: examples a gradient, or "full".
        buffers_every: report running statistics in every n-th round.
        device: where models compute, as torch calls it.
    """

    batch_size: BatchSize
    buffers_every: int
    device: str = "cpu"


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
        dim = len(self._model.parameters)
        self._max_dim = max(plan.method.largest_payload(dim), self._model.num_statistics)
        warm_up(plan.method, self._model.layer_sizes)
        self._plan = plan
        self._receiver = self._new_receiver()
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
                problem=problem,
                shard=shard,
                half=plan.method.worker(),
                model=self._model,
                seed=plan.seed,
                batch_size=plan.batch_size,
                buffers_every=plan.buffers_every,
                num_workers=plan.num_workers,
            )

    def step(
        self,
        round_index: int,
        exchange_index: int,
        frames: Mapping[int, bytes | memoryview],
        *,
        observe: bool = False,
    ) -> Answers:
        """Run one exchange of a round on some of the workers hosted here.

        Args:
            round_index: counted from 0.
            exchange_index: of this round, from 0.
            frames: the server's news, by worker; the same object for those with the same news.
            observe: look at what the workers compress.

        Raises:
            RoundError: the news cannot be decoded, a report cannot be encoded, or see
                ``GradientWorker.step``.
            NonFiniteError, ProblemError: see ``GradientWorker.step``.
        """
        sharing: dict[int, list[int]] = {}
        for worker_id, frame in frames.items():
            sharing.setdefault(id(frame), []).append(worker_id)
        told = {
            key: self._take(round_index, exchange_index, frames[workers[0]], workers)
            for key, workers in sharing.items()
        }
        reports: dict[int, bytes] = {}
        losses: dict[int, float] = {}
        seconds: dict[int, float] = {}
        num_gradients: dict[int, int] = {}
        compressions: dict[int, tuple[Compression, ...]] = {}
        for worker_id, frame in frames.items():
            news = told[id(frame)]
            if news is None:
                reports[worker_id], num_gradients[worker_id] = encode(request()), 0
                continue
            worker = self._workers[worker_id]
            started = time.perf_counter()
            with observing(observe) as seen:
                own = self._of_worker(worker_id, news)
                report, loss = worker.step(round_index, exchange_index, own)
            reports[worker_id] = _encode(round_index, worker_id, report)
            seconds[worker_id] = time.perf_counter() - started - seen.seconds
            num_gradients[worker_id] = worker.num_gradients
            if loss is not None:
                losses[worker_id] = loss
            if observe:
                compressions[worker_id] = tuple(seen.compressions)
        return Answers(
            reports=reports,
            losses=losses,
            seconds=seconds,
            num_gradients=num_gradients,
            compressions=compressions,
        )

    def state_dict(self) -> dict[int, dict[str, Any]]:
        """Return a copy of what the workers here remember between rounds, by worker."""
        return {worker_id: worker.state_dict() for worker_id, worker in self._workers.items()}

    def load_state_dict(self, states: Mapping[int, Mapping[str, Any]]) -> None:
        """Restore the workers here; states of workers that live elsewhere are left aside."""
        for worker_id, worker in self._workers.items():
            worker.load_state_dict(states.get(worker_id, {}))
        self._receiver = self._new_receiver()

    def _new_receiver(self) -> Receiver:
        """Return a receiver that has got nothing yet."""

        def replica() -> Replica:
            return self._plan.replica(self._model, self._model.parameters.to(CPU, copy=True))

        return self._plan.downlink.receiver(replica, self._max_dim)

    def _take(
        self,
        round_index: int,
        exchange_index: int,
        frame: bytes | memoryview,
        workers: Sequence[int],
    ) -> News | None:
        """Return the news of a frame; None if they need a copy that is not here."""
        place = f"round {round_index}: the server's news"
        try:
            news = self._receiver.take(round_index, exchange_index, frame, workers)
        except WireError as error:
            raise RoundError(f"{place}: {error}") from error
        if news is None:
            return None
        sizes = {"parameters": len(self._model.parameters), "buffers": self._model.num_statistics}
        for message in [news] if isinstance(news, Message) else news.values():
            for name, payload in message.payloads.items():
                if payload.dim != sizes.get(name, payload.dim):
                    raise RoundError(
                        f"{place} has {payload.dim} {name}, the model here has {sizes[name]}; "
                        "server and workers must run the same problem"
                    )
        return news

    def _of_worker(self, worker_id: int, news: News) -> Message:
        own = news if isinstance(news, Message) else news[worker_id]
        statistics = self._receiver.statistics_for(worker_id)
        if statistics is None:
            return own
        return Message({**own.payloads, "buffers": DensePayload(statistics)}, own.scalars)


def _encode(round_index: int, worker_id: int, report: Message) -> bytes:
    try:
        return encode(report)
    except (WireError, NonFiniteError) as error:
        raise RoundError(f"round {round_index}: report of worker {worker_id}: {error}") from error
