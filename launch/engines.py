"""Engines run rounds: the shape of one, and the inline engine, which needs no Ray."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

from launch.config import RunConfig
from launch.simulated_time import SimulatedTime
from launch.threads import torch_threads
from mlmc_ray.ledger import Ledger
from server.server import ParameterServer, ServerPlan
from workers.host import WorkerHost, WorkerPlan


@dataclass(frozen=True, slots=True)
class RoundResult:
    """What a round leaves.

    Attributes:
        losses: training losses, by worker.
        ledger: of its frames.
        clock_s: simulated seconds since the start of the run, at its end; None without a clock.
    """

    losses: dict[int, float]
    ledger: Ledger
    clock_s: float | None = None


class Engine(Protocol):
    """Runs the rounds of one run."""

    def round(self) -> RoundResult:
        """Run the next round."""

    def evaluate(self) -> dict[str, float]:
        """Evaluate the server's parameters with the problem's own measures."""

    def parameters(self) -> Tensor:
        """Return a copy of the parameters, shape (d,)."""

    def model_state(self) -> dict[str, Any]:
        """Return the ``state_dict`` of the model."""

    def close(self) -> None:
        """Release what the engine holds; may be called twice."""


def server_plan(config: RunConfig) -> ServerPlan:
    """Return what the run's parameter server is made from."""
    return ServerPlan(
        problem=config.problem,
        method=config.method,
        optimizer=config.optimizer,
        num_workers=config.workers,
        seed=config.seed,
    )


def worker_plan(config: RunConfig) -> WorkerPlan:
    """Return what the run's workers are made from."""
    return WorkerPlan(
        problem=config.problem,
        method=config.method,
        num_workers=config.workers,
        seed=config.seed,
        batch_size=config.batch_size,
        buffers_every=config.buffers_every,
    )


class InlineEngine:
    """Server and workers in this process, one after the other; frames are made all the same.

    With a clock it keeps simulated time. An exchange takes as long as the slowest of the workers
    that it asks. Reports of an asynchronous method come one by one, in the order of simulated time;
    a round is one step of the server then, and other workers stay at work when it ends.
    """

    def __init__(self, config: RunConfig) -> None:
        self._threads = config.threads
        self._asynchronous = config.method.asynchronous
        self._time = SimulatedTime(config.clock, config.seed) if config.clock else None
        with torch_threads(config.threads):
            self._server = ParameterServer(server_plan(config))
            self._host = WorkerHost(worker_plan(config), range(config.workers))

    def round(self) -> RoundResult:
        """Run the next round."""
        losses: dict[int, float] = {}
        ledger = None
        with torch_threads(self._threads):
            while ledger is None:
                reports, seen = self._exchange()
                losses.update(seen)
                ledger = self._server.receive(reports)
        return RoundResult(losses, ledger, self._time.now_s if self._time else None)

    def _exchange(self) -> tuple[Mapping[int, bytes], Mapping[int, float]]:
        """Let workers answer the news; return the reports that the server has now, and losses."""
        place = (self._server.round_index, self._server.exchange_index)
        news = self._server.broadcast()
        reports, losses = self._host.step(*place, news)
        if self._time is None:
            return reports, losses
        durations_s = {
            worker_id: self._time.duration_s(
                worker_id,
                place,
                news_bytes=len(news[worker_id]),
                report_bytes=len(report),
                num_gradients=self._host.num_gradients(worker_id),
            )
            for worker_id, report in reports.items()
        }
        if not self._asynchronous:
            self._time.now_s += max(durations_s.values(), default=0.0)
            return reports, losses
        for worker_id, report in reports.items():
            self._time.send(worker_id, report, losses.get(worker_id), durations_s[worker_id])
        first = self._time.next_arrival()
        loss = {} if first.loss is None else {first.worker_id: first.loss}
        return {first.worker_id: first.report}, loss

    def evaluate(self) -> dict[str, float]:
        """Evaluate the server's parameters."""
        with torch_threads(self._threads):
            return self._server.evaluate()

    def parameters(self) -> Tensor:
        """Return a copy of the parameters."""
        return self._server.parameters.clone()

    def model_state(self) -> dict[str, Any]:
        """Return the ``state_dict`` of the model."""
        return self._server.model_state()

    def close(self) -> None:
        """Nothing is held."""
