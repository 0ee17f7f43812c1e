"""Optimizers, as plain settings for ``torch.optim``."""

from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from torch import nn
from torch.nn.functional import softshrink

_LIMITS = torch.finfo(torch.float32)


@runtime_checkable
class Optimizer(Protocol):
    """Settings that make a torch optimizer."""

    @property
    def step_size(self) -> float | Literal["theory"]:
        """The learning rate; "theory" until the run's configuration has been resolved."""

    def build(self, parameter: nn.Parameter) -> torch.optim.Optimizer:
        """Return the optimizer of one flat parameter vector."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SGD:
    """``torch.optim.SGD``: momentum, Nesterov, L2 weight decay.

    ``step_size`` may be "theory": the step for which the method has a guarantee, which is that of
    plain steps.

    Args:
        step_size: the learning rate.
        momentum: share of the last step that is added to the next, in [0, 1).
        nesterov: take the gradient a momentum ahead.
        weight_decay: weight of the squared norm, at least 0.
    """

    step_size: float | Literal["theory"]
    momentum: float = 0.0
    nesterov: bool = False
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        by_theory = self.step_size == "theory"
        _check(1.0 if self.step_size == "theory" else self.step_size, self.weight_decay)
        if by_theory and (self.momentum or self.weight_decay):
            raise ValueError(
                f"step_size is 'theory', momentum is {self.momentum!r} and weight_decay is "
                f"{self.weight_decay!r}: theory knows steps without both"
            )
        if not 0 <= self.momentum < 1:
            raise ValueError(f"momentum is {self.momentum!r}: give at least 0 and below 1")
        if self.nesterov and self.momentum == 0:
            raise ValueError("nesterov is true and momentum is 0: Nesterov needs a momentum")

    def build(self, parameter: nn.Parameter) -> torch.optim.Optimizer:
        """Return the optimizer of one flat parameter vector."""
        return torch.optim.SGD(
            [parameter],
            lr=resolved(self.step_size),
            momentum=self.momentum,
            nesterov=self.nesterov,
            weight_decay=self.weight_decay,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class ProximalSGD:
    """Proximal gradient steps, for the problem's function + l1 |x|_1 + l2 |x|^2 / 2.

        x <- prox(x - step_size g), where prox(v) = S(v) / (1 + step_size l2)

    and S moves every entry by step_size l1 towards 0, and to 0 from less. With l1 = l2 = 0 it is
    plain SGD. The problem's own measures leave the two terms out.

    ``step_size`` may be "theory", as for ``SGD``: that of the plain steps. For gradient descent and
    DIANA on a strongly convex f, the distance to the x* of the whole objective shrinks as it does
    to that of f with plain steps (Horvath et al., 2019, arXiv:1904.05115); of other methods no
    guarantee is known.

    Args:
        step_size: the learning rate.
        l1: weight of the l1 norm, at least 0.
        l2: weight of half the squared norm, at least 0.
    """

    step_size: float | Literal["theory"]
    l1: float
    l2: float = 0.0

    def __post_init__(self) -> None:
        _check_step_size(1.0 if self.step_size == "theory" else self.step_size)
        _check_weight("l1", self.l1)
        _check_weight("l2", self.l2)

    def build(self, parameter: nn.Parameter) -> torch.optim.Optimizer:
        """Return the optimizer of one flat parameter vector."""
        return _Proximal(parameter, resolved(self.step_size), self.l1, self.l2)


class _Proximal(torch.optim.SGD):
    """Takes the plain step, and then the proximal one."""

    def __init__(self, parameter: nn.Parameter, step_size: float, l1: float, l2: float) -> None:
        super().__init__([parameter], lr=step_size)
        self._l1, self._l2 = l1, l2

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        loss = super().step(closure)
        (group,) = self.param_groups
        step_size, (parameter,) = group["lr"], group["params"]
        shrunk = softshrink(parameter, step_size * self._l1)
        parameter.copy_(shrunk.div_(1 + step_size * self._l2))
        return loss


@dataclass(frozen=True, kw_only=True, slots=True)
class Adam:
    """``torch.optim.Adam``; weight decay is L2, added to the estimate.

    Args:
        step_size: the learning rate.
        betas: decay of the first and of the second moment, each in [0, 1).
        eps: added to the root of the second moment.
        weight_decay: weight of the squared norm, at least 0.
    """

    step_size: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        _check(self.step_size, self.weight_decay)
        _check_moments(self.betas, self.eps)

    def build(self, parameter: nn.Parameter) -> torch.optim.Optimizer:
        """Return the optimizer of one flat parameter vector."""
        return torch.optim.Adam(
            [parameter],
            lr=self.step_size,
            betas=self.betas,
            eps=self.eps,
            weight_decay=self.weight_decay,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class AdamW:
    """``torch.optim.AdamW``; weight decay is decoupled from the estimate.

    Args:
        step_size: the learning rate.
        betas: decay of the first and of the second moment, each in [0, 1).
        eps: added to the root of the second moment.
        weight_decay: weight of the squared norm, at least 0.
    """

    step_size: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.01

    def __post_init__(self) -> None:
        _check(self.step_size, self.weight_decay)
        _check_moments(self.betas, self.eps)

    def build(self, parameter: nn.Parameter) -> torch.optim.Optimizer:
        """Return the optimizer of one flat parameter vector."""
        return torch.optim.AdamW(
            [parameter],
            lr=self.step_size,
            betas=self.betas,
            eps=self.eps,
            weight_decay=self.weight_decay,
        )


def resolved(step_size: float | Literal["theory"]) -> float:
    """Return a step size that is a number.

    Raises:
        ValueError: it is still "theory"; ``Session`` puts the number in.
    """
    if step_size == "theory":
        raise ValueError("step_size is 'theory': the problem's constants are not known here")
    return step_size


def _check(step_size: float, weight_decay: float) -> None:
    _check_step_size(step_size)
    _check_weight("weight_decay", weight_decay)


def _check_step_size(step_size: float) -> None:
    if not 0 < step_size <= _LIMITS.max:
        raise ValueError(f"step_size is {step_size!r}: give a positive float32")


def _check_weight(name: str, weight: float) -> None:
    if not 0 <= weight <= _LIMITS.max:
        raise ValueError(f"{name} is {weight!r}: give 0 or a positive float32")


def _check_moments(betas: tuple[float, float], eps: float) -> None:
    if not all(0 <= beta < 1 for beta in betas):
        raise ValueError(f"betas are {betas!r}: give two numbers of at least 0 and below 1")
    if not _LIMITS.tiny <= eps <= _LIMITS.max:
        raise ValueError(f"eps is {eps!r}: give a positive float32")
