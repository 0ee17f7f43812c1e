"""The parts of a round, and how much of it each takes."""

from bisect import bisect_right
from collections.abc import Sequence
from itertools import pairwise

from benchmarks.timed.stopwatch import Lap, seconds_of
from mlmc_ray.errors import RoundError

GRADIENT = "gradient"
COMPRESS = "compress + encode"
WIRE = "wire"
DECODE = "decode + aggregate"
OPTIMIZER = "optimizer"
DOWNLINK = "downlink"
OTHER = "other"

PARTS = {
    GRADIENT: "drawing batches, forward and backward, of all workers; on a GPU the way of batches "
    "there and of gradients back too",
    COMPRESS: "what else workers do: the method's half, compression, encoding their reports",
    WIRE: "calls, checksums and the way of frames; in one process there is none",
    DECODE: "decoding the reports, and the server's half of the method",
    OPTIMIZER: "the server's step, and the look whether the parameters are finite",
    DOWNLINK: "making and encoding the news, and reading them at the workers, with the step of "
    "their replica where reports are relayed",
    OTHER: "what is left: bookkeeping; on Ray also the call of the server",
}
"""What a round consists of; nothing of it is in two parts, and nothing in none."""

_PART_OF = {
    "gradient": GRADIENT,
    "compress": COMPRESS,
    "encode": COMPRESS,
    "send": WIRE,
    "collect": WIRE,
    "call": WIRE,
    "decode": DECODE,
    "aggregate": DECODE,
    "optimizer": OPTIMIZER,
    "finite": OPTIMIZER,
    "news": DOWNLINK,
    "read": DOWNLINK,
    "rest": OTHER,
}
"""By what ``benchmarks.timed`` calls them."""


def parts_in_process(laps: Sequence[Lap]) -> dict[str, float]:
    """Return the seconds of every part of a round whose parties take turns.

    Args:
        laps: of server and workers, which share a watch.
    """
    parts = dict.fromkeys(PARTS, 0.0)
    for name, seconds in seconds_of(laps).items():
        parts[_PART_OF[name]] += seconds
    return parts


def parts_on_ray(
    server: Sequence[Lap], hosts: Sequence[Sequence[Lap]], call_s: float
) -> dict[str, float]:
    """Return the seconds of every part of a round in which hosts work side by side.

    A moment in which hosts are at work is shared out evenly among what they do, whatever the server
    does meanwhile: the round would be as long without that. All other moments are the server's.

    Args:
        server: its laps, without a gap.
        hosts: those of every host, with gaps between exchanges, by the same clock.
        call_s: how long the driver waited for the round.

    Raises:
        RoundError: hosts have worked before the round or after it, so that the clocks differ.
    """
    begun, ended = server[0].begun, server[-1].ended
    _check_clocks(begun, ended, hosts)
    parts = dict.fromkeys(PARTS, 0.0)
    all_laps = [server, *hosts]
    cuts = sorted({cut for laps in all_laps for lap in laps for cut in (lap.begun, lap.ended)})
    starts = [[lap.begun for lap in laps] for laps in all_laps]
    for since, until in pairwise(cuts):
        own, *others = (
            _at(since, laps, begins) for laps, begins in zip(all_laps, starts, strict=True)
        )
        working = [name for name in others if name is not None] or [own or "rest"]
        for name in working:
            parts[_PART_OF[name]] += (until - since) / len(working)
    parts[OTHER] += call_s - (ended - begun)
    return parts


def _at(moment: float, laps: Sequence[Lap], begins: Sequence[float]) -> str | None:
    """Return which part is at work from a moment on; None if none is."""
    index = bisect_right(begins, moment) - 1
    return laps[index].part if index >= 0 and moment < laps[index].ended else None


def _check_clocks(begun: float, ended: float, hosts: Sequence[Sequence[Lap]]) -> None:
    for laps in hosts:
        if laps and not begun <= laps[0].begun <= laps[-1].ended <= ended:
            raise RoundError(
                f"a host has worked from {laps[0].begun:.6f} to {laps[-1].ended:.6f} s in a round "
                f"from {begun:.6f} to {ended:.6f} s: their clocks differ, as on several machines: "
                "run on one"
            )
