"""From run directories to records."""

import math
from array import array
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from launch.comparing.target import Target
from launch.configuration.nesting import too_deep
from launch.configuration.yaml_text import load_yaml
from launch.metrics import Metrics
from launch.reports import checks
from launch.reports.reading import RunFiles, Tell, quiet
from launch.reports.record import Change, RunRecord, Timeline, Traffic, rounds_wanted
from launch.staleness import Staleness
from mlmc_ray.errors import ConfigError
from mlmc_ray.ledger import DIRECTIONS, Direction

_LEDGER = ("round_index", "worker_id", "direction", "frame_bytes", "paper_bits")
_BESIDE_RUNS = frozenset(
    ("summary.json", "compare.png", "figure.png", "report.html", "results.json", "best.yaml")
)
_TIMELINE = ("round_index", "exchange_index", "worker_id", "host", "seconds")


def find_runs(paths: Iterable[Path], tell: Tell = quiet) -> list[Path]:
    """Return the run directories that are meant: a directory itself, or all below it.

    Args:
        paths: of which some may hold no run, such as those of a sweep, if another does.
        tell: is told of these.

    Raises:
        ConfigError: a path does not exist, or none holds a run.
    """
    found: dict[Path, None] = {}
    without = []
    for path in paths:
        if not path.exists():
            raise ConfigError(f"{path}: there is no such directory: give a run directory")
        runs = [path] if (path / "config.yaml").is_file() else _below(path)
        found |= dict.fromkeys(run.resolve() for run in runs)
        if not runs and not (path.is_file() and path.name in _BESIDE_RUNS):
            without.append(str(path))
    if not found:
        raise ConfigError(
            f"{', '.join(without)} holds no run: give a directory with a config.yaml that mlmc-ray "
            "train or compare wrote, or one above it"
        )
    for name in without:
        tell(f"{name} is left out: it holds no run")
    return list(found)


def _below(path: Path) -> list[Path]:
    """Return the runs below a directory, those of a comparison in the order of its entries."""
    return sorted(
        (file.parent for file in path.rglob("config.yaml")),
        key=lambda run: (
            ((run / "versions.json").stat().st_mtime_ns, run)
            if (run / "versions.json").is_file()
            else (0, run)
        ),
    )


def read_run(path: Path, tell: Tell = quiet) -> RunRecord:
    """Read a run directory, whatever of it there is.

    Args:
        path: the run directory.
        tell: is told, a line at a time, how far a file has been read that takes long.

    Raises:
        ConfigError: there is no such directory.
    """
    if not path.is_dir():
        raise ConfigError(f"{path}: there is no such directory: give a run directory")
    files = RunFiles(path, tell)
    config = _config(files)
    metrics = _metrics(files)
    changes = _changes(path, files)
    wanted = rounds_wanted(config, changes)
    finished = bool(metrics) and wanted is not None and metrics[-1]["round"] >= wanted
    if not finished:
        done = metrics[-1]["round"] if metrics else 0
        files.notes.insert(0, f"it stopped after {done} of {wanted} rounds")
    if not (path / "model.pt").is_file():
        files.notes.append("no model.pt: the model was not saved")
    own, target = _summaries(path, files)
    return RunRecord(
        path=path.resolve(),
        name=str(config.get("name", path.resolve().name)),
        config=config,
        changes=changes,
        versions=_mapping(files.document("versions.json", "versions and machine are not known")),
        metrics=metrics,
        traffic=_traffic(files),
        timeline=_timeline(files),
        observed=files.json_lines(
            "observed.jsonl",
            "bytes by layer and kind, errors and levels are not known",
            checks.is_observation,
        ),
        summary=own,
        target=target,
        finished=finished,
        notes=tuple(files.notes),
    )


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _config(files: RunFiles) -> Mapping[str, Any]:
    text = files.text("config.yaml", "the configuration is not known")
    try:
        config = _mapping(None if text is None else load_yaml(text))
        if not too_deep(config):
            return config
    except (yaml.YAMLError, ValueError, RecursionError):
        pass
    files.notes.append("config.yaml cannot be read: the configuration is not known")
    return {}


