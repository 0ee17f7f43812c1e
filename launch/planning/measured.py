"""What a run says about rounds: sizes of frames, seconds of workers and of the server."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from launch.metrics import Metrics
from launch.reports.read import read_run
from launch.reports.reading import RunFiles
from launch.reports.record import RunRecord, Timeline
from mlmc_ray.errors import ConfigError
from mlmc_ray.ledger import DIRECTIONS, Direction

OWN_NEWS = ("m3", "marina-p", "tamuna")
"""Kinds of which every worker that is asked gets news of its own, in some exchanges at least."""

BY_WORKERS = ("compressed-scaffnew", "perm-k", "relay", "shadowheart")
"""Kinds whose frames depend on how many workers there are."""

BY_ASKED = ("tamuna",)
"""Kinds whose reports depend on how many workers a round asks, and on all of them only so."""

_LEDGER = ("round_index", "direction", "frame_bytes")
CALLS_S = 0.010
"""Seconds of an exchange's calls on Ray with one host, which a run in one process does not have."""

_HOST_CALLS_S = 0.0015  # of every further host on the same machine, whose cores they share
_WARM_UP = 3  # rounds in which connections, kernels and memory are made, if there are many more


@dataclass(frozen=True, kw_only=True, slots=True)
class Frames:
    """Sizes of the frames of one direction, in bytes.

    Attributes:
        mean: over all rounds and workers.
        p95: of every 20 frames one is longer.
        an_exchange: how many an exchange has.
    """

    mean: float
    p95: float
    an_exchange: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """A run, as far as a prediction needs it.

    Attributes:
        name: of the run.
        workers: logical workers.
        engine: "ray" or "inline".
        frames: by direction.
        exchanges: mean number of a round's exchanges.
        worker_s: seconds of every worker for an exchange, from news to report; medians.
        server_s: what remains of a round after the slowest host, without the calls of Ray; the
            lower quartile of the rounds, since what else the machine does only lengthens it.
        own_news: every worker gets a frame of its own, instead of all the same.
        at_once: workers that compute their gradients together.
        by_workers: kinds in the configuration whose frames depend on the number of workers.
        metrics: of the run.
        notes: what is missing, and what was taken instead.
    """

    name: str
    workers: int
    engine: str
    frames: Mapping[Direction, Frames]
    exchanges: float
    worker_s: Sequence[float]
    server_s: float
    own_news: bool
    at_once: int
    by_workers: Sequence[str]
    metrics: Sequence[Metrics]
    notes: Sequence[str]

    def asked(self, workers: int) -> float:
        """Return how many of so many workers an exchange asks: all, or as many as here."""
        asked = self.frames["uplink"].an_exchange
        return workers if asked > 0.99 * self.workers else min(asked, workers)


def measure(path: Path) -> Measured:
    """Read a run directory.

    Raises:
        ConfigError: there is no run, it has no rounds or no ledger, it has several servers, or
            its method does not go round by round.
    """
    record = read_run(path)
    config = record.config
    workers = config.get("workers")
    if not isinstance(workers, int) or record.rounds < 1:
        raise ConfigError(
            f"{path}: no round is done, or there is no config.yaml in it: give the directory of "
            "one run; those of a comparison lie below it"
        )
    if record.changes:
        raise ConfigError(
            f"{path}: the run was changed on its way ({record.changes[0]}): plan from one that was "
            "not"
        )
    if (servers := config.get("servers", 1)) != 1:
        raise ConfigError(
            f"{path}: servers is {servers}, and the model has one server, whose link all frames "
            "cross: plan from a run with servers: 1"
        )
    kinds = set(_kinds(config.get("method")))
    _check_rounds(path, kinds)
    kinds |= set(_kinds(config.get("downlink")))
    exchanges = _exchanges(record.timeline)
    seconds = np.diff([float(line["seconds"]) for line in record.metrics])
    frames = _frames(path, exchanges)
    asks_all = frames["downlink"].an_exchange >= workers
    worker_s, server_s, notes = _times(record, workers, seconds, exchanges)
    return Measured(
        name=record.name,
        workers=workers,
        engine=str(config.get("engine", "ray")),
        frames=frames,
        exchanges=exchanges,
        worker_s=worker_s,
        server_s=server_s,
        own_news=bool(kinds & set(OWN_NEWS)),
        at_once=int(config.get("gradients_at_once", 1)),
        by_workers=sorted(kinds & {*BY_WORKERS, *(BY_ASKED if asks_all else ())}),
        metrics=record.metrics,
        notes=notes,
    )


