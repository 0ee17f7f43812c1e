"""The inline engine: one process, no Ray."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from launch.configuration.run_config import RunConfig
from launch.engines.base import RunState, run_plan, worker_plan
from launch.engines.recorded_order import RecordedOrder
from launch.engines.simulated_time import Arrival, SimulatedTime
from launch.engines.threads import torch_threads
from mlmc_ray.kernels.memory import keep_freed_memory
from mlmc_ray.rounds import Answers, RoundResult
from server.server import ParameterServer
from workers.host import WorkerHost


class InlineEngine:
    """Server and workers in this process, one after the other; frames are made all the same.

    With a clock it keeps simulated time. An exchange takes as long as the slowest of the workers
    that it asks. Reports of an asynchronous method come one by one, in the order of simulated time,
    or in that of another run; a round is one step of the server then, and other workers stay at
    work when it ends.

    From the first on the process keeps the memory that rounds free, as the actors of a run do.
    """

    def __init__(self, config: RunConfig) -> None:
        keep_freed_memory()
        self.set_up(config)

    def room(self) -> None:
        """All workers are in this process."""

    def suits(self, old: RunConfig, new: RunConfig) -> bool:
        """Return whether both run in one process."""
        return old.engine == new.engine

    def set_up(self, config: RunConfig) -> None:
        """Make server and workers anew; if that fails all stay as they are."""
        with torch_threads(config.threads):
            plan = run_plan(config)
            servers = [ParameterServer(plan, index) for index in range(config.servers)]
            host = WorkerHost(worker_plan(config), range(config.workers))
        self._servers, self._host = servers, host
        self._threads = config.threads
        self._asynchronous = config.method.asynchronous
        self._time = SimulatedTime(config.clock, config.seed) if config.clock else None
        self._order = (
            RecordedOrder(config.arrivals, config.to_mapping()) if config.arrivals else None
        )

    def round(self, *, observe: bool) -> RoundResult:
        """Run the next round."""
        result, ended = RoundResult(), False
        for server in self._servers:
            server.observe(observe)
        with torch_threads(self._threads):
            while not ended:
                reports = self._exchange(result, observe)
                ended = all([s.take(own) for s, own in zip(self._servers, reports, strict=True)])
            squared_norm = sum(server.squared_norm for server in self._servers)
            for server in self._servers:
                ledger = server.finish(squared_norm)
                result.close(ledger, server.traffic, server.compressions, server.notes)
        result.clock_s = self._time.now_s if self._time else None
        return result

    def _exchange(self, result: RoundResult, observe: bool) -> Sequence[Mapping[int, bytes]]:
        """Let workers answer the news; return the reports that every server has now."""
        first = self._servers[0]
        place = (first.round_index, first.exchange_index)
        news = [server.broadcast() for server in self._servers]
        answers = self._host.step(*place, news, observe=observe)
        reports = [own.reports for own in answers]
        if self._order is not None:
            for worker_id, report in answers[0].reports.items():
                self._order.send(worker_id, report, answers[0].losses.get(worker_id))
            return self._arrived(result, place, answers[0], self._order.next_arrival())
        if self._time is None:
            result.add(place, 0, answers[0])
            return reports
        durations_s = {
            worker_id: self._time.duration_s(
                worker_id,
                place,
                news_bytes=sum(len(own[worker_id]) for own in news),
                report_bytes=sum(len(own[worker_id]) for own in reports),
                num_gradients=answers[0].num_gradients[worker_id],
            )
            for worker_id in reports[0]
        }
        answer = replace(answers[0], seconds=durations_s)
        if not self._asynchronous:
            self._time.now_s += max(durations_s.values(), default=0.0)
            result.add(place, 0, answer)
            return reports
        for worker_id, report in answer.reports.items():
            loss = answer.losses.get(worker_id)
            self._time.send(worker_id, report, loss, durations_s[worker_id])
        return self._arrived(result, place, answer, self._time.next_arrival())

    def _arrived(
        self, result: RoundResult, place: tuple[int, int], answers: Answers, arrival: Arrival
    ) -> Sequence[Mapping[int, bytes]]:
        """Return the report that has arrived, whose loss counts now; work counts as it begins."""
        losses = {} if arrival.loss is None else {arrival.worker_id: arrival.loss}
        result.add(place, 0, replace(answers, losses=losses))
        return [{arrival.worker_id: arrival.report}]

    def evaluate(self) -> dict[str, float]:
        """Evaluate the current parameters."""
        with torch_threads(self._threads):
            return self._servers[0].evaluate(*self._others())

    def _others(self) -> list[Tensor]:
        return [server.parameters for server in self._servers[1:]]

    def parameters(self) -> Tensor:
        """Return a copy of the parameters."""
        return torch.cat([server.parameters for server in self._servers])

    def model_state(self) -> dict[str, Any]:
        """Return the ``state_dict`` of the model."""
        return self._servers[0].model_state(*self._others())

    def state(self) -> RunState:
        """Return a copy of all that is remembered."""
        arriving = self._time or self._order
        time = arriving.state_dict() if arriving else {}
        return RunState(
            servers=tuple(server.state_dict() for server in self._servers),
            workers=self._host.state_dict(),
            time=time,
        )

    def load(self, state: RunState) -> None:
        """Go on from a state."""
        for server, own in zip(self._servers, state.servers, strict=True):
            server.load_state_dict(own)
        self._host.load_state_dict(state.workers, state.servers)
        arriving = self._time or self._order
        if arriving and state.time:
            arriving.load_state_dict(state.time)

    def close(self) -> None:
        """Nothing is held."""
