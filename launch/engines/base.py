"""The shape of an engine, and what engines make servers and workers from."""

from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

from launch.configuration.run_config import RunConfig
from mlmc_ray.plan import RunPlan
from mlmc_ray.rounds import RoundResult
from workers.host import WorkerPlan


@dataclass(frozen=True, kw_only=True, slots=True)
class RunState:
    """All that a run remembers between two rounds.

    Attributes:
        servers: of every server; see ``ParameterServer.state_dict``.
        workers: by worker; see ``GradientWorker.state_dict``.
        time: of the clock; see ``SimulatedTime.state_dict``; empty without one.
    """

    servers: tuple[dict[str, Any], ...]
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

    def room(self) -> int | None:
        """Return for how many hosts of workers the nodes have room; None where there are none."""

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


def run_plan(config: RunConfig) -> RunPlan:
    """Return what the run's parameter server is made from."""
    return RunPlan(
        problem=config.problem,
        method=config.method,
        optimizer=config.optimizer,
        step_sizes=config.step_sizes,
        num_workers=config.workers,
        seed=config.seed,
        downlink=config.downlink,
        servers=config.servers,
        clip_norm=config.clip_norm,
        quorum=config.quorum,
    )


def worker_plan(config: RunConfig) -> WorkerPlan:
    """Return what the run's workers are made from."""
    return WorkerPlan(
        problem=config.problem,
        method=config.method,
        optimizer=config.optimizer,
        step_sizes=config.step_sizes,
        num_workers=config.workers,
        seed=config.seed,
        downlink=config.downlink,
        servers=config.servers,
        clip_norm=config.clip_norm,
        quorum=config.quorum,
        batch_size=config.batch_size,
        buffers_every=config.buffers_every,
        device=config.device,
        gradients_at_once=config.gradients_at_once,
        precision=config.precision,
    )
