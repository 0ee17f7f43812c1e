"""Step sizes by theory: the problem's constants, and the number that the method makes of them."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn

from launch.configuration.run_config import RunConfig
from launch.engines.threads import torch_threads
from launch.pages.in_words import in_words
from launch.theory.setting import batch_size_of, setting_of
from launch.theory.words import for_proximal_steps, with_values
from mlmc_ray.errors import ConfigError
from mlmc_ray.flat import FlatModel
from mlmc_ray.methods import Method
from mlmc_ray.methods.base import has_theory
from mlmc_ray.methods.theory import Setting, StepSize
from mlmc_ray.problems import Problem, explaining, initial_model
from mlmc_ray.problems.constants import Constants
from mlmc_ray.seeding import drawing, generator_for, seed_for

_ITERATIONS = 30  # of the power method: the largest curvature to a few per cent

MOST_EXAMPLES = 256
"""Examples of every worker from which curvatures are estimated; drawn, where it has more."""

_CHEAP = Constants(smoothness=1.0, mean_smoothness=1.0, largest_smoothness=1.0)
"""As much as estimates say, to see whether there is a theory before they are made."""

_OPTIMIZER = "optimizer.step_size"
_WHO_KNOWS = "mlmc-ray methods says of which methods one is known"
_NO_GUARANTEE = "L estimated at the first parameters; no guarantee"


def with_step_size(
    config: RunConfig, problem: Problem, note: Callable[[str], None] = lambda _: None
) -> tuple[RunConfig, StepSize | None]:
    """Put a number where a configuration says ``step_size: theory``.

    Args:
        config: of a run.
        problem: its problem, loaded.
        note: is told, in a line, what takes long.

    Returns:
        The configuration without "theory", and what the step size is; None where it was a number.

    Raises:
        ConfigError: theory gives no step size there.
        ProblemError: the problem's own code failed.
    """
    if (place := _asking(config)) is None:
        return config, None
    known = _known(problem)
    model = initial_model(problem, config.seed)
    with explaining("computing the constants"), torch_threads(config.threads):
        found = known(config.workers) if known else _estimated(problem, model, config, note)
        setting = setting_of(config, model, found, _batch_size(config, problem))
    method, step = _resolved(config, setting, place)
    by_theory, optimizer = place == _OPTIMIZER, config.optimizer
    if step and known is None:
        step = dataclasses.replace(step, guarantee=_NO_GUARANTEE)
    if step and by_theory:
        optimizer = dataclasses.replace(cast(Any, optimizer), step_size=step.value)
    return dataclasses.replace(config, method=method, optimizer=optimizer), step


def check_step_size(config: RunConfig, problem: Problem) -> None:
    """Refuse "theory" where it gives no step size, without the cost of an estimate.

    Raises:
        ConfigError: see ``with_step_size``.
    """
    if (place := _asking(config)) is None:
        return
    known = _known(problem)
    with explaining("computing the constants"):
        constants = known(config.workers) if known else _CHEAP
        model = initial_model(problem, config.seed)
        setting = setting_of(config, model, constants, _batch_size(config, problem))
    _resolved(config, setting, place)


def _asking(config: RunConfig) -> str | None:
    """Return where a configuration says "theory"; None where it does not."""
    if config.optimizer is not None and config.optimizer.step_size == "theory":
        return _OPTIMIZER
    names = [field.name for field in dataclasses.fields(cast(Any, config.method))]
    says = any(getattr(config.method, name) == "theory" for name in names)
    return "method" if says else None


def _known(problem: Problem) -> Callable[[int], Constants] | None:
    """Return what tells a problem's constants, if it knows them."""
    known: Callable[[int], Constants] | None = getattr(problem, "constants", None)
    return known


def _batch_size(config: RunConfig, problem: Problem) -> int | None:
    """Return the examples of a gradient; of a problem that knows itself, None without noise."""
    if _known(problem):
        return batch_size_of(config, problem)
    return None if config.batch_size == "full" else config.batch_size


def describe_step(step: StepSize) -> str:
    """Return a line that says what a step size by theory is."""
    values = f", with {step.values}" if step.values else ""
    return f"step size {step.value:.4g} = {step.formula}{values}: {step.guarantee}"


