"""Local SGD: every worker takes several steps of its own between two exchanges."""

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from mlmc_ray.compressors.base import Compressor, Context, bound
from mlmc_ray.compressors.identity import Identity
from mlmc_ray.methods.averaging import AverageServer
from mlmc_ray.methods.base import Facts, Half, OneCompressed, Oracle
from mlmc_ray.methods.checks import require_contractive, require_unbiased
from mlmc_ray.methods.error_feedback.feedback import compressed_with_error
from mlmc_ray.methods.reports import payload_of
from mlmc_ray.observing import observed
from mlmc_ray.payloads import Message


@dataclass(frozen=True, kw_only=True, slots=True)
class LocalSGD(OneCompressed):
    """Send what H local steps have changed; the estimate is the average of it.

    From the broadcast x worker i takes H steps x_i <- x_i - gamma g_i(x_i), a new batch each, and
    sends C(x - x_i). An outer optimizer steps along the average over those that answered; plain
    SGD with step size 1 makes x the average of the x_i. With error feedback it sends
    C(x - x_i + e_i), and e_i is what C leaves of it.

    Where workers' functions differ it does not tend to the optimum: with full gradients of
    quadratics, to the x with sum (I - B_i)(x - x_i*) = 0, where B_i = (I - gamma A_i)^H.

    Args:
        local_step_size: gamma, above 0.
        local_steps: H, at least 1; with 1 it is compressed SGD of gamma times the gradient.
        compressor: unbiased, or contractive with error feedback.
        error_feedback: remember what the compressor leaves; then every round needs all workers.

    References:
        Stich, 2018, arXiv:1805.09767; with an outer optimizer, Reddi et al., 2020,
        arXiv:2003.00295; compressed without memory, Reisizadeh et al., 2019, arXiv:1909.13014.
    """

    local_step_size: float
    local_steps: int
    compressor: Compressor = field(default_factory=Identity)
    error_feedback: bool = False

    facts: ClassVar[Facts] = Facts(
        compressor="any",
        uplink="C",
        downlink="d",
        reports=("change",),
        worker_memory="0; d with error feedback",
        guarantee="for a strongly convex f linear to a neighbourhood, which grows with the local "
        "steps and with how much workers' functions differ",
        reference="Stich, 2018, arXiv:1805.09767; Reddi et al., 2020, arXiv:2003.00295",
    )

    def __post_init__(self) -> None:
        if not 0 < self.local_step_size < float("inf"):
            raise ValueError(
                f"local_step_size is {self.local_step_size!r}: give a number above 0, such as 0.1"
            )
        if self.local_steps < 1:
            raise ValueError(f"local_steps is {self.local_steps!r}: take at least 1")
        if self.error_feedback:
            require_contractive("local-sgd with error_feedback", self.compressor)
        else:
            require_unbiased("local-sgd without error_feedback", self.compressor)

    @property
    def allows_absence(self) -> bool:  # type: ignore[override]
        """Whether a round may do without some of the workers: not with error feedback."""
        return not self.error_feedback

    def worker(self) -> "_Worker":
        """Make the half of one worker."""
        return _Worker(self)

    def server(self, parameters: Tensor) -> AverageServer:
        """Make the server's half."""
        return AverageServer(parameters, "change")


def local_change(
    at: Tensor, oracle: Oracle, *, step_size: float, num_steps: int, control: Tensor | None = None
) -> Tensor:
    """Return x - x_i after steps x_i <- x_i - step_size (g_i(x_i) - control) from x_i = x.

    Args:
        at: x, shape (d,); not modified.
        oracle: gives a gradient at a new batch for every step.
        step_size: of every step.
        num_steps: how many, at least 1.
        control: shape (d,); none is zero.

    Returns:
        shape (d,), a new tensor; it is summed up, so it is more exact than the difference.
    """
    change, own = torch.zeros_like(at), at.clone()
    for _ in range(num_steps):
        change.add_(oracle.gradient(own, oracle.sample()), alpha=step_size)
        if control is not None:
            change.sub_(control, alpha=step_size)
        torch.sub(at, change, out=own)
    return change


class _Worker(Half):
    """Remembers the "error" e_i, with error feedback."""

    def __init__(self, method: LocalSGD) -> None:
        super().__init__()
        self._method = method

    def step(self, news: Message, oracle: Oracle, *, context: Context) -> Message:
        method = self._method
        change = local_change(
            payload_of(news, "parameters").to_dense(),
            oracle,
            step_size=method.local_step_size,
            num_steps=method.local_steps,
        )
        if method.error_feedback:
            sent = compressed_with_error(self.memory, change, method.compressor, context)
        else:
            compressor = observed(bound(method.compressor, context))
            sent = compressor.compress(change, generator=context.generator)
        return Message({"change": sent})
