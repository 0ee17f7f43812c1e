"""The Ray actor of the parameter server, and the facade through which others call it."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import ray
import torch
from ray.util.placement_group import PlacementGroup
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy
from torch import Tensor

from mlmc_ray.importing import extend_path
from mlmc_ray.kernels.memory import keep_freed_memory
from mlmc_ray.plan import RunPlan
from mlmc_ray.rounds import Lost, RoundResult
from mlmc_ray.saving import loaded, saved
from server.calls import Calls, Host
from server.gathering import gathering_for
from server.server import ParameterServer


class ParameterServerActor:
    """A ``ParameterServer`` in a process of its own, which runs the rounds.

    It calls the hosts itself, so frames go straight between it and them. A round costs one call
    from the driver and one to every host.
    """

    def prepare(self, search_paths: Sequence[str]) -> None:
        """Let the process find a user's own modules, before an object of theirs arrives."""
        extend_path(search_paths)

    def set_up(
        self, plan: RunPlan, index: int, hosts: Sequence[Host], threads: int, incarnation: int
    ) -> None:
        """Make the server; separate from the constructor so that errors arrive as they are."""
        torch.set_num_threads(threads)
        self._server = ParameterServer(plan, index)
        keep_freed_memory()  # of rounds; not the whole model, which most of several servers drop
        calls = Calls(index, incarnation, hosts)
        self._gathering = gathering_for(plan, self._server, calls)
        self._result = RoundResult()

    def round(self, timeout_s: float, observe: bool) -> RoundResult | Lost:
        """Run a round: broadcast, gather reports, step; again for every exchange.

        Reports are decoded as they come, while other hosts compute.

        Args:
            timeout_s: for all of it.
            observe: look at what is compressed, and what the frames are made of.

        Returns:
            What the round leaves; or which hosts are lost, so that it waits for ``go_on``.

        Raises:
            RoundError: see ``ParameterServer.take``.
            MlmcRayError: what a worker refused.
        """
        gathered = self.gather(timeout_s, observe)
        return gathered if isinstance(gathered, Lost) else self.finish(gathered)

    def go_on(self, hosts: Mapping[int, Host]) -> RoundResult | Lost:
        """Complete a round with others in place of the hosts that were lost.

        Only what these have not reported is asked for again.

        Args:
            hosts: by what they replace.

        Returns:
            See ``round``, as for errors; it has as many seconds again.
        """
        return self._gathering.go_on(hosts) or self.finish(self._server.squared_norm)

    def gather(self, timeout_s: float, observe: bool) -> float | Lost:
        """Run a round up to its step; see ``round``.

        Returns:
            The squared norm of the estimate, if steps are clipped; or see ``round``.
        """
        self._result = RoundResult()
        self._server.observe(observe)
        lost = self._gathering.begin(self._result, observe, timeout_s)
        return self._server.squared_norm if lost is None else lost

    def finish(self, squared_norm: float) -> RoundResult:
        """Take the step; see ``ParameterServer.finish``."""
        ledger, result = self._server.finish(squared_norm), self._result
        result.close(ledger, self._server.traffic, self._server.compressions, self._server.notes)
        result.repeated.extend(self._server.repeated)
        return result

    def drain(self, timeout_s: float) -> None:
        """See ``Gathering.drain``."""
        self._gathering.drain(timeout_s)

    def evaluate(self, *others: npt.NDArray[np.float32]) -> dict[str, float]:
        """See ``ParameterServer.evaluate``."""
        return self._server.evaluate(*_tensors(others))

    def model_state(self, *others: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
        """The model's ``state_dict``, as ``mlmc_ray.saving`` writes it."""
        return np.frombuffer(saved(self._server.model_state(*_tensors(others))), np.uint8)

    def state_dict(self) -> npt.NDArray[np.uint8]:
        """See ``ParameterServer.state_dict``; as ``mlmc_ray.saving`` writes it."""
        state = {**self._server.state_dict(), **self._gathering.state_dict()}
        return np.frombuffer(saved(state), np.uint8)

    def load_state_dict(self, state: npt.NDArray[np.uint8]) -> None:
        """See ``ParameterServer.load_state_dict``."""
        own = loaded(state.data)
        self._server.load_state_dict(own)
        self._gathering.load_state_dict(own)

    def parameters(self) -> npt.NDArray[np.float32]:
        """The parameters, shape (entries of the span,)."""
        return self._server.parameters.numpy().copy()


def _tensors(arrays: Sequence[npt.NDArray[np.float32]]) -> list[Tensor]:
    return [torch.tensor(array) for array in arrays]


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

    def set_up(self, plan: RunPlan, hosts: Sequence[Host], threads: int, incarnation: int) -> Any:
        """See ``ParameterServerActor.prepare`` and ``set_up``."""
        self._actor.prepare.remote(plan.problem.search_paths)
        return self._actor.set_up.remote(plan, self._index, hosts, threads, incarnation)

    def round(self, timeout_s: float, observe: bool) -> Any:
        """See ``ParameterServerActor.round``."""
        return self._actor.round.remote(timeout_s, observe)

    def go_on(self, hosts: Mapping[int, Host]) -> Any:
        """See ``ParameterServerActor.go_on``."""
        return self._actor.go_on.remote(hosts)

    def gather(self, timeout_s: float, observe: bool) -> Any:
        """See ``ParameterServerActor.gather``."""
        return self._actor.gather.remote(timeout_s, observe)

    def finish(self, squared_norm: float) -> Any:
        """See ``ParameterServerActor.finish``."""
        return self._actor.finish.remote(squared_norm)

    def drain(self, timeout_s: float) -> Any:
        """See ``ParameterServerActor.drain``."""
        return self._actor.drain.remote(timeout_s)

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
