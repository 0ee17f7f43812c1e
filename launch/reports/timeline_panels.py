"""Panels of who keeps the others waiting: one round in time, and all rounds by worker."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from launch.display.colours import BLUE, SKY_BLUE, VERMILION
from launch.reports.panel import Control, Jump, Option, Panel, axis, escaped, scale_control
from launch.reports.record import RunRecord, Timeline

MOST_BARS = 20_000
"""Over all runs and rounds in the page."""

MOST_ROUNDS = 150
"""In the slider."""

MOST_BOXES = 200
"""Workers with a box: the slowest."""

_SLOWEST = 5  # rounds of a run with a shortcut


class Bar(NamedTuple):
    """A worker's turn in a round, from ``start`` seconds after its beginning."""

    host: int
    worker: int
    start: float
    seconds: float


@dataclass(frozen=True, kw_only=True, slots=True)
class _Rounds:
    """A timeline by round: the places of its entries, and how long each round took."""

    timeline: Timeline
    places: dict[int, Any]
    lengths: dict[int, float]


def one_round(records: Sequence[RunRecord], names: Sequence[str]) -> Panel | None:
    """Return a round as bars, a row for every host; None where no run has a timeline."""
    timed = _timed(records)
    if not timed:
        return None
    found = {run: _by_round(records[run].timeline) for run in timed}
    slowest = {
        run: sorted(own.lengths, key=lambda number: -own.lengths[number])[:_SLOWEST]
        for run, own in found.items()
    }
    numbers = _chosen(found.values(), [number for own in slowest.values() for number in own])
    rounds = Control(
        name="round",
        options=[_round_option(number, list(found.values())) for number in numbers],
        first=numbers.index(slowest[timed[0]][0]),
        kind="range",
    )
    jumps = [
        Jump(
            label=f"{names[run]}: round {number + 1}, {own.lengths[number]:.3g} s",
            choice={0: timed.index(run), 1: numbers.index(number)},
        )
        for run, own in found.items()
        for number in slowest[run]
    ]
    every = len(numbers) == max(len(own.places) for own in found.values())
    return Panel(
        key="round",
        title="A round in time",
        text="A row is a process, a bar a worker's turn from news to report; the last to end, for "
        "which the others waited, is vermilion."
        + ("" if every else " The slider has the slowest rounds and evenly spaced others."),
        traces=[_bars(names[run]) for run in timed],
        layout={
            "xaxis": axis("seconds since the round began", rangemode="tozero"),
            "yaxis": axis("process", type="category", tick0=0, dtick=1),
            "barmode": "overlay",
        },
        controls=[_run_control([names[run] for run in timed]), rounds],
        jumps=jumps,
        height=max(300, min(900, 150 + 26 * max(_hosts(records[run]) for run in timed))),
    )


def spread(records: Sequence[RunRecord], names: Sequence[str]) -> Panel | None:
    """Return seconds by worker over all rounds as boxes; None where no run has a timeline."""
    timed = _timed(records)
    if not timed:
        return None
    most = max(len(np.unique(records[run].timeline.worker_id)) for run in timed)
    return Panel(
        key="spread",
        title="Seconds by worker",
        text="All turns of a worker: a box holds the middle half of them, with the median in it; "
        "lines end at the 5th and the 95th of a hundred."
        + (f" The {MOST_BOXES} slowest workers are shown." if most > MOST_BOXES else ""),
        traces=[_boxes(records[run].timeline, names[run]) for run in timed],
        layout={
            "xaxis": axis("worker", type="category"),
            "yaxis": axis("seconds", rangemode="tozero"),
        },
        controls=[_run_control([names[run] for run in timed]), scale_control("y")],
    )


def _timed(records: Sequence[RunRecord]) -> list[int]:
    return [run for run, record in enumerate(records) if len(record.timeline)]


def _hosts(record: RunRecord) -> int:
    return len(np.unique(record.timeline.host))


def _run_control(names: Sequence[str]) -> Control:
    places = range(len(names))
    options = [
        Option(label=names[chosen], traces={"visible": [chosen == place for place in places]})
        for chosen in places
    ]
    return Control(name="run", options=options, pictures=True)


