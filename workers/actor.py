"""The Ray actor that hosts workers, and the facade through which others call it."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import ray
import torch

from workers.host import WorkerHost, WorkerPlan

Frame = npt.NDArray[np.uint8]


class ReportSink(Protocol):
    """Where a host sends its reports, without waiting: the server's facade."""

    def send_reports(self, round_index: int, frames: Mapping[int, Frame]) -> None:
        """Hand over the report frames of a round, by worker."""


class WorkerHostActor:
    """A ``WorkerHost`` in a process of its own, which sends its reports straight to the server."""

    def set_up(
        self, plan: WorkerPlan, worker_ids: Sequence[int], server: ReportSink, threads: int
    ) -> None:
        """Make the workers; separate from the constructor so that errors arrive as they are."""
        torch.set_num_threads(threads)
        self._server = server
        self._host = WorkerHost(plan, worker_ids)

    def step(self, round_index: int, news: Frame) -> dict[int, float]:
        """Run a round, send the reports to the server, return the training losses by worker."""
        frames, losses = self._host.step(round_index, news.data)
        arrays = {worker: np.frombuffer(frame, np.uint8) for worker, frame in frames.items()}
        self._server.send_reports(round_index, arrays)
        return dict(losses)


_Actor: Any = ray.remote(num_cpus=1)(WorkerHostActor)


class RemoteWorkerHost:
    """Facade of one host actor; every call returns an object reference at once."""

    def __init__(self, worker_ids: Sequence[int]) -> None:
        self.worker_ids = tuple(worker_ids)
        self._actor = _Actor.remote()

    def ready(self) -> Any:
        """Return a reference that is ready once the actor's process has started."""
        return self._actor.__ray_ready__.remote()

    def set_up(self, plan: WorkerPlan, server: ReportSink, threads: int) -> Any:
        """See ``WorkerHostActor.set_up``."""
        return self._actor.set_up.remote(plan, self.worker_ids, server, threads)

    def step(self, round_index: int, news: Any) -> Any:
        """See ``WorkerHostActor.step``; ``news`` is the reference of the broadcast frame."""
        return self._actor.step.remote(round_index, news)

    def stop(self) -> None:
        """End the actor's process."""
        ray.kill(self._actor)
