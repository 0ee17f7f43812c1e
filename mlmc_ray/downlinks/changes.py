"""What has changed since a copy, in place of the parameters."""

from abc import abstractmethod
from collections.abc import Callable, Collection

import torch
from torch import Tensor

from mlmc_ray.downlinks.base import PARAMETERS, Receiver, with_parameters
from mlmc_ray.errors import RoundError
from mlmc_ray.methods.base import News
from mlmc_ray.payloads import Message, Payload
from mlmc_ray.replica import Replica
from mlmc_ray.wire import decode, encode
from mlmc_ray.wire.bundles import digest_of

_CHANGE, _SINCE, _DIGEST = "change", "since", "digest"
_DIGEST_BYTES = 6  # a number of as many bits is exact as a scalar


def changes(news: Message, change: Payload, since: int, *, leading_to: Tensor | None) -> bytes:
    """Return the frame of news with what has changed since a round in place of the parameters.

    Args:
        news: of the method's server half.
        change: since the round.
        since: the round.
        leading_to: the copy as it is to be with the change, of which the frame then has a digest.
    """
    payloads = {name: payload for name, payload in news.payloads.items() if name != PARAMETERS}
    scalars = {**news.scalars, _SINCE: float(since)}
    if leading_to is not None:
        scalars[_DIGEST] = _digest(leading_to)
    return encode(Message({_CHANGE: change, **payloads}, scalars))


def _digest(copy: Tensor) -> float:
    return float(int.from_bytes(digest_of(copy)[:_DIGEST_BYTES], "big"))


class CopyReceiver(Receiver):
    """Receives full copies, and messages about what has changed since one.

    Args:
        replica: makes one as it is at the start of the run.
        max_dim: refuse payloads of more entries.
    """

    def __init__(self, replica: Callable[[], Replica], max_dim: int) -> None:
        self._make = replica
        self._max_dim = max_dim
        self._round_index = -1  # whose copy this is; -1 for none
        self._copy = torch.empty(0)

    def take(
        self,
        round_index: int,
        exchange_index: int,
        frame: bytes | memoryview,
        workers: Collection[int],
    ) -> News | None:
        """Return the news with the parameters in full."""
        news = decode(frame, max_dim=self._max_dim)
        if PARAMETERS in news.payloads:
            # A copy, since it is written to, and decoded values are not.
            self._copy = news.payloads[PARAMETERS].to_dense().to(torch.float32, copy=True)
        else:
            if not self._follow(news, round_index):
                self._round_index = -1
                return None
            news = Message(
                {name: payload for name, payload in news.payloads.items() if name != _CHANGE},
                {name: x for name, x in news.scalars.items() if name not in (_SINCE, _DIGEST)},
            )
        self._round_index = round_index
        return with_parameters(news, self._copy.clone())  # workers may keep what they are given

    def _follow(self, news: Message, round_index: int) -> bool:
        """Bring the copy up to date, and return whether it is what it should be."""
        since, change = _change(news)
        digest = news.scalars.get(_DIGEST)
        if self._round_index < 0 and since == 0 and digest is not None:
            self._copy, self._round_index = self._make().parameters, 0
        if not 0 <= since <= self._round_index <= round_index:
            return False
        if change.dim != len(self._copy):
            raise RoundError(
                f"the server's news: {_CHANGE} has {change.dim} entries, the model here has "
                f"{len(self._copy)}; server and workers must run the same problem"
            )
        if self._round_index < round_index:
            self._apply(change, self._round_index - since)
        return digest is None or digest == _digest(self._copy)

    def _load(self, copy: Tensor, round_index: int) -> None:
        """Take a copy of a round."""
        self._copy, self._round_index = copy.clone(), round_index

    @abstractmethod
    def _apply(self, change: Payload, rounds: int) -> None:
        """Bring ``_copy`` up to date, of which the first rounds are in it already."""


def _change(news: Message) -> tuple[int, Payload]:
    since, change = news.scalars.get(_SINCE), news.payloads.get(_CHANGE)
    if since is None or since != int(since) or change is None:
        raise RoundError(
            f"the server's news have neither {PARAMETERS!r} nor {_CHANGE!r} since a round: "
            "server and workers must have the same downlink"
        )
    return int(since), change
