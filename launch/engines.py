"""Engines run rounds: the shape of one, and the inline engine, which needs no Ray."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from launch.config import RunConfig
from mlmc_ray.ledger import Ledger
from server.server import ParameterServer, ServerPlan
from workers.host import WorkerHost, WorkerPlan


@dataclass(frozen=True, slots=True)
class RoundResult:
    """What a round leaves: training losses by worker, and the ledger of its frames."""

    losses: dict[int, float]
    ledger: Ledger


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
    """Server and workers in this process, one after the other; frames are made all the same."""

    def __init__(self, config: RunConfig) -> None:
        self._threads = config.threads
        with _threads(config.threads):
            self._server = ParameterServer(server_plan(config))
            self._host = WorkerHost(worker_plan(config), range(config.workers))

    def round(self) -> RoundResult:
        """Run the next round."""
        losses: dict[int, float] = {}
        ledger = None
        with _threads(self._threads):
            while ledger is None:
                place = (self._server.round_index, self._server.exchange_index)
                reports, seen = self._host.step(*place, self._server.broadcast())
                losses.update(seen)
                ledger = self._server.receive(reports)
        return RoundResult(losses, ledger)

    def evaluate(self) -> dict[str, float]:
        """Evaluate the server's parameters."""
        with _threads(self._threads):
            return self._server.evaluate()

    def parameters(self) -> Tensor:
        """Return a copy of the parameters."""
        return self._server.parameters.clone()

    def model_state(self) -> dict[str, Any]:
        """Return the ``state_dict`` of the model."""
        return self._server.model_state()

    def close(self) -> None:
        """Nothing is held."""


@contextmanager
def _threads(number: int) -> Iterator[None]:
    """Let torch use a number of threads for a while."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)
