"""The parameters of a run, and all that moves them."""

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from mlmc_ray.compressors import Context
from mlmc_ray.errors import RoundError
from mlmc_ray.flat import FlatModel
from mlmc_ray.kernels.finite import all_finite
from mlmc_ray.methods import SERVER, Method, Progress
from mlmc_ray.methods.base import News
from mlmc_ray.methods.reports import add_average
from mlmc_ray.optimizers import Optimizer
from mlmc_ray.payloads import Message
from mlmc_ray.seeding import generator_for, seed_for


class Replica:
    """Parameters and running statistics, with the server half and the optimizer that move them.

    The server has one. Another that is given the same reports takes the same steps.

    Args:
        method: makes the server half.
        optimizer: takes the step; None if the method does.
        num_workers: logical workers of the run.
        seed: the run's seed.
        model: where layers lie; its statistics are the first ones.
        parameters: shape (d,), on the CPU, moved in place.

    Attributes:
        parameters: as given.
        statistics: shape (number of statistics,).
        num_averages: of the statistics so far, the first ones included; 0 if the model has none.
    """

    def __init__(
        self,
        *,
        method: Method,
        optimizer: Optimizer | None,
        num_workers: int,
        seed: int,
        model: FlatModel,
        parameters: Tensor,
    ) -> None:
        self.parameters = parameters
        self._parameter = nn.Parameter(parameters)
        self._optimizer = optimizer.build(self._parameter) if optimizer else None
        self._half = method.server(parameters)
        self._asynchronous = method.asynchronous
        self._num_workers = num_workers
        self._seed = seed
        self._layer_sizes, self._layer_shapes = model.layer_sizes, model.layer_shapes
        self.statistics = model.statistics()
        self.num_averages = 1 if model.num_statistics else 0

    def context(self, round_index: int, exchange_index: int) -> Context:
        """Return the context of the server half in an exchange."""
        names = (round_index, *([exchange_index] if exchange_index else []))
        return Context(
            generator=generator_for(self._seed, "server", *names),
            shared_seed=seed_for(self._seed, "shared", round_index),
            worker_id=SERVER,
            num_workers=self._num_workers,
            layer_sizes=self._layer_sizes,
            layer_shapes=self._layer_shapes,
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

    def step(
        self, reports: Mapping[int, Message], round_index: int, exchange_index: int
    ) -> Tensor | Progress:
        """Take the reports of an exchange, and a step if that ends the round.

        Returns:
            What the half returned.

        Raises:
            RoundError: a report is not of this method, and nothing has changed; or the parameters
                are not finite after the step.
        """
        try:
            result = self._half.step(reports, context=self.context(round_index, exchange_index))
        except ValueError as error:
            raise RoundError(f"round {round_index}: {error}") from error
        self._average_statistics(reports)
        if result is Progress.MORE:
            return result
        if isinstance(result, Tensor) and self._optimizer:
            self._parameter.grad = result
            self._optimizer.step()
        if not all_finite(self.parameters):
            raise RoundError(
                f"round {round_index}: the parameters are no longer finite: training "
                "diverged; lower the step size"
            )
        return result

    def _average_statistics(self, reports: Mapping[int, Message]) -> None:
        """Take over running statistics, if any came.

        They become the average over the reports that hold some. Of an asynchronous method each of
        these moves them by one worker's share of the way instead, for the others are at work.
        """
        carrying = {i: report for i, report in reports.items() if "buffers" in report.payloads}
        if not carrying:
            return
        if self._asynchronous:
            statistics = self.statistics * (1 - len(carrying) / self._num_workers)
            add_average(statistics, carrying, "buffers", among=self._num_workers)
        else:
            statistics = torch.zeros_like(self.statistics)
            add_average(statistics, carrying, "buffers")
        self.statistics = statistics
        self.num_averages += 1

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
