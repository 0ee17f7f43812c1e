"""An entry that was run with several seeds: means, spreads, and how many runs they are of."""

import dataclasses
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from launch.summary import Summary

_SIZES = ("rounds", "uplink_bytes", "downlink_bytes", "gradients")
_NUMBERS = ("bits_per_value", "paper_bits_per_value", "seconds", "clock_s", "mean_level")


@dataclass(frozen=True, kw_only=True, slots=True)
class OverSeeds:
    """The runs of one entry of a comparison.

    Attributes:
        seeds: of those that have ended, in order.
        runs: their rows, in the same order.
    """

    seeds: tuple[int, ...]
    runs: tuple[Summary, ...]

    @property
    def name(self) -> str:
        """The entry's."""
        return self.runs[0].name

    @property
    def whole(self) -> tuple[Summary, ...]:
        """The runs that came to their last round: those of which means are taken."""
        return tuple(run for run in self.runs if run.ended is None)

    @property
    def reached(self) -> tuple[int, ...]:
        """Of the runs in ``whole`` that reached the target, the bytes that it took."""
        return tuple(run.bytes_to_target for run in self.whole if run.bytes_to_target is not None)

    def mean(self) -> Summary:
        """Return the row of means over the runs that came to their last round.

        Sizes are rounded to whole bytes. Where no run came there, it is that of all of them, with
        the error of the first. Bytes to the target are the mean over those of them that reached it.
        """
        of = self.whole or self.runs
        sizes = {name: round(_mean([getattr(run, name) for run in of])) for name in _SIZES}
        numbers = {name: _mean_or_none([getattr(run, name) for run in of]) for name in _NUMBERS}
        changed: dict[str, Any] = {
            **sizes,
            **numbers,
            "measures": {n: _mean([run.measures[n] for run in of]) for n in of[0].measures},
            "bytes_to_target": round(_mean(self.reached)) if self.reached else None,
            "diverged": all(run.diverged for run in of),
            "estimated_interface": _mean_ways([run.estimated_interface for run in of]),
        }
        return dataclasses.replace(of[0], **changed)

    def spread(self, measure: str) -> float | None:
        """Return the sample standard deviation of a measure; None for fewer than two runs."""
        return _spread([run.measures[measure] for run in self.whole])

    def to_mapping(self) -> dict[str, Any]:
        """Return the row as a plain mapping, for JSON.

        It has the keys of the row of a run, with means; and ``seeds``, ``whole_runs`` (how many the
        means are of), ``spreads`` (sample standard deviations by key, None for fewer than two
        runs), ``reached_target`` (how many did), ``bytes_to_target_range`` (least and most of
        those) and ``runs``, the rows of its runs.
        """
        names = (*_SIZES, *_NUMBERS)
        spreads = {name: _spread([getattr(run, name) for run in self.whole]) for name in names}
        measures = {name: _finite(self.spread(name)) for name in self.runs[0].measures}
        return {
            **self.mean().to_mapping(),
            "seeds": list(self.seeds),
            "whole_runs": len(self.whole),
            "spreads": {**spreads, "measures": measures, "bytes_to_target": _spread(self.reached)},
            "reached_target": len(self.reached),
            "bytes_to_target_range": [min(self.reached), max(self.reached)]
            if self.reached
            else None,
            "runs": [run.to_mapping() for run in self.runs],
        }


def _mean(values: Sequence[float]) -> float:
    """Return the mean, which is not finite where a value is not."""
    return sum(values) / len(values)


def _mean_ways(values: Sequence[dict[str, int] | None]) -> dict[str, int] | None:
    known = [value for value in values if value is not None]
    return {way: round(_mean([one[way] for one in known])) for way in known[0]} if known else None


def _mean_or_none(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return _mean(known) if known else None


def _spread(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    if len(known) < 2:
        return None
    return statistics.stdev(known) if all(map(math.isfinite, known)) else math.nan


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
