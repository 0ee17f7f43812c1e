"""EF, error feedback: what a message leaves out is kept and added to the next gradient.

References:
    Seide et al., 2014 (1-bit SGD); Stich, Cordonnier and Jaggi, 2018, arXiv:1809.07599;
    Karimireddy et al., 2019, arXiv:1901.09847 (EF-SGD).
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from mlmc_ray.compressors.base import Compressor, Context
from mlmc_ray.methods.averaging import AverageServer
from mlmc_ray.methods.base import Facts, Half, OneCompressed, Oracle, ServerHalf, WorkerHalf
from mlmc_ray.methods.checks import require_contractive
from mlmc_ray.methods.error_feedback.feedback import compressed_with_error
from mlmc_ray.methods.reports import payload_of
from mlmc_ray.payloads import Message


@dataclass(frozen=True, kw_only=True, slots=True)
class ErrorFeedback(OneCompressed):
    """EF-SGD; for contractive compressors such as Top-k. Worker i keeps an error e_i, 0 at first.

        send c_i = C(e_i + gradient);  e_i <- e_i + gradient - c_i

    and the estimate is the average of the c_i. The error is in units of the gradient. The papers
    keep gamma e_i, gamma being the step size, and send C'(u) = gamma C(u / gamma), a compressor of
    the same alpha; while gamma is constant and the optimizer is plain SGD, that is the same
    algorithm. Then x - gamma (average of the e_i) takes uncompressed steps, and |e_i|^2 stays below
    4 (1 - alpha) G^2 / alpha^2 where |gradient|^2 is below G^2.

    Args:
        compressor: contractive (``alpha`` is not None).

    References:
        Seide et al., 2014; Stich et al., 2018, arXiv:1809.07599; Karimireddy et al., 2019,
        arXiv:1901.09847.
    """

    compressor: Compressor

    facts: ClassVar[Facts] = Facts(
        compressor="contractive",
        uplink="C",
        downlink="d",
        reports=("corrected",),
        worker_memory="d",
        guarantee="with a constant step, to a neighbourhood whose squared radius falls as the "
        "step squared; to the optimum where all workers share it",
        reference="Seide et al., 2014; Stich et al., 2018, arXiv:1809.07599; Karimireddy et al., "
        "2019, arXiv:1901.09847",
    )

    def __post_init__(self) -> None:
        require_contractive("ef", self.compressor)

    def worker(self) -> WorkerHalf:
        """Make the half of one worker."""
        return _Worker(self.compressor)

    def server(self, parameters: Tensor) -> ServerHalf:
        """Make the server's half."""
        return AverageServer(parameters, "corrected")


class _Worker(Half):
    """Remembers the "error" e_i."""

    def __init__(self, compressor: Compressor) -> None:
        super().__init__()
        self._compressor = compressor

    def step(self, news: Message, oracle: Oracle, *, context: Context) -> Message:
        gradient = oracle.gradient(payload_of(news, "parameters").to_dense(), oracle.sample())
        sent = compressed_with_error(self.memory, gradient, self._compressor, context)
        return Message({"corrected": sent})