def _by_round(timeline: Timeline) -> _Rounds:
    order = np.argsort(timeline.round_index, kind="stable")
    numbers, starts = np.unique(timeline.round_index[order], return_index=True)
    parts = np.split(order, starts[1:])
    places = dict(zip(numbers.tolist(), parts, strict=True))
    # Exchanges come one after the other, each as long as its slowest host.
    keys = np.stack([timeline.round_index, timeline.exchange_index, timeline.host])
    turns, inverse = np.unique(keys, axis=1, return_inverse=True)
    busy = np.bincount(inverse.reshape(-1), weights=timeline.seconds)
    longest: dict[tuple[int, int], float] = {}
    for number, exchange, seconds in zip(turns[0].tolist(), turns[1].tolist(), busy, strict=True):
        longest[number, exchange] = max(seconds, longest.get((number, exchange), 0.0))
    lengths: dict[int, float] = defaultdict(float)
    for (number, _), seconds in longest.items():
        lengths[number] += seconds
    return _Rounds(timeline=timeline, places=places, lengths=lengths)


def _chosen(found: Iterable[_Rounds], slowest: Sequence[int]) -> list[int]:
    """Return the rounds of the slider: the slowest, and others as far as there is room."""
    numbers = sorted({number for own in found for number in own.places})
    bars = sum(len(own.timeline) / len(own.places) for own in found)
    room = int(min(MOST_ROUNDS, max(1, MOST_BARS // bars)))
    if len(numbers) <= room:
        return numbers
    evenly = [numbers[place * (len(numbers) - 1) // max(1, room - 1)] for place in range(room)]
    return sorted({*slowest, *evenly})


def bars_of(timeline: Timeline, places: Any) -> list[Bar]:
    """Return the turns of a round, an exchange after the other.

    Args:
        timeline: of the run.
        places: of the round's entries in it.
    """
    bars: list[Bar] = []
    begin = 0.0
    for exchange in np.unique(timeline.exchange_index[places]):
        free: dict[int, float] = {}
        for place in places[timeline.exchange_index[places] == exchange]:
            host, worker = int(timeline.host[place]), int(timeline.worker_id[place])
            seconds = float(timeline.seconds[place])
            bars.append(Bar(host, worker, free.get(host, begin), seconds))
            free[host] = free.get(host, begin) + seconds
        begin = max(free.values())
    return bars


def _round_option(number: int, found: Sequence[_Rounds]) -> Option:
    columns: dict[str, list[Any]] = defaultdict(list)
    for own in found:
        bars = bars_of(own.timeline, own.places[number]) if number in own.places else []
        bars.sort(key=lambda bar: bar.host)
        end = max((bar.start + bar.seconds for bar in bars), default=0.0)
        columns["base"].append([round(bar.start, 7) for bar in bars])
        columns["x"].append([round(bar.seconds, 7) for bar in bars])
        columns["y"].append([str(bar.host) for bar in bars])
        columns["text"].append([str(bar.worker) for bar in bars])
        last = [bar.start + bar.seconds >= end for bar in bars]
        columns["marker.color"].append([VERMILION if late else SKY_BLUE for late in last])
    return Option(label=f"round {number + 1}", traces=columns)


def _bars(name: str) -> dict[str, Any]:
    return {
        "type": "bar",
        "orientation": "h",
        "name": escaped(name),
        "x": [],
        "y": [],
        "base": [],
        "text": [],
        "textposition": "inside",
        "insidetextanchor": "middle",
        "textangle": 0,
        "textfont": {"color": "#000000"},
        "marker": {"line": {"color": "#ffffff", "width": 1}},
        "hovertemplate": "%{fullData.name}<br>worker %{text} in process %{y}<br>"
        "from %{base:.4~g} s, for %{value:.4~g} s<extra></extra>",
    }


def _boxes(timeline: Timeline, name: str) -> dict[str, Any]:
    """Return a box for every worker, from five quantiles, so that no entry is in the page."""
    workers = np.unique(timeline.worker_id)
    order = np.argsort(timeline.worker_id, kind="stable")
    _, starts = np.unique(timeline.worker_id[order], return_index=True)
    turns = np.split(timeline.seconds[order], starts[1:])
    parts = np.array([np.quantile(own, (0.05, 0.25, 0.5, 0.75, 0.95)) for own in turns])
    shown = np.sort(np.argsort(-parts[:, 2], kind="stable")[:MOST_BOXES])
    columns = ("lowerfence", "q1", "median", "q3", "upperfence")
    return {
        "type": "box",
        "name": escaped(name),
        "x": [str(worker) for worker in workers[shown].tolist()],
        **{key: parts[shown, place].tolist() for place, key in enumerate(columns)},
        "line": {"color": BLUE},
        "fillcolor": "rgba(86, 180, 233, 0.4)",
    }
