"""The variance of the average of the workers' messages, at the first parameters of a run.

With v_i the gradient of worker i on its first batch and C_i its compressor, it is
E|mean_i C_i(v_i) - mean_i v_i|^2. Where the C_i are unbiased and draw independently it equals
(1 / M^2) sum_i E|C_i(v_i) - v_i|^2, and is at most (1 / M^2) sum_i omega |v_i|^2. MLMC computes the
expectation over its levels without drawing; where its base or its ladder draws too, that is the
variance given those draws, so that only the bound remains.
"""

import dataclasses
import statistics
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from launch.configuration.run_config import RunConfig
from launch.engines.base import run_plan, worker_plan
from launch.engines.threads import torch_threads
from mlmc_ray.compressors import Compressor, Context, bound
from mlmc_ray.estimator import MLMC
from mlmc_ray.methods import DataParallelSGD
from mlmc_ray.methods.theory import shares_out
from mlmc_ray.optimizers import SGD
from mlmc_ray.problems import initial_model
from mlmc_ray.seeding import generator_for, seed_for
from mlmc_ray.wire import decode
from server.server import ParameterServer
from workers.host import WorkerHost


@dataclass(frozen=True, kw_only=True, slots=True)
class Variance:
    """The squared error of the average of M messages.

    Attributes:
        drawn: mean over draws.
        standard_error: of that mean.
        exact: by enumeration over the levels of MLMC; None for others, where its base or its ladder
            draws, and where workers depend on each other.
        bound: by omega; None where none is known, and where workers depend on each other.
        squared_norm: |mean_i v_i|^2, to compare with.
    """

    drawn: float
    standard_error: float
    exact: float | None
    bound: float | None
    squared_norm: float


def first_variance(config: RunConfig, draws: int) -> Variance | None:
    """Return the variance at the first parameters; None for a method without a compressor.

    Args:
        config: of the run; its step size does not matter.
        draws: how many, at least 2. Memory for as many vectors is taken.
    """
    compressor = getattr(config.method, "compressor", None)
    if not isinstance(compressor, Compressor):
        return None
    with torch_threads(config.threads):
        return _variance(config, compressor, draws)


def _variance(config: RunConfig, compressor: Compressor, draws: int) -> Variance:
    model = initial_model(config.problem.load(), config.seed)
    dim, number = model.parameters.numel(), config.workers
    averages = torch.zeros(draws, dim, dtype=torch.float64)
    mean = torch.zeros(dim, dtype=torch.float64)
    exact: list[float | None] = []
    bounds: list[float | None] = []
    for worker_id, vector in _first_gradients(config):
        mean += vector.double() / number
        for draw, average in enumerate(averages):
            context = Context(
                generator_for(config.seed, worker_id, draw, "variance"),
                shared_seed=seed_for(config.seed, "variance", draw),
                worker_id=worker_id,
                num_workers=number,
                layer_sizes=model.layer_sizes,
                layer_shapes=model.layer_shapes,
            )
            used = bound(compressor, context)
            payload = used.compress(vector, generator=context.generator)
            payload.add_to(average, weight=1 / number)
        again = bound(compressor, dataclasses.replace(context, shared_seed=draws))
        exact.append(_exact(used, again, vector))
        omega = used.omega(dim) if used.unbiased else None
        bounds.append(None if omega is None else omega * float(vector.double().square().sum()))
    errors = (averages - mean).square().sum(dim=1).tolist()
    independent = not shares_out(compressor)
    return Variance(
        drawn=statistics.fmean(errors),
        standard_error=statistics.stdev(errors) / draws**0.5,
        exact=_over_workers(exact) if independent else None,
        bound=_over_workers(bounds) if independent else None,
        squared_norm=float(mean.square().sum()),
    )


def _exact(used: Compressor, again: Compressor, vector: Tensor) -> float | None:
    """Return E|C(v) - v|^2 of MLMC; None for others, and where more is drawn than levels.

    Args:
        used: bound.
        again: the same, bound with another shared seed.
        vector: shape (d,).
    """
    if not isinstance(used, MLMC) or used != again:
        return None
    generator = generator_for(0, "base and ladder")
    before = generator.get_state()
    variance = used.variance(vector, generator=generator)
    return variance if torch.equal(generator.get_state(), before) else None


def _first_gradients(config: RunConfig) -> Iterator[tuple[int, Tensor]]:
    """Yield each worker's gradient on its first batch at the first parameters, shape (d,).

    They are what workers of data-parallel SGD send first, one at a time.
    """
    plain = DataParallelSGD()
    server = ParameterServer(
        dataclasses.replace(run_plan(config), method=plain, optimizer=SGD(step_size=0.1))
    )
    plan = dataclasses.replace(worker_plan(config), method=plain)
    host = WorkerHost(plan, range(config.workers))
    for worker_id, news in server.broadcast().items():
        report = host.step(0, 0, [{worker_id: news}])[0].reports[worker_id]
        yield (
            worker_id,
            decode(report, max_dim=server.parameters.numel()).payloads["gradient"].to_dense(),
        )


def _over_workers(values: list[float | None]) -> float | None:
    """Return the sum over M^2, unless one is unknown."""
    known = [value for value in values if value is not None]
    return sum(known) / len(values) ** 2 if len(known) == len(values) else None
