"""Which frames of a ledger go together in one call of a host."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from launch.configuration.run_config import RunConfig
from mlmc_ray.ledger import DIRECTIONS, Direction, Entry, Ledger


@dataclass(frozen=True, kw_only=True, slots=True)
class Call:
    """What crosses between the server and one host in an exchange.

    Attributes:
        host: counted from 0.
        news: lengths of the distinct frames to the host, in bytes.
        reports: lengths of the frames from its workers.
    """

    host: int
    news: tuple[int, ...]
    reports: tuple[int, ...]


def calls_of(entries: Iterable[Entry], hosts: Sequence[Sequence[int]]) -> Iterator[Call]:
    """Yield the calls in which frames crossed, by round and host.

    The n-th frame of a worker in a round and direction is taken for that of its n-th exchange, and
    frames of one length to several workers of a host for one broadcast, which crosses once.

    Args:
        entries: of a ledger, such as those of one round.
        hosts: which workers each host has; another worker, that is there no more, has its own.
    """
    host_of = {worker_id: host for host, workers in enumerate(hosts) for worker_id in workers}
    sizes: defaultdict[tuple[int, int], dict[Direction, defaultdict[int, list[int]]]] = defaultdict(
        lambda: {direction: defaultdict(list) for direction in DIRECTIONS}
    )
    for entry in entries:
        host = host_of.get(entry.worker_id, len(hosts) + entry.worker_id)
        place = sizes[entry.round_index, host]
        place[entry.direction][entry.worker_id].append(entry.frame_bytes)
    for (_, host), frames in sorted(sizes.items()):
        most = max(len(of_worker) for way in frames.values() for of_worker in way.values())
        for exchange in range(most):
            news, reports = (
                [n[exchange] for n in frames[way].values() if exchange < len(n)]
                for way in ("downlink", "uplink")
            )
            yield Call(host=host, news=tuple(dict.fromkeys(news)), reports=tuple(reports))


def ledgers_of_servers(entries: Iterable[Entry], num_servers: int) -> list[Ledger]:
    """Return what each server of a run on Ray recorded: in every round, one after another."""
    frames: defaultdict[tuple[int, int, Direction], list[Entry]] = defaultdict(list)
    for entry in entries:
        frames[entry.round_index, entry.worker_id, entry.direction].append(entry)
    ledgers = [Ledger() for _ in range(num_servers)]
    for own in frames.values():
        each = len(own) // num_servers
        for index, ledger in enumerate(ledgers):
            ledger.extend(own[index * each : (index + 1) * each])
    return ledgers


def hosts_of(config: RunConfig) -> list[tuple[int, ...]]:
    """Return which workers each host of a run has.

    Inline, where nothing crosses, every worker counts as a host, whatever computes together. On Ray
    without ``actors`` these are the most hosts that there can be.
    """
    if config.engine == "inline":
        return [(worker_id,) for worker_id in range(config.workers)]
    return config.hosted(config.num_hosts(config.actors or config.workers))
