"""Reports of an asynchronous method in the order in which they arrived in another run."""

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from launch.configuration.yaml_text import load_yaml, plain
from launch.engines.simulated_time import Arrival
from mlmc_ray.errors import ConfigError, RoundError, one_line

_SAME = (
    *("problem", "method", "optimizer", "schedule", "clip_norm", "downlink", "seed", "workers"),
    *("batch_size", "buffers_every", "precision"),
)
"""Keys on which the reports depend."""


class RecordedOrder:
    """Reports on their way, which arrive as the ledger of a run has them.

    Args:
        directory: of that run.
        described: the configuration with which it is repeated, as a plain mapping.

    Raises:
        ConfigError: its files cannot be read, or it was another run, or changed on its way.
    """

    def __init__(self, directory: str, described: Mapping[str, Any]) -> None:
        self._directory = directory
        self._check_same(described)
        try:
            with (Path(directory) / "ledger.csv").open(newline="") as file:
                rows = csv.DictReader(file)
                self._order = [int(r["worker_id"]) for r in rows if r["direction"] == "uplink"]
        except (OSError, csv.Error, KeyError, TypeError, ValueError) as error:
            raise ConfigError(
                f"arrivals is {directory!r}: give a run directory; its ledger.csv cannot be read: "
                f"{one_line(error)}"
            ) from error
        self._waiting: dict[int, Arrival] = {}
        self._arrived = 0

    def _check_same(self, described: Mapping[str, Any]) -> None:
        place = f"arrivals is {self._directory!r}"
        try:
            theirs = load_yaml((Path(self._directory) / "config.yaml").read_text("utf-8"))
            same = (*_SAME, "rounds") if described["schedule"] else _SAME
            other = [name for name in same if theirs.get(name) != plain(described[name])]
        except (OSError, ValueError, RecursionError, AttributeError, yaml.YAMLError) as error:
            raise ConfigError(
                f"{place}: give a run directory; its config.yaml cannot be read: {one_line(error)}"
            ) from error
        if other:
            raise ConfigError(
                f"{place}, whose config.yaml has another value of {', '.join(other)}: begin from "
                "that file, with engine=inline and arrivals"
            )
        if (Path(self._directory) / "changes.jsonl").exists():
            raise ConfigError(f"{place}, which was changed on its way: it cannot be repeated")

    def send(self, worker_id: int, report: bytes, loss: float | None) -> None:
        """Let a report wait for its turn."""
        self._waiting[worker_id] = Arrival(0.0, worker_id, report, loss)

    def next_arrival(self) -> Arrival:
        """Return the report whose turn it is.

        Raises:
            RoundError: there is none in the other run, or that worker is not at work here.
        """
        if self._arrived == len(self._order):
            raise RoundError(
                f"arrivals is {self._directory!r}, where no more than {self._arrived} reports "
                "arrived: lower rounds"
            )
        worker_id = self._order[self._arrived]
        if worker_id not in self._waiting:
            raise RoundError(
                f"arrivals is {self._directory!r}, whose report {self._arrived} is of worker "
                f"{worker_id}, which is not at work here: replay a run of the same configuration"
            )
        self._arrived += 1
        return self._waiting.pop(worker_id)

    def state_dict(self) -> dict[str, Any]:
        """Return the place in the order, and the reports that wait."""
        return {"arrived": self._arrived, "arrivals": [tuple(a) for a in self._waiting.values()]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what ``state_dict`` returned."""
        self._arrived = state["arrived"]
        self._waiting = {fields[1]: Arrival(*fields) for fields in state["arrivals"]}
