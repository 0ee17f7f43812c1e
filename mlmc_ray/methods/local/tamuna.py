"""TAMUNA: CompressedScaffnew in which only some of the workers take part in a round."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from mlmc_ray.compressors.base import Context
from mlmc_ray.methods.base import Facts, News, Progress
from mlmc_ray.methods.local.controlled import AveragingServer
from mlmc_ray.methods.local.entry_sharing import EntrySharing
from mlmc_ray.methods.local.scaffnew import CompressedScaffnew
from mlmc_ray.payloads import DensePayload, Message


@dataclass(frozen=True, kw_only=True, slots=True)
class TAMUNA(CompressedScaffnew):
    """A round asks c of the M workers, and each entry is sent by s of these.

    From x a participant takes K steps x_i <- x_i - gamma (g_i(x_i) - h_i), K geometric with mean
    1/p, and sends s d / c entries of x_i, without indices. Entry k of x is then the average of the
    s values sent of it. A second exchange of the same round gives each participant the new x on
    the entries that it sent, with which it sets h_i <- h_i + (p chi / gamma) (x - x_i) there; so
    the server need not remember what a participant has missed until it is asked again. The others
    keep their h_i. With c = M it is CompressedScaffnew.

    Args:
        step_size: gamma, below 2/L; "theory" for 2 / (L + mu), L and mu being the largest L_i and
            the least mu_i.
        probability: p in (0, 1], of a communication after a local step; "theory" for the largest
            that does not slow down the local steps.
        senders: s, 2 to c.
        damping: chi, above 0 and at most nu = M (s - 1) / (s (M - 1)); None for nu.
        participants: c, at most M.

    References:
        Condat, Agarsky, Malinovsky and Richtarik, 2023, arXiv:2302.09832.
    """

    participants: int

    facts: ClassVar[Facts] = Facts(
        compressor="none",
        uplink="s d / c, from the c participants",
        downlink="d + s d / c, to the participants",
        news=("parameters", "entries"),
        reports=("entries",),
        worker_memory="d",
        guarantee="linear for strongly convex f_i and full gradients",
        reference="Condat et al., 2023, arXiv:2302.09832",
    )

    @property
    def sharing(self) -> EntrySharing:
        """Who takes part, and who sends which entries."""
        return EntrySharing(
            senders=self.senders, participants=self.participants, damping=self.damping
        )

    def server(self, parameters: Tensor) -> "_Server":
        """Make the server's half."""
        return _Server(self.sharing, parameters)


class _Server(AveragingServer):
    """Remembers, between the exchanges, that it has "averaged"."""

    def news(self, *, context: Context) -> News:
        entries = self.entries(context)
        if "averaged" not in self.memory:
            message = Message({"parameters": DensePayload(self._parameters)})
            return dict.fromkeys(entries, message)
        parts = {worker_id: self._parameters[own] for worker_id, own in entries.items()}
        return {
            worker_id: Message({"entries": DensePayload(part)})
            for worker_id, part in parts.items()
            if part.numel()
        }

    def step(self, reports: Mapping[int, Message], *, context: Context) -> Progress:
        if self.memory.pop("averaged", None) is not None:
            return Progress.MOVED
        AveragingServer.step(self, reports, context=context)
        self.memory["averaged"] = torch.tensor(True)
        return Progress.MORE
