"""Reports of an asynchronous method in the order in which they arrived in another run."""

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from launch.engines.simulated_time import Arrival
from mlmc_ray.errors import ConfigError, RoundError, one_line


class RecordedOrder:
    """Reports on their way, which arrive as the ledger of a run has them.

    Args:
        directory: of that run.

    Raises:
        ConfigError: its ledger cannot be read.
    """

    def __init__(self, directory: str) -> None:
        self._directory = directory
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
