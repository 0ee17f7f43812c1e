"""Downlinks that send every worker a copy in every round."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Literal

import torch

from mlmc_ray.downlinks.base import (
    PARAMETERS,
    Downlink,
    Receiver,
    Sender,
    check_news,
    with_parameters,
)
from mlmc_ray.errors import NonFiniteError
from mlmc_ray.kernels.finite import all_finite
from mlmc_ray.methods import Method
from mlmc_ray.methods.base import News
from mlmc_ray.payloads import Message
from mlmc_ray.replica import Replica
from mlmc_ray.wire import decode, encode

_FORMATS = {"float16": torch.float16, "bfloat16": torch.bfloat16}


@dataclass(frozen=True, kw_only=True, slots=True)
class FullDownlink(Downlink):
    """The news as the method gives them: parameters as float32."""

    def check(self, method: Method) -> None:
        """Every method can be sent this way."""

    def sender(self, replica: Replica) -> Sender:
        """Make the server's side."""
        return _FullSender()

    def receiver(self, replica: Callable[[], Replica], max_dim: int) -> Receiver:
        """Make a side of the workers."""
        return _Decoder(max_dim)


FULL = FullDownlink()
"""The downlink of a run that does not say another."""


@dataclass(frozen=True, kw_only=True, slots=True)
class HalfDownlink(Downlink):
    """Parameters in half precision; the server keeps the exact ones.

    Workers compute at the rounded parameters: nearest of 11 bits up to 65,504 with float16, of 8
    bits with bfloat16, which has the range of float32. Steps that are smaller than that add up on
    the server.

    Args:
        format: float16 or bfloat16.
    """

    format: Literal["float16", "bfloat16"] = "bfloat16"

    def __post_init__(self) -> None:
        if self.format not in _FORMATS:
            raise ValueError(f"format is {self.format!r}: give float16 or bfloat16")

    def check(self, method: Method) -> None:
        """Refuse methods whose workers must have the exact point, or get more than one.

        Raises:
            ValueError: says why.
        """
        check_news("half", method, also=("version",))
        if method.moves_parameters:
            raise ValueError(
                f"downlink is half, and workers of {type(method).__name__} go on from the exact "
                "parameters: give downlink: full, delta or relay"
            )

    def sender(self, replica: Replica) -> Sender:
        """Make the server's side."""
        return _HalfSender(_FORMATS[self.format])

    def receiver(self, replica: Callable[[], Replica], max_dim: int) -> Receiver:
        """Make a side of the workers."""
        return _Decoder(max_dim)


class _FullSender(Sender):
    uses_copies = False

    def frame(
        self, news: Message, round_index: int, since: int | None, *, confirmed: bool
    ) -> bytes:
        return encode(news)


class _HalfSender(Sender):
    uses_copies = False

    def __init__(self, form: torch.dtype) -> None:
        self._form = form

    def frame(
        self, news: Message, round_index: int, since: int | None, *, confirmed: bool
    ) -> bytes:
        rounded = news.payloads[PARAMETERS].to_dense().to(self._form)
        if not all_finite(rounded):
            raise NonFiniteError(
                f"a parameter is larger than {torch.finfo(self._form).max:g}, the largest "
                f"{str(self._form).removeprefix('torch.')}: give downlink {{kind: half, format: "
                "bfloat16}"
            )
        return encode(with_parameters(news, rounded))


class _Decoder(Receiver):
    """Reads news in which the parameters are in full."""

    def __init__(self, max_dim: int) -> None:
        self._max_dim = max_dim

    def take(
        self,
        round_index: int,
        exchange_index: int,
        frame: bytes | memoryview,
        workers: Collection[int],
    ) -> News:
        news = decode(frame, max_dim=self._max_dim)
        sent = news.payloads.get(PARAMETERS)
        if sent is None or (values := sent.to_dense()).dtype == torch.float32:
            return news
        return with_parameters(news, values.to(torch.float32))
