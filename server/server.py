"""The parameter server, as a plain object."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mlmc_ray.errors import RoundError, WireError
from mlmc_ray.kernels.finite import all_finite
from mlmc_ray.ledger import Ledger
from mlmc_ray.methods import Method
from mlmc_ray.methods.base import add_average
from mlmc_ray.payloads import DensePayload, Message
from mlmc_ray.problems import ProblemSource, explaining, initial_model
from mlmc_ray.seeding import drawing, seed_for
from mlmc_ray.warm_up import warm_up
from mlmc_ray.wire import decode, encode
from server.optimizers import Optimizer


@dataclass(frozen=True, kw_only=True, slots=True)
class ServerPlan:
    """What a parameter server is made from.

    Args:
        problem: where the problem comes from.
        method: makes the server half.
        optimizer: takes the step.
        num_workers: how many reports a round has.
        seed: the run's seed.
    """

    problem: ProblemSource
    method: Method
    optimizer: Optimizer
    num_workers: int
    seed: int


class ParameterServer:
    """Holds the parameters, turns reports into an estimate, steps, and counts every frame.

    A round is ``broadcast``, then ``close_round`` with the report frames of all workers.

    Attributes:
        round_index: the round that ``broadcast`` opens next, or has opened.
        ledger: the frames of that round so far, a refused report included.
    """

    def __init__(self, plan: ServerPlan) -> None:
        self._problem = plan.problem.load()
        self._model = initial_model(self._problem, plan.seed)
        self._parameter = nn.Parameter(self._model.parameters)
        self._optimizer = plan.optimizer.build(self._parameter)
        self._half = plan.method.server(self._model.parameters)
        warm_up(plan.method, self._model.layer_sizes)
        self._num_workers = plan.num_workers
        self._seed = plan.seed
        self.round_index = 0
        self.ledger = Ledger()
        self._buffers_changed = True  # since they were last sent
        dim = self._model.parameters.numel()
        cost = plan.method.paper_cost(dim)
        self._paper_uplink = cost.bits if cost else None
        self._max_dim = max(dim, self._model.num_statistics)
        self._paper_downlink = 64 * dim  # the paper counts 64 bits a number

    @property
    def parameters(self) -> Tensor:
        """The parameters, shape (d,); the server's own memory."""
        return self._model.parameters

    def broadcast(self) -> bytes:
        """Return the news of this round as a frame, counted once for every worker.

        Running statistics are part of it when they have changed: workers keep their own in between.
        """
        news = self._half.news()
        if self._model.num_statistics and self._buffers_changed:
            buffers = DensePayload(self._model.statistics())
            news = Message({**news.payloads, "buffers": buffers}, news.scalars)
        frame = encode(news)
        for worker_id in range(self._num_workers):
            self.ledger.record(self.round_index, worker_id, "downlink", frame, self._paper_downlink)
        return frame

    def close_round(self, frames: Mapping[int, bytes | memoryview]) -> Ledger:
        """Take the reports of a round, step, and open the next round.

        Args:
            frames: one report for every worker.

        Returns:
            The ledger of this round, both ways.

        Raises:
            RoundError: a report is missing, malformed or of another size, or the parameters are not
                finite after the step; names the round and the worker.
        """
        missing = sorted(set(range(self._num_workers)) - set(frames))
        if missing or len(frames) > self._num_workers:
            raise RoundError(
                f"round {self.round_index}: reports came from workers {sorted(frames)}, "
                f"expected 0 to {self._num_workers - 1}"
            )
        reports = {}
        for worker_id in sorted(frames):
            frame = frames[worker_id]
            self.ledger.record(self.round_index, worker_id, "uplink", frame, self._paper_uplink)
            reports[worker_id] = self._decode(worker_id, frame)
        self._step(reports)
        closed, self.ledger = self.ledger, Ledger()
        self.round_index += 1
        return closed

    def evaluate(self) -> dict[str, float]:
        """Evaluate the current parameters with the problem's own measures.

        Raises:
            ProblemError: the problem's own code failed, or did not return named numbers.
        """
        self._model.module.eval()
        seed = seed_for(self._seed, "evaluate", self.round_index)
        with explaining("evaluating"), drawing(seed):
            measures = self._problem.evaluate(self._model.module)
            if not isinstance(measures, Mapping) or not measures:
                raise ValueError(
                    "evaluate returns named measures, such as {'accuracy': 0.9}, and this one "
                    f"returned {measures!r:.100}"
                )
            for name in measures:
                if not isinstance(name, str) or not 0 < len(name) <= 80 or not name.isprintable():
                    raise ValueError(f"{name!r:.100} is no name of a measure: give a short word")
            self._model.check_parameters()
            return {name: float(value) for name, value in measures.items()}

    def model_state(self) -> dict[str, Any]:
        """Return a copy of the model's ``state_dict``, for saving."""
        return copy.deepcopy(self._model.module.state_dict())

    def _decode(self, worker_id: int, frame: bytes | memoryview) -> Message:
        place = f"round {self.round_index}: report of worker {worker_id}"
        try:
            report = decode(frame, max_dim=self._max_dim)
        except WireError as error:
            raise RoundError(f"{place}: {error}") from error
        sizes = {"buffers": self._model.num_statistics}
        for name, payload in report.payloads.items():
            expected = sizes.get(name, len(self._model.parameters))
            if payload.dim != expected:
                raise RoundError(
                    f"{place}: {name} has {payload.dim} entries, the model here has {expected}; "
                    "server and workers must run the same problem"
                )
        return report

    def _step(self, reports: Mapping[int, Message]) -> None:
        try:
            self._parameter.grad = self._half.step(reports)
        except KeyError as error:
            lacking = [i for i, report in reports.items() if error.args[0] not in report.payloads]
            raise RoundError(
                f"round {self.round_index}: the reports of workers {lacking} lack {error}; server "
                "and workers must run the same method"
            ) from error
        self._buffers_changed = all("buffers" in report.payloads for report in reports.values())
        if self._buffers_changed:
            average = torch.zeros(self._model.num_statistics)
            add_average(average, reports, "buffers")
            self._model.set_statistics(average)
        self._optimizer.step()
        if not all_finite(self._model.parameters):
            raise RoundError(
                f"round {self.round_index}: the parameters are no longer finite: training "
                "diverged; lower optimizer.step_size"
            )
