"""A structured log: one line of JSON for everything that happens to a run."""

import hashlib
import json
import logging
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic_core import to_json

from launch.callbacks.base import Callback
from launch.metrics import Metrics, measure_names
from launch.run_directory import writing
from mlmc_ray.errors import one_line
from mlmc_ray.rounds import RoundResult

if TYPE_CHECKING:
    from launch.session import Session

LOGGER = logging.getLogger("mlmc_ray")
"""All lines go to it, so a program can send them where it likes with Python's ``logging``."""

_HASH = 12  # hexadecimal digits


@dataclass(frozen=True, kw_only=True, slots=True)
class Log(Callback):
    """Log a line of JSON for each event: start, round, evaluation, change, note, error, end.

    Every line has ``time`` (UTC), ``event``, ``run`` and ``config``, the first twelve digits of the
    SHA-256 of the resolved configuration, which are others once it has changed.

    Args:
        path: a file to append to; by default standard error, or where the program's own logging
            sends the logger ``mlmc_ray``.
    """

    path: str | None = None

    def fresh(self) -> Callback:
        """Return what logs one run."""
        return _Lines(self.path)


def config_hash(config: dict[str, Any]) -> str:
    """Return digits that are the same for the same resolved configuration."""
    text = json.dumps(config, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:_HASH]


class _Lines(Callback):
    def __init__(self, path: str | None) -> None:
        self._path = path
        self._handler: logging.Handler | None = None
        self._about: dict[str, Any] = {}

    def on_start(self, session: "Session") -> None:
        config = self._identify(session)
        self._open()
        self._log("start", settings=config, dim=session.dim, round=session.round_index)
        self._log_tests(session.metrics[-1])

    def on_round(self, session: "Session", metrics: Metrics, result: RoundResult) -> None:
        numbers = {name: metrics[name] for name in metrics if not name.startswith("test_")}
        self._log("round", **numbers)
        self._log_tests(metrics)

    def on_change(self, session: "Session", changed: Mapping[str, Any]) -> None:
        self._identify(session)
        self._log("change", round=session.round_index, changes=changed)

    def on_note(self, session: "Session", text: str) -> None:
        self._log("note", text=text)

    def on_end(self, session: "Session", error: BaseException | None) -> None:
        if error is not None:
            kind = type(error).__name__
            self._log("error", logging.ERROR, kind=kind, text=one_line(error, 2000))
        self._log("end", round=session.round_index, seconds=session.metrics[-1]["seconds"])
        if self._handler is not None:
            LOGGER.removeHandler(self._handler)
            self._handler.close()

    def _identify(self, session: "Session") -> dict[str, Any]:
        config = session.config.to_mapping()
        self._about = {"run": session.config.name, "config": config_hash(config)}
        return config

    def _open(self) -> None:
        """Send this run's lines, and no other's, to its file or standard error."""
        if self._path is not None:
            with writing(Path(self._path)):
                self._handler = logging.FileHandler(self._path, encoding="utf-8")
        elif not _program_logs():
            self._handler = logging.StreamHandler(_standard_error())
        if self._handler is not None:
            self._handler.addFilter(_Only(self))
            LOGGER.addHandler(self._handler)
        if LOGGER.level == logging.NOTSET:
            LOGGER.setLevel(logging.INFO)

    def _log_tests(self, metrics: Metrics) -> None:
        if names := measure_names(metrics):
            tests = {f"test_{name}": metrics[f"test_{name}"] for name in names}
            self._log("evaluation", round=metrics["round"], **tests)

    def _log(self, event: str, level: int = logging.INFO, **fields: Any) -> None:
        now = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
        line = {"time": now, "event": event, **self._about, **fields}
        text = to_json(line, inf_nan_mode="null", fallback=str).decode()
        LOGGER.log(level, "%s", text, extra={"logged_by": self})


class _Only(logging.Filter):
    """Lets the lines of one run pass."""

    def __init__(self, run: _Lines) -> None:
        super().__init__()
        self._run = run

    def filter(self, record: logging.LogRecord) -> bool:
        return getattr(record, "logged_by", None) is self._run


def _standard_error() -> Any:
    """Return where lines on standard error belong while a progress display has taken its place.

    In a terminal they go through the display, which shows them above itself; in a file straight.
    """
    if sys.stderr.isatty():
        return sys.stderr
    return getattr(sys.stderr, "rich_proxied_file", sys.stderr)


def _program_logs() -> bool:
    """Return whether the program has given these lines a place of its own."""
    handlers = [*LOGGER.handlers, *logging.getLogger().handlers]
    own = [any(isinstance(kept, _Only) for kept in handler.filters) for handler in handlers]
    return not all(own)
