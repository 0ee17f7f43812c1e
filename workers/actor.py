"""The Ray actor that hosts workers, and the facade through which others call it."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import ray
import torch
from ray.util.placement_group import PlacementGroup
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from mlmc_ray.errors import DamagedError, RoundError
from mlmc_ray.importing import extend_path
from mlmc_ray.kernels.memory import keep_freed_memory
from mlmc_ray.rounds import Answers, Call, Carried, checksum_of, fit_inline
from mlmc_ray.saving import loaded, saved
from workers.host import WorkerHost, WorkerPlan
from workers.meeting import Meeting


class WorkerHostActor:
    """A ``WorkerHost`` in a process of its own."""

    def prepare(self, search_paths: Sequence[str]) -> None:
        """Let the process find a user's own modules, before an object of theirs arrives."""
        extend_path(search_paths)

    def set_up(
        self,
        plan: WorkerPlan,
        worker_ids: Sequence[int],
        threads: int,
        incarnation: int,
        prepared: None = None,
    ) -> None:
        """Make the workers; separate from the constructor so that errors arrive as they are.

        Args:
            plan: of the run.
            worker_ids: which live here.
            threads: of torch.
            incarnation: of the servers whose calls are answered.
            prepared: what ``prepare`` has returned, after which this may begin.
        """
        torch.set_num_threads(threads)
        keep_freed_memory()
        self._host = WorkerHost(plan, worker_ids)
        self._meeting = Meeting(self._host, plan.servers)
        self._incarnation = incarnation
        self._numbers = [0] * plan.servers  # of the newest call of every server
        self._refused = 0  # calls, since the last answer

    def step(self, call: Call, *news: Carried) -> Answers:
        """Run an exchange; where there are several servers, wait for the calls of all of them.

        Args:
            call: what goes with the frames.
            news: frames, which must be arguments where they are references.

        Returns:
            The answers; their report frames are arrays if they are too large for an answer.

        Raises:
            DamagedError: the frames are not those that were sent.
            RoundError: the call is of other servers than those of the set-up, or was run before;
                see also ``WorkerHost.step``.
            NonFiniteError, ProblemError: see ``WorkerHost.step``.
        """
        self._check(call, news)
        readable = [frame if isinstance(frame, bytes) else frame.data for frame in news]
        frames = {
            worker_id: frame
            for workers, frame in zip(call.receivers, readable, strict=True)
            for worker_id in workers
        }
        place = (call.round_index, call.exchange_index)
        answers = self._meeting.step(call.server, *place, frames, call.observe)
        refused, self._refused = self._refused, 0
        checksum = checksum_of(answers.reports.values())
        answers = replace(answers, checksum=checksum, refused=refused)
        if fit_inline(answers.reports.values()):
            return answers
        arrays = {i: np.frombuffer(frame, np.uint8) for i, frame in answers.reports.items()}
        return replace(answers, reports=arrays)

    def _check(self, call: Call, news: Sequence[Carried]) -> None:
        """Refuse a call before anything of it is done."""
        place = f"round {call.round_index}: the news of server {call.server}"
        self._refused += 1  # unless it is not
        if call.incarnation != self._incarnation:
            raise RoundError(f"{place} are of another run, or of servers that have been replaced")
        if call.number <= self._numbers[call.server]:
            raise RoundError(f"{place} have come before: nothing is done twice")
        if checksum_of(news) != call.checksum:
            raise DamagedError(f"{place} came damaged: the checksum differs")
        self._refused -= 1
        self._numbers[call.server] = call.number

    def state_dict(self) -> npt.NDArray[np.uint8]:
        """See ``WorkerHost.state_dict``; as ``mlmc_ray.saving`` writes it."""
        return np.frombuffer(saved(self._host.state_dict()), np.uint8)

    def load_state_dict(
        self, states: npt.NDArray[np.uint8], *servers: npt.NDArray[np.uint8]
    ) -> None:
        """See ``WorkerHost.load_state_dict``."""
        self._host.load_state_dict(loaded(states.data), [loaded(own.data) for own in servers])


_Actor: Any = ray.remote(WorkerHostActor)


class RemoteWorkerHost:
    """Facade of one host actor; every call returns an object reference at once.

    Args:
        worker_ids: which workers it hosts.
        processors: a reservation with a bundle for every actor; None for no processor of its own.
        bundle_index: which of the bundles it takes; left to Ray it could be the server's.
        num_servers: how many will call it at once.
    """

    def __init__(
        self,
        worker_ids: Sequence[int],
        processors: PlacementGroup | None,
        *,
        bundle_index: int,
        num_servers: int,
    ) -> None:
        self.worker_ids = tuple(worker_ids)
        placed: dict[str, Any] = {"num_cpus": 0}
        if processors is not None:
            bundle = processors.bundle_specs[bundle_index]
            place = PlacementGroupSchedulingStrategy(
                processors, placement_group_bundle_index=bundle_index
            )
            placed = {
                "num_cpus": bundle["CPU"],
                "num_gpus": bundle.get("GPU"),
                "scheduling_strategy": place,
            }
        self._actor = _Actor.options(max_concurrency=num_servers, **placed).remote()

    def ready(self) -> Any:
        """Return a reference that is ready once the actor's process has started."""
        return self._actor.__ray_ready__.remote()

    def set_up(self, plan: WorkerPlan, threads: int, incarnation: int) -> Any:
        """See ``WorkerHostActor.prepare`` and ``set_up``."""
        prepared = self._actor.prepare.remote(plan.problem.search_paths)
        return self._actor.set_up.remote(plan, self.worker_ids, threads, incarnation, prepared)

    def step(self, call: Call, news: Sequence[Any]) -> Any:
        """See ``WorkerHostActor.step``; ``news`` are frames or references."""
        return self._actor.step.remote(call, *news)

    def state_dict(self) -> Any:
        """See ``WorkerHostActor.state_dict``."""
        return self._actor.state_dict.remote()

    def load_state_dict(self, states: Any, *servers: Any) -> Any:
        """See ``WorkerHostActor.load_state_dict``; all are references."""
        return self._actor.load_state_dict.remote(states, *servers)

    def stop(self) -> None:
        """End the actor's process."""
        ray.kill(self._actor)
