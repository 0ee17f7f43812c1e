"""Panels of where bytes go, and which levels are sent."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from launch.reports.panel import (
    Control,
    Option,
    Panel,
    Patch,
    axis,
    escaped,
    run_style,
    scale,
    scale_control,
)
from launch.reports.record import RunRecord
from mlmc_ray.ledger import DIRECTIONS, Direction

MOST_NAMES = 60
"""Layers or kinds that are shown: those with most bytes."""

_ROW, _DOT = 22, 9  # pixels of a layer, and of a run in it
_LONGEST = 24  # characters of a name beside the axis
_EVERY_TICK = 20  # whole numbers of an axis that has a tick at each
_WIDE = 30  # from the smallest to the largest, where a linear axis would hide the small
_IN_WORDS: Mapping[Direction, str] = {
    "uplink": "up: workers to server",
    "downlink": "down: server to workers",
}
_BYTES = {"tickformat": "~s", "ticksuffix": "B", "rangemode": "tozero"}
_MEAN = "Bytes of a round, all workers together: the mean over the observed rounds. "


def by_layer(records: Sequence[RunRecord], names: Sequence[str]) -> Panel | None:
    """Return the bytes by layer; None where no round was observed."""
    text = "The bytes of a message are shared out by the entries that it says something about."
    layer = _Means(records, _of_layers)
    return layer.panel("layers", "Bytes by layer", _MEAN + text, names)


def by_kind(records: Sequence[RunRecord], names: Sequence[str]) -> Panel | None:
    """Return the bytes by part of a message and its kind; None where no round was observed."""
    text = "A part is called by its name in the message and the form in which it was sent."
    kind = _Means(records, _of_kinds)
    return kind.panel("kinds", "Bytes by kind of message", _MEAN + text, names)


def _of_layers(seen: Mapping[str, Any]) -> Iterator[tuple[str, str, Any]]:
    """Yield direction, layer and bytes of an observed round."""
    for way, layers in dict(seen.get("layers", {})).items():
        for layer, num_bytes in dict(layers).items():
            yield way, layer, num_bytes


def _of_kinds(seen: Mapping[str, Any]) -> Iterator[tuple[str, str, Any]]:
    """Yield direction, payload with its kind, and bytes of an observed round."""
    for part in seen.get("parts", []):
        name, kind = part.get("name"), part.get("kind")
        yield part.get("direction"), f"{name} ({kind})" if name else str(kind), part.get("bytes")


class _Means:
    """Bytes by name of what the observed rounds list, the mean over rounds.

    Args:
        records: the runs.
        items: yields direction, name and bytes of what an observed round holds.
    """

    def __init__(
        self,
        records: Sequence[RunRecord],
        items: Callable[[Mapping[str, Any]], Iterator[tuple[str, str, Any]]],
    ) -> None:
        self._means: dict[Direction, list[dict[str, float]]] = {way: [] for way in DIRECTIONS}
        self._names: dict[str, None] = {}
        for record in records:
            sums: dict[str, defaultdict[str, float]] = {
                way: defaultdict(float) for way in DIRECTIONS
            }
            for way, name, num_bytes in (item for seen in record.observed for item in items(seen)):
                if way in sums and isinstance(num_bytes, float | int):
                    sums[way][name] += num_bytes
            for way in DIRECTIONS:
                rounds = max(1, len(record.observed))
                self._means[way].append({name: n / rounds for name, n in sums[way].items()})
                self._names |= dict.fromkeys(sums[way])

    def panel(self, key: str, title: str, text: str, names: Sequence[str]) -> Panel | None:
        """Return a dot for every name and run, or None where nothing is known."""
        if not self._names:
            return None
        rows = {way: self._largest(way) for way in DIRECTIONS}
        if len(self._names) > MOST_NAMES:
            text += f" The {MOST_NAMES} with most bytes are shown."
        options = [
            Option(
                label=_IN_WORDS[way],
                traces=self._columns(way, rows[way]),
                layout={
                    "yaxis.tickvals": list(range(len(rows[way]))),
                    "yaxis.ticktext": [escaped(_short(name)) for name in rows[way]],
                },
            )
            for way in DIRECTIONS
        ]
        traces = [
            {
                "type": "scatter",
                "mode": "markers",
                "name": escaped(name),
                "x": [],
                "y": [],
                "customdata": [],
                "hovertemplate": "%{fullData.name}<br>%{customdata}<br>%{x:.4~s}B a round"
                "<extra></extra>",
                **run_style(run),
            }
            for run, name in enumerate(names)
        ]
        most = max(map(len, rows.values()))
        return Panel(
            key=key,
            title=title,
            text=text,
            traces=traces,
            layout={
                "xaxis": axis("bytes a round", **_BYTES),
                "yaxis": axis("", tickfont={"size": 11}, tickmode="array"),
                "hovermode": "closest",
            },
            controls=[
                Control(name="direction", options=options, pictures=True),
                _fitting_scale(
                    "x",
                    [
                        size
                        for means in self._means.values()
                        for own in means
                        for size in own.values()
                    ],
                ),
            ],
            height=max(260, 110 + max(_ROW, _DOT * len(names)) * most),
        )

    def _largest(self, way: Direction) -> list[str]:
        """Return names in their order in the model, last first, since axes count upwards."""
        totals = {name: max(own.get(name, 0.0) for own in self._means[way]) for name in self._names}
        sent = [name for name, size in totals.items() if size > 0]
        largest = sorted(sent, key=lambda name: -totals[name])[:MOST_NAMES]
        return [name for name in reversed(list(self._names)) if name in largest]

    def _columns(self, way: Direction, rows: Sequence[str]) -> Patch:
        means = self._means[way]
        return {
            "x": [[own.get(name) for name in rows] for own in means],
            "y": [_beside(range(len(rows)), run, len(means)) for run in range(len(means))],
            "customdata": [[escaped(name) for name in rows] for _ in means],
        }


def by_worker(records: Sequence[RunRecord], names: Sequence[str]) -> Panel | None:
    """Return the bytes of every worker in all rounds, from the ledger; None where it is empty."""
    if not any(record.traffic.frames[way] for record in records for way in DIRECTIONS):
        return None
    options = []
    for way in DIRECTIONS:
        totals = [sorted(record.traffic.by_worker[way].items()) for record in records]
        columns = {
            "x": [
                _beside([worker for worker, _ in own], run, len(totals))
                for run, own in enumerate(totals)
            ],
            "y": [[size for _, size in own] for own in totals],
            "customdata": [[worker for worker, _ in own] for own in totals],
        }
        options.append(Option(label=_IN_WORDS[way], traces=columns))
    traces = [
        {
            "type": "scatter",
            "mode": "markers",
            "name": escaped(name),
            "x": [],
            "y": [],
            "customdata": [],
            "hovertemplate": "%{fullData.name}<br>worker %{customdata}<br>%{y:.4~s}B"
            "<extra></extra>",
            **run_style(run),
        }
        for run, name in enumerate(names)
    ]
    return Panel(
        key="workers",
        title="Bytes by worker",
        text="All frames from or to a worker, in all rounds.",
        traces=traces,
        layout={
            "xaxis": _whole(
                "worker", [len(record.traffic.by_worker["uplink"]) for record in records]
            ),
            "yaxis": axis("bytes, all rounds", **_BYTES),
            "hovermode": "closest",
        },
        controls=[
            Control(name="direction", options=options, pictures=True),
            _fitting_scale(
                "y", [size for option in options for own in option.traces["y"] for size in own]
            ),
        ],
    )


def _short(name: str) -> str:
    """Return the end of a long name, by which layers differ; the hover has all of it."""
    return name if len(name) <= _LONGEST else f"\u2026{name[1 - _LONGEST :]}"


def _beside(places: Sequence[int], run: int, runs: int) -> list[float]:
    """Return places with the runs beside each other, so that equal ones do not hide each other."""
    return [round(place + (run - (runs - 1) / 2) / runs * 0.7, 4) for place in places]


def _whole(title: str, most: Sequence[int]) -> dict[str, Any]:
    """Return an axis of whole numbers."""
    return axis(title, tickformat="d", **({"dtick": 1} if max(most) <= _EVERY_TICK else {}))


def _fitting_scale(letter: str, sizes: Sequence[float]) -> Control:
    """Return the choice of a scale: at first logarithmic where small sizes would be lost."""
    sent = [size for size in sizes if size > 0]
    wide = bool(sent) and max(sent) > _WIDE * min(sent)
    layout = scale(letter, "log" if wide else "linear")
    return scale_control(letter, Option(label="as fits", layout=layout))


def levels(records: Sequence[RunRecord], names: Sequence[str]) -> Panel | None:
    """Return how often each level of MLMC was sent; None where none was observed."""
    traces: list[dict[str, Any]] = []
    for run, (record, name) in enumerate(zip(records, names, strict=True)):
        drawn = _drawn(record)
        total = sum(drawn.values())
        if total:
            traces.append(
                {
                    "type": "bar",
                    "name": escaped(name),
                    "x": sorted(drawn),
                    "y": [drawn[level] / total for level in sorted(drawn)],
                    "customdata": [[drawn[level], total] for level in sorted(drawn)],
                    "hovertemplate": "%{fullData.name}<br>level %{x}: %{y:.1%}<br>"
                    "%{customdata[0]} of %{customdata[1]} draws<extra></extra>",
                    "marker": {"color": run_style(run)["marker"]["color"], "line": {"width": 0}},
                    "meta": run,
                }
            )
    if not traces:
        return None
    return Panel(
        key="levels",
        title="Levels of MLMC messages",
        text="How often each level was drawn, by all workers in the observed rounds. Low levels "
        "are cheap and coarse.",
        traces=traces,
        layout={
            "xaxis": _whole("level", [max(trace["x"]) for trace in traces]),
            "yaxis": axis("share of draws", tickformat=".0%", rangemode="tozero"),
            "barmode": "group",
        },
        controls=[scale_control("x"), scale_control("y")],
    )


def _drawn(record: RunRecord) -> Counter[int]:
    return Counter(
        level
        for seen in record.observed
        for made in seen.get("workers", {}).values()
        for one in made
        for level in one.get("levels", [])
    )
