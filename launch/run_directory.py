"""The directory of a run: everything needed to read it, and to run it again.

    config.yaml    the resolved configuration, defaults included
    versions.json  of Python and the packages, and the machine
    metrics.jsonl  one line a round; null where a number is not finite
    ledger.csv     one line a frame
    timeline.csv   one line a worker and exchange: seconds from its news to its report
    observed.jsonl one line an observed round: errors, levels, bytes by payload and layer
    changes.jsonl  what was changed on the way, and after which round; only if something was
    checkpoints/   what a run goes on from after a crash; only if some were written
    checkpoints.at where they are, if not in checkpoints/
    repeated.csv   one line a frame of rounds that were lost in a crash and run again
    model.pt       the model's state_dict at the end
    figure.png     accuracy against bytes and against rounds

``round`` in metrics.jsonl counts the rounds done, so 0 is before the first; ``round_index`` in
ledger.csv and in errors counts from 0, so the frames of index r lead to the metrics of round r + 1.

Lines are written as rounds end, so an interrupted run can be read as far as it came.
"""

import csv
import io
import itertools
import json
import math
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import yaml
from torch import Tensor

from launch.checkpoints.repeated import put_aside, settle
from launch.configuration.yaml_text import escaped
from launch.locking import exclusive
from launch.versions import versions
from mlmc_ray.errors import ConfigError, one_line
from mlmc_ray.ledger import Entry, Ledger
from mlmc_ray.rounds import Work

if TYPE_CHECKING:
    from launch.carrying import Past
    from launch.checkpoints.resuming import Resumed

_REMEDY = "give another --out"
PLACE = "checkpoints.at"
_LONGEST_NAME = 120  # bytes, of 255 that most file systems allow


