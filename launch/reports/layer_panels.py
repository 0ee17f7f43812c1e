"""Panels of the bytes of a round, by layer and by kind of message."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from launch.reports.dots import BYTES, IN_WORDS, beside, dots, fitting_scale
from launch.reports.panel import Control, Option, Panel, Patch, axis, escaped
from launch.reports.record import RunRecord
from mlmc_ray.ledger import DIRECTIONS, Direction

MOST_NAMES = 60
"""Layers or kinds that are shown: those with most bytes."""

_ROW, _DOT = 22, 9  # pixels of a layer, and of a run in it
_LONGEST = 24  # characters of a name beside the axis
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
                label=IN_WORDS[way],
                traces=self._columns(way, rows[way]),
                layout={
                    "yaxis.tickvals": list(range(len(rows[way]))),
                    "yaxis.ticktext": [escaped(_short(name)) for name in rows[way]],
                },
            )
            for way in DIRECTIONS
        ]
        most = max(map(len, rows.values()))
        return Panel(
            key=key,
            title=title,
            text=text,
            traces=dots(names, "%{customdata}<br>%{x:.4~s}B a round"),
            layout={
                "xaxis": axis("bytes a round", **BYTES),
                "yaxis": axis("", tickfont={"size": 11}, tickmode="array"),
                "hovermode": "closest",
            },
            controls=[
                Control(name="direction", options=options, pictures=True),
                fitting_scale(
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
            "y": [beside(range(len(rows)), run, len(means)) for run in range(len(means))],
            "customdata": [[escaped(name) for name in rows] for _ in means],
        }


def _short(name: str) -> str:
    """Return the end of a long name, by which layers differ; the hover has all of it."""
    return name if len(name) <= _LONGEST else f"\u2026{name[1 - _LONGEST :]}"
