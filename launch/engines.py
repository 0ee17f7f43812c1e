"""Engines run rounds: the shape of one, and the inline engine, which needs no Ray."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

from torch import Tensor

from launch.config import RunConfig
from launch.simulated_time import SimulatedTime
from launch.threads import torch_threads
from mlmc_ray.rounds import RoundResult
from server.server import ParameterServer, ServerPlan
from workers.host import WorkerHost, WorkerPlan


@dataclass(frozen=True, kw_only=True, slots=True)
class RunState:
    """All that a run remembers between two rounds.

    Attributes:
        server: of the server; see ``ParameterServer.state_dict``.
        workers: by worker; see ``GradientWorker.state_dict``.
        time: of the clock; see ``SimulatedTime.state_dict``; empty without one.
    """

    server: dict[str, Any]
    workers: dict[int, dict[str, Any]]
    time: dict[str, Any]


class Engine(Protocol):
    """Runs the rounds of one run."""

    def round(self, *, observe: bool) -> RoundResult:
        """Run the next round; look at its messages if asked to."""

    def evaluate(self) -> dict[str, float]:
        """Evaluate the server's parameters with the problem's own measures."""

    def parameters(self) -> Tensor:
        """Return a copy of the parameters, shape (d,)."""

    def model_state(self) -> dict[str, Any]:
        """Return the ``state_dict`` of the model."""

    def suits(self, old: RunConfig, new: RunConfig) -> bool:
        """Return whether ``set_up`` can make an engine of one configuration one of another."""

    def set_up(self, config: RunConfig) -> None:
        """Begin another configuration, which the engine suits, at its start."""

    def state(self) -> RunState:
        """Return a copy of all that is remembered between rounds."""

    def load(self, state: RunState) -> None:
        """Go on from a state; a part that is left out stays as it is."""

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
        self.set_up(config)

    def suits(self, old: RunConfig, new: RunConfig) -> bool:
        """Return whether both run in one process."""
        return old.engine == new.engine

    def set_up(self, config: RunConfig) -> None:
        """Make server and workers anew; if that fails all stay as they are."""
        with torch_threads(config.threads):
            server = ParameterServer(server_plan(config))
            host = WorkerHost(worker_plan(config), range(config.workers))
        self._server, self._host = server, host
        self._threads = config.threads
        self._asynchronous = config.method.asynchronous
        self._time = SimulatedTime(config.clock, config.seed) if config.clock else None

    def round(self, *, observe: bool) -> RoundResult:
        """Run the next round."""
        result, ledger = RoundResult(), None
        self._server.observe(observe)
        with torch_threads(self._threads):
            while ledger is None:
                ledger = self._server.receive(self._exchange(result, observe))
        result.close(ledger, self._server.traffic, self._server.compressions)
        result.clock_s = self._time.now_s if self._time else None
        return result

    def _exchange(self, result: RoundResult, observe: bool) -> Mapping[int, bytes]:
        """Let workers answer the news; return the reports that the server has now."""
        place = (self._server.round_index, self._server.exchange_index)
        news = self._server.broadcast()
        answers = self._host.step(*place, news, observe=observe)
        if self._time is None:
            result.add(place, 0, answers)
            return answers.reports
        durations_s = {
            worker_id: self._time.duration_s(
                worker_id,
                place,
                news_bytes=len(news[worker_id]),
                report_bytes=len(report),
                num_gradients=answers.num_gradients[worker_id],
            )
            for worker_id, report in answers.reports.items()
        }
        answers = replace(answers, seconds=durations_s)
        if not self._asynchronous:
            self._time.now_s += max(durations_s.values(), default=0.0)
            result.add(place, 0, answers)
            return answers.reports
        for worker_id, report in answers.reports.items():
            loss = answers.losses.get(worker_id)
            self._time.send(worker_id, report, loss, durations_s[worker_id])
        first = self._time.next_arrival()
        losses = {} if first.loss is None else {first.worker_id: first.loss}
        result.add(place, 0, replace(answers, losses=losses))
        return {first.worker_id: first.report}

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

    def state(self) -> RunState:
        """Return a copy of all that is remembered."""
        time = self._time.state_dict() if self._time else {}
        return RunState(
            server=self._server.state_dict(), workers=self._host.state_dict(), time=time
        )

    def load(self, state: RunState) -> None:
        """Go on from a state."""
        self._server.load_state_dict(state.server)
        self._host.load_state_dict(state.workers)
        if self._time and state.time:
            self._time.load_state_dict(state.time)

    def close(self) -> None:
        """Nothing is held."""