def _resolved(config: RunConfig, setting: Setting, place: str) -> tuple[Method, StepSize | None]:
    """Return the method with its numbers, and its step size where it has one.

    Raises:
        ConfigError: theory gives no number; names the place.
    """
    method = config.method
    try:
        has_step = place == _OPTIMIZER or method.moves_parameters
        if not has_step:
            return method.with_theory(setting), None
        step = for_proximal_steps(method.theory(setting), config, setting)
        return method.with_theory(setting), with_values(step, method, setting)
    except ValueError as error:
        others = "" if has_theory(type(method)) else f"; {_WHO_KNOWS}"
        raise ConfigError(f"{place}: theory: {in_words(str(error))}{others}") from error


def _estimated(
    problem: Problem, model: FlatModel, config: RunConfig, note: Callable[[str], None]
) -> Constants:
    """Estimate the largest curvatures at the first parameters, by the power method."""
    note(
        f"estimating the curvature ({2 * _ITERATIONS * config.workers} products with Hessians, of "
        f"at most {MOST_EXAMPLES} examples each)"
    )
    shards = [_examples(problem, i, config) for i in range(config.workers)]

    def products(batches: list[Any]) -> Callable[[Tensor], Tensor]:
        def product(v: Tensor) -> Tensor:
            each = [_curvature(problem, model, b, v, config.seed) for b in batches]
            return torch.stack(each).mean(0)

        return product

    each = [_largest(products([shard]), model.parameters) for shard in shards]
    return Constants(
        smoothness=_largest(products(shards), model.parameters),
        mean_smoothness=float(torch.tensor(each).square().mean().sqrt()),
        largest_smoothness=max(each),
    )


def _examples(problem: Problem, worker_id: int, config: RunConfig) -> Any:
    """Return a batch of a worker's examples: all, or where they are too many, some at random."""
    shard = problem.shard(worker_id, config.workers, generator_for(config.seed, "shards"))
    batch = shard.full()
    parts = batch if isinstance(batch, tuple | list) else [batch]
    counts = [len(part) for part in parts if isinstance(part, Tensor) and part.dim()]
    if not counts or min(counts) <= MOST_EXAMPLES:
        return batch
    return shard.sample(MOST_EXAMPLES, generator_for(config.seed, worker_id, "curvature"))


def _curvature(problem: Problem, model: FlatModel, batch: Any, vector: Tensor, seed: int) -> Tensor:
    """Return the product of the Hessian of a batch's loss with a vector, shape (d,).

    What the loss draws, as for dropout, is the same for every product: one function's Hessian.
    """
    parameters = [p for p in model.module.parameters() if p.requires_grad]
    pieces = torch.split(vector, [p.numel() for p in parameters])
    with drawing(seed_for(seed, "curvature")):
        loss = problem.loss(model.module, batch)
    gradients = _gradients(loss, parameters, create_graph=True)
    shaped = [piece.view(p.shape) for piece, p in zip(pieces, parameters, strict=True)]
    inner = torch.stack([(g * v).sum() for g, v in zip(gradients, shaped, strict=True)]).sum()
    products = _gradients(inner, parameters)
    return torch.cat([product.reshape(-1) for product in products])


def _gradients(
    value: Tensor, parameters: list[nn.Parameter], create_graph: bool = False
) -> tuple[Tensor, ...]:
    """Return the gradients of a value; zero at parameters on which it does not depend."""
    if not value.requires_grad:
        return tuple(torch.zeros_like(p) for p in parameters)
    return torch.autograd.grad(
        value, parameters, create_graph=create_graph, allow_unused=True, materialize_grads=True
    )


def _largest(product: Callable[[Tensor], Tensor], like: Tensor) -> float:
    """Return the largest magnitude of an eigenvalue, by the power method.

    Raises:
        ConfigError: it is zero or not finite.
    """
    vector = torch.randn(like.shape, generator=generator_for(0, "curvature"))
    value = 0.0
    for _ in range(_ITERATIONS):
        vector = product(vector / vector.norm())
        value = float(vector.norm())
        if not 0 < value < math.inf:
            raise ConfigError(
                "theory: the loss has no finite curvature at the first parameters: give a step size"
            )
    return value
