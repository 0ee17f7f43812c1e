"""The Ray actor of the parameter server, and the facade through which others call it."""

import time
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import ray
import torch
from ray.exceptions import GetTimeoutError, RayActorError, RayError, RayTaskError
from ray.util.placement_group import PlacementGroup
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy
from torch import Tensor

from mlmc_ray.errors import MlmcRayError, RoundError, one_line
from mlmc_ray.importing import extend_path
from mlmc_ray.kernels.memory import keep_freed_memory
from mlmc_ray.plan import RunPlan
from mlmc_ray.rounds import Answers, RoundResult, fit_inline
from mlmc_ray.saving import loaded, saved
from server.server import ParameterServer


class Host(Protocol):
    """Workers somewhere else, as the server sees them: the facade of another actor."""

    @property
    def worker_ids(self) -> Sequence[int]:
        """Which workers live there."""

    def step(
        self,
        server: int,
        round_index: int,
        exchange_index: int,
        news: Sequence[tuple[Any, Sequence[int]]],
        *,
        observe: bool,
    ) -> Any:
        """Start an exchange there; ``news`` are frames or references, each with its workers.

        Args:
            server: which of the servers calls.
            round_index: counted from 0.
            exchange_index: of the round.
            news: of this server.
            observe: look at what the workers compress.

        Returns:
            The reference of the ``Answers``.
        """


