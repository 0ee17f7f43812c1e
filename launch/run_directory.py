"""The directory of a run: everything needed to read it, and to run it again.

    config.yaml    the resolved configuration, defaults included
    versions.json  of Python and the packages, and the machine
    metrics.jsonl  one line a round
    ledger.csv     one line a frame
    model.pt       the model's state_dict at the end
    figure.png     accuracy against bytes and against rounds

Lines are written as rounds end, so an interrupted run can be read as far as it came.
"""

import csv
import json
import platform
from collections.abc import Mapping
from datetime import datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from mlmc_ray.errors import ConfigError
from mlmc_ray.ledger import Entry, Ledger

_PACKAGES = ("mlmc-ray", "ray", "torch", "numpy", "msgpack", "scikit-learn")


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
        make_directory(path)
        write_config(path, config)
        (path / "versions.json").write_text(json.dumps(_versions(), indent=2) + "\n")
        self._metrics = (path / "metrics.jsonl").open("a")
        self._ledger = (path / "ledger.csv").open("a", newline="")
        csv.writer(self._ledger).writerow(Entry._fields)
        self._ledger.flush()

    def write_round(self, metrics: Mapping[str, Any], ledger: Ledger) -> None:
        """Append a round; what was written survives the end of the process."""
        csv.writer(self._ledger).writerows(ledger)
        self._ledger.flush()
        self._metrics.write(json.dumps(metrics) + "\n")
        self._metrics.flush()

    def write_model(self, state: Mapping[str, Tensor]) -> Path:
        """Write the model's ``state_dict``; it loads with ``weights_only=True``."""
        path = self.path / "model.pt"
        torch.save(dict(state), path)
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
    if (path / "config.yaml").exists():
        raise ConfigError(f"{path} already holds a run: give another --out")


def new_directory(name: str) -> Path:
    """Return an unused path ``runs/<name>-<time>`` below the current directory."""
    stem = f"{slug(name)}-{datetime.now():%Y%m%d-%H%M%S}"
    path = Path("runs") / stem
    number = 2
    while path.exists():
        path = Path("runs") / f"{stem}-{number}"
        number += 1
    return path


def slug(name: str) -> str:
    """Return a name as lower-case words joined by dashes, fit for a path."""
    words = "".join(char if char.isalnum() else " " for char in name.lower()).split()
    return "-".join(words) or "run"


def make_directory(path: Path) -> None:
    """Make a directory and its parents.

    Raises:
        ConfigError: it cannot be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be made: {error.strerror}") from error


def write_config(directory: Path, config: Mapping[str, Any]) -> None:
    """Write ``config.yaml``, in the order of the mapping."""
    text = yaml.safe_dump(dict(config), sort_keys=False)
    (directory / "config.yaml").write_text(text, encoding="utf-8")


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version(), "platform": platform.platform()}
    for package in _PACKAGES:
        versions[package] = metadata.version(package)
    return versions
