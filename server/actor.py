"""The Ray actor of the parameter server, and the facade through which others call it."""

import asyncio
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import ray
import torch

from mlmc_ray.ledger import Ledger
from server.server import ParameterServer, ServerPlan

Frame = npt.NDArray[np.uint8]


class ParameterServerActor:
    """A ``ParameterServer`` in a process of its own. Its methods take turns in one event loop."""

    async def set_up(self, plan: ServerPlan, threads: int) -> None:
        """Make the server; separate from the constructor so that errors arrive as they are."""
        torch.set_num_threads(threads)
        self._server = ParameterServer(plan)
        self._num_workers = plan.num_workers
        self._inbox: dict[int, Frame] = {}
        self._complete = asyncio.Event()

    async def broadcast(self) -> list[Any]:
        """Put this round's news into the object store, once; return its reference in a list."""
        return [ray.put(np.frombuffer(self._server.broadcast(), np.uint8))]

    async def receive(self, round_index: int, frames: Mapping[int, Frame]) -> None:
        """Keep report frames until the round is closed; those of another round are dropped."""
        if round_index == self._server.round_index:
            self._inbox.update(frames)
            if len(self._inbox) == self._num_workers:
                self._complete.set()

    async def close_round(self) -> tuple[Ledger, list[Any]]:
        """Wait for every report, step, and broadcast; return the ledger and the news."""
        await self._complete.wait()
        self._complete.clear()
        frames, self._inbox = self._inbox, {}
        ledger = self._server.close_round({i: frame.data for i, frame in frames.items()})
        return ledger, await self.broadcast()

    async def reported(self) -> list[int]:
        """Return the workers whose reports of this round have come."""
        return sorted(self._inbox)

    async def evaluate(self) -> dict[str, float]:
        """See ``ParameterServer.evaluate``."""
        return self._server.evaluate()

    async def model_state(self) -> dict[str, npt.NDArray[Any]]:
        """The model's ``state_dict`` as arrays."""
        return {name: tensor.numpy() for name, tensor in self._server.model_state().items()}

    async def parameters(self) -> npt.NDArray[np.float32]:
        """The parameters, shape (d,)."""
        return self._server.parameters.numpy().copy()


_Actor: Any = ray.remote(num_cpus=1)(ParameterServerActor)


class RemoteParameterServer:
    """Facade of the server actor; every call but ``send_reports`` returns a reference at once."""

    def __init__(self) -> None:
        self._actor = _Actor.remote()

    def ready(self) -> Any:
        """Return a reference that is ready once the actor's process has started."""
        return self._actor.__ray_ready__.remote()

    def set_up(self, plan: ServerPlan, threads: int) -> Any:
        """See ``ParameterServerActor.set_up``."""
        return self._actor.set_up.remote(plan, threads)

    def send_reports(self, round_index: int, frames: Mapping[int, Frame]) -> None:
        """Hand over report frames; called by the hosts, so frames do not pass the driver."""
        self._actor.receive.remote(round_index, frames)

    def broadcast(self) -> Any:
        """See ``ParameterServerActor.broadcast``."""
        return self._actor.broadcast.remote()

    def close_round(self) -> Any:
        """See ``ParameterServerActor.close_round``."""
        return self._actor.close_round.remote()

    def reported(self) -> Any:
        """See ``ParameterServerActor.reported``."""
        return self._actor.reported.remote()

    def evaluate(self) -> Any:
        """See ``ParameterServerActor.evaluate``."""
        return self._actor.evaluate.remote()

    def model_state(self) -> Any:
        """See ``ParameterServerActor.model_state``."""
        return self._actor.model_state.remote()

    def parameters(self) -> Any:
        """See ``ParameterServerActor.parameters``."""
        return self._actor.parameters.remote()

    def stop(self) -> None:
        """End the actor's process."""
        ray.kill(self._actor)
