"""Gradients on the model that the workers of a process share: of one batch, or of several at once.

Those of several batches come from torch.func: one pass over all of them, in which every batch has
parameters and buffers of its own (https://docs.pytorch.org/tutorials/intermediate/per_sample_grads.html,
with a batch in place of an example).
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, vmap
from torch.utils._pytree import tree_flatten, tree_unflatten

from mlmc_ray.flat import FlatModel
from mlmc_ray.problems import Problem, explaining
from mlmc_ray.seeding import drawing

Precision = Literal["float32", "bfloat16"]
Buffers = dict[str, Tensor]


@dataclass(frozen=True, slots=True)
class Together:
    """What came of several batches.

    Attributes:
        gradients: shape (batches, d), on the device.
        losses: of every batch.
        buffers: after every batch, each with memory of its own.
    """

    gradients: Tensor
    losses: list[float]
    buffers: list[Buffers]


@dataclass(frozen=True, slots=True)
class Gradients:
    """Computes gradients of a problem's loss.

    Args:
        problem: whose loss.
        model: on which it is computed; parameters are put in before use.
        precision: of the forward pass; parameters and gradients are float32 in any case.
    """

    problem: Problem
    model: FlatModel
    precision: Precision = "float32"

    def alone(self, at: Tensor, batch: Any, seed: int) -> float:
        """Leave a gradient in the model, and the model's buffers as the batch makes them.

        Args:
            at: shape (d,).
            batch: on the model's device.
            seed: of what the model draws.

        Returns:
            The loss.

        Raises:
            ProblemError: the problem's own code failed.
        """
        self.model.parameters.copy_(at)
        self.model.clear_gradients()
        self.model.module.train()
        with explaining("computing the loss"), drawing(seed, self.model.device):
            with self._casting():
                loss = _checked(self.problem.loss(self.model.module, batch))
            loss.backward()  # type: ignore[no-untyped-call]
            self.model.collect_gradients()
            return loss.item()

    def together(
        self, at: Tensor, batches: Sequence[Any], buffers: Sequence[Buffers], seed: int
    ) -> Together:
        """Return the gradients of several batches at one point; the model's buffers stay.

        Args:
            at: shape (d,).
            batches: alike, see ``shapes_of``; on the model's device.
            buffers: with which each begins; not modified.
            seed: of what the model draws, other numbers on every batch.

        Raises:
            ProblemError: the problem's own code failed, or does what torch.func cannot do.
        """
        model = self.model
        model.parameters.copy_(at)
        model.module.train()
        name = type(self.problem).__name__
        doing = (
            f"computing the losses of {len(batches)} workers of {name} together, and torch.func "
            "does not take every loss (no .item(), no shapes that depend on numbers, no "
            "get_parameter, on a CPU no batch normalisation in bfloat16)"
        )
        try:
            with explaining(doing, "give gradients_at_once: 1"), drawing(seed, model.device):
                return self._together(batches, buffers)
        finally:
            model.set_buffers(buffers[0])  # what it left there is of torch.func, and of no use

    def _together(self, batches: Sequence[Any], buffers: Sequence[Buffers]) -> Together:
        leaves, structure = tree_flatten(batches[0])
        of_each = [tree_flatten(batch)[0] for batch in batches]
        dims = [0 if isinstance(leaf, Tensor) else None for leaf in leaves]
        stacked = [
            torch.stack(parts) if isinstance(parts[0], Tensor) else parts[0]
            for parts in zip(*of_each, strict=True)
        ]
        own = {name: torch.stack([one[name] for one in buffers]) for name in buffers[0]}
        whole = _Loss(self.problem, self.model.module)

        def loss_of(
            parameters: Buffers, buffers: Buffers, leaves: list[Any]
        ) -> tuple[Tensor, Buffers]:
            named = {f"module.{name}": tensor for name, tensor in {**parameters, **buffers}.items()}
            batch = tree_unflatten(leaves, structure)
            with self._casting():
                found: tuple[Tensor, Buffers] = functional_call(whole, named, (batch,))
            return found

        compute = vmap(
            grad_and_value(loss_of, has_aux=True), in_dims=(None, 0, dims), randomness="different"
        )
        found, (losses, after) = compute(self.model.views(), own, stacked)
        self.model.check_parameters()
        if after.keys() != own.keys():
            raise ValueError(f"buffers were {sorted(own)} and have become {sorted(after)}")
        gradients = torch.cat([g.reshape(len(batches), -1) for g in found.values()], dim=1)
        parted = [{name: t[i].clone() for name, t in after.items()} for i in range(len(batches))]
        return Together(gradients, cast("list[float]", losses.tolist()), parted)

    def _casting(self) -> AbstractContextManager[Any]:
        if self.precision == "float32":
            return nullcontext()
        return torch.autocast(self.model.device.type, torch.bfloat16)


class _Loss(nn.Module):
    """A problem's loss as a module around the model, whose tensors torch.func can exchange."""

    def __init__(self, problem: Problem, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        self._problem = problem

    def forward(self, batch: Any) -> tuple[Tensor, Buffers]:
        loss = _checked(self._problem.loss(self.module, batch)).reshape(())
        return loss, dict(self.module.named_buffers(remove_duplicate=False))


def _checked(loss: Any) -> Tensor:
    if not isinstance(loss, Tensor) or loss.numel() != 1:
        shape = tuple(loss.shape) if isinstance(loss, Tensor) else type(loss).__name__
        raise ValueError(f"loss returns the mean over the batch, a scalar; got {shape}")
    return loss


def shapes_of(batch: Any, buffers: Mapping[str, Tensor]) -> Any:
    """Return what is equal for two workers whose gradients can be computed together.

    Args:
        batch: a tensor, or tuples, lists and dicts of tensors, numbers and strings; whatever else
            is in it has to be the same object.
        buffers: of the worker's model.
    """
    leaves, structure = tree_flatten(batch)
    of_batch = [_shape_of(leaf) for leaf in leaves]
    return structure, of_batch, [(name, _shape_of(buffer)) for name, buffer in buffers.items()]


def _shape_of(leaf: Any) -> Any:
    if isinstance(leaf, Tensor):
        return leaf.shape, leaf.dtype
    return leaf if isinstance(leaf, str | bytes | int | float | None) else id(leaf)
