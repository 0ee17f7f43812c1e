"""Gradient coding with error feedback: workers share subsets of the data, some come too late."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from torch import Tensor

from mlmc_ray.compressors.base import Compressor, Context, PaperCost
from mlmc_ray.methods.averaging import AverageServer
from mlmc_ray.methods.base import Facts, Half, Method, Oracle, require_contractive
from mlmc_ray.methods.error_feedback.feedback import compressed_with_error
from mlmc_ray.payloads import Message
from mlmc_ray.seeding import seed_for


@dataclass(frozen=True, kw_only=True, slots=True)
class CocoEF(Method):
    """Send C(u_i + e_i) unless late; e_i <- u_i + e_i - C(u_i + e_i); estimate = sum / M.

    Each of M workers is late with probability p, on its own: it delivers nothing in that round.
    Here u_i is 1 / (1 - p) times the gradient of worker i's function. Where that is the mean of d
    of M subsets' functions, and every subset is on d workers, as ``Replicated`` deals them, a
    subset has the weight 1 / (d (1 - p)) on each of these, and the sum over those that deliver,
    divided by M, is without compression an unbiased gradient of the mean of the subsets' functions;
    its variance is p / (1 - p) / M times the mean of |grad f_i|^2. The paper keeps the step size
    inside C; for a constant one and C(a v) = a C(v) it is the same.

    Who is late everyone draws from the shared seed. A late worker gets the parameters and answers
    with an empty message.

    Args:
        compressor: contractive; the same on every worker.
        straggling: p in [0, 1).
        accumulate: a late worker computes its gradient all the same and adds it to e_i; by default
            it keeps e_i as it is.

    References:
        COCO-EF: arXiv:2603.16353; gradient coding: Tandon et al., 2016, arXiv:1612.03301.
    """

    compressor: Compressor
    straggling: float = 0.0
    accumulate: bool = False

    facts: ClassVar[Facts] = Facts(
        compressor="contractive",
        uplink="C, unless late",
        downlink="d",
        reports=("corrected",),
        worker_memory="d",
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

    def worker(self) -> "_Worker":
        """Make the half of one worker."""
        return _Worker(self)

    def server(self, parameters: Tensor) -> "_Server":
        """Make the server's half."""
        return _Server(self.straggling, parameters)

    def paper_cost(self, dim: int) -> PaperCost | None:
        """The compressor's."""
        return self.compressor.paper_cost(dim)


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
        gradient = oracle.gradient(news.payloads["parameters"].to_dense(), oracle.sample())
        coded = gradient / (1 - method.straggling)
        if late:
            self.memory["error"] = coded.add_(self.memory.get("error", 0))
            return Message({})
        sent = compressed_with_error(self.memory, coded, method.compressor, context)
        return Message({"corrected": sent})


class _Server(AverageServer):
    def __init__(self, straggling: float, parameters: Tensor) -> None:
        super().__init__(parameters, "corrected")
        self._straggling = straggling

    def step(self, reports: Mapping[int, Message], *, context: Context) -> Tensor:
        late = late_workers(context.shared_seed, context.num_workers, self._straggling)
        delivered = {i: report for i, report in reports.items() if i not in late}
        return self.average(delivered, among=context.num_workers)
