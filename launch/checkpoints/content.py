"""What checkpoints hold: a snapshot, and the history of the rounds in parts that do not change.

The history grows with every round, so a snapshot names the parts that it is made of. A new part
takes in the last ones if they are no longer than itself; so there are few of them, and each round
is written a few times, however often checkpoints are.
"""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from launch.engines.base import RunState
from launch.versions import versions
from mlmc_ray.ledger import Ledger
from mlmc_ray.rounds import Timeline

if TYPE_CHECKING:
    from launch.configuration.run_config import RunConfig
    from launch.history import History


_TYPES: dict[str, type] = {
    "versions": dict,
    "time": dict,
    "workers": dict,
    "seconds": float,
    "repeated": bytes,
}
"""Of some of what a snapshot has."""


class Mark(NamedTuple):
    """How much of a history there is: how many of each."""

    metrics: int = 0
    ledger: int = 0
    work: int = 0
    observations: int = 0
    changes: int = 0


class Part(NamedTuple):
    """Some rounds of a history, in a file of their own, and how much there is at their end."""

    name: str
    end: Mark


class Saved(NamedTuple):
    """What a checkpoint says, with all parts of its history.

    Attributes:
        described: the configuration, as a plain mapping.
        versions: of what it was written with; see ``versions``.
        state: of the engine.
        seconds: see ``Past``, as are the others.
        repeated: frames of rounds that were run again.
    """

    described: dict[str, Any]
    versions: dict[str, str]
    state: RunState
    seconds: float
    metrics: list[dict[str, Any]]
    ledger: Ledger
    work: Timeline
    observations: list[dict[str, Any]]
    changes: list[dict[str, Any]]
    repeated: Ledger


def mark_of(history: "History") -> Mark:
    """Return how much of a history there is."""
    return Mark(*(len(getattr(history, name)) for name in Mark._fields))


def kept_parts(parts: Sequence[Part], end: Mark) -> list[Part]:
    """Return the parts that stay where a new one goes on up to ``end``."""
    kept = list(parts)
    while kept:
        before = kept[-2].end.metrics if len(kept) > 1 else 0
        last = kept[-1].end.metrics
        if last - before > end.metrics - last:
            break
        kept.pop()
    return kept


def part_of(history: "History", first: Mark) -> dict[str, Any]:
    """Return the rounds of a history from a mark on, as plain values."""
    return {
        "metrics": history.metrics[first.metrics :],
        "ledger": history.ledger.packed(first.ledger),
        "work": history.work.packed(first.work),
        "observations": history.observations[first.observations :],
        "changes": history.changes[first.changes :],
    }


def snapshot_of(
    config: "RunConfig", state: RunState, history: "History", parts: Sequence[Part]
) -> dict[str, Any]:
    """Return all that the parts of the history do not hold, as plain values."""
    return {
        "config": config.to_mapping(),
        "versions": versions(),
        "servers": list(state.servers),
        "workers": state.workers,
        "time": state.time,
        "seconds": history.seconds,
        "repeated": history.repeated.packed(),
        "parts": [[part.name, list(part.end)] for part in parts],
    }


def parts_in(snapshot: dict[str, Any]) -> list[Part]:
    """Return the parts that a snapshot names."""
    parts = [Part(name, Mark(*end)) for name, end in snapshot["parts"]]
    for part in parts:
        for name, number in part.end._asdict().items():
            _check(f"parts.{name}", number, int)
    return parts


def saved_in(snapshot: dict[str, Any], parts: Sequence[dict[str, Any]]) -> Saved:
    """Return what a snapshot and the parts of its history say together.

    Raises:
        TypeError, LookupError, ValueError: something is missing, is of another type, or the parts
            are not those of the snapshot.
    """
    _check_types(snapshot, parts)
    saved = Saved(
        described=snapshot["config"],
        versions=snapshot["versions"],
        state=RunState(
            servers=tuple(snapshot["servers"]), workers=snapshot["workers"], time=snapshot["time"]
        ),
        seconds=snapshot["seconds"],
        metrics=[values for part in parts for values in part["metrics"]],
        ledger=Ledger(),
        work=Timeline(),
        observations=[seen for part in parts for seen in part["observations"]],
        changes=[change for part in parts for change in part["changes"]],
        repeated=Ledger.unpacked(snapshot["repeated"]),
    )
    for part in parts:
        saved.ledger.extend(Ledger.unpacked(part["ledger"]))
        saved.work.extend(Timeline.unpacked(part["work"]))
    found = Mark(*(len(getattr(saved, name)) for name in Mark._fields))
    expected = parts_in(snapshot)[-1].end
    if found != expected:
        raise ValueError(f"its history has {found}, and {expected} is expected")
    return saved


def _check_types(snapshot: dict[str, Any], parts: Sequence[dict[str, Any]]) -> None:
    """Refuse what ``snapshot_of`` and ``part_of`` do not return.

    Raises:
        TypeError, LookupError, ValueError: says what.
    """
    _check("config", snapshot["config"], dict)
    _check("config.name", snapshot["config"]["name"], str)
    json.dumps(snapshot["config"])
    for name, kind in _TYPES.items():
        _check(name, snapshot[name], kind)
    _check_all("workers", list(snapshot["workers"].values()))
    _check_all("servers", snapshot["servers"])
    for part in parts:
        for name in ("metrics", "observations", "changes"):
            _check_all(name, part[name])
        for name in ("ledger", "work"):
            _check(name, part[name], bytes)
        for metrics in part["metrics"]:
            _check("metrics.round", metrics["round"], int)
    if not any(part["metrics"] for part in parts):
        raise ValueError("its history has no round")


def _check_all(name: str, values: Any) -> None:
    _check(name, values, list)
    for index, value in enumerate(values):
        _check(f"{name}[{index}]", value, dict)


def _check(name: str, value: Any, kind: type) -> None:
    if type(value) is not kind:
        raise TypeError(f"{name} is {value!r:.80}, and a {kind.__name__} is expected")
