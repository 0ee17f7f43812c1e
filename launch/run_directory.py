"""The directory of a run: everything needed to read it, and to run it again.

    config.yaml    the resolved configuration, defaults included
    versions.json  of Python and the packages, and the machine
    metrics.jsonl  one line a round; null where a number is not finite
    ledger.csv     one line a frame
    model.pt       the model's state_dict at the end
    figure.png     accuracy against bytes and against rounds

``round`` in metrics.jsonl counts the rounds done, so 0 is before the first; ``round_index`` in
ledger.csv and in errors counts from 0, so the frames of index r lead to the metrics of round r + 1.

Lines are written as rounds end, so an interrupted run can be read as far as it came.
"""

import csv
import itertools
import json
import math
import platform
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from mlmc_ray.errors import ConfigError, one_line
from mlmc_ray.ledger import Entry, Ledger

_PACKAGES = ("mlmc-ray", "ray", "torch", "numpy", "msgpack", "scikit-learn")

_LONGEST_NAME = 120  # bytes, of 255 that most file systems allow


class RunDirectory:
    """Writes a run as it goes.

    Args:
        path: made if need be; must not hold another run.
        config: the resolved configuration, as a plain mapping.

    Raises:
        ConfigError: the directory already holds a run, or cannot be written.
    """

    def __init__(self, path: Path, config: Mapping[str, Any]) -> None:
        self.path = path
        check_unused(path)
        with writing(path):
            path.mkdir(parents=True, exist_ok=True)
            text = yaml.safe_dump(dict(config), sort_keys=False)
            (path / "config.yaml").write_text(text, encoding="utf-8")
            (path / "versions.json").write_text(json.dumps(_versions(), indent=2) + "\n")
            self._metrics = (path / "metrics.jsonl").open("a")
            self._ledger = (path / "ledger.csv").open("a", newline="")
            csv.writer(self._ledger).writerow(Entry._fields)
            self._ledger.flush()

    def write_round(self, metrics: Mapping[str, Any], ledger: Ledger) -> None:
        """Append a round; what was written survives the end of the process."""
        with writing(self.path):
            csv.writer(self._ledger).writerows(ledger)
            self._ledger.flush()
            finite = {
                name: None if isinstance(value, float) and not math.isfinite(value) else value
                for name, value in metrics.items()
            }
            self._metrics.write(json.dumps(finite, allow_nan=False) + "\n")
            self._metrics.flush()

    def write_model(self, state: Mapping[str, Tensor]) -> Path:
        """Write the model's ``state_dict``; it loads with ``weights_only=True``."""
        path = self.path / "model.pt"
        with writing(path), path.open("wb") as file:
            torch.save(dict(state), file)
        return path

    def close(self) -> None:
        """Close the files; may be called twice."""
        self._metrics.close()
        self._ledger.close()


def check_unused(path: Path) -> None:
    """Refuse a directory that holds a run.

    Raises:
        ConfigError: names it.
    """
    with writing(path):
        used = (path / "config.yaml").exists()
    if used:
        raise ConfigError(f"{path} already holds a run: give another --out")


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


@contextmanager
def results_directory(out: Path | None, name: str) -> Iterator[Path]:
    """Choose where results go, and leave no directory behind if there are none.

    Args:
        out: the user's choice, or None for ``runs/<name>-<time>`` below the current directory.
        name: of the run or the comparison.

    Yields:
        ``out``, or a new, empty directory that no other process has.
    """
    if out is not None:
        yield out
        return
    path = _new_directory(name)
    try:
        yield path
    finally:
        with suppress(OSError):  # not empty
            path.rmdir()
            path.parent.rmdir()


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


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version(), "platform": platform.platform()}
    for package in _PACKAGES:
        versions[package] = metadata.version(package)
    return versions
