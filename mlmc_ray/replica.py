"""The parameters of a run, and all that moves them."""

import copy
import math
from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from mlmc_ray.compressors import Context
from mlmc_ray.errors import LostError, RoundError
from mlmc_ray.kernels.finite import all_finite
from mlmc_ray.methods import SERVER, Method, Progress
from mlmc_ray.methods.base import News, RestartingHalf, TimedHalf
from mlmc_ray.methods.reports import add_average, payloads_of
from mlmc_ray.optimizers import Optimizer
from mlmc_ray.payloads import Message
from mlmc_ray.schedules import StepSizes
from mlmc_ray.seeding import generator_for, seed_for
from mlmc_ray.spans import Span, span_names

_STATISTICS = "buffers"
"""The name of the running statistics in a report."""


class Replica:
    """A span of the parameters, with the server half and the optimizer that move them.

    The running statistics belong to the first span.

    The server has one. Another that is given the same reports takes the same steps.

    Args:
        method: makes the server half.
        optimizer: takes the step; None if the method does.
        step_sizes: of every round; None for the optimizer's own in all of them.
        clip_norm: estimates that are longer are shortened to this norm; None for never.
        num_workers: logical workers of the run.
        seed: the run's seed.
        span: which entries of the flat vector these are.
        num_spans: how many there are.
        parameters: shape (entries of the span,), on the CPU, moved in place.
        statistics: the first running statistics; empty where there are none.

    Attributes:
        parameters: as given.
        statistics: shape (number of statistics,).
        num_averages: of the statistics so far, the first ones included; 0 if the model has none.
        squared_norm: of the last estimate, if steps are clipped; else 0.
    """

    def __init__(
        self,
        *,
        method: Method,
        optimizer: Optimizer | None,
        step_sizes: StepSizes | None,
        clip_norm: float | None,
        num_workers: int,
        seed: int,
        span: Span,
        num_spans: int,
        parameters: Tensor,
        statistics: Tensor,
    ) -> None:
        self.parameters = parameters
        self._parameter = nn.Parameter(parameters)
        self._optimizer = optimizer.build(self._parameter) if optimizer else None
        self._step_sizes = step_sizes
        groups = self._optimizer.param_groups if self._optimizer else []
        if step_sizes is not None and not all("lr" in group for group in groups):
            raise TypeError(
                f"a schedule is given, and the optimizer that {type(optimizer).__name__} builds "
                "has no lr to be set"
            )
        self._half = method.server(parameters)
        if method.timed and not isinstance(self._half, TimedHalf):
            raise TypeError(
                f"{type(method).__name__} is timed, and {type(self._half).__name__} has no took"
            )
        self._asynchronous = method.asynchronous
        self._num_workers = num_workers
        self._clip_norm = clip_norm
        self._estimate: Tensor | None = None
        self.squared_norm = 0.0
        self._seed = seed
        self._span = span
        self._names = span_names(span, num_spans)
        self.statistics = statistics
        self.num_averages = 1 if len(statistics) else 0

    def context(self, round_index: int, exchange_index: int, *, role: str = "server") -> Context:
        """Return the context of the server half in an exchange, or of another that draws there."""
        names = (round_index, *([exchange_index] if exchange_index else []))
        return Context(
            generator=generator_for(self._seed, role, *names, *self._names),
            shared_seed=seed_for(self._seed, "shared", round_index),
            worker_id=SERVER,
            num_workers=self._num_workers,
            layer_sizes=self._span.layer_sizes,
            layer_shapes=self._span.layer_shapes,
        )

    def news(self, round_index: int, exchange_index: int) -> News:
        """Return the half's news of an exchange; they may share memory with the parameters.

        Raises:
            RoundError: the method's settings do not fit.
        """
        try:
            return self._half.news(context=self.context(round_index, exchange_index))
        except ValueError as error:
            raise RoundError(f"round {round_index}: {error}") from error

    def start_again(self, workers: Collection[int], round_index: int) -> None:
        """Let workers of an asynchronous method start again whose reports were lost.

        Raises:
            LostError: the method cannot do without them.
        """
        if not isinstance(self._half, RestartingHalf):
            raise LostError(
                f"round {round_index}: reports of workers {sorted(workers)} are lost, and the "
                f"method cannot do without: {type(self._half).__name__} has no start_again"
            )
        self._half.start_again(workers)

    def took(self, elapsed_s: Mapping[int, float]) -> None:
        """Tell a half that goes by it how long workers took; see ``TimedHalf``."""
        if isinstance(self._half, TimedHalf):
            self._half.took(elapsed_s)

    def estimate(
        self, reports: Mapping[int, Message], round_index: int, exchange_index: int
    ) -> Tensor | Progress:
        """Let the half make an estimate of reports, for ``step``.

        Returns:
            What the half returned.

        Raises:
            RoundError: a report is not of this method, and nothing has changed.
        """
        try:
            payloads_of(_carrying(reports), _STATISTICS, len(self.statistics))
            result = self._half.step(reports, context=self.context(round_index, exchange_index))
        except ValueError as error:
            raise RoundError(f"round {round_index}: {error}") from error
        self._average_statistics(reports)
        self._estimate = result if isinstance(result, Tensor) else None
        if self._estimate is not None and self._clip_norm is not None:
            self.squared_norm = float(self._estimate.double().square().sum())
        return result

    def step(self, squared_norm: float, round_index: int) -> None:
        """Take the step of the last estimate.

        Args:
            squared_norm: of the estimate of all spans, if steps are clipped.
            round_index: whose step it is.

        Raises:
            RoundError: the parameters are not finite after the step, or the schedule gives no step
                size.
        """
        if self._estimate is not None and self._optimizer:
            norm = math.sqrt(squared_norm)
            if self._clip_norm is not None and norm > self._clip_norm:
                self._estimate = self._estimate * (self._clip_norm / norm)
            if self._step_sizes is not None:
                _set_step_size(self._optimizer, self._step_sizes, round_index)
            self._parameter.grad = self._estimate
            self._optimizer.step()
        if not all_finite(self.parameters):
            raise RoundError(
                f"round {round_index}: the parameters are no longer finite: training "
                "diverged; lower the step size"
            )

    def _average_statistics(self, reports: Mapping[int, Message]) -> None:
        """Take over running statistics, if any came.

        They become the average over the reports that hold some. Of an asynchronous method each of
        these moves them by one worker's share of the way instead, for the others are at work.
        """
        carrying = _carrying(reports)
        if not carrying:
            return
        if self._asynchronous:
            statistics = self.statistics * (1 - len(carrying) / self._num_workers)
            add_average(statistics, carrying, _STATISTICS, among=self._num_workers)
        else:
            statistics = torch.zeros_like(self.statistics)
            add_average(statistics, carrying, _STATISTICS)
        self.statistics = statistics
        self.num_averages += 1

    def memory(self) -> dict[str, Tensor]:
        """Return a copy of what the half remembers."""
        return self._half.state_dict()

    def state_dict(self) -> dict[str, Any]:
        """Return a copy of what is remembered between rounds."""
        return {
            "parameters": self.parameters.clone(),
            "half": self._half.state_dict(),
            "optimizer": copy.deepcopy(self._optimizer.state_dict()["state"])
            if self._optimizer
            else {},
            "statistics": self.num_averages,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what ``state_dict`` returned; half or optimizer, if left out, stay as they are.

        The statistics themselves are no part of it: who saves them sets them.
        """
        self.parameters.copy_(state["parameters"])
        if "half" in state:
            self._half.load_state_dict(state["half"])
        if self._optimizer and "optimizer" in state:
            own = self._optimizer.state_dict()
            self._optimizer.load_state_dict({**own, "state": copy.deepcopy(state["optimizer"])})
        self.num_averages = state["statistics"]


def _set_step_size(optimizer: torch.optim.Optimizer, sizes: StepSizes, round_index: int) -> None:
    try:
        step_size = sizes.of(round_index)
    except ValueError as error:
        raise RoundError(f"round {round_index}: {error}") from error
    for group in optimizer.param_groups:
        group["lr"] = step_size


def _carrying(reports: Mapping[int, Message]) -> dict[int, Message]:
    """Return those with running statistics."""
    return {i: report for i, report in reports.items() if _STATISTICS in report.payloads}
