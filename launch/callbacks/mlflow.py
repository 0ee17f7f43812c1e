"""Runs in MLflow: on a tracking server, or in a file without one."""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from launch.callbacks.base import Callback
from launch.callbacks.numbers import flat, numbers_of, numbers_so_far
from launch.callbacks.places import package
from launch.metrics import Metrics
from mlmc_ray.rounds import RoundResult

if TYPE_CHECKING:
    from launch.configuration.run_config import RunConfig
    from launch.session import Session

_KIND = "mlflow"
_MOST_METRICS = 1000  # that MLflow takes at once
_MOST_PARAMETERS = 100
_LONGEST_VALUE = 500  # characters: what all of its stores take
_LONGEST_TAG = 5000
_EVERY_S = 2.0  # a server across a network is asked no more often


@dataclass(frozen=True, kw_only=True, slots=True)
class MLflow(Callback):
    """Log to MLflow: the configuration as parameters, the numbers of every round as metrics.

    Parameters stay what they were at the start, as MLflow wants them; each change of the
    configuration is a tag, ``change_1`` and so on, in JSON as in ``changes.jsonl``, or with the
    keys alone where that has more than 5,000 characters.

    Args:
        experiment: its name; made if there is none.
        tracking_uri: a server, ``http://HOST:5000``, or a file, ``sqlite:///mlflow.db``; by default
            MLflow's own: MLFLOW_TRACKING_URI, or a file in the current directory.
        artifacts: store the files of the run directory too, at the end.
    """

    experiment: str = "mlmc-ray"
    tracking_uri: str | None = None
    artifacts: bool = False

    def __post_init__(self) -> None:
        if not self.experiment.strip():
            raise ValueError(f"experiment: got {self.experiment!r}: give it a name")

    def check(self, config: "RunConfig") -> None:
        """Refuse to run without MLflow.

        Raises:
            ConfigError: it is not installed.
        """
        package(_KIND, _KIND)

    def fresh(self) -> Callback:
        """Return a client of one run."""
        return _Run(self)


class _Run(Callback):
    """One run of MLflow, by its client: there is no current run for sessions to share."""

    def __init__(self, settings: MLflow) -> None:
        self._settings = settings
        self._client: Any = None
        self._run_id = ""
        self._waiting: list[Any] = []
        self._sent_at = time.monotonic()
        self._changes = 0

    def on_start(self, session: "Session") -> None:
        self._client = package(_KIND, _KIND).MlflowClient(tracking_uri=self._settings.tracking_uri)
        name = self._settings.experiment
        known = self._client.get_experiment_by_name(name)
        experiment_id = known.experiment_id if known else self._client.create_experiment(name)
        run = self._client.create_run(experiment_id, run_name=session.config.name)
        self._run_id = run.info.run_id
        parameters = [
            package("mlflow.entities", _KIND).Param(key, str(value)[:_LONGEST_VALUE])
            for key, value in flat(session.config.to_mapping()).items()
        ]
        for start in range(0, len(parameters), _MOST_PARAMETERS):
            batch = parameters[start : start + _MOST_PARAMETERS]
            self._client.log_batch(self._run_id, params=batch)
        for round_index, numbers in numbers_so_far(session):
            self._add(round_index, numbers)
        self._send()

    def on_round(self, session: "Session", metrics: Metrics, result: RoundResult) -> None:
        self._add(metrics["round"], numbers_of(metrics, session.metrics[-2]))
        if time.monotonic() - self._sent_at > _EVERY_S:
            self._send()

    def on_change(self, session: "Session", changed: Mapping[str, Any]) -> None:
        self._changes += 1
        text = _change(session.round_index, changed)
        if len(text) > _LONGEST_TAG:
            text = _change(session.round_index, list(changed))
        self._client.set_tag(self._run_id, f"change_{self._changes}", text)

    def on_end(self, session: "Session", error: BaseException | None) -> None:
        try:
            self._send()
            if self._settings.artifacts and session.directory is not None:
                self._client.log_artifacts(self._run_id, str(session.directory))
        finally:
            self._client.set_terminated(self._run_id, "FAILED" if error else "FINISHED")

    def _add(self, round_index: int, numbers: dict[str, float]) -> None:
        metric, now_ms = package("mlflow.entities", _KIND).Metric, int(time.time() * 1000)
        self._waiting += [
            metric(name, value, now_ms, round_index) for name, value in numbers.items()
        ]

    def _send(self) -> None:
        for start in range(0, len(self._waiting), _MOST_METRICS):
            batch = self._waiting[start : start + _MOST_METRICS]
            self._client.log_batch(self._run_id, metrics=batch)
        self._waiting.clear()
        self._sent_at = time.monotonic()


def _change(round_index: int, changes: Mapping[str, Any] | list[str]) -> str:
    return json.dumps({"round": round_index, "changes": changes}, default=str)
