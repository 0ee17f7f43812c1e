"""Metrics of Ray: for its dashboard, Prometheus and Grafana."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from launch.callbacks.base import Callback
from launch.callbacks.numbers import seconds_of
from launch.metrics import Metrics, measure_names
from launch.staleness import Staleness
from mlmc_ray.errors import ConfigError
from mlmc_ray.ledger import DIRECTIONS
from mlmc_ray.rounds import RoundResult

if TYPE_CHECKING:
    from launch.configuration.run_config import RunConfig
    from launch.session import Session


class Instrument(NamedTuple):
    """One metric: its type, what it says, and its tags besides run and method."""

    type: Literal["Counter", "Gauge", "Histogram"]
    description: str
    tags: tuple[str, ...] = ()
    boundaries: tuple[float, ...] = ()


INSTRUMENTS = {
    "mlmc_rounds": Instrument("Counter", "Rounds done"),
    "mlmc_frame_bytes": Instrument("Counter", "Bytes of all frames", ("direction",)),
    "mlmc_round_seconds": Instrument(
        "Histogram",
        "Seconds that a round took",
        boundaries=tuple(m * 10.0**e for e in range(-3, 3) for m in (1, 2, 5)),
    ),
    "mlmc_slowest_worker_seconds": Instrument(
        "Gauge", "Seconds that the slowest worker of a round took for an exchange"
    ),
    "mlmc_train_loss": Instrument("Gauge", "Training loss, the mean over workers"),
    "mlmc_measure": Instrument("Gauge", "The problem's own measures, as evaluated", ("measure",)),
    "mlmc_relative_error": Instrument(
        "Gauge", "|C(v) - v|^2 over |v|^2, sums over workers, in observed rounds"
    ),
    "mlmc_reports": Instrument(
        "Counter", "Reports that arrived (asynchronous methods)", ("worker",)
    ),
    "mlmc_staleness_rounds": Instrument(
        "Histogram",
        "Rounds between the news that a report answers and its arrival (asynchronous methods)",
        boundaries=(0.5, 1.5, 2.5, 4.5, 8.5, 16.5, 32.5, 64.5, 128.5, 256.5),
    ),
}
"""By name. Ray exports them with the prefix ``ray_``, and counters with the suffix ``_total``."""

_SHARED_TAGS = ("run", "method")


@dataclass(frozen=True, kw_only=True, slots=True)
class RayMetrics(Callback):
    """Report to Ray what its dashboard, Prometheus and Grafana show: ``INSTRUMENTS``.

    Ray's nodes export them where they export their own, some ten seconds later. They need
    ``ray[default]``. ``configs/grafana/mlmc_ray.json`` is a dashboard for Grafana.
    """

    def check(self, config: "RunConfig") -> None:
        """Refuse to run outside of Ray.

        Raises:
            ConfigError: the engine is inline, and the process belongs to no cluster.
        """
        if config.engine == "ray":
            return
        import ray

        if not ray.is_initialized():
            raise ConfigError(
                f"callbacks: ray-metrics needs Ray, engine is {config.engine!r} and this process "
                "belongs to no Ray cluster: give engine: ray, call ray.init() first, or leave "
                "ray-metrics out"
            )

    def fresh(self) -> Callback:
        """Return what reports one run."""
        return _Reporter()


class _Reporter(Callback):
    def __init__(self) -> None:
        self._metrics: dict[str, Any] = {}
        self._staleness = Staleness()

    def on_start(self, session: "Session") -> None:
        from ray.util import metrics

        for name, instrument in INSTRUMENTS.items():
            options: dict[str, Any] = {"tag_keys": (*_SHARED_TAGS, *instrument.tags)}
            if instrument.boundaries:
                options["boundaries"] = list(instrument.boundaries)
            self._metrics[name] = getattr(metrics, instrument.type)(
                name, instrument.description, **options
            )
        self._tag(session)

    def on_change(self, session: "Session", changed: Mapping[str, Any]) -> None:
        self._tag(session)

    def _tag(self, session: "Session") -> None:
        for metric in self._metrics.values():
            metric.set_default_tags({"run": session.config.name, "method": _method(session)})

    def on_round(self, session: "Session", metrics: Metrics, result: RoundResult) -> None:
        self._metrics["mlmc_rounds"].inc()
        for direction in DIRECTIONS:
            if size := result.ledger.frame_bytes(direction):
                self._metrics["mlmc_frame_bytes"].inc(size, {"direction": direction})
        seconds = seconds_of(metrics, session.metrics[-2])
        self._metrics["mlmc_round_seconds"].observe(seconds)
        if result.work:
            self._set("mlmc_slowest_worker_seconds", max(work.seconds for work in result.work))
        for name in ("train_loss", "relative_error"):
            if name in metrics:
                self._set(f"mlmc_{name}", metrics[name])
        for name in measure_names(metrics):
            self._set("mlmc_measure", metrics[f"test_{name}"], {"measure": name})
        if session.config.method.asynchronous:
            for worker_id, staleness in self._staleness.of(entry[:3] for entry in result.ledger):
                self._metrics["mlmc_reports"].inc(1, {"worker": str(worker_id)})
                self._metrics["mlmc_staleness_rounds"].observe(staleness)

    def _set(self, name: str, value: float, tags: dict[str, str] | None = None) -> None:
        if math.isfinite(value):
            self._metrics[name].set(value, tags)


def _method(session: "Session") -> str:
    return str(session.config.to_mapping()["method"]["kind"])