def _check_rounds(path: Path, kinds: set[str]) -> None:
    from launch.configuration.catalogue import KINDS
    from mlmc_ray.methods import Method

    methods = {kind: KINDS[Method][kind] for kind in sorted(kinds & KINDS[Method].keys())}
    if timed := [kind for kind, method in methods.items() if method.timed]:
        raise ConfigError(
            f"{path}: its method is {timed[0]}, which asks workers for as much as the links of "
            "that run let through, so on others it would ask for something else: take a run of "
            "shadowheart"
        )
    late = [kind for kind, method in methods.items() if method.asynchronous]
    if late:
        raise ConfigError(
            f"{path}: its method is {late[0]}, whose server waits for nobody, so that its rounds "
            "are not those of this model: give a clock to the run instead, and train it"
        )


def _kinds(described: Any) -> Iterator[str]:
    """Yield every kind in a description."""
    if isinstance(described, str):
        yield described
    inner = described.values() if isinstance(described, dict) else described
    if isinstance(described, dict | list):
        for value in inner:
            yield from _kinds(value)


def _exchanges(timeline: Timeline) -> float:
    """Return the mean number of exchanges a round; 1 where it is not known."""
    places = {*zip(timeline.round_index.tolist(), timeline.exchange_index.tolist(), strict=True)}
    return len(places) / len({place[0] for place in places}) if places else 1.0


def _frames(path: Path, exchanges: float) -> dict[Direction, Frames]:
    """Return the sizes by direction.

    Raises:
        ConfigError: the ledger is missing or empty.
    """
    sizes: dict[str, list[int]] = {direction: [] for direction in DIRECTIONS}
    rounds = set()
    for round_index, direction, size in RunFiles(path).rows("ledger.csv", _LEDGER, ""):
        rounds.add(round_index)
        if direction in sizes and size.isdecimal():
            sizes[direction].append(int(size))
    if not all(sizes.values()):
        raise ConfigError(f"{path}: ledger.csv has not both directions: train the run again")
    return {
        direction: Frames(
            mean=float(np.mean(sizes[direction])),
            p95=float(np.percentile(sizes[direction], 95)),
            an_exchange=len(sizes[direction]) / len(rounds) / exchanges,
        )
        for direction in DIRECTIONS
    }


def _times(
    record: RunRecord, workers: int, seconds: npt.NDArray[np.float64], exchanges: float
) -> tuple[list[float], float, list[str]]:
    """Return the seconds of every worker and of the server, and what had to be guessed."""
    timeline, first = record.timeline, _WARM_UP if record.rounds > 3 * _WARM_UP else 0
    if not len(timeline):
        turns = _turns(record.config, workers)
        work = float(np.median(seconds[first:])) - _calls_s(record.config, 1)
        each = max(0.0, work) / turns
        note = "no timeline.csv: whole rounds count as work of the workers, "
        return [each] * workers, 0.0, [f"{note}{turns} after one another in a process"]
    kept = timeline.round_index >= first
    by_host: dict[tuple[int, int], dict[int, float]] = {}
    by_worker: dict[int, list[float]] = {}
    for round_index, exchange, worker, host, spent in zip(
        timeline.round_index[kept].tolist(),
        timeline.exchange_index[kept].tolist(),
        timeline.worker_id[kept].tolist(),
        timeline.host[kept].tolist(),
        timeline.seconds[kept].tolist(),
        strict=True,
    ):
        hosts = by_host.setdefault((round_index, exchange), {})
        hosts[host] = hosts.get(host, 0.0) + spent
        by_worker.setdefault(worker, []).append(spent)
    slowest: dict[int, float] = {}
    for (round_index, _), hosts in by_host.items():
        slowest[round_index] = slowest.get(round_index, 0.0) + max(hosts.values())
    rest = [max(0.0, seconds[index] - slowest[index]) for index in slowest if index < len(seconds)]
    medians = [float(np.median(own)) for _, own in sorted(by_worker.items())]
    calls_s = exchanges * _calls_s(record.config, len(set(timeline.host[kept].tolist())))
    return medians, max(0.0, float(np.percentile(rest, 25)) - calls_s) if rest else 0.0, []


def _calls_s(config: Mapping[str, Any], hosts: int) -> float:
    """Return the seconds of an exchange's calls here; none in one process.

    Hosts of a cluster at an address may have machines of their own, and share no cores then.
    """
    if config.get("engine") == "inline":
        return 0.0
    one_machine = config.get("address") in (None, "local")
    return CALLS_S + (_HOST_CALLS_S * (hosts - 1) if one_machine else 0.0)


def _turns(config: Mapping[str, Any], workers: int) -> int:
    """Return how many workers a process had, as far as the configuration says."""
    if config.get("engine") == "inline":
        return workers
    actors = config.get("actors")
    return -(-workers // min(workers, actors)) if isinstance(actors, int) else 1
