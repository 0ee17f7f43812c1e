"""Gradient coding with error feedback: workers share subsets of the data, some come too late."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from mlmc_ray.compressors.base import Compressor, Context
from mlmc_ray.methods.averaging import AverageServer
from mlmc_ray.methods.base import Facts, Half, OneCompressed, Oracle
from mlmc_ray.methods.checks import require_contractive
from mlmc_ray.methods.error_feedback.feedback import compressed_with_error
from mlmc_ray.methods.reports import payload_of
from mlmc_ray.payloads import Message
from mlmc_ray.seeding import seed_for


@dataclass(frozen=True, kw_only=True, slots=True)
class CocoEF(OneCompressed):
    """Send C(u_i + e_i) unless late; e_i <- u_i + e_i - C(u_i + e_i); estimate = sum / (q M).

    Each of M workers is late with probability p, on its own: it delivers nothing in that round.
    Here u_i is the gradient of worker i's function, and q = 1 - p. Where that function is the mean
    of d of M subsets' functions, and every subset is on d workers, as ``Replicated`` deals them, a
    subset has the weight 1 / (d q) on each of these, and the estimate is without compression an
    unbiased gradient of the mean of the subsets' functions; its variance is p / (1 - p) / M times
    the mean of |grad f_i|^2. The paper has the step size a and 1 / q inside C: this is its method
    with C(a v / q) q / a for C(v), which contracts as much.

    Where p is not known, q is the moving average of the share of workers that deliver: 1 before the
    first round, and after every round q <- (1 - beta) q + beta (share in that round), but at least
    beta / M. It tends to 1 - p, but for a variance of beta / (2 - beta) p (1 - p) / M. A round's q
    does not depend on who is late in it, so the mean of the estimate is the gradient times
    (1 - p) E[1 / q], which is above 1, and near 1 only where beta p / M is small.

    Who is late everyone draws from the shared seed. A late worker gets the parameters and answers
    with an empty message.

    Args:
        compressor: contractive; the same on every worker.
        straggling: p in [0, 1).
        accumulate: a late worker computes its gradient all the same and adds it to e_i; by default
            it keeps e_i as it is. Then every gradient is delivered in the end, and q = 1.
        newest_weight: beta, above 0 and below 1, to estimate q; None where p is known, or
            gradients accumulate.

    References:
        COCO-EF: arXiv:2603.16353; gradient coding: Tandon et al., 2016, arXiv:1612.03301.
    """

    compressor: Compressor
    straggling: float = 0.0
    accumulate: bool = False
    newest_weight: float | None = None

    facts: ClassVar[Facts] = Facts(
        compressor="contractive",
        uplink="C, unless late",
        downlink="d",
        reports=("corrected",),
        worker_memory="d",
        server_memory="0; 1 where p is estimated",
        guarantee="to a neighbourhood, which grows with the step size, with p, and with how much "
        "workers' functions differ",
        reference="arXiv:2603.16353; Tandon et al., 2016, arXiv:1612.03301",
    )

    def __post_init__(self) -> None:
        require_contractive("coco-ef", self.compressor)
        if not 0 <= self.straggling < 1:
            raise ValueError(
                f"straggling is {self.straggling!r}: it is the probability that a worker is late, "
                "at least 0 and below 1"
            )
        if self.newest_weight is not None and not 0 < self.newest_weight < 1:
            raise ValueError(
                f"newest_weight is {self.newest_weight!r}: give a number above 0 and below 1, such "
                "as 0.05, or leave it out where straggling is known"
            )

        if self.newest_weight is not None and self.accumulate:
            raise ValueError(
                f"newest_weight is {self.newest_weight!r}, and accumulate is true: then no "
                "gradient is lost, and there is no share to estimate: leave newest_weight out"
            )

    def worker(self) -> "_Worker":
        """Make the half of one worker."""
        return _Worker(self)

    def server(self, parameters: Tensor) -> "_Server":
        """Make the server's half."""
        return _Server(self, parameters)


def late_workers(shared_seed: int, num_workers: int, probability: float) -> set[int]:
    """Draw who is late in the round with this seed, each worker on its own."""
    draws = np.random.Generator(np.random.Philox(seed_for(shared_seed, "stragglers")))
    return {int(i) for i in np.flatnonzero(draws.random(num_workers) < probability)}


class _Worker(Half):
    """Remembers the "error" e_i."""

    def __init__(self, method: CocoEF) -> None:
        super().__init__()
        self._method = method

    def step(self, news: Message, oracle: Oracle, *, context: Context) -> Message:
        method = self._method
        late = context.worker_id in late_workers(
            context.shared_seed, context.num_workers, method.straggling
        )
        if late and not method.accumulate:
            return Message({})
        gradient = oracle.gradient(payload_of(news, "parameters").to_dense(), oracle.sample())
        if late:
            self.memory["error"] = gradient + self.memory.get("error", 0)
            return Message({})
        sent = compressed_with_error(self.memory, gradient, method.compressor, context)
        return Message({"corrected": sent})


class _Server(AverageServer):
    """Remembers the estimate of q, "share", where p is not known."""

    def __init__(self, method: CocoEF, parameters: Tensor) -> None:
        super().__init__(parameters, "corrected")
        self._method = method
        if method.newest_weight is not None:
            self.memory["share"] = torch.ones((), dtype=torch.float64)

    def step(self, reports: Mapping[int, Message], *, context: Context) -> Tensor:
        method, number = self._method, context.num_workers
        late = late_workers(context.shared_seed, number, method.straggling)
        delivered = {i: report for i, report in reports.items() if i not in late}
        estimate = self.average(delivered, among=number)
        if method.accumulate:
            return estimate
        if method.newest_weight is None:
            return estimate.div_(1 - method.straggling)
        share = self.memory["share"]
        estimate.div_(float(share))
        share.lerp_(torch.full_like(share, len(delivered) / number), method.newest_weight)
        share.clamp_(min=method.newest_weight / number)
        return estimate
