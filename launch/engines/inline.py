"""The inline engine: one process, no Ray."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor

from launch.configuration.run_config import RunConfig
from launch.engines.base import RunState, run_plan, worker_plan
from launch.engines.simulated_time import SimulatedTime
from launch.engines.threads import torch_threads
from mlmc_ray.rounds import RoundResult
from server.server import ParameterServer
from workers.host import WorkerHost


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
            server = ParameterServer(run_plan(config))
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
        server = self._server
        result.close(ledger, server.traffic, server.compressions, server.notes)
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
