"""The contenders that run on Ray: this project, and the parameter server of Ray's documentation."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import ray
import torch

from benchmarks.documented_server import DataWorker, ParameterServer
from benchmarks.end_to_end.local import LocalWorker, accuracy
from benchmarks.end_to_end.measuring import Training
from launch import Session
from launch.configuration.run_config import RunConfig
from launch.engines.cluster import ray_cluster


class SessionTraining:
    """Rounds of a session.

    Args:
        session: that has run no round, and evaluates only where it is told to stop.
    """

    def __init__(self, session: Session) -> None:
        self._session = session

    def run(self, rounds: int) -> list[float]:
        """Run rounds; a session counts no evaluation into its seconds."""
        done = self._session.round_index
        self._session.run(rounds)
        ends = [metrics["seconds"] for metrics in self._session.metrics[done:]]
        return [float(seconds) for seconds in np.diff(ends)]

    def evaluate(self) -> dict[str, float]:
        """Return the accuracy after the last round, and the bytes of all frames so far."""
        last = self._session.metrics[-1]
        sizes = {key: last[key] for key in ("uplink_bytes", "downlink_bytes")}
        return {"accuracy": last["test_accuracy"], **sizes}


class EvaluatedServer(ParameterServer):
    """The documentation's server, which also evaluates its model."""

    def __init__(self, config: RunConfig, step_size: float) -> None:
        super().__init__(config.problem, config.seed, step_size)
        self._problem = config.problem.load()

    def accuracy(self) -> float:
        """Return the accuracy on the test examples."""
        return accuracy(self._problem, self._model)


class DocumentedTraining:
    """The documentation's driver, with a node for every actor.

    Args:
        config: of the run.
        step_size: of the mean of the gradients.
        pipelined: whether rounds are submitted without waiting for the one before.
    """

    def __init__(self, config: RunConfig, step_size: float, *, pipelined: bool) -> None:
        on_one: Any = ray.remote(num_cpus=1)
        self._pipelined = pipelined
        self._server = on_one(EvaluatedServer).remote(config, step_size / config.workers)
        self._workers = [
            on_one(DataWorker).remote(
                config.problem, config.seed, worker_id, config.workers, config.batch_size
            )
            for worker_id in range(config.workers)
        ]
        self._weights = self._server.get_weights.remote()

    def run(self, rounds: int) -> list[float]:
        """Run rounds; pipelined ones all took the same time."""
        started = time.perf_counter()
        ends = [started]
        for _ in range(rounds):
            gradients = [worker.compute_gradients.remote(self._weights) for worker in self._workers]
            self._weights = self._server.apply_gradients.remote(*gradients)
            if not self._pipelined:
                self._wait()
                ends.append(time.perf_counter())
        if self._pipelined:
            self._wait()
            ends = list(np.linspace(started, time.perf_counter(), rounds + 1))
        return [float(seconds) for seconds in np.diff(ends)]

    def evaluate(self) -> dict[str, float]:
        """Return the accuracy after the last round."""
        return {"accuracy": ray.get(self._server.accuracy.remote())}

    def _wait(self) -> None:
        ray.wait([self._weights], fetch_local=False)

    def close(self) -> None:
        """End the actors."""
        for actor in (self._server, *self._workers):
            ray.kill(actor)


@contextmanager
def our_training(config: RunConfig) -> Iterator[Training]:
    """Open a session."""
    with Session(config) as session:
        yield SessionTraining(session)


@contextmanager
def documented_training(
    config: RunConfig, step_size: float, *, pipelined: bool
) -> Iterator[Training]:
    """Start the documentation's actors."""
    with ray_cluster(None):
        training = DocumentedTraining(config, step_size, pipelined=pipelined)
        try:
            yield training
        finally:
            training.close()


def gradient_seconds(config: RunConfig) -> list[float]:
    """Return the time of a gradient on every worker, on a processor each, all at once."""
    task: Any = ray.remote(num_cpus=1)(_gradient_seconds)
    return list(ray.get([task.remote(config, worker) for worker in range(config.workers)]))


def _gradient_seconds(config: RunConfig, worker_id: int) -> float:
    torch.set_num_threads(config.threads)
    return LocalWorker(config, worker_id, config.workers).gradient_seconds()
