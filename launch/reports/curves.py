"""Panels of what changes from round to round: measures, and the error of messages."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from launch.metrics import LESS_IS_BETTER, Metrics, main_measure, measure_in_words, measure_names
from launch.reports.panel import (
    Control,
    Option,
    Panel,
    axis,
    escaped,
    run_style,
    scale,
    scale_control,
)
from launch.reports.record import RunRecord
from mlmc_ray.errors import ConfigError

MOST_POINTS = 2000
"""Of a line; of longer ones evenly spaced points are shown."""

_FEW_POINTS = 60  # of a line whose points are marked
_APART = 10  # the bytes of runs that a linear axis cannot show together
_MEANT_AS_AXES = ("round", "seconds", "clock_s", "uplink_bytes", "downlink_bytes")
_ERROR = "relative_error"
_BYTES = {"tickformat": "~s", "ticksuffix": "B"}

_AXES: dict[str, tuple[str, Callable[[Metrics], Any], dict[str, str]]] = {
    "round": ("rounds", lambda line: line.get("round"), {"tickformat": "", "ticksuffix": ""}),
    "seconds": ("seconds", lambda line: line.get("seconds"), {"tickformat": "", "ticksuffix": ""}),
    "clock_s": (
        "simulated seconds",
        lambda line: line.get("clock_s"),
        {"tickformat": "", "ticksuffix": ""},
    ),
    "uplink_bytes": ("bytes up, all workers", lambda line: line.get("uplink_bytes"), _BYTES),
    "downlink_bytes": ("bytes down, all workers", lambda line: line.get("downlink_bytes"), _BYTES),
    "total_bytes": ("bytes up and down", lambda line: _total(line), _BYTES),
}


def measures(records: Sequence[RunRecord], names: Sequence[str]) -> Panel | None:
    """Return all that runs measure against rounds, time and bytes; None where there is nothing.

    Args:
        records: the runs.
        names: what they are called.
    """
    keys = _measured(records)
    if not keys:
        return None
    lines = [
        _line(record, run, name, key)
        for key in keys
        for run, (record, name) in enumerate(zip(records, names, strict=True))
    ]
    choice = Control(
        name="measure",
        options=[_measure_option(key, keys, len(records), records) for key in keys],
        pictures=True,
    )
    return Panel(
        key="measures",
        title="What was measured",
        text="Every run as it went on. Point at a line for its round, value and bytes; drag to "
        "look closer, double-click to see all again." + _thinned(records),
        traces=lines,
        layout=_layout(),
        controls=[
            choice,
            _axis_control(records, keys),
            scale_control("x", Option(label="as fits")),
            scale_control("y", Option(label="as fits the measure")),
        ],
    )


def errors(records: Sequence[RunRecord], names: Sequence[str]) -> Panel | None:
    """Return the relative error of messages over rounds; None where no round was observed."""
    seen = [_with_errors(record) for record in records]
    if not any(seen):
        return None
    return Panel(
        key="errors",
        title="Relative error of messages",
        text="|C(v) - v|\u00b2 / |v|\u00b2, summed over workers before dividing: how far messages "
        "are from what was compressed. For an unbiased compressor it is the variance; 0 is exact. "
        "Observed rounds only.",
        traces=[
            _trace(lines, run, name, _ERROR)
            for run, (lines, name) in enumerate(zip(seen, names, strict=True))
        ],
        layout=_layout() | {"yaxis": axis("relative error", type="log", exponentformat="power")},
        controls=[
            scale_control("x"),
            scale_control("y", Option(label="as fits", layout=scale("y", "log"))),
        ],
    )


def _with_errors(record: RunRecord) -> list[Metrics]:
    """Return the observed rounds, with the error that metrics or observations say."""
    by_round = {line["round"]: line for line in record.metrics}
    found = {number: line for number, line in by_round.items() if _ERROR in line}
    for seen in record.observed:
        number = seen.get("round")
        if number not in found and isinstance(number, int):
            line = by_round.get(number, {"round": number})
            found[number] = {**line, _ERROR: _relative_error(seen)}
    return [found[number] for number in sorted(found)]


def _relative_error(seen: Mapping[str, Any]) -> float | None:
    made = [one for own in seen.get("workers", {}).values() for one in own]
    norm = sum(one.get("squared_norm") or 0.0 for one in made)
    return sum(one.get("squared_error") or 0.0 for one in made) / norm if norm else None


def _measured(records: Sequence[RunRecord]) -> list[str]:
    """Return the keys of all numbers that are measured, the main one first."""
    lines = [line for record in records for line in record.metrics]
    keys = {
        key: None
        for line in lines
        for key, value in line.items()
        if isinstance(value, float | int | None) and not isinstance(value, bool)
    }
    ours = [key for key in keys if key not in (*_MEANT_AS_AXES, _ERROR)]
    tested = {
        record.name: dict.fromkeys(name for line in record.metrics for name in measure_names(line))
        for record in records
    }
    try:
        main = f"test_{main_measure({name: list(own) for name, own in tested.items()})}"
    except ConfigError:  # they have none in common
        main = ""
    return sorted(ours, key=lambda key: (key != main, not key.startswith("test_")))


def _in_words(key: str) -> str:
    test = key.startswith("test_")
    return measure_in_words(key.removeprefix("test_")) if test else key.replace("_", " ")


def _measure_option(
    key: str, keys: Sequence[str], runs: int, records: Sequence[RunRecord]
) -> Option:
    values = [line[key] for record in records for line in record.metrics if key in line]
    numbers = [value for value in values if value is not None]
    share = key == "test_accuracy"
    title = axis(_in_words(key))["title"]
    return Option(
        label=_in_words(key),
        traces={"visible": [other == key for other in keys for _ in range(runs)]},
        layout={
            "yaxis.title": title,
            **scale("y", "log" if _logarithmic(key, numbers) else "linear"),
            "yaxis.tickformat": ".0%" if share else "",
            "yaxis.exponentformat": "power",
        },
    )


def _logarithmic(key: str, values: Sequence[float]) -> bool:
    """Say whether a measure is one that goes to zero, and can be drawn so."""
    if not values or key.removeprefix("test_").removeprefix("train_") not in LESS_IS_BETTER:
        return False
    return min(values) > 0 or (max(values) > 0 and not key.endswith("loss"))


def _axis_control(records: Sequence[RunRecord], keys: Sequence[str]) -> Control:
    options = []
    for title, value, ticks in _AXES.values():
        if any(value(line) is not None for record in records for line in record.metrics):
            columns = [
                [value(line) for line in _shown(record, key)] for key in keys for record in records
            ]
            layout = {"xaxis.title": axis(title)["title"]}
            layout |= {f"xaxis.{name}": text for name, text in ticks.items()}
            ends = [value(record.metrics[-1]) or 0 for record in records if record.metrics]
            apart = ticks is _BYTES and max(ends) > _APART * min(ends) > 0
            layout |= scale("x", "log" if apart else "linear")
            options.append(Option(label=title, traces={"x": columns}, layout=layout))
    return Control(name="against", options=options, pictures=True)


def _shown(record: RunRecord, key: str) -> list[Metrics]:
    """Return the rounds that have a measure, thinned out where there are too many."""
    return thinned([line for line in record.metrics if key in line])


def thinned(lines: Sequence[Metrics]) -> list[Metrics]:
    """Return evenly spaced ones of many, the first and the last among them."""
    step = max(1, math.ceil((len(lines) - 1) / (MOST_POINTS - 1)))
    return [*lines[:-1:step], *lines[-1:]]


def _thinned(records: Sequence[RunRecord]) -> str:
    if all(len(record.metrics) <= MOST_POINTS for record in records):
        return ""
    return f" Of lines with more than {MOST_POINTS} points evenly spaced ones are shown."


def _total(line: Metrics) -> int | None:
    up, down = line.get("uplink_bytes"), line.get("downlink_bytes")
    return None if up is None or down is None else up + down


def _line(record: RunRecord, run: int, name: str, key: str) -> dict[str, Any]:
    return _trace(_shown(record, key), run, name, key)


def _trace(lines: Sequence[Metrics], run: int, name: str, key: str) -> dict[str, Any]:
    ways = ("round", "seconds", "uplink_bytes", "downlink_bytes")
    value = "%{y:.2%}" if key == "test_accuracy" else "%{y:.6g}"
    return {
        "type": "scatter",
        "mode": "lines+markers" if len(lines) <= _FEW_POINTS else "lines",
        "name": escaped(name),
        "x": [line["round"] for line in lines],
        "y": [line[key] for line in lines],
        "customdata": [[line.get(way) for way in ways] for line in lines],
        "hovertemplate": "%{fullData.name}<br>round %{customdata[0]}, %{customdata[1]:.4~g} s<br>"
        f"{escaped(_in_words(key)).replace('%', '')} {value}<br>up %{{customdata[2]:.4~s}}B, "
        "down %{customdata[3]:.4~s}B<extra></extra>",
        "connectgaps": False,
        **run_style(run),
    }


def _layout() -> dict[str, Any]:
    return {"xaxis": axis("rounds"), "yaxis": axis(""), "hovermode": "closest"}
