"""DASHA-PP: DASHA where every round asks some of the workers; after the first none asks all.

References:
    Tyurin and Richtarik, 2022, arXiv:2205.15580.
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from mlmc_ray.compressors.base import Compressor, Context
from mlmc_ray.methods.base import Facts, OneCompressed, Oracle, ServerHalf, WorkerHalf
from mlmc_ray.methods.checks import check_at_least_1
from mlmc_ray.methods.reports import payload_of
from mlmc_ray.methods.running_estimates.dasha import Worker, check_settings
from mlmc_ray.methods.running_estimates.running_estimate import PartialServer
from mlmc_ray.payloads import Message


@dataclass(frozen=True, kw_only=True, slots=True)
class DASHAPP(OneCompressed):
    """DASHA-PP, on full gradients whatever the batch size of the configuration.

    With f_i' the gradient of worker i's whole loss, the first round asks all workers, which send
    g_i = h_i = f_i'(x_0). Every other one asks s of the M workers, drawn uniformly. With s / M = q
    and b = q / (2 - q), a participant has

        k_i = f_i'(x+) - f_i'(x) - b (h_i - f_i'(x));   h_i <- h_i + k_i / q
        send c_i = C_i((k_i - a (g_i - h_i)) / q), with h_i before it moves;   g_i <- g_i + c_i

    and the server adds the sum of the c_i, over M and not s, to g, the average of all g_i. With
    s = M it is DASHA. Participants get x too, for they may have missed the last round.

    Args:
        compressor: unbiased.
        participants: s, at least 1.
        momentum: a, above 0 and at most 1; None for q / (2 omega + 1), that of the theory.

    References:
        Tyurin and Richtarik, 2022, arXiv:2205.15580, algorithm 1.
    """

    compressor: Compressor
    participants: int
    momentum: float | None = None

    facts: ClassVar[Facts] = Facts(
        compressor="unbiased",
        uplink="C from the participants",
        downlink="2 d to the participants",
        news=("parameters", "previous"),
        reports=("gradient", "change"),
        first="d up",
        worker_memory="2 d",
        server_memory="2 d",
        guarantee="O(1/T) of |grad f|^2, with full gradients and a step size that is small enough",
        reference="Tyurin and Richtarik, 2022, arXiv:2205.15580",
    )

    def __post_init__(self) -> None:
        check_settings("dasha-pp", self.compressor, self.momentum)
        check_at_least_1("participants", self.participants, "worker")

    def worker(self) -> WorkerHalf:
        """Make the half of one worker."""
        return _Worker(self.compressor, self.momentum, self.participants)

    def server(self, parameters: Tensor) -> ServerHalf:
        """Make the server's half."""
        return PartialServer(parameters, self.participants)


class _Worker(Worker):
    def __init__(self, compressor: Compressor, momentum: float | None, participants: int) -> None:
        super().__init__(compressor, momentum)
        self._participants = participants

    def step(self, news: Message, oracle: Oracle, *, context: Context) -> Message:
        if "previous" not in news.payloads:
            return super().step(news, oracle, context=context)
        gradient = self.remembered("gradient")
        share = self._participants / context.num_workers
        batch = oracle.full()
        moved = oracle.gradient(payload_of(news, "parameters").to_dense(), batch).clone()
        before = oracle.gradient(payload_of(news, "previous", len(gradient)).to_dense(), batch)
        moved.sub_(before).sub_(gradient - before, alpha=share / (2 - share))
        step = moved / share
        report = self._send(moved, context, share)
        gradient.add_(step)
        return report
