"""The file of results of a sweep or a scaling run, which a repeated command goes on with."""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console

from launch.config import RunConfig
from launch.measuring import machine
from launch.run_directory import writing
from mlmc_ray.errors import ConfigError, one_line

NAME = "results.json"


class Results:
    """Measurements by name, kept in ``results.json``; written after every one.

    Args:
        out: directory; made with the first measurement.
        plan: all that the measurements depend on, as plain values. A directory with results of
            another plan is refused, and one with results of this plan is gone on with.

    Attributes:
        found: how many were there at the start.

    Raises:
        ConfigError: the directory holds results of another plan, or something else.
    """

    def __init__(self, out: Path, plan: Mapping[str, Any]) -> None:
        self._path = out / NAME
        self._plan = json.loads(json.dumps(plan))
        self._measured: dict[str, dict[str, Any]] = {}
        if self._path.exists():
            self._measured = self._read()
        elif (out / "config.yaml").exists() or (out / "summary.json").exists():
            raise ConfigError(f"{out} already holds a run: give another --out")
        self.found = len(self._measured)

    def get(self, name: str) -> dict[str, Any] | None:
        """Return a measurement, if there is one."""
        return self._measured.get(name)

    def add(self, name: str, measured: Mapping[str, Any]) -> None:
        """Keep a measurement, and write the file: in full, or not at all."""
        self._measured[name] = dict(measured)
        content = {"plan": self._plan, "machine": machine(), "results": self._measured}
        draft = self._path.with_suffix(".part")
        with writing(self._path):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            draft.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
            os.replace(draft, self._path)

    def _read(self) -> dict[str, dict[str, Any]]:
        try:
            content = json.loads(self._path.read_text(encoding="utf-8"))
            plan, measured = content["plan"], dict(content["results"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ConfigError(f"{self._path}: cannot be read: {one_line(error)}") from error
        keys = [*self._plan, *(key for key in plan if key not in self._plan)]
        if changed := [key for key in keys if plan.get(key) != self._plan.get(key)]:
            told = ", ".join(f"{key} {plan.get(key)!r:.60} there" for key in changed)
            raise ConfigError(
                f"{self._path.parent} holds results of something else ({told}): give another "
                "--out, or ask for the same again to go on"
            )
        return measured


def digest(configs: Iterable[RunConfig]) -> str:
    """Return a short name of some configurations, which changes with any of their values."""
    text = json.dumps([config.to_mapping() for config in configs], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@contextmanager
def telling_where(console: Console, out: Path) -> Iterator[None]:
    """Say where results are and how to go on, however the work ends; nothing if there are none."""
    try:
        yield
    except BaseException:
        if (out / NAME).exists():
            _say(console, f"the same command with --out {out} goes on where this ended")
        raise
    finally:
        if (out / NAME).exists():
            _say(console, f"results: {out}")


def _say(console: Console, line: str) -> None:
    console.print(line, soft_wrap=True, highlight=False, markup=False)
