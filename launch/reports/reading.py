"""Reading the files of a run that may be cut off, or not be there at all."""

import csv
import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from launch.configuration.nesting import MOST_LEVELS, too_deep

_SAY_AFTER_S = 2.0
_LINES_A_LOOK = 100_000  # between two looks at the time

Tell = Callable[[str], None]


def quiet(line: str) -> None:
    """Say nothing."""


class RunFiles:
    """The files of a run directory, and what is wrong with them.

    Args:
        path: the run directory.
        tell: is told how far a long file has been read.

    Attributes:
        notes: in plain words, what is missing or could not be read.
    """

    def __init__(self, path: Path, tell: Tell = quiet) -> None:
        self._path = path
        self._tell = tell
        self.notes: list[str] = []

    def text(self, name: str, loss: str) -> str | None:
        """Return a file's text; None, and a note of what is lost by it, where there is none."""
        try:
            return (self._path / name).read_text(encoding="utf-8", errors="replace")
        except OSError as error:
            self._note_missing(name, error, loss)
            return None

    def document(self, name: str, loss: str) -> Any:
        """Return what a JSON file says; None where it is missing or cut off."""
        text = self.text(name, loss)
        try:
            return None if text is None else _checked(json.loads(text))
        except (ValueError, RecursionError):
            self.notes.append(f"{name} cannot be read: {loss}")
            return None

    def json_lines(
        self, name: str, loss: str, right: Callable[[dict[str, Any]], bool]
    ) -> list[dict[str, Any]]:
        """Return the objects of a file with one a line; None for numbers that are not finite.

        Args:
            name: of the file.
            loss: what is not known without it.
            right: says whether an object is one of this file; others are left out.
        """
        found: list[dict[str, Any]] = []
        broken: list[int] = []
        for number, line in enumerate(self._lines(name, loss), start=1):
            try:
                value = _checked(
                    json.loads(line, parse_constant=lambda _: None, parse_float=_finite)
                )
            except (ValueError, RecursionError):
                value = None
            if isinstance(value, dict) and right(value):
                found.append(value)
            elif line.strip():
                broken.append(number)
        self._note_broken(name, broken)
        return found

    def rows(self, name: str, columns: Sequence[str], loss: str) -> Iterator[list[str]]:
        """Yield the rows of a CSV file, those columns alone and in that order.

        A last line without an end is left out, since a number may be cut off.
        """
        broken: list[int] = []
        reader = csv.reader(self._lines(name, loss, whole=True))
        rows = _without_errors(reader, broken)
        header = next(rows, [])
        if missing := [column for column in columns if column not in header]:
            if header:
                self.notes.append(f"{name} has no columns {missing}: {loss}")
            return
        places = [header.index(column) for column in columns]
        whole = places == list(range(len(header)))
        for row in rows:
            if len(row) != len(header):
                broken.append(reader.line_num)
            else:
                yield row if whole else [row[place] for place in places]
        self._note_broken(name, broken)

    def _lines(self, name: str, loss: str, *, whole: bool = False) -> Iterator[str]:
        """Yield lines as they are in the file; if ``whole``, not one that is cut off."""
        started = time.monotonic()
        line = "\n"
        try:
            with (self._path / name).open(encoding="utf-8", errors="replace", newline="") as file:
                for number, line in enumerate(file, start=1):
                    if whole and line[-1] != "\n":
                        break
                    yield line.replace("\0", "") if "\0" in line else line
                    if number % _LINES_A_LOOK == 0 and time.monotonic() - started > _SAY_AFTER_S:
                        self._tell(f"{self._path / name}: {number:,} lines read")
                        started = time.monotonic()
        except OSError as error:
            self._note_missing(name, error, loss)
        if not line.endswith("\n"):
            self.notes.append(f"the last line of {name} is cut off")

    def _note_missing(self, name: str, error: OSError, loss: str) -> None:
        why = "" if isinstance(error, FileNotFoundError) else f" ({error.strerror})"
        self.notes.append(f"no {name}{why}: {loss}")

    def _note_broken(self, name: str, lines: Sequence[int]) -> None:
        if lines:
            some = ", ".join(map(str, lines[:5])) + (", ..." if len(lines) > 5 else "")
            self.notes.append(f"{name}: {len(lines)} lines are left out, not readable: {some}")


def _without_errors(reader: Any, broken: list[int]) -> Iterator[list[str]]:
    """Yield the rows of a CSV reader; note the lines of which it cannot make one."""
    while True:
        try:
            yield next(reader)
        except StopIteration:
            return
        except csv.Error:  # such as a field that is too long
            broken.append(reader.line_num)


def _checked(value: Any) -> Any:
    """Return a value that is not nested too deep to be shown.

    Raises:
        ValueError: it is.
    """
    if too_deep(value):
        raise ValueError(f"lists and mappings in more than {MOST_LEVELS} levels")
    return value


def _finite(text: str) -> float | None:
    value = float(text)
    return value if math.isfinite(value) else None
