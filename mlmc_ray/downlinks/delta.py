"""Delta: the entries that have changed, as they are now."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mlmc_ray.compressors import Context
from mlmc_ray.downlinks.base import (
    Downlink,
    Receiver,
    Sender,
    check_news,
    check_waits,
)
from mlmc_ray.downlinks.changes import CopyReceiver, changes
from mlmc_ray.errors import RoundError
from mlmc_ray.methods import Method
from mlmc_ray.payloads import Message, Payload, SparsePayload
from mlmc_ray.replica import Replica
from mlmc_ray.wire import encode


@dataclass(frozen=True, kw_only=True, slots=True)
class DeltaDownlink(Downlink):
    """The entries whose bits have changed since the worker's copy, with their new values.

    Exact: workers have the server's parameters, bit by bit. Short where the step is sparse: plain
    SGD with sparse messages. Where that would be longer than a full copy, as with momentum or Adam,
    whose steps move every entry, a full copy is sent.
    """

    def check(self, method: Method) -> None:
        """Refuse methods that send more than parameters, or are asynchronous.

        Raises:
            ValueError: says why.
        """
        check_waits("delta", method)
        check_news("delta", method)

    def sender(self, replica: Replica) -> Sender:
        """Make the server's side, which remembers 2 d numbers."""
        return _Sender(replica.parameters)

    def receiver(self, replica: Callable[[], Replica], max_dim: int) -> Receiver:
        """Make a side of the workers, which remembers d numbers."""
        return _Receiver(replica, max_dim)


class _Sender(Sender):
    def __init__(self, parameters: Tensor) -> None:
        self._parameters = parameters
        self._sent = torch.empty(0)  # the parameters of the round before
        self._changed_in = torch.empty(0, dtype=torch.int32)  # the round, by entry

    def open(self, round_index: int, context: Context) -> None:
        if not len(self._sent):
            self._sent = self._parameters.clone()
            self._changed_in = torch.full(self._sent.shape, round_index, dtype=torch.int32)
            return
        now, before = self._parameters.view(torch.int32), self._sent.view(torch.int32)
        self._changed_in[now != before] = round_index
        self._sent.copy_(self._parameters)

    def frame(
        self, news: Message, round_index: int, since: int | None, *, confirmed: bool
    ) -> bytes:
        if since is None:
            return encode(news)
        indices = torch.nonzero(self._changed_in > since).flatten()
        dim = len(self._parameters)
        in_full = 4 * sum(payload.dim for payload in news.payloads.values())
        if 4 * len(indices) < in_full and len(indices) < dim:
            change = SparsePayload(dim, indices, self._parameters[indices])
            leading_to = None if confirmed else self._parameters
            if len(frame := changes(news, change, since, leading_to=leading_to)) < in_full:
                return frame
        return encode(news)

    def copies(self) -> dict[str, Any]:
        return {"sent": self._sent.clone(), "changed_in": self._changed_in.clone()}

    def load_copies(self, state: Mapping[str, Any]) -> None:
        self._sent, self._changed_in = state["sent"].clone(), state["changed_in"].clone()


class _Receiver(CopyReceiver):
    def load_copy(self, server: Mapping[str, Any]) -> None:
        self._load(server["parameters"], server["round_index"])

    def _apply(self, change: Payload, rounds: int) -> None:
        if not isinstance(change, SparsePayload) or change.values.dtype != self._copy.dtype:
            raise RoundError(
                f"the server's news: change is a {type(change).__name__}, and with downlink delta "
                "a SparsePayload of float32 is expected: server and workers must have the same "
                "downlink"
            )
        self._copy[change.indices] = change.values