class ParameterServerActor:
    """A ``ParameterServer`` in a process of its own, which runs the rounds.

    It calls the hosts itself, so frames go straight between it and them. A round costs one call
    from the driver and one to every host.
    """

    def prepare(self, search_paths: Sequence[str]) -> None:
        """Let the process find a user's own modules, before an object of theirs arrives."""
        extend_path(search_paths)

    def set_up(self, plan: RunPlan, index: int, hosts: Sequence[Host], threads: int) -> None:
        """Make the server; separate from the constructor so that errors arrive as they are."""
        torch.set_num_threads(threads)
        self._server = ParameterServer(plan, index)
        keep_freed_memory()  # of rounds; not the whole model, which most of several servers drop
        self._index = index
        self._hosts = hosts
        self._result = RoundResult()

    def round(self, timeout_s: float, observe: bool) -> RoundResult:
        """Run a round: broadcast, wait for every report, step; again for every exchange.

        News that fit go with the call of a host; others are put into the object store once, and
        every node fetches them once. Reports are decoded as they come, while other hosts compute.

        Args:
            timeout_s: for all of it.
            observe: look at what is compressed, and what the frames are made of.

        Raises:
            RoundError: a host died or did not answer in time; see also ``receive``.
            MlmcRayError: what a worker refused.
        """
        return self.finish(self.gather(timeout_s, observe))

    def gather(self, timeout_s: float, observe: bool) -> float:
        """Run a round up to its step; see ``round``.

        Returns:
            The squared norm of the estimate, if steps are clipped.
        """
        self._result, started = RoundResult(), time.monotonic()
        self._server.observe(observe)
        while not self._server.take(self._exchange(observe, started, timeout_s)):
            pass
        return self._server.squared_norm

    def finish(self, squared_norm: float) -> RoundResult:
        """Take the step; see ``ParameterServer.finish``."""
        ledger, result = self._server.finish(squared_norm), self._result
        result.close(ledger, self._server.traffic, self._server.compressions, self._server.notes)
        return result

    def _exchange(self, observe: bool, started: float, timeout_s: float) -> dict[int, memoryview]:
        """Send the news and return the reports, by worker."""
        place = self._server.round_index, self._server.exchange_index
        steps = self._send(place, observe)
        answers: dict[Any, Answers] = {}
        reports: dict[int, memoryview] = {}
        late = list(steps)
        while late:
            left = max(0.0, started + timeout_s - time.monotonic())
            done, late = ray.wait(late, timeout=left)
            if not done:
                raise _too_late([steps[step] for step in late], place[0], timeout_s)
            answers[done[0]] = answer = self._fetch_answer(done[0], steps, place[0])
            for worker_id, frame in answer.reports.items():
                reports[worker_id] = memoryview(frame)
                self._server.decode(worker_id, reports[worker_id])
        for step, host in steps.items():  # in their order, whoever was first
            self._result.add(place, self._hosts.index(host), answers[step])
        return reports

    def _send(self, place: tuple[int, int], observe: bool) -> dict[Any, Host]:
        """Start the exchange on every host that has workers with news, by reference."""
        frames = self._server.broadcast()
        stored: dict[int, Any] = {}
        steps = {}
        for host in self._hosts:
            news: dict[int, tuple[bytes, list[int]]] = {}
            for worker_id in host.worker_ids:
                if worker_id in frames:
                    frame = frames[worker_id]
                    news.setdefault(id(frame), (frame, []))[1].append(worker_id)
            if not news:
                continue
            carried: list[tuple[Any, list[int]]] = list(news.values())
            if not fit_inline(frame for frame, _ in news.values()):
                for key, (frame, _) in news.items():
                    if key not in stored:
                        stored[key] = ray.put(np.frombuffer(frame, np.uint8))
                carried = [(stored[key], workers) for key, (_, workers) in news.items()]
            steps[host.step(self._index, *place, carried, observe=observe)] = host
        return steps

    def _fetch_answer(self, step: Any, steps: Mapping[Any, Host], round_index: int) -> Answers:
        """Return the answer of a step that is done; of several that failed the first host counts.

        Raises:
            MlmcRayError, RoundError: see ``fetch``.
        """
        try:
            answer: Answers = ray.get(step)
        except RayError:
            done = set(ray.wait(list(steps), num_returns=len(steps), timeout=0)[0])
            for other in (other for other in steps if other in done):
                fetch(other, round_index, f"the host of workers {list(steps[other].worker_ids)}")
            raise
        return answer

    def evaluate(self, *others: npt.NDArray[np.float32]) -> dict[str, float]:
        """See ``ParameterServer.evaluate``."""
        return self._server.evaluate(*_tensors(others))

    def model_state(self, *others: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
        """The model's ``state_dict``, as ``mlmc_ray.saving`` writes it."""
        return np.frombuffer(saved(self._server.model_state(*_tensors(others))), np.uint8)

    def state_dict(self) -> npt.NDArray[np.uint8]:
        """See ``ParameterServer.state_dict``; as ``mlmc_ray.saving`` writes it."""
        return np.frombuffer(saved(self._server.state_dict()), np.uint8)

    def load_state_dict(self, state: npt.NDArray[np.uint8]) -> None:
        """See ``ParameterServer.load_state_dict``."""
        self._server.load_state_dict(loaded(state.data))

    def parameters(self) -> npt.NDArray[np.float32]:
        """The parameters, shape (entries of the span,)."""
        return self._server.parameters.numpy().copy()


def _tensors(arrays: Sequence[npt.NDArray[np.float32]]) -> list[Tensor]:
    return [torch.tensor(array) for array in arrays]


def _too_late(hosts: Sequence[Host], round_index: int, timeout_s: float) -> RoundError:
    missing = sorted(worker_id for host in hosts for worker_id in host.worker_ids)
    return RoundError(
        f"round {round_index}: no report from workers {missing} within round_timeout_s = "
        f"{timeout_s:g}"
    )


_Actor: Any = ray.remote(ParameterServerActor)


class RemoteParameterServer:
    """Facade of the server actor; every call returns an object reference at once.

    Args:
        processors: a reservation with a bundle for every actor, those of the servers first.
        index: which of the servers it is.
    """

    def __init__(self, processors: PlacementGroup, index: int) -> None:
        self._index = index
        self._actor = _Actor.options(
            num_cpus=processors.bundle_specs[index]["CPU"],
            scheduling_strategy=PlacementGroupSchedulingStrategy(
                processors, placement_group_bundle_index=index
            ),
        ).remote()

    def ready(self) -> Any:
        """Return a reference that is ready once the actor's process has started."""
        return self._actor.__ray_ready__.remote()

    def set_up(self, plan: RunPlan, hosts: Sequence[Host], threads: int) -> Any:
        """See ``ParameterServerActor.prepare`` and ``set_up``."""
        self._actor.prepare.remote(plan.problem.search_paths)
        return self._actor.set_up.remote(plan, self._index, hosts, threads)

    def round(self, timeout_s: float, observe: bool) -> Any:
        """See ``ParameterServerActor.round``."""
        return self._actor.round.remote(timeout_s, observe)

    def gather(self, timeout_s: float, observe: bool) -> Any:
        """See ``ParameterServerActor.gather``."""
        return self._actor.gather.remote(timeout_s, observe)

    def finish(self, squared_norm: float) -> Any:
        """See ``ParameterServerActor.finish``."""
        return self._actor.finish.remote(squared_norm)

    def evaluate(self, *others: Any) -> Any:
        """See ``ParameterServerActor.evaluate``; ``others`` are references."""
        return self._actor.evaluate.remote(*others)

    def model_state(self, *others: Any) -> Any:
        """See ``ParameterServerActor.model_state``; ``others`` are references."""
        return self._actor.model_state.remote(*others)

    def parameters(self) -> Any:
        """See ``ParameterServerActor.parameters``."""
        return self._actor.parameters.remote()

    def state_dict(self) -> Any:
        """See ``ParameterServerActor.state_dict``."""
        return self._actor.state_dict.remote()

    def load_state_dict(self, state: Any) -> Any:
        """See ``ParameterServerActor.load_state_dict``."""
        return self._actor.load_state_dict.remote(state)

    def stop(self) -> None:
        """End the actor's process."""
        ray.kill(self._actor)


def fetch(reference: Any, round_index: int, actor: str, timeout_s: float | None = None) -> Any:
    """Wait for what a reference (or a list of them) stands for.

    Args:
        reference: of the answer of an actor.
        round_index: for errors.
        actor: who answers, for errors.
        timeout_s: None for no limit.

    Raises:
        MlmcRayError: as the actor raised it.
        RoundError: the actor died, or its answer is lost.
        GetTimeoutError: there is no answer yet.
    """
    try:
        return ray.get(reference, timeout=timeout_s)
    except RayError as error:
        cause = error.cause if isinstance(error, RayTaskError) else error
        if isinstance(cause, MlmcRayError):
            raise cause from None
        if isinstance(cause, GetTimeoutError) or not isinstance(cause, RayError):
            raise
        what = "is gone" if isinstance(cause, RayActorError) else "failed"
        raise RoundError(f"round {round_index}: {actor} {what}: {one_line(cause)}") from error
