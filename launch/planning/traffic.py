"""What an exchange puts on the links, by the model of the transport."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from launch.planning.cluster import Cluster
from launch.planning.measured import Measured
from launch.wire.exchanges import Call
from launch.wire.transport import Transport
from mlmc_ray.rounds import INLINE_BYTES

_Bytes = npt.NDArray[np.float64]
"""Shape (3,): with news, with reports, and all of them with what comes back for them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Traffic:
    """What one exchange puts on the links, in bytes with all headers.

    What acknowledges news or asks for them crosses the other way while they do, and so takes no
    time of its own; likewise for reports. It is in ``both`` only.

    Attributes:
        news: on the server's link out.
        news_a_node: on the link of the node that gets most.
        reports: on the server's link in.
        reports_a_node: on the link of the node that sends most.
        both: all of it, each byte counted once.
        news_stored: news come through the object store.
        answers_stored: answers do.
    """

    news: float
    news_a_node: float
    reports: float
    reports_a_node: float
    both: float
    news_stored: bool
    answers_stored: bool


def traffic_of(
    measured: Measured, cluster: Cluster, transport: Transport, *, percentile_95: bool
) -> Traffic:
    """Return what an exchange of a run puts on the links of a cluster.

    Args:
        measured: the run.
        cluster: whose hosts share workers and nodes as evenly as can be.
        transport: the model.
        percentile_95: let every frame have a size that one in 20 exceeds, instead of the mean.
    """
    down, up = (
        round(frames.p95 if percentile_95 else frames.mean)
        for frames in (measured.frames["downlink"], measured.frames["uplink"])
    )
    share = measured.asked(cluster.workers) / cluster.workers

    def call(reports: int) -> Call:
        news = (down,) * (reports if measured.own_news else 1)
        return Call(host=0, news=news, reports=(up,) * reports)

    asked = [share * len(own) for own in cluster.hosted]
    fullest = call(math.ceil(max(1.0, *asked)))
    nodes = [asked[node :: cluster.nodes] for node in range(cluster.nodes)]
    each = [_of_node(own, call, transport, measured.own_news) for own in nodes]
    news, reports, both = sum(each[1:], start=each[0])
    most = each[0] * max(1.0, 1 / sum(nodes[0]))  # one worker at least, in a node that has any
    return Traffic(
        news=float(news),
        news_a_node=float(most[0]),
        reports=float(reports),
        reports_a_node=float(most[1]),
        both=float(both),
        news_stored=sum(fullest.news) > INLINE_BYTES,
        answers_stored=sum(fullest.reports) > INLINE_BYTES,
    )


def _of_node(
    asked: Sequence[float], call: Callable[[int], Call], transport: Transport, own_news: bool
) -> _Bytes:
    """Return the bytes of a node.

    Args:
        asked: mean number of workers that are asked, of each of its hosts.
        call: of a host with so many.
        transport: the model.
        own_news: every worker gets a frame of its own, so that hosts have none to share.
    """
    copies = 1 / max(1.0, sum(min(1.0, number) for number in asked))  # of the store's, for a call

    def of_call(reports: int) -> _Bytes:
        if reports == 0:
            return np.zeros(3)
        one = call(reports)
        if own_news or sum(one.news) <= INLINE_BYTES:
            return _of_call(one, transport)
        fetched, shared = (_of_call(way, transport) for way in (one, replace(one, news=())))
        return copies * fetched + (1 - copies) * shared

    total = np.zeros(3)
    for number in asked:
        fewer = math.floor(number)
        more = number - fewer
        total += (1 - more) * of_call(fewer) + more * of_call(fewer + 1)
    return total


def _of_call(call: Call, transport: Transport) -> _Bytes:
    news = transport.of(replace(call, reports=())).downlink
    reports = transport.of(replace(call, news=())).uplink
    return np.array([news, reports, sum(transport.of(call))])