class RunDirectory:
    """Writes a run as it goes.

    Args:
        path: made if need be; must not hold another run. One that ended before its first round is
            written over.
        config: the resolved configuration, as a plain mapping.
        past: of the same run, which goes on here; ``write_past`` must come next. None for another.
        on_note: told of malformed rows of the ledger of the past.

    Attributes:
        repeated: frames of rounds that were run again.

    Raises:
        ConfigError: the directory already holds a run, another one is being written there, or it
            cannot be written. A later try may write there.
        CheckpointError: the past is not the newest checkpoint any more.
    """

    def __init__(
        self,
        path: Path,
        config: Mapping[str, Any],
        past: "Resumed | None" = None,
        on_note: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.path = path
        self.repeated = Ledger()
        if past is None:
            check_unused(path)
        with ExitStack() as files, writing(path):
            path.mkdir(parents=True, exist_ok=True)
            self._ledger = files.enter_context((path / "ledger.csv").open("a", newline=""))
            exclusive(self._ledger, _taken(path))
            if past is None:
                check_unused(path)  # nobody else writes now, but may have since the first look
            else:
                past.shelf.check_unchanged()
                self.repeated = put_aside(path, past.rounds, past.repeated, on_note)
            self._ledger.truncate(0)
            os.fsync(self._ledger.fileno())
            if past is not None:
                settle(path)
            (path / "changes.jsonl").unlink(missing_ok=True)
            self._timeline = files.enter_context((path / "timeline.csv").open("w", newline=""))
            self._observed = files.enter_context((path / "observed.jsonl").open("w"))
            self._metrics = files.enter_context((path / "metrics.jsonl").open("w"))
            for file, fields in ((self._ledger, Entry._fields), (self._timeline, Work._fields)):
                csv.writer(file).writerow(fields)
                file.flush()
            if past is None:
                (path / "versions.json").write_text(json.dumps(versions(), indent=2) + "\n")
                text = yaml.safe_dump(escaped(dict(config)), sort_keys=False)
                (path / "config.yaml").write_text(text, encoding="utf-8")  # last: it makes a run
            self._files = files.pop_all()

    def write_round(
        self,
        metrics: Mapping[str, Any],
        ledger: Iterable[Entry],
        work: Iterable[Work],
        observation: Mapping[str, Any] | None,
    ) -> None:
        """Append a round; what was written survives the end of the process.

        Lines are made before any is written, so an interrupt leaves no round cut in two.

        Args:
            metrics: of the round.
            ledger: of its frames.
            work: how long workers took.
            observation: what was seen in it, if anybody looked.
        """
        with writing(self.path):
            lines = (
                (self._ledger, _rows(ledger)),
                (self._timeline, _rows(map(_rounded, work))),
                (self._observed, "" if observation is None else _line(observation)),
                (self._metrics, _line(metrics)),
            )
            for file, text in lines:
                file.write(text)
                file.flush()

    def write_past(self, past: "Past") -> None:
        """Write the rounds of the session that a branch, or a resumed run, goes on from."""
        with writing(self.path):
            self._ledger.write(_rows(past.ledger))
            self._timeline.write(_rows(map(_rounded, past.work)))
            self._observed.writelines(map(_line, past.observations))
            self._metrics.writelines(map(_line, past.metrics))
            for file in (self._ledger, self._timeline, self._observed, self._metrics):
                file.flush()

    def write_changes(self, changes: Iterable[Mapping[str, Any]]) -> None:
        """Note that the configuration has changed: after which round, and which keys to what."""
        with writing(self.path), (self.path / "changes.jsonl").open("a") as file:
            file.writelines(map(_line, changes))

    def write_place(self, place: str | None) -> None:
        """Note where the checkpoints are; None if they are inside."""
        path = self.path / PLACE
        with writing(path):
            if place is None:
                path.unlink(missing_ok=True)
            else:
                path.write_text(place + "\n", encoding="utf-8")

    def write_model(self, state: Mapping[str, Tensor]) -> Path:
        """Write the model's ``state_dict``; it loads with ``weights_only=True``."""
        path = self.path / "model.pt"
        with writing(path), path.open("wb") as file:
            torch.save(dict(state), file)
        return path

    def close(self) -> None:
        """Close the files; may be called twice."""
        self._files.close()


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Keep others from writing to the directory of a run while it is read.

    Raises:
        ConfigError: another run is being written there.
    """
    with ExitStack() as files:
        with writing(path):
            ledger = files.enter_context((path / "ledger.csv").open("a"))
        exclusive(ledger, _taken(path))
        yield


def _taken(path: Path) -> str:
    return f"{path}: another run is being written there: wait for its end, or {_REMEDY}"


def _rows(rows: Iterable[Iterable[Any]]) -> str:
    text = io.StringIO(newline="")
    csv.writer(text).writerows(rows)
    return text.getvalue()


def _rounded(work: Work) -> Work:
    return work._replace(seconds=round(work.seconds, 6))


def _line(values: Mapping[str, Any]) -> str:
    return json.dumps(_finite(values), allow_nan=False) + "\n"


def _finite(value: Any) -> Any:
    """Return plain values with None in place of numbers that are not finite."""
    if isinstance(value, Mapping):
        return {name: _finite(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def check_unused(path: Path) -> None:
    """Refuse a directory that holds a run, unless that ended before its first round.

    Raises:
        ConfigError: names it.
    """
    with writing(path):
        used = _holds_results(path)
    if used:
        raise ConfigError(f"{path} already holds a run: {_REMEDY}")


def _holds_results(path: Path) -> bool:
    """Return whether a run is there that anybody would miss, or a configuration without one."""
    if (path / "model.pt").exists() or _has_two_lines(path / "ledger.csv"):
        return True
    metrics = path / "metrics.jsonl"  # its first line is from before the rounds
    return (path / "config.yaml").exists() and (not metrics.is_file() or _has_two_lines(metrics))


def _has_two_lines(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return len(list(itertools.islice(file, 2))) == 2


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Say plainly that a path cannot be written: no permission, too long a name, a full disk.

    Raises:
        ConfigError: names the path and the reason.
    """
    try:
        yield
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or one_line(error)
        raise ConfigError(f"{str(path)[:200]}: cannot be written: {reason}") from error


def replace_text(path: Path, text: str) -> None:
    """Write a file, in full or not at all; its directory is made if need be.

    Raises:
        ConfigError: it cannot be written.
    """
    draft = path.with_suffix(".part")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        draft.write_text(text, encoding="utf-8")
        os.replace(draft, path)


@contextmanager
def results_directory(out: Path | None, name: str) -> Iterator[Path]:
    """Choose where results go, and leave no directory behind if there are none.

    Args:
        out: the user's choice, or None for ``runs/<name>-<time>`` below the current directory.
        name: of the run or the comparison.

    Yields:
        ``out``, or a new, empty directory that no other process has.

    Raises:
        ConfigError: nothing can be written there.
    """
    if out is None:
        path = _new_directory(name)
        made = [path, path.parent]
    else:
        path, made = out, _made(out)
    try:
        with writing(path):
            tempfile.TemporaryFile(dir=path).close()
        yield path
    finally:
        with suppress(OSError):  # not empty
            for place in made:
                place.rmdir()


def _made(out: Path) -> list[Path]:
    """Make a directory; return it and those above it that were not there, the deepest first."""
    with writing(out):
        if out.is_file():
            raise FileExistsError(None, "it is a file: give a directory")
        missing = [place for place in (out, *out.parents) if not place.exists()]
        out.mkdir(parents=True, exist_ok=True)
    return missing


def _new_directory(name: str) -> Path:
    stem = f"{slug(name)}-{datetime.now():%Y%m%d-%H%M%S}"
    with writing(Path("runs")):
        Path("runs").mkdir(exist_ok=True)
    for number in itertools.count(1):
        path = Path("runs") / (stem if number == 1 else f"{stem}-{number}")
        with writing(path), suppress(FileExistsError):
            path.mkdir()
            break
    return path


def slug(name: str) -> str:
    """Return a name as lower-case words joined by dashes, fit for a path and not too long."""
    words = "".join(char if char.isalnum() else " " for char in name.lower()).split()
    return "-".join(words).encode()[:_LONGEST_NAME].decode(errors="ignore") or "run"
