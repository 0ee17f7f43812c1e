"""Step sizes by theory: the problem's constants, and the number that the method makes of them."""

import dataclasses
from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor

from launch.config import RunConfig
from mlmc_ray.errors import ConfigError
from mlmc_ray.flat import FlatModel
from mlmc_ray.methods.theory import Setting, StepSize
from mlmc_ray.problems import Problem, explaining, initial_model
from mlmc_ray.problems.constants import Constants
from mlmc_ray.seeding import generator_for

_ITERATIONS = 30  # of the power method: the largest curvature to a few per cent


def with_step_size(config: RunConfig, problem: Problem) -> tuple[RunConfig, StepSize | None]:
    """Put a number where a configuration says ``step_size: theory``.

    Args:
        config: of a run.
        problem: its problem, loaded.

    Returns:
        The configuration without "theory", and what the step size is; None where it was a number.

    Raises:
        ConfigError: theory gives no step size there.
        ProblemError: the problem's own code failed.
    """
    method, optimizer = config.method, config.optimizer
    by_theory = optimizer is not None and optimizer.step_size == "theory"
    names = [field.name for field in dataclasses.fields(cast(Any, method))]
    if not by_theory and all(getattr(method, name) != "theory" for name in names):
        return config, None
    place = "optimizer.step_size" if by_theory else "method"
    try:
        setting = _setting(config, problem)
        step = method.theory(setting) if by_theory or method.moves_parameters else None
        method = method.with_theory(setting)
    except ValueError as error:
        raise ConfigError(f"{place}: theory: {error}") from error
    if step and by_theory:
        optimizer = dataclasses.replace(cast(Any, optimizer), step_size=step.value)
    return dataclasses.replace(config, method=method, optimizer=optimizer), step


def describe_step(step: StepSize) -> str:
    """Return a line that says what a step size by theory is."""
    return f"step size {step.value:.4g} = {step.formula}: {step.guarantee}"


def _setting(config: RunConfig, problem: Problem) -> Setting:
    model = initial_model(problem, config.seed)
    known: Callable[[int], Constants] | None = getattr(problem, "constants", None)
    with explaining("computing the constants"):
        constants = known(config.workers) if known else _estimated(problem, model, config)
    return Setting(
        constants=constants,
        dim=model.parameters.numel(),
        num_workers=config.workers,
        batch_size=None if config.batch_size == "full" else config.batch_size,
        layer_sizes=model.layer_sizes,
        layer_shapes=model.layer_shapes,
    )


def _estimated(problem: Problem, model: FlatModel, config: RunConfig) -> Constants:
    """Estimate the largest curvatures at the first parameters, by the power method."""
    draws = range(config.workers)
    shards = [
        problem.shard(i, config.workers, generator_for(config.seed, "shards")).full() for i in draws
    ]

    def products(batches: list[Any]) -> Callable[[Tensor], Tensor]:
        return lambda v: torch.stack([_curvature(problem, model, b, v) for b in batches]).mean(0)

    each = [_largest(products([shard]), model.parameters) for shard in shards]
    return Constants(
        smoothness=_largest(products(shards), model.parameters),
        mean_smoothness=float(torch.tensor(each).square().mean().sqrt()),
        largest_smoothness=max(each),
        source="estimated at the first parameters: a guess, no bound",
    )


def _curvature(problem: Problem, model: FlatModel, batch: Any, vector: Tensor) -> Tensor:
    """Return the product of the Hessian of a batch's loss with a vector, shape (d,)."""
    parameters = [p for p in model.module.parameters() if p.requires_grad]
    pieces = torch.split(vector, [p.numel() for p in parameters])
    loss = problem.loss(model.module, batch)
    gradients = torch.autograd.grad(loss, parameters, create_graph=True)
    shaped = [piece.view(p.shape) for piece, p in zip(pieces, parameters, strict=True)]
    inner = torch.stack([(g * v).sum() for g, v in zip(gradients, shaped, strict=True)]).sum()
    products = torch.autograd.grad(inner, parameters)
    return torch.cat([product.reshape(-1) for product in products])


def _largest(product: Callable[[Tensor], Tensor], like: Tensor) -> float:
    """Return the largest magnitude of an eigenvalue, by the power method."""
    vector = torch.randn(like.shape, generator=generator_for(0, "curvature"))
    value = 0.0
    for _ in range(_ITERATIONS):
        vector = product(vector / vector.norm())
        value = float(vector.norm())
        if not value:
            raise ValueError("the loss has no curvature at the first parameters: give a step size")
    return value
