"""Compressed: what the workers' copy lacks, compressed, with error feedback."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mlmc_ray.compressors import Compressor, Context, bound
from mlmc_ray.downlinks.backlog import Backlog
from mlmc_ray.downlinks.base import (
    Downlink,
    Receiver,
    Sender,
    check_news,
    check_waits,
    with_parameters,
)
from mlmc_ray.downlinks.changes import CopyReceiver, changes
from mlmc_ray.errors import NonFiniteError, RoundError, WireError
from mlmc_ray.methods import Method
from mlmc_ray.methods.checks import require_contractive
from mlmc_ray.observing import observed
from mlmc_ray.payloads import Message, Payload, SumPayload, ZeroPayload
from mlmc_ray.replica import Replica
from mlmc_ray.saving import read, written
from mlmc_ray.wire import decode, encode


@dataclass(frozen=True, kw_only=True, slots=True)
class CompressedDownlink(Downlink):
    """EF21-P under any method: workers share a copy w of the parameters x, and get C(x - w).

        server: send b = C(x - w);  everyone: w <- w + b;  workers compute at w

    with w = x at first. The steps are not those of ``full``; EF21-P's theory is of the methods
    ``ef21-p`` and ``ef21-p-diana``.

    Args:
        compressor: C, contractive.

    References:
        Gruntkowska, Tyurin and Richtarik, 2022, arXiv:2209.15218.
    """

    compressor: Compressor

    def __post_init__(self) -> None:
        require_contractive("downlink compressed", self.compressor)

    def check(self, method: Method) -> None:
        """Refuse methods that send more than parameters, need the exact ones, or do not wait.

        Raises:
            ValueError: says why.
        """
        check_waits("compressed", method)
        check_news("compressed", method)
        if method.moves_parameters:
            raise ValueError(
                f"downlink is compressed, and workers of {type(method).__name__} go on from the "
                "exact parameters: give downlink: full, delta or relay"
            )

    def sender(self, replica: Replica) -> Sender:
        """Make the server's side, which remembers d numbers, and the last changes."""
        return _Sender(replica.parameters, self.compressor)

    def receiver(self, replica: Callable[[], Replica], max_dim: int) -> Receiver:
        """Make a side of the workers, which remembers d numbers."""
        return _Receiver(replica, max_dim)


class _Sender(Sender):
    def __init__(self, parameters: Tensor, compressor: Compressor) -> None:
        self._parameters = parameters
        self._compressor = compressor
        self._copy = torch.empty(0)  # of the workers
        self._changes = Backlog[Payload](4 * len(parameters))

    def open(self, round_index: int, context: Context) -> None:
        if not len(self._copy):
            self._copy = self._parameters.clone()
            return
        lacking = self._parameters - self._copy
        compressor = observed(bound(self._compressor, context))
        change = compressor.compress(lacking, generator=context.generator)
        change.add_to(self._copy)
        self._changes.add(round_index, change, len(_in_message(change)))

    def frame(
        self, news: Message, round_index: int, since: int | None, *, confirmed: bool
    ) -> bytes:
        missing = None if since is None else self._changes.of(since + 1, round_index)
        if since is None or missing is None:
            return encode(with_parameters(news, self._copy))
        leading_to = None if confirmed else self._copy
        if len(missing) < 2:
            change = missing[0] if missing else ZeroPayload(len(self._copy))
            return changes(news, change, since, leading_to=leading_to)
        try:
            return changes(news, SumPayload(tuple(missing)), since, leading_to=leading_to)
        except (WireError, NonFiniteError):  # more, all together, than readers allow a message
            return encode(with_parameters(news, self._copy))

    def more(self) -> None:
        raise RoundError(
            "downlink is compressed, which knows rounds of one exchange, and the method's have "
            "several: give downlink: full"
        )

    def state_dict(self) -> dict[str, Tensor]:
        return {"copy": self._copy.clone()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        self._copy = state["copy"].clone()

    def copies(self) -> dict[str, Any]:
        return {"changes": self._changes.state(lambda change: written(_in_message(change)))}

    def load_copies(self, state: Mapping[str, Any]) -> None:
        dim = len(self._parameters)
        self._changes.load(
            state["changes"], lambda frame: decode(read(frame), max_dim=dim).payloads["change"]
        )


def _in_message(change: Payload) -> bytes:
    return encode(Message({"change": change}))


class _Receiver(CopyReceiver):
    def load_copy(self, server: Mapping[str, Any]) -> None:
        self._load(server["downlink"]["copy"], server["round_index"] - 1)

    def _apply(self, change: Payload, rounds: int) -> None:
        parts = change.parts if isinstance(change, SumPayload) and rounds else (change,)
        for part in parts[rounds:]:
            part.add_to(self._copy)
