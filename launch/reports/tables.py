"""What a report says in tables: results, differences, versions, how to repeat, all rounds."""

import csv
import math
import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launch.comparing.target import target_for
from launch.display.terminal import summary_table
from launch.metrics import main_measure, measure_names
from launch.observations import levels_in, mean_level
from launch.reports.record import RunRecord
from launch.run_directory import writing
from launch.summary import Summary


@dataclass(frozen=True, kw_only=True, slots=True)
class Table:
    """Headings, and rows of as many cells."""

    headings: Sequence[str]
    rows: Sequence[Sequence[str]]


def labels(records: Sequence[RunRecord]) -> list[str]:
    """Return a name for every run, the directory with it where runs have the same one."""
    names = [record.name for record in records]
    longer = [f"{record.name} ({record.path.name})" for record in records]
    places = [f"{record.name} ({record.path})" for record in records]
    return [
        name if names.count(name) == 1 else long if longer.count(long) == 1 else place
        for name, long, place in zip(names, longer, places, strict=True)
    ]


def results(records: Sequence[RunRecord]) -> Table:
    """Return the table that ``mlmc-ray compare`` prints, with the rounds done."""
    rows = _summaries(records)
    printed = summary_table(rows)
    headings = [" ".join(str(column.header).split()) for column in printed.columns]
    columns = [[str(cell) for cell in column.cells] for column in printed.columns]
    rounds = [
        str(record.rounds) if record.finished else f"{record.rounds} of {record.rounds_wanted}"
        for record in records
    ]
    cells = zip(columns[0], rounds, *columns[1:], strict=True)
    shown = [
        ["-" if cell.startswith("nan") else " ".join(cell.split()) for cell in row] for row in cells
    ]
    return Table(headings=[headings[0], "rounds", *headings[1:]], rows=shown)


def _summaries(records: Sequence[RunRecord]) -> list[Summary]:
    tested = [_last_tested(record) for record in records]
    names = {label: list(values) for label, values in zip(labels(records), tested, strict=True)}
    every = list(dict.fromkeys(name for own in names.values() for name in own)) or ["loss"]
    common = [name for name in every if all(name in own for own in names.values())]
    measure = main_measure({"": common or every})
    wanted = [record.target for record in records if record.target is not None]
    fitting = [target for target in wanted if target.measure == measure]
    target = fitting[0] if fitting else target_for(measure, None) if common else None
    rows = []
    for record, label, values in zip(records, names, tested, strict=True):
        last = record.metrics[-1] if record.metrics else {}
        sized = [line for line in record.metrics if "uplink_bytes" in line]
        dim = _dim(record)
        messages = max(1, record.traffic.frames["uplink"])
        paper = record.traffic.paper_bits
        rows.append(
            Summary(
                name=label,
                rounds=record.rounds,
                measures={measure: values.get(measure, math.nan)},
                uplink_bytes=last.get("uplink_bytes", 0),
                downlink_bytes=last.get("downlink_bytes", 0),
                bits_per_value=8 * last.get("uplink_bytes", 0) / (messages * dim),
                paper_formula=None,
                paper_bits_per_value=None if paper is None else paper / (messages * dim),
                gradients=last.get("gradients", 0),
                seconds=last.get("seconds", math.nan),
                clock_s=last.get("clock_s"),
                target=target,
                bytes_to_target=target.bytes_up(sized) if target else None,
                ended=(record.summary or {}).get("ended"),
                diverged=bool((record.summary or {}).get("diverged")),
                mean_level=mean_level(levels_in(record.observed)),
            )
        )
    return rows


def _last_tested(record: RunRecord) -> dict[str, float]:
    tested = next((line for line in reversed(record.metrics) if measure_names(line)), {})
    values = {name: tested[f"test_{name}"] for name in measure_names(tested)}
    return {name: math.nan if value is None else value for name, value in values.items()}


def _dim(record: RunRecord) -> float:
    """Return how many values the model has, by the row that the run wrote; NaN if it did not."""
    row, frames = record.summary or {}, record.traffic.frames["uplink"]
    if not (row.get("bits_per_value") and frames and row.get("rounds") == record.rounds):
        return math.nan
    return 8 * float(row["uplink_bytes"]) / (float(row["bits_per_value"]) * frames)


def flat(config: Any, place: str = "") -> dict[str, str]:
    """Return a configuration as text by dotted key."""
    if isinstance(config, Mapping) and (config or not place):
        parts = [
            flat(value, f"{place}.{key}" if place else str(key)) for key, value in config.items()
        ]
        return {key: text for part in parts for key, text in part.items()}
    return {place: "null" if config is None else _plain(config)}


def _plain(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def differences(records: Sequence[RunRecord]) -> Table:
    """Return the keys of the configurations that differ, with their values."""
    return _differing([flat(record.config) for record in records], labels(records), "key")


def versions(records: Sequence[RunRecord]) -> Table:
    """Return versions and machine: one column where all runs have the same, else one a run."""
    found = [flat(record.versions) for record in records]
    if all(own == found[0] for own in found):
        return Table(
            headings=["", "all runs" if len(found) > 1 else "version"],
            rows=[list(item) for item in found[0].items()],
        )
    keys = dict.fromkeys(key for own in found for key in own)
    rows = [[key, *(own.get(key, "-") for own in found)] for key in keys]
    return Table(headings=["", *labels(records)], rows=rows)


def _differing(found: Sequence[Mapping[str, str]], names: Sequence[str], first: str) -> Table:
    keys = dict.fromkeys(key for own in found for key in own)
    rows = [[key, *(own.get(key, "-") for own in found)] for key in keys]
    differ = [row for row in rows if len(set(row[1:])) > 1]
    return Table(headings=[first, *names], rows=differ)


def commands(record: RunRecord) -> tuple[str, ...]:
    """Return the command that repeats a run: with the absolute path, and with the relative one.

    There is none for a run that was changed on its way.
    """
    if record.changes:
        return ()
    absolute = record.path / "config.yaml"
    relative = os.path.relpath(absolute)
    return (
        f"mlmc-ray train {shlex.quote(str(absolute))}",
        f"mlmc-ray train {shlex.quote(relative)}",
    )


def data(record: RunRecord) -> str:
    """Return the data in words, such as "digits (classes_per_worker 2)"."""
    problem = record.config.get("problem")
    if not isinstance(problem, Mapping):
        return "not known" if problem is None else str(problem)
    options = flat({key: value for key, value in problem.items() if key != "kind"})
    named = ", ".join(f"{key} {text}" for key, text in options.items())
    return f"{problem.get('kind')} ({named})" if named else str(problem.get("kind"))


def write_csv(records: Sequence[RunRecord], path: Path) -> None:
    """Write all metrics: one row a run and round, a column for everything that a run measures.

    A cell is empty where a round has no such number, or it was not finite.

    Raises:
        ConfigError: the file cannot be written.
    """
    columns = dict.fromkeys(name for run in records for line in run.metrics for name in line)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    with writing(path), path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["run", "directory", *columns])
        for record, label in zip(records, labels(records), strict=True):
            for line in record.metrics:
                rows.writerow([label, str(record.path), *(line.get(name) for name in columns)])
