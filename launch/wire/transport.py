"""The model of the transport: from the frames of a call to bytes on a host's interface."""

from dataclasses import dataclass, replace
from typing import NamedTuple

from launch.wire.exchanges import Call
from mlmc_ray.rounds import INLINE_BYTES

CARRIED = 1448
"""Bytes that a full packet carries: 1500 without the headers of IP and TCP, and its timestamps."""

HEADERS = 66
"""Bytes of a packet beside what it carries: Ethernet's header, IP's and TCP's."""


class BothWays(NamedTuple):
    """Bytes on the interface of a host: received (downlink) and sent (uplink)."""

    downlink: float
    uplink: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Transport:
    """Bytes that cross the interface of a host's node, with Ethernet, IP and TCP headers.

    It is linear in the sizes of frames, but for frames that fill more than a packet: these are
    acknowledged by packets of their own, and shorter ones by what comes back anyway. Every host
    is alone on its node; several would share a broadcast that goes through the object store.

    What is lost and sent again comes on top, and what Ray says by the second rather than by the
    call: of itself, and of what is in its object store.

    Attributes:
        per_byte: for each byte of a frame: 1514 bytes of a full packet carry 1448.
        per_worker: for each worker's report, beside the frame.
        acknowledged: for each byte of a frame, on the way back.
        answer_acknowledged: likewise of answers in the object store: those of all hosts arrive at
            once, where packets are lost.
        call: of a call with its answer, and a host of one worker, whose frames are part of them.
        stored_news: for each frame of the news that goes through the object store, beside that.
        stored_answer: of an answer that goes through it, beside that.
        driver_call: of the driver's call of a round, to the server and back.
        driver_frame: for each line of the ledger, which the server answers to it.
        origin: how the numbers were found.
    """

    per_byte: float
    per_worker: float
    acknowledged: float
    answer_acknowledged: float
    call: BothWays
    stored_news: BothWays
    stored_answer: BothWays
    driver_call: BothWays
    driver_frame: float
    origin: str

    def of(self, call: Call) -> BothWays:
        """Return the bytes on the host's interface that a call comes to."""
        news, reports = sum(call.news), sum(call.reports)
        stored = reports > INLINE_BYTES
        acknowledged = self.answer_acknowledged if stored else self.acknowledged
        down = self.call.downlink + self.per_byte * news + _sent_back(reports, acknowledged)
        up = self.call.uplink + self.per_byte * reports + _sent_back(news, self.acknowledged)
        up += self.per_worker * (len(call.reports) - 1)
        if news > INLINE_BYTES:
            down += self.stored_news.downlink * len(call.news)
            up += self.stored_news.uplink * len(call.news)
        if stored:
            down += self.stored_answer.downlink
            up += self.stored_answer.uplink
        return BothWays(down, up)

    def of_driver(self, *, rounds: int, frames: int) -> BothWays:
        """Return what the driver's calls of rounds come to, to the server and back."""
        back = self.driver_call.uplink * rounds + self.driver_frame * frames
        return BothWays(self.driver_call.downlink * rounds, back)


def _sent_back(size: int, acknowledged: float) -> float:
    """Return the bytes of the packets that acknowledge so many bytes of frames."""
    return acknowledged * size + (HEADERS if size > CARRIED else 0)


RAY = Transport(
    per_byte=1 + HEADERS / CARRIED,
    per_worker=33.0,
    acknowledged=0.0015,
    answer_acknowledged=0.0127,
    call=BothWays(656.0, 293.0),
    stored_news=BothWays(2864.0, 2527.0),
    stored_answer=BothWays(-189.0, 1749.0),
    driver_call=BothWays(636.0, 538.0),
    driver_frame=49.0,
    origin="benchmarks/transport_model.py: Ray 2.60.0, links of 1 Gbit/s; per_worker and "
    "driver_frame by the length of pickled answers",
)
"""Of Ray's calls between nodes, as the actors of a run make them."""

RAY_ON_SLOW_LINKS = replace(
    RAY,
    acknowledged=0.0148,
    answer_acknowledged=0.0205,
    origin=f"{RAY.origin}; acknowledgements with links of 100 Mbit/s",
)
"""On a slow link packets arrive one by one, and every other one is acknowledged."""

_SLOW = 40e6  # bytes a second, in the middle between the two that were measured


def on_links_of(rate: float | None) -> Transport:
    """Return the model for links of so many bytes a second; None for no limit."""
    return RAY_ON_SLOW_LINKS if rate is not None and rate < _SLOW else RAY
