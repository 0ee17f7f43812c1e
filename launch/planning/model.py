"""The model of a round: compute, links, the server, and calls."""

from dataclasses import dataclass

from launch.planning.cluster import Cluster, Links
from launch.planning.measured import CALLS_S, Measured
from launch.planning.traffic import Traffic, traffic_of
from launch.wire.transport import RAY, on_links_of
from mlmc_ray.errors import ConfigError
from mlmc_ray.rounds import INLINE_BYTES

_PULL_S = 0.005  # to fetch an object, beside its bytes and round trips
_ROUND_TRIPS_A_ROUND = 1  # driver and server
_ROUND_TRIPS_AN_EXCHANGE = 1  # the call
_ROUND_TRIPS_OF_NEWS = 3  # where they are in the object store, fetching them, letting go of them
_FIRST_WINDOW = 14_480  # bytes a new connection sends before it waits: RFC 6928

ASSUMPTIONS = (
    "workers of a process take turns; each needs as long as here, where processes may have shared "
    "processors, and has a batch of the same size",
    "frames are as long as here, whatever the number of workers",
    "the server works as long as here, and in proportion longer with more workers (at most so)",
    "news that are the same for all cross the server's link once a process, or once a node where "
    "they come through the object store, one copy after the other",
    "nodes have the links to themselves; one more node has the server and nothing else",
    "news, work and reports follow each other: nothing overlaps",
    f"a byte of a frame is {RAY.per_byte:.4f} on the link; a call with its answer takes "
    f"{sum(RAY.call) / 1000:.2g} kB more, and what comes through the object store "
    f"{sum(RAY.stored_news) / 1000:.2g} kB (news) and {sum(RAY.stored_answer) / 1000:.2g} kB "
    "(answers) beside that; the model of mlmc-ray wire",
    f"calls of an exchange take {1000 * CALLS_S:g} ms, however many workers there are",
    f"frames of more than {INLINE_BYTES / 1024:g} KiB in a call, or in its answer, go through the "
    f"object store; a fetch from another node takes {1000 * _PULL_S:g} ms beside its bytes",
    f"a round has {_ROUND_TRIPS_A_ROUND} + {_ROUND_TRIPS_AN_EXCHANGE} round trips of latency, "
    f"{_ROUND_TRIPS_OF_NEWS} more for a fetch of news, one for a fetch of answers, and those in "
    "which TCP opens its window from 14 kB",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Prediction:
    """A round, in its parts.

    Attributes:
        cluster: where.
        compute_s: work of the slowest process.
        down_s: news on the links.
        up_s: reports on the links.
        server_s: work of the server.
        calls_s: round trips and what Ray adds.
        wire_bytes: on all links together, each counted where it is sent.
        bottleneck: the longest part, in words.
    """

    cluster: Cluster
    compute_s: float
    down_s: float
    up_s: float
    server_s: float
    calls_s: float
    wire_bytes: float
    bottleneck: str

    @property
    def seconds(self) -> float:
        """Of a round."""
        return self.compute_s + self.down_s + self.up_s + self.server_s + self.calls_s


def predict(
    measured: Measured, cluster: Cluster, links: Links, *, percentile_95: bool = False
) -> Prediction:
    """Predict a round of a run elsewhere.

    Args:
        measured: the run here.
        cluster: there.
        links: there.
        percentile_95: let every frame have a size that one in 20 exceeds, instead of the mean.

    Raises:
        ConfigError: the number of workers is another, on which the method's frames depend.
    """
    if measured.by_workers and cluster.workers != measured.workers:
        raise ConfigError(
            f"--workers {cluster.workers}: with {' and '.join(measured.by_workers)} the length of "
            f"frames depends on the number of workers, and {measured.name!r} had "
            f"{measured.workers}: train it with {cluster.workers}, in one process if need be "
            "(--engine inline), and plan from that"
        )
    slowest = min(links.up, links.down, *filter(None, (links.server_up, links.server_down)))
    transport = on_links_of(slowest)
    traffic = traffic_of(measured, cluster, transport, percentile_95=percentile_95)
    times = measured.exchanges
    lines = round(times * 2 * measured.asked(cluster.workers))  # of the ledger
    down, where_down = _slower(
        (traffic.news, links.server_up or links.up, "server's link out"),
        (traffic.news_a_node, links.down, "a node's link in"),
    )
    up, where_up = _slower(
        (traffic.reports, links.server_down or links.down, "server's link in"),
        (traffic.reports_a_node, links.up, "a node's link out"),
    )
    parts = {
        "computing": times * _compute_s(measured, cluster),
        where_down: times * down,
        where_up: times * up,
        "server's work": measured.server_s * max(1.0, cluster.workers / measured.workers),
        "calls": _calls_s(measured, cluster, links, traffic),
    }
    compute_s, down_s, up_s, server_s, calls_s = parts.values()
    return Prediction(
        cluster=cluster,
        compute_s=compute_s,
        down_s=down_s,
        up_s=up_s,
        server_s=server_s,
        calls_s=calls_s,
        wire_bytes=times * traffic.both + sum(transport.of_driver(rounds=1, frames=lines)),
        bottleneck=max(parts, key=lambda name: parts[name]),
    )


def _slower(*ways: tuple[float, float, str]) -> tuple[float, str]:
    """Return the longest time of some bytes at some rates, and its name."""
    return max((size / rate, name) for size, rate, name in ways)


def _compute_s(measured: Measured, cluster: Cluster) -> float:
    """Return the seconds of the slowest process in an exchange."""
    known = len(measured.worker_s)
    each = [measured.worker_s[worker % known] for worker in range(cluster.workers)]
    share = measured.asked(cluster.workers) / cluster.workers
    seconds = ([each[worker] for worker in own] for own in cluster.hosted)
    return max(max(share * sum(own), max(own)) for own in seconds)


def _calls_s(measured: Measured, cluster: Cluster, links: Links, traffic: Traffic) -> float:
    """Return what calls and fetches take in a round, beside the bytes of frames."""
    round_trip = 2 * links.latency_s
    server_up, server_down = links.server_up or links.up, links.server_down or links.down
    trips = _ROUND_TRIPS_AN_EXCHANGE + traffic.answers_stored
    trips += _ROUND_TRIPS_OF_NEWS if traffic.news_stored else 0
    trips += _ramp(traffic.news_a_node, min(links.down, server_up / cluster.nodes), round_trip)
    trips += _ramp(traffic.reports_a_node, min(links.up, server_down / cluster.nodes), round_trip)
    fetches = traffic.news_stored + traffic.answers_stored
    an_exchange = CALLS_S + _PULL_S * fetches + trips * round_trip
    return measured.exchanges * an_exchange + _ROUND_TRIPS_A_ROUND * round_trip


def _ramp(size: float, rate: float, round_trip: float) -> int:
    """Return the round trips that pass before TCP sends without waiting, doubling its window.

    References:
        Cardwell, Savage and Anderson, 2000, Modeling TCP latency, section II.C.
    """
    window, sent, trips = float(_FIRST_WINDOW), 0.0, 0
    while window < rate * round_trip and sent + window < size:
        sent += window
        window *= 2
        trips += 1
    return trips
