"""Which runs a directory of a comparison holds, so that a repeated command goes on there.

``comparison.json`` names every run that was begun, with its configuration and what it was made
with. A run has ended once the row that it writes at its end is in its directory: without an error,
or with one that says that it diverged, which it would do again.
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from launch.comparing.ended import Ended, read_ended
from launch.comparing.plan import Run
from launch.configuration.run_config import RunConfig
from launch.configuration.unchanging import without_effect
from launch.many.fingerprint import changes, made_with
from launch.run_directory import check_unused, held, replace_text, writing
from mlmc_ray.errors import ConfigError, one_line

NAME = "comparison.json"
_REMEDY = "give another --out, or what was asked for before, to go on"
_MOST_KEYS = 3  # that a message names


class Record:
    """The runs of a comparison that were begun in a directory.

    Args:
        out: the directory; may be empty, or not there.
        runs: those that are asked for now.

    Attributes:
        kept: of these, those that have ended there, by label.

    Raises:
        ConfigError: the directory holds something else: other runs, or these with another
            configuration, other code or other versions; or its file is damaged.
    """

    def __init__(self, out: Path, runs: Sequence[Run]) -> None:
        self._out = out
        if not (out / NAME).exists():
            check_unused(out)  # a run would lose its row
        self._begun = _read(out / NAME)
        self._made_with = {run.place: made_with([run.config]) for run in runs}
        for run in runs:
            self._check(run)
        begun = [run for run in runs if run.place in self._begun]
        found = {run.label: read_ended(out / run.place) for run in begun}
        self.kept: dict[str, Ended] = {
            label: ended for label, ended in found.items() if ended and not ended.failed
        }

    def _check(self, run: Run) -> None:
        path = self._out / run.place
        before = self._begun.get(run.place)
        if before is None:
            self._check_free(run)
            return
        ignored = without_effect(run.config)
        now, then = (
            {key: value for key, value in values.items() if key not in ignored}
            for values in (_plain(run.config), before["config"])
        )
        if lacking := [key for key in now if key not in then]:
            raise ConfigError(
                f"{self._out / NAME}: its entry of {run.place!r} lacks {_cut(lacking)}: give "
                "another --out"
            )
        if keys := [key for key in then if key not in now or then[key] != now[key]]:
            told = _cut([f"{key} {then[key]!r:.60} there" for key in keys])
            raise ConfigError(f"{path} already holds another run ({told}): {_REMEDY}")
        if told := "; ".join(changes(before["made_with"], self._made_with[run.place])):
            raise ConfigError(
                f"{path} already holds a run that was made with something else ({told}): give "
                "another --out, or restore what was changed to go on"
            )

    def _check_free(self, run: Run) -> None:
        """Refuse the place of a run that was not begun, if something else is there."""
        path = self._out / run.place
        for other in self._begun:
            if run.place.startswith(f"{other}/") or other.startswith(f"{run.place}/"):
                raise ConfigError(
                    f"{self._out / other} already holds a run, with another number of seeds: "
                    f"{_REMEDY}"
                )
        for place in {path, self._out / Path(run.place).parts[0]}:
            check_unused(place)

    def begin(self, run: Run) -> None:
        """Note that a run begins, and remove what one left that was cut off, or that failed.

        Raises:
            ConfigError: another process is at work there, or nothing can be written.
        """
        path = self._out / run.place
        if run.place in self._begun and path.exists():
            if (path / "ledger.csv").exists():
                with held(path):
                    pass
            with writing(path):
                shutil.rmtree(path)
        made = self._made_with[run.place]
        self._begun[run.place] = {"config": _plain(run.config), "made_with": made}
        replace_text(self._out / NAME, json.dumps(self._begun, indent=2) + "\n")

    def check_unchanged(self, run: Run) -> None:
        """Refuse a run in whose time one's own code was edited; it will be run again.

        Raises:
            ConfigError: says what was edited.
        """
        if told := changes(self._made_with[run.place], made_with([run.config])):
            (self._out / run.place / "summary.json").unlink()
            raise ConfigError(
                f"{'; '.join(told)} while the runs went on, and {self._out} holds runs from "
                "before: give another --out, or restore what was changed to go on"
            )


def _plain(config: RunConfig) -> dict[str, Any]:
    """Return a configuration as JSON says it."""
    values: dict[str, Any] = json.loads(json.dumps(config.to_mapping(), default=str))
    return values


def _cut(words: Sequence[str]) -> str:
    """Return the first of many words, and how many more there are."""
    more = len(words) - _MOST_KEYS
    return ", ".join(words[:_MOST_KEYS]) + (f" and {more} more" if more > 0 else "")


def _read(path: Path) -> dict[str, dict[str, Any]]:
    if not path.exists():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(content, dict) and all(map(_is_entry, content.values())):
            return content
        reason = "it does not say of runs what they are"
    except (OSError, ValueError, RecursionError) as error:
        reason = one_line(error)
    raise ConfigError(f"{path}: cannot be read: {reason}: give another --out")


def _is_entry(entry: Any) -> bool:
    return isinstance(entry, Mapping) and all(
        isinstance(entry.get(key), dict) for key in ("config", "made_with")
    )
