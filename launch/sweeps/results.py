"""The file of results of a sweep or a scaling run, which a repeated command goes on with."""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console

from launch.benching.measuring import machine
from launch.configuration.run_config import RunConfig
from launch.many.fingerprint import changes
from launch.run_directory import replace_text
from mlmc_ray.errors import ConfigError, one_line

NAME = "results.json"


Shape = Mapping[str, type | tuple[type, ...]]
"""The keys of a measurement, with the types that their values may have."""

NUMBER = (int, float)
TEXT_OR_NONE = (str, type(None))


class Results:
    """Measurements by name, kept in ``results.json``; written after every one.

    Args:
        out: directory; made with the first measurement.
        plan: all that the measurements depend on, as plain values. A directory with results of
            another plan is refused, and one with results of this plan is gone on with.
        shape: of a measurement.
        made_with: returns what results are made with now, see there. Results that were made with
            something else are refused too, at the start and before every addition.

    Attributes:
        found: how many were there at the start.

    Raises:
        ConfigError: the directory holds results of another plan, or something else, or its file is
            damaged.
    """

    def __init__(
        self,
        out: Path,
        plan: Mapping[str, Any],
        shape: Shape,
        made_with: Callable[[], Mapping[str, str]],
    ) -> None:
        self._path = out / NAME
        self._shape = shape
        self._plan = json.loads(json.dumps(plan))
        self._made_with_now = made_with
        self._made_with = dict(made_with())
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
        """Keep a measurement, and write the file: in full, or not at all.

        Raises:
            ConfigError: what results are made with has changed since the start, so that this one
                may belong to neither; it is not kept. Or the file cannot be written.
        """
        if told := changes(self._made_with, self._made_with_now()):
            raise ConfigError(
                f"{'; '.join(told)} while the runs went on, and {self._path.parent} holds results "
                "from before: give another --out, or restore what was changed to go on"
            )
        self._measured[name] = dict(measured)
        content = {
            "plan": self._plan,
            "made_with": self._made_with,
            "machine": machine(),
            "results": self._measured,
        }
        replace_text(self._path, json.dumps(content, indent=2) + "\n")

    def _read(self) -> dict[str, dict[str, Any]]:
        try:
            content = json.loads(self._path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise self._damaged(one_line(error)) from error
        if not isinstance(content, dict):
            raise self._damaged("it holds no mapping")
        plan, measured = content.get("plan"), content.get("results")
        if not isinstance(plan, dict) or not isinstance(measured, dict):
            raise self._damaged("plan and results are not both mappings")
        keys = [*self._plan, *(key for key in plan if key not in self._plan)]
        if changed := [key for key in keys if plan.get(key) != self._plan.get(key)]:
            told = ", ".join(f"{key} {plan.get(key)!r:.60} there" for key in changed)
            raise ConfigError(
                f"{self._path.parent} holds results of something else ({told}): give another "
                "--out, or ask for the same again to go on"
            )
        self._check_made_with(content.get("made_with"))
        for name, entry in measured.items():
            self._check(name, entry)
        return measured

    def _check_made_with(self, before: Any) -> None:
        if not isinstance(before, dict):
            raise self._damaged("it does not say what its results were made with")
        if told := changes(before, self._made_with):
            raise ConfigError(
                f"{self._path.parent} holds results that were made with something else "
                f"({'; '.join(told)}): give another --out, or restore what was changed to go on"
            )

    def _check(self, name: str, entry: Any) -> None:
        if not isinstance(entry, dict):
            raise self._damaged(f"the result of {name!r} is no mapping")
        for key, types in self._shape.items():
            if key not in entry or not isinstance(entry[key], types):
                found = f"is {entry[key]!r:.60}" if key in entry else "is missing"
                raise self._damaged(f"{key} of {name!r} {found}")

    def _damaged(self, what: str) -> ConfigError:
        return ConfigError(
            f"{self._path}: cannot be read: {what}: give another --out, or delete it to begin anew"
        )


def digest(configs: Iterable[RunConfig]) -> str:
    """Return a short name of some configurations, which changes with any of their values."""
    text = json.dumps([config.to_mapping() for config in configs], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@contextmanager
def telling_where(console: Console, out: Path) -> Iterator[None]:
    """Say where results are and how to go on, however the work ends; nothing if there are none."""
    try:
        yield
    except ConfigError:
        raise  # says itself what to do: the same command again would be refused again
    except BaseException:
        if (out / NAME).exists():
            _say(console, f"the same command with --out {out} goes on where this ended")
        raise
    finally:
        if (out / NAME).exists():
            _say(console, f"results: {out}")


def _say(console: Console, line: str) -> None:
    console.print(line, soft_wrap=True, highlight=False, markup=False)