def _changes(path: Path, files: RunFiles) -> tuple[Change, ...]:
    if not (path / "changes.jsonl").exists():  # most runs stay as they were
        return ()
    loss = "what was changed on the way is not known"
    lines = files.json_lines("changes.jsonl", loss, checks.is_change)
    changes = tuple(Change(round=line["round"], settings=line["changes"]) for line in lines)
    files.notes.extend(map(str, changes))
    return changes


def _metrics(files: RunFiles) -> list[Metrics]:
    """Return the rounds in order; of a round that is there twice, the later line."""
    lines = files.json_lines("metrics.jsonl", "there are no values to show", checks.is_metrics)
    rounds = {line["round"]: line for line in lines}
    return [rounds[number] for number in sorted(rounds)]


def _traffic(files: RunFiles) -> Traffic:
    by_worker: dict[Direction, dict[int, int]] = {direction: {} for direction in DIRECTIONS}
    frames: dict[Direction, int] = dict.fromkeys(DIRECTIONS, 0)
    directions = {str(direction): direction for direction in DIRECTIONS}
    paper, unknown, left_out = 0, 0, 0
    told, staleness = Staleness(), Counter[int]()
    for round_text, worker_text, way, size_text, bits in files.rows(
        "ledger.csv", _LEDGER, "bytes by worker are not known"
    ):
        try:
            direction = directions[way]
            round_index = checks.whole(round_text)
            worker_id, size = checks.whole(worker_text), checks.whole(size_text)
            bits_said = checks.whole(bits) if bits.isdecimal() else None
        except (KeyError, ValueError):
            left_out += 1
            continue
        workers = by_worker[direction]
        workers[worker_id] = workers.get(worker_id, 0) + size
        frames[direction] += 1
        staleness.update(age for _, age in told.of([(round_index, worker_id, direction)]))
        if direction == "uplink":
            paper, unknown = paper + (bits_said or 0), unknown + (bits_said is None)
    if left_out:
        files.notes.append(f"ledger.csv: {left_out} lines are left out, not readable")
    return Traffic(
        by_worker=by_worker,
        frames=frames,
        paper_bits=None if unknown or not frames["uplink"] else paper,
        staleness=staleness,
    )


def _timeline(files: RunFiles) -> Timeline:
    whole, seconds = array("q"), array("d")
    left_out = 0
    for *numbers, duration in files.rows(
        "timeline.csv", _TIMELINE, "how long each worker took is not known"
    ):
        try:
            value = float(duration)
            round_index, exchange_index, worker_id, host = map(checks.whole, numbers)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            left_out += 1
            continue
        whole.extend((round_index, exchange_index, worker_id, host))
        seconds.append(value)
    if left_out:
        files.notes.append(f"timeline.csv: {left_out} lines are left out, not readable")
    columns = np.frombuffer(whole, dtype=np.int64).reshape(-1, 4)
    return Timeline(
        round_index=columns[:, 0],
        exchange_index=columns[:, 1],
        worker_id=columns[:, 2],
        host=columns[:, 3],
        seconds=np.frombuffer(seconds, dtype=np.float64),
    )


def _summaries(path: Path, files: RunFiles) -> tuple[Mapping[str, Any] | None, Target | None]:
    """Return the run's own row, and the target of the comparison in the directory above."""
    own = RunFiles(path).document("summary.json", "")
    above = RunFiles(path.resolve().parent).document("summary.json", "")
    rows = [row for row in above if isinstance(row, dict)] if isinstance(above, list) else []
    targets = [row["target"] for row in rows if isinstance(row.get("target"), dict)]
    is_own = isinstance(own, list) and len(own) == 1 and checks.is_summary(own[0])
    if not is_own and (path / "summary.json").exists():
        files.notes.append("summary.json cannot be read: bits per value are not known")
    return own[0] if is_own else None, _target(targets)


def _target(rows: Sequence[Mapping[str, Any]]) -> Target | None:
    """Return the first target that makes sense; another version may know other measures."""
    for row in rows:
        with suppress(ConfigError, KeyError, TypeError, ValueError, OverflowError):
            return Target(measure=row["measure"], value=float(row["value"]))
    return None
