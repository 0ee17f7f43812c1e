"""The synchronous parameter server that Ray's documentation describes, for comparison.

The driver passes a reference of the weights to one actor per worker, and the references of their
gradients to the server actor, which returns the next weights. Weights travel as a ``state_dict`` of
tensors and gradients as a list of NumPy arrays, both in Ray's own serialization. Model, shards,
minibatches and starting point are those of ``launch.Session`` for the same problem and seed, so
both sides compute the same gradients; the server sums them, so its step size is divided by their
number.

References:
    https://docs.ray.io/en/latest/ray-core/examples/plot_parameter_server.html
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import ray
import torch
from torch import Tensor, nn

from mlmc_ray.problems import Problem, ProblemSource
from mlmc_ray.seeding import generator_for, seed_for

Gradients = list[npt.NDArray[np.float32]]


class ParameterServer:
    """Owns the model; its weights are what ``apply_gradients`` returns."""

    def __init__(self, source: ProblemSource, seed: int, step_size: float) -> None:
        torch.set_num_threads(1)
        self._model = _model(source.load(), seed)
        self._optimizer = torch.optim.SGD(self._model.parameters(), lr=step_size)

    def apply_gradients(self, *gradients: Gradients) -> dict[str, Tensor]:
        """Take a step with the sum of the workers' gradients; return the new weights."""
        summed = [np.stack(layer).sum(axis=0) for layer in zip(*gradients, strict=True)]
        for parameter, gradient in zip(self._model.parameters(), summed, strict=True):
            parameter.grad = torch.from_numpy(gradient)
        self._optimizer.step()
        return self.get_weights()

    def get_weights(self) -> dict[str, Tensor]:
        """Return the weights by name."""
        return self._model.state_dict()


class DataWorker:
    """Computes gradients on its shard."""

    def __init__(
        self, source: ProblemSource, seed: int, worker_id: int, num_workers: int, batch_size: int
    ) -> None:
        torch.set_num_threads(1)
        self._problem = source.load()
        self._model = _model(self._problem, seed)
        draws = generator_for(seed, "shards")
        self._shard = self._problem.shard(worker_id, num_workers, draws)
        self._batch_size = batch_size
        self._names = (seed, worker_id)
        self._round_index = 0

    def compute_gradients(self, weights: dict[str, Tensor]) -> Gradients:
        """Return the gradients of the next minibatch at ``weights``, one per parameter."""
        generator = generator_for(*self._names, self._round_index, "data")
        self._round_index += 1
        batch = self._shard.sample(self._batch_size, generator)
        self._model.load_state_dict(weights)
        self._model.zero_grad()
        self._problem.loss(self._model, batch).backward()  # type: ignore[no-untyped-call]
        gradients = [parameter.grad for parameter in self._model.parameters()]
        return [gradient.numpy() for gradient in gradients if gradient is not None]


_Server: Any = ray.remote(ParameterServer)
_Worker: Any = ray.remote(DataWorker)


class DocumentedServer:
    """The documentation's driver: one server actor, one actor per worker."""

    def __init__(
        self,
        source: ProblemSource,
        *,
        seed: int,
        step_size: float,
        num_workers: int,
        batch_size: int,
    ) -> None:
        self._server = _Server.remote(source, seed, step_size / num_workers)
        self._workers = [
            _Worker.remote(source, seed, worker_id, num_workers, batch_size)
            for worker_id in range(num_workers)
        ]
        self._weights = self._server.get_weights.remote()

    def submit_round(self) -> None:
        """Submit a round to Ray and return at once."""
        gradients = [worker.compute_gradients.remote(self._weights) for worker in self._workers]
        self._weights = self._server.apply_gradients.remote(*gradients)

    def wait(self) -> None:
        """Wait until every submitted round has ended; nothing is copied to this process."""
        ray.wait([self._weights], fetch_local=False)

    def parameters(self) -> Tensor:
        """Return the current weights as one vector."""
        return torch.cat([tensor.flatten() for tensor in ray.get(self._weights).values()])

    def close(self) -> None:
        """End the actors."""
        for actor in (self._server, *self._workers):
            ray.kill(actor)


def _model(problem: Problem, seed: int) -> nn.Module:
    torch.manual_seed(seed_for(seed, "parameters"))
    return problem.model()
